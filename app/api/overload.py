"""A limit on the requests in flight: above it, new ones get 503 at once. Pure ASGI, knows no service and no model."""

import asyncio
import logging
import math
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import Overloaded

log = logging.getLogger("digits")

_BATCHES = "/predict/batch"  # not counted: batches have their own queue and its limit
_FIRST_LIMIT = 8  # times the lowest, until the rate has been measured
_WINDOW_S = 0.1  # of the measured rate
_WATCH_AFTER_S = 0.05  # most requests are answered sooner, and need no task that watches their connection
_WARN_EVERY_S = 1
_MAX_RETRY_S = 60


class Overload:
    """ASGI middleware: limits the POST requests in flight, and cancels those whose caller has disconnected.

    By Little's law ``rate * max_delay_s`` requests in flight take ``max_delay_s`` each. The limit stays between
    ``lowest`` and ``highest``. A request counts once its body is complete, so that slow uploads keep nobody out.
    """

    def __init__(self, app: ASGIApp, max_delay_s: float, lowest: int, highest: int) -> None:
        self._app = app
        self._max_delay_s, self._lowest, self._highest = max_delay_s, min(lowest, highest), highest
        self._limit: float = min(_FIRST_LIMIT * lowest, highest)
        self._in_flight = self._answered = self._refused = 0
        self._rate = 0.0  # answers per second, when last measured at the limit
        self._at_limit = False  # in this window
        self._window_began, self._warned_at = time.monotonic(), -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        counts = scope["path"] != _BATCHES
        if counts and self._in_flight >= self._limit:
            return await self._refuse(scope, receive, send)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        timer: asyncio.TimerHandle | None = None
        watcher: asyncio.Task[None] | None = None

        async def receive_body() -> Message:
            nonlocal timer
            message = await receive()
            if timer is None and not message.get("more_body", False):
                self._in_flight += counts
                timer = loop.call_later(_WATCH_AFTER_S, watch)
            return message

        def watch() -> None:
            nonlocal watcher
            watcher = loop.create_task(cancel_when_disconnected())

        async def cancel_when_disconnected() -> None:
            if (await receive())["type"] == "http.disconnect" and task is not None:
                task.cancel()

        try:
            await self._app(scope, receive_body, send)
        except asyncio.CancelledError:
            if watcher is None or not watcher.done():  # cancelled by the server, which stops
                raise
        finally:
            if timer is not None:
                timer.cancel()
                self._leave(counts)
            if watcher is not None:
                watcher.cancel()

    def _leave(self, counts: bool) -> None:
        self._in_flight -= counts
        self._answered += counts
        now = time.monotonic()
        if now - self._window_began < _WINDOW_S:
            return
        rate = self._answered / (now - self._window_began)
        self._rate = rate if self._at_limit else max(rate, self._rate)  # with few requests the rate says little
        self._limit = min(max(self._rate * self._max_delay_s, self._lowest), self._highest)
        self._answered, self._at_limit, self._window_began = 0, False, now

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._at_limit = True
        self._refused += 1
        now = time.monotonic()
        if now - self._warned_at > _WARN_EVERY_S:  # a line for each refusal would cost more than the refusal
            fields = {"refused": self._refused, "in_flight": self._in_flight, "answers_per_second": round(self._rate)}
            log.warning("overloaded", extra={"fields": fields})
            self._refused, self._warned_at = 0, now
        del scope["state"]["log"]  # no line of its own
        wait_s = math.ceil(self._in_flight / self._rate) if self._rate else 1
        error = Overloaded(min(max(1, wait_s), _MAX_RETRY_S))
        await problem_response(error, scope)(scope, receive, send)
