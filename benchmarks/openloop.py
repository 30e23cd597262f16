"""Open-loop load: requests leave when the clock says so, whether or not earlier ones have been answered.

One thread over epoll, about 15 µs a request, since it shares the machine with what it measures. A request goes out on
a connection that waits for nothing; where all of them wait, on a new one, up to a bound. Its time counts from when it
was due. Knows no server.
"""

import select
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from benchmarks.load import HOST, Upload

PATIENCE_S = 5  # for which a client waits after the last request has left
_LATE_S = 0.05  # by which a request is no longer sent when it was due


@dataclass
class Flow:
    """``ms``: of answers with status 200, ``refused_ms``: with 503, from when each was due; ``seconds``: of the load.

    ``unsent``: requests for which there was no connection left; ``late``: that this client sent late itself;
    ``second_ms``: p99 of the answers by the second in which they were due.
    """

    seconds: float
    offered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    unsent: int = 0
    unanswered: int = 0
    broken: int = 0
    late: int = 0

    @property
    def rate(self) -> float:
        return len(self.ms) / self.seconds

    def percentile(self, share: float, *, refused: bool = False) -> float:
        """Milliseconds; NaN without an answer."""
        found = self.refused_ms if refused else self.ms
        return float(np.percentile(found, share)) if found else float("nan")


def request_of(path: str, upload: Upload) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {upload.content_type}\r\n"
    return f"{head}Content-Length: {len(upload.body)}\r\n\r\n".encode() + upload.body


def flow(port: int, request: bytes, rate: float, seconds: float, connections: int) -> Flow:
    """``rate`` requests a second, evenly spaced, on at most so many ``connections``, all opened before."""
    found = Flow(seconds)
    epoll = select.epoll()
    open_: dict[int, socket.socket] = {}
    idle: deque[socket.socket] = deque()
    sent: dict[int, tuple[float, float]] = {}
    parts: dict[int, bytes] = {}
    for _ in range(connections):
        idle.append(_connect(port, epoll, open_))
    started = time.perf_counter() + 0.01
    until = started + seconds
    next_, period = started, 1 / rate
    while True:
        now = time.perf_counter()
        while next_ <= now and next_ < until:
            found.offered += 1
            found.late += now - next_ > _LATE_S
            if not idle:
                found.unsent += 1
            else:
                connection = idle.popleft()
                sent[connection.fileno()] = (next_, now)
                try:
                    connection.sendall(request)
                except OSError:
                    _lost(connection, epoll, open_, sent, found)
                    idle.append(_connect(port, epoll, open_))
            next_ += period
        if now >= until and (not sent or now > until + PATIENCE_S):
            break
        wait = max(0.0, next_ - time.perf_counter()) if next_ < until else 0.01
        for number, _ in epoll.poll(wait):
            connection = open_[number]
            try:
                data = parts.pop(number, b"") + connection.recv(65536)
            except OSError:
                data = b""
            if not data:
                _lost(connection, epoll, open_, sent, found)
                idle = deque(each for each in idle if each is not connection)
                idle.append(_connect(port, epoll, open_))
                continue
            head = data.find(b"\r\n\r\n")
            if head < 0 or len(data) < head + 4 + _length(data, head):
                parts[number] = data
                continue
            due, _ = sent.pop(number)
            status = int(data[9:12])
            found.statuses[status] += 1
            took = (time.perf_counter() - due) * 1000
            if status == 200:
                found.ms.append(took)
                found.due_s.append(due - started)
            else:
                found.refused_ms.append(took)
            if b"connection: close" in data[:head]:
                _close(connection, epoll, open_)
                connection = _connect(port, epoll, open_)
            idle.append(connection)
    found.unanswered = len(sent)
    for connection in list(open_.values()):
        _close(connection, epoll, open_)
    epoll.close()
    return found


def _connect(port: int, epoll: select.epoll, open_: dict[int, socket.socket]) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    epoll.register(connection.fileno(), select.EPOLLIN)
    open_[connection.fileno()] = connection
    return connection


def _close(connection: socket.socket, epoll: select.epoll, open_: dict[int, socket.socket]) -> None:
    number = connection.fileno()
    epoll.unregister(number)
    del open_[number]
    connection.close()


def _lost(
    connection: socket.socket,
    epoll: select.epoll,
    open_: dict[int, socket.socket],
    sent: dict[int, tuple[float, float]],
    found: Flow,
) -> None:
    if sent.pop(connection.fileno(), None):
        found.broken += 1
    _close(connection, epoll, open_)


def _length(data: bytes, head: int) -> int:
    lower = data[:head].lower()
    place = lower.find(b"content-length:")
    return int(lower[place + 15 : lower.find(b"\r", place) if lower.find(b"\r", place) > 0 else head])
