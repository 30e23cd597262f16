"""The watchdog."""

import asyncio
import threading
import time

from app.inference.watchdog import Watchdog


def test_it_stops_while_it_is_about_to_ask_the_loop() -> None:
    about_to = threading.Event()

    def busy_since() -> None:
        about_to.set()
        time.sleep(0.2)  # in which the loop stops it

    async def stop() -> None:
        watchdog = Watchdog(asyncio.get_running_loop(), busy_since, timeout_s=1)
        await asyncio.to_thread(about_to.wait)
        watchdog.stop()

    asyncio.run(stop())  # or the process ends after three seconds, with status 1
