"""How many requests are worked on at once: beyond what can be answered soon, the next is refused at once.

Requests count from their last byte on: a slow upload costs nobody anything. A burst may wait; what stands in line for
good is no burst.
"""

import logging
import math
import random
import re
import time
from functools import cache

from pydantic_core import to_json
from starlette.types import Scope

from app.api.problems import problem
from app.errors import Overloaded

log = logging.getLogger("digits")

_BURST_S = 0.2  # that more than a few may be inside for
_BURST_DELAY_S = 0.25  # what these may take, or
_BURST_TIMES = 8  # so many times the least, of which the rate is not known yet
_LONGEST_LINE_S = 0.35  # of a burst before the decoders
_TURN_S = 0.25  # of the event loop that answers a few, and reads the next
_OVERLOAD_SHARE, _OVERLOAD_LEAST = 0.1, 1 / 4  # of the delay, and of the least: enough to keep the cores busy
_CALM_S = 0.5  # without a refusal, or with so few callers refused that all could be inside: the overload is over
_WINDOW_S = 0.1  # over which the rate of answers is measured
_TELL_S = 1
_LONGEST_RETRY_S = 60

_START = re.compile(rb"POST (/\S*) HTTP/1\.1\r\n")
_LENGTH, _ID, _CONNECTION, _KEEP_ALIVE = (
    b"\r\ncontent-length:",
    b"\r\nx-request-id:",
    b"\r\nconnection",
    b"\r\nconnection: keep-alive\r\n",
)
_UNUSUAL = (b"\r\ntransfer-encoding", b"\r\nexpect", b"\r\nupgrade")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ANY_ID = b"{request_id}"
_DIALECTS = ("/v1/", "/v2/")  # of other model servers, whose errors are objects with one field
_ids = random.Random()  # noqa: S311 - to find a line in a log; a secret costs a call of the system


class Gate:
    """Whether one more may come in. Called on the event loop.

    ``max_delay_s``: what those inside may take when they are too many, by Little's law: their number, divided by the
    rate of answers. ``least``, ``most``: how many may be inside whatever the rate. In an overload, in which many are
    refused in any case, a tenth of this delay and a quarter of ``least``: that answers as many, and sooner.
    """

    def __init__(self, max_delay_s: float, least: int, most: int) -> None:
        self.refused = 0
        self._max_delay_s = max_delay_s
        self._most = most
        self._least = min(least, most)
        self._burst = float(min(_BURST_TIMES * self._least, most))
        self._few = float(self._least)  # so many do not take longer than the delay
        self._fewer = self._few * _OVERLOAD_LEAST  # so many come in while others are refused
        self._inside = 0
        self.rate = 0.0  # of answers, a second
        self._left, self._since = 0, time.monotonic()
        self._crowded = False  # more than a few are inside
        self._crowded_since, self._crowded_until = 0.0, -math.inf
        self._overloaded = False
        self._refused_at = 0.0
        self._refused_callers: set[int] = set()  # since the last look at how many there are
        self._looked_at = 0.0
        self._told, self._told_at = 0, -math.inf

    def enter(self) -> None:
        """A request is here, whole."""
        self._inside += 1
        if self._inside >= self._bound:
            self._begin_crowd()

    def leave(self, *, to_batches: bool = False) -> None:
        """It is answered, or its caller has gone; or it is a batch, which has a line of its own."""
        now = time.monotonic()
        self._inside -= 1
        self._left += not to_batches
        if self._crowded and self._inside < self._bound:
            self._crowded, self._crowded_until = False, now
        if now - self._since >= _WINDOW_S:
            self.rate = self._left / (now - self._since)
            self._few = min(max(self.rate * self._max_delay_s, self._least), self._most)
            self._burst = min(max(self.rate * _BURST_DELAY_S, _BURST_TIMES * self._least, self._few), self._most)
            least = self._least * _OVERLOAD_LEAST
            self._fewer = min(max(self.rate * self._max_delay_s * _OVERLOAD_SHARE, least), self._few)
            self._left, self._since = 0, now

    @property
    def _bound(self) -> float:
        return self._fewer if self._overloaded else self._few

    def _begin_crowd(self) -> None:
        """Or go on with the last one: an event loop that answers all it has read before it reads on lets all go."""
        now = time.monotonic()
        if not self._crowded and now - self._crowded_until > _TURN_S:
            self._crowded_since = now
        self._crowded = True

    def is_full(self, line_s: float = 0) -> bool:
        """``line_s``: what those take that wait for a thread, who may be a few of a burst and take longer than all."""
        if not self._crowded:
            if self._overloaded and time.monotonic() - self._refused_at > _CALM_S:
                self._overloaded = False
            return False
        now = time.monotonic()
        if self._overloaded and now - self._looked_at > _CALM_S:
            self._overloaded = self._inside + len(self._refused_callers) > self._few
            self._refused_callers.clear()
            self._crowded_since = self._looked_at = now
            if not self._overloaded and self._inside < self._few:
                self._crowded = False
                return False
        stays = now - self._crowded_since > _BURST_S
        return self._overloaded or self._inside >= self._burst or stays or line_s > _LONGEST_LINE_S

    def refuse(self, caller: int = 0) -> Overloaded:
        """What the caller is told, a connection whose number this is. Called when it is full."""
        now = time.monotonic()
        if not self._overloaded:
            self._overloaded, self._looked_at = True, now
            self._refused_callers.clear()
        self._refused_callers.add(caller)
        self._refused_at = now
        wait_s = self._inside / self.rate if self.rate else 1
        return self.refuse_for(math.ceil(wait_s))

    def refuse_for(self, wait_s: int) -> Overloaded:
        """The same of a batch, whose line is another. The log is told once a second."""
        now = time.monotonic()
        self.refused += 1
        if now - self._told_at >= _TELL_S:  # a line for each would cost more than the refusal
            fields = {"refused": self.refused - self._told, "inside": self._inside, "answered_a_second": self.rate}
            log.warning("overloaded", extra={"fields": fields})
            self._told, self._told_at = self.refused, now
        return Overloaded(min(max(1, wait_s), _LONGEST_RETRY_S))


def is_batch(scope: Scope) -> None:
    """This request is one: it stands in nobody's way any more, for the batches' own line bounds it."""
    if gate := scope.pop("gate", None):
        gate.leave(to_batches=True)


def whole_post(data: bytes) -> tuple[str, str] | None:
    """Path and request id of a POST that is whole, and after which its connection stays open; None for any other.

    The HTTP parser, a task and the app would take ten times as long, for an answer that needs nothing of them.
    """
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2].lower()
    start = _START.match(data)
    if start is None or end < 0 or head.count(_LENGTH) != 1 or any(word in head for word in _UNUSUAL):
        return None
    if _CONNECTION in head and (_KEEP_ALIVE not in head or head.count(_CONNECTION) > 1):
        return None
    length = _value(head, head.find(_LENGTH) + len(_LENGTH))
    if not length.isdigit() or int(length[:20]) != len(data) - end - 4:
        return None
    place = head.find(_ID)
    request_id = _value(data, place + len(_ID)) if place >= 0 else b""
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = b"%016x" % _ids.getrandbits(64)
    return start[1].decode("latin-1"), request_id.decode()


def _value(head: bytes, start: int) -> bytes:
    return head[start : head.find(b"\r", start)].strip(b" \t")


def refusal(path: str, request_id: str, error: Overloaded) -> tuple[str, bytes]:
    """Media type and body of the answer, as callers of that path read errors."""
    if path.startswith(_DIALECTS):
        return "application/json", to_json({"error": str(error)})
    return "application/problem+json", _problem().replace(_ANY_ID, request_id.encode())


@cache
def _problem() -> bytes:
    document = problem(Overloaded(), {"state": {"request_id": _ANY_ID.decode()}})
    return document.model_dump_json().encode()
