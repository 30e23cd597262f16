"""A thread that notices a blocked event loop or a hung engine, logs it, and ends the process if it lasts."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger("digits")

_TICK_S = 0.5
_BLOCKED_S = 0.5  # parsing the largest JSON blocks the loop for 0.3 s
_MIN_PATIENCE_S = 3
_LAST_LINE_S = 0.2  # to write the last log line: a full pipe may be what blocks the loop


class Watchdog:
    """``busy_since``: when the running batch was started, None without one. ``timeout_s``: of a request.

    After three times that long every caller has had a timeout. The process then exits with status 1: nothing inside it
    can stop a call of the engine. Time is counted in ticks of this thread, so that a process that was suspended does
    not look hung when it resumes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, busy_since: Callable[[], float | None], timeout_s: float
    ) -> None:
        self._loop = loop
        self._busy_since = busy_since
        self._patience_s = max(3 * timeout_s, _MIN_PATIENCE_S)
        self._stopped, self._answered = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Called on the event loop."""
        self._stopped.set()
        self._answered.set()
        self._thread.join()

    def _watch(self) -> None:
        before, hung_s = None, 0.0
        while not self._stopped.wait(_TICK_S):
            since = self._busy_since()
            hung_s = hung_s + _TICK_S if since is not None and since == before else 0
            before = since
            if hung_s > self._patience_s:
                _give_up(f"the engine has not answered for {hung_s:.0f} s")
            self._check_loop()

    def _check_loop(self) -> None:
        self._answered.clear()
        if self._stopped.is_set():  # in the meantime, by a loop that now waits for this thread
            return
        asked, blocked_s = time.monotonic(), 0.0
        self._loop.call_soon_threadsafe(self._answered.set)
        while not self._answered.wait(_TICK_S):
            blocked_s += _TICK_S
            if blocked_s > self._patience_s:
                _give_up(f"the event loop has been blocked for {blocked_s:.0f} s")
        lag_s = time.monotonic() - asked
        if lag_s > _BLOCKED_S and not self._stopped.is_set():
            log.warning("event loop blocked", extra={"fields": {"seconds": round(lag_s, 2)}})


def _give_up(why: str) -> NoReturn:
    fields = {"fields": {"reason": why}}
    last = threading.Thread(target=log.critical, args=("giving up",), kwargs={"extra": fields}, daemon=True)
    last.start()
    last.join(_LAST_LINE_S)
    os._exit(1)
