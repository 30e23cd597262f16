"""A limit on the requests in flight: above it, new ones get 503 at once. Pure ASGI, knows no service and no model."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import Overloaded

log = logging.getLogger("digits")

_BATCHES = {"/predict/batch", "/read/batch"}  # not counted: batches have a queue of their own, and its limit
_FIRST_LIMIT = 8  # times the lowest, until the rate has been measured
_WINDOW_S = 0.1  # of the measured rate
_WATCH_AFTER_S = 0.1  # most requests are answered sooner, and need no task that watches their connection
_WARN_EVERY_S = 1


class Overload:
    """ASGI middleware: limits the POST requests in flight, and cancels those whose caller has disconnected.

    By Little's law ``rate * max_delay_s`` requests in flight take ``max_delay_s`` each. The limit stays between
    ``lowest`` and ``highest``. A request counts once its body is complete, so that slow uploads keep nobody out.
    """

    def __init__(
        self, app: ASGIApp, max_delay_s: float, lowest: int, highest: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._max_delay_s, self._clock = app, max_delay_s, clock
        self._lowest, self._highest = min(lowest, highest), highest
        self._limit: float = min(_FIRST_LIMIT * lowest, highest)
        self._in_flight = self._answered = self._refused = 0
        self._rate = 0.0  # answers per second
        self._saturated = False  # in this window the limit was reached, or an answer took longer than `max_delay_s`
        self._window_began, self._warned = clock(), -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        counts = scope["path"] not in _BATCHES
        if counts and self._in_flight >= self._limit:
            return await problem_response(self._refuse(scope), scope)(scope, receive, send)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        watching: list[asyncio.TimerHandle | asyncio.Task[None]] = []
        gone = answered = False
        began = 0.0

        async def receive_body() -> Message:
            nonlocal began
            message = await receive()
            if not watching and not message.get("more_body", False):
                if counts and self._in_flight >= self._limit:  # others were faster to upload
                    raise self._refuse(scope)
                self._in_flight += counts
                began = self._clock()
                watching.append(loop.call_later(_WATCH_AFTER_S, lambda: watching.append(loop.create_task(watch()))))
            return message

        async def send_noting(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"] == HTTPStatus.OK
            await send(message)

        async def watch() -> None:
            nonlocal gone
            gone = (await receive())["type"] == "http.disconnect"
            if gone and task is not None:
                task.cancel()

        try:
            await self._app(scope, receive_body, send_noting)
        except asyncio.CancelledError:
            if not gone:  # the server stops
                raise
        finally:
            for each in watching:
                each.cancel()
            if watching:
                self._leave(counts, answered, began)

    def _leave(self, counts: bool, answered: bool, began: float) -> None:
        now = self._clock()
        self._in_flight -= counts
        self._answered += counts and answered  # errors are quick, and say nothing about the capacity
        self._saturated |= counts and now - began > self._max_delay_s
        if now - self._window_began >= _WINDOW_S:
            rate = self._answered / (now - self._window_began)
            if self._saturated or rate > self._rate:  # a low rate with few requests says nothing about the capacity
                limit = min(max(rate * self._max_delay_s, self._lowest), self._highest)
                self._rate, self._limit = rate, limit if self._saturated else max(limit, self._limit)
            self._answered, self._saturated, self._window_began = 0, False, now

    def _refuse(self, scope: Scope) -> Overloaded:
        now = self._clock()
        self._refused += 1
        del scope["state"]["log"]  # one line for all refusals of a second
        if not self._saturated:  # measure from here: the time before says nothing about the capacity
            self._saturated, self._answered, self._window_began = True, 0, now
        if now - self._warned > _WARN_EVERY_S:
            fields = {"refused": self._refused, "in_flight": self._in_flight, "answers_per_second": round(self._rate)}
            log.warning("overloaded", extra={"fields": fields})
            self._refused, self._warned = 0, now
        return Overloaded(self._in_flight / self._rate if self._rate else 1)
