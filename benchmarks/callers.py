"""Callers on keep-alive connections that send one request after another while something happens to a server."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from benchmarks.client import HOST
from benchmarks.load import Upload

_TIMEOUT_S = 30


class Callers:
    """``statuses``: of the answers, or the name of the exception without one. ``ms``: latency of each request."""

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
        """Count by status, for a table."""
        others = (f"{status}: {count}" for status, count in self.statuses.items() if status != http.client.OK)
        return ", ".join(others) or "0"

    @property
    def latency(self) -> str:
        """p50 and p99 in milliseconds, for a table."""
        return ", ".join(f"{float(np.percentile(self.ms, share)):.1f}" for share in (50, 99)) if self.ms else "–"

    def wait_for(self, requests: int, until: float) -> None:
        """Returns after so many answers, or at ``until`` in monotonic seconds."""
        while self.statuses.total() < requests and time.monotonic() < until:
            time.sleep(0.05)

    def call(self, port: int, path: str, upload: Upload, pause_s: float) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
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
def calling(port: int, path: str, upload: Upload, callers: int, pause_s: float = 0) -> Iterator[Callers]:
    """``callers`` threads that stop with the context. ``pause_s``: before each request of a caller."""
    found = Callers()
    threads = [threading.Thread(target=found.call, args=(port, path, upload, pause_s)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stop()
        for thread in threads:
            thread.join()
