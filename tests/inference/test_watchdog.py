"""The watchdog while the event loop ends. What it does with faults is in `tests/test_faults.py`."""

import asyncio
import threading
import time

from app.inference.watchdog import Watchdog


def test_it_can_be_stopped_when_it_is_about_to_check_the_loop() -> None:
    about_to = threading.Event()

    def busy_since() -> None:
        about_to.set()
        time.sleep(0.2)  # meanwhile the loop stops it

    async def stop() -> None:
        watchdog = Watchdog(asyncio.get_running_loop(), busy_since, timeout_s=1)
        await asyncio.to_thread(about_to.wait)
        watchdog.stop()

    asyncio.run(stop())  # otherwise the process ends after three seconds with status 1
