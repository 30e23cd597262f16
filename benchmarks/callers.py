"""Callers who ask one after the other on connections of their own while something is done to a server, and count."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from benchmarks.load import HOST, Upload

_WAIT_S = 30


class Callers:
    """``statuses``: of what was answered, and the exception's name of what was not. ``ms``: of each request."""

    def __init__(self) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.ms: list[float] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[http.client.OK]

    @property
    def failures(self) -> str:
        """How many of what, for a table."""
        others = (f"{status}: {count}" for status, count in self.statuses.items() if status != http.client.OK)
        return ", ".join(others) or "0"

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.ms, share))

    def wait_for(self, requests: int, until: float) -> None:
        """Until so many were answered, but not past ``until``, in monotonic seconds."""
        while self.statuses.total() < requests and time.monotonic() < until:
            time.sleep(0.05)

    def ask(self, port: int, path: str, upload: Upload, pause_s: float) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_WAIT_S)
        while not self._stopped.wait(pause_s):
            started = time.perf_counter()
            status: int | str
            try:
                connection.request("POST", path, upload.body, {"Content-Type": upload.content_type})
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                connection.close()
            with self._lock:
                self.statuses[status] += 1
                self.ms.append((time.perf_counter() - started) * 1000)
        with suppress(OSError):
            connection.close()

    def stop(self) -> None:
        self._stopped.set()


@contextmanager
def asking(port: int, path: str, upload: Upload, callers: int, pause_s: float = 0) -> Iterator[Callers]:
    """So many callers, who stop with the context. ``pause_s``: of each before a request."""
    found = Callers()
    threads = [threading.Thread(target=found.ask, args=(port, path, upload, pause_s)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stop()
        for thread in threads:
            thread.join()
