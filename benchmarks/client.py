"""Load from one thread over epoll, about 20 µs a request, because it shares the machine with the server.

Open loop: requests leave on a fixed schedule, whether or not earlier ones were answered. Closed loop: each connection
sends its next request when it has its answer.
"""

import http.client
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

HOST = "127.0.0.1"

_DRAIN_S = 5  # wait for answers after the last request
_CLOSED_LOOP_DRAIN_S = 60
_LATE_S = 0.05
_SETTLE_S = 0.2  # until the server has accepted all connections
_ADDRESSES = 250  # source addresses, so that limits per client address see many clients


@dataclass
class Flow:
    """``ms``: latency of answers with status 200; ``refused_ms``: of 503. Open loop: measured from the scheduled time.

    ``images``: read in these answers. ``unsent``: no connection was free. ``broken``: closed without an answer.
    ``unanswered``: no answer by the end. ``late``: sent late by the client itself. ``ended``: monotonic seconds.
    """

    seconds: float
    offered: int = 0
    images: int = 0
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
        """Answers with status 200 per second."""
        return len(self.ms) / self.seconds

    def percentile(self, share: float, *, refused: bool = False) -> float:
        """Milliseconds; NaN without such answers."""
        ms = self.refused_ms if refused else self.ms
        return float(np.percentile(ms, share)) if ms else float("nan")


def open_loop(port: int, request: bytes, rate: float, seconds: float, connections: int) -> Flow:
    """``rate`` requests a second, evenly spaced. A request that finds no free connection is counted and not sent."""
    client = _Client(port, [request], connections, Flow(seconds))
    time.sleep(_SETTLE_S)
    try:
        client.run_open(1 / rate)
    finally:
        client.close()
    return client.found


def closed_loop(port: int, requests: Sequence[bytes], seconds: float, connections: int, marker: bytes = b"") -> Flow:
    """``requests``: sent in turn.

    ``marker``: occurs in an answer once for each image that was read; without it every answer counts as one.
    """
    client = _Client(port, requests, connections, Flow(seconds), marker)
    try:
        client.run_closed()
    finally:
        client.close()
    return client.found


class _Client:
    def __init__(
        self, port: int, requests: Sequence[bytes], connections: int, found: Flow, marker: bytes = b""
    ) -> None:
        self.found = found
        self._port, self._requests, self._marker = port, cycle(requests), marker
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._due: dict[int, float] = {}  # of connections that wait for an answer
        self._parts: dict[int, bytes] = {}
        for _ in range(connections):
            self._connect()

    def run_open(self, period_s: float) -> None:
        due = time.monotonic()
        end = due + self.found.seconds
        while True:
            now = time.monotonic()
            while due <= min(now, end):
                self._send(due, now)
                due += period_s
            if now >= end and (not self._due or now > end + _DRAIN_S):
                break
            self._receive_until(due if due < end else now + 0.01)
        self.found.unanswered = len(self._due)
        self.found.ended = end

    def run_closed(self) -> None:
        started = now = time.monotonic()
        end = started + self.found.seconds
        while now < end or (self._due and now < end + _CLOSED_LOOP_DRAIN_S):
            while self._free and now < end:
                self._send(now, now)
            self._receive_until(now + 0.01)
            now = time.monotonic()
        self.found.seconds = now - started

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._epoll.close()

    def _send(self, due: float, now: float) -> None:
        self.found.offered += 1
        self.found.late += now - due > _LATE_S
        if not self._free:
            self.found.unsent += 1
            return
        number = self._free.popleft()
        self._due[number] = due
        try:
            self._open[number].sendall(next(self._requests))
        except OSError:
            self._replace(number)

    def _receive_until(self, deadline: float) -> None:
        for number, _ in self._epoll.poll(max(0.0, deadline - time.monotonic())):
            self._receive(number)

    def _receive(self, number: int) -> None:
        try:
            data = self._parts.pop(number, b"") + self._open[number].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._replace(number)
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
            self.found.images += body.count(self._marker) if self._marker else 1
        elif status == http.client.SERVICE_UNAVAILABLE:
            self.found.refused_ms.append(ms)
        self._free.append(number)

    def _connect(self) -> None:
        source = (f"127.0.0.{1 + len(self._open) % _ADDRESSES}", 0)
        connection = socket.create_connection((HOST, self._port), timeout=_DRAIN_S, source_address=source)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = connection.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._open[number] = connection
        self._free.append(number)

    def _replace(self, number: int) -> None:
        """Opens another connection in place of one that the server closed."""
        self.found.broken += self._due.pop(number, None) is not None
        if number in self._free:
            self._free.remove(number)
        self._epoll.unregister(number)
        self._open.pop(number).close()
        self._connect()
