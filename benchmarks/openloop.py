"""Open-loop load: requests leave when the clock says so, whether or not earlier ones have been answered.

One thread over epoll, about 20 µs a request, since it shares the machine with what it measures. A request goes out on
a connection that waits for nothing, of a number of them that is opened before; where all wait it is not sent, and
counted. Its time counts from when it was due. Knows no server.
"""

import http.client
import select
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from benchmarks.load import HOST, Upload

_PATIENCE_S = 5  # for answers, after the last request has left
_LATE_S = 0.05
_REST_S = 0.2  # until a server has taken all connections


@dataclass
class Flow:
    """``ms``: of answers with status 200, ``refused_ms``: with 503, from when each was due.

    ``unsent``: no connection was free; ``broken``: the connection was closed instead of an answer; ``unanswered``: no
    answer until the end; ``late``: sent late by this client's own fault. ``ended``: monotonic seconds.
    """

    seconds: float
    offered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    unsent: int = 0
    broken: int = 0
    unanswered: int = 0
    late: int = 0
    ended: float = 0

    @property
    def rate(self) -> float:
        """Answers with status 200, a second."""
        return len(self.ms) / self.seconds

    def percentile(self, share: float) -> float:
        return _percentile(self.ms, share)

    def refused_percentile(self, share: float) -> float:
        return _percentile(self.refused_ms, share)


def flow(port: int, path: str, upload: Upload, rate: float, seconds: float, connections: int) -> Flow:
    """``rate`` requests a second, evenly spaced, over so many connections."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {upload.content_type}\r\n"
    request = f"{head}Content-Length: {len(upload.body)}\r\n\r\n".encode() + upload.body
    client = _Client(port, connections, Flow(seconds))
    time.sleep(_REST_S)
    try:
        client.run(request, 1 / rate, seconds)
    finally:
        client.close()
    return client.found


class _Client:
    def __init__(self, port: int, connections: int, found: Flow) -> None:
        self.found = found
        self._port = port
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._due: dict[int, float] = {}  # of those that wait
        self._parts: dict[int, bytes] = {}
        for _ in range(connections):
            self._connect()

    def run(self, request: bytes, period: float, seconds: float) -> None:
        due = time.monotonic()
        end = due + seconds
        while True:
            now = time.monotonic()
            while due <= min(now, end):
                self._send(request, due, now)
                due += period
            if now >= end and (not self._due or now > end + _PATIENCE_S):
                break
            for number, _ in self._epoll.poll(max(0.0, (due if due < end else now + 0.01) - time.monotonic())):
                self._receive(number)
        self.found.unanswered = len(self._due)
        self.found.ended = end

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._epoll.close()

    def _send(self, request: bytes, due: float, now: float) -> None:
        self.found.offered += 1
        self.found.late += now - due > _LATE_S
        if not self._free:
            self.found.unsent += 1
            return
        number = self._free.popleft()
        self._due[number] = due
        try:
            self._open[number].sendall(request)
        except OSError:
            self._lose(number)

    def _receive(self, number: int) -> None:
        try:
            data = self._parts.pop(number, b"") + self._open[number].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lose(number)
            return
        head, _, body = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        if not length or len(body) < int(length):
            self._parts[number] = data
            return
        status, ms = int(head[9:12]), (time.monotonic() - self._due.pop(number)) * 1000
        self.found.statuses[status] += 1
        if status == http.client.OK:
            self.found.ms.append(ms)
        elif status == http.client.SERVICE_UNAVAILABLE:
            self.found.refused_ms.append(ms)
        self._free.append(number)

    def _connect(self) -> None:
        connection = socket.create_connection((HOST, self._port), timeout=_PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = connection.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._open[number] = connection
        self._free.append(number)

    def _lose(self, number: int) -> None:
        """The server has closed it: another takes its place."""
        self.found.broken += self._due.pop(number, None) is not None
        if number in self._free:
            self._free.remove(number)
        self._epoll.unregister(number)
        self._open.pop(number).close()
        self._connect()


def _percentile(times: list[float], share: float) -> float:
    return float(np.percentile(times, share)) if times else float("nan")
