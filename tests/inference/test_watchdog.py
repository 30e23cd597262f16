"""The watchdog while the event loop ends. What it does with faults is in `tests/test_faults.py`."""

import asyncio
import subprocess
import sys
import threading
import time

from app.inference.watchdog import Watchdog
from tests.asking import WAIT_S
from tests.server import ROOT

_LOGS_TO_A_FULL_PIPE = """
import asyncio, logging
from app.inference.watchdog import Watchdog
from app.telemetry.logs import start_logging

async def log_for_ever():
    Watchdog(asyncio.get_running_loop(), lambda: None, 0)
    while True:
        logging.getLogger("digits").info("x" * 2000)

start_logging("info")
asyncio.run(log_for_ever())
"""


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


def test_it_ends_a_process_whose_log_is_no_longer_read() -> None:
    with subprocess.Popen([sys.executable, "-c", _LOGS_TO_A_FULL_PIPE], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.wait(WAIT_S) == 1
        finally:
            process.kill()
