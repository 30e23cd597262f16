"""Around every request: its id, its one log line, and an answer even to an unhandled error.

Of what a caller sends, the log holds only validated values: no body, no query, no unknown path.
"""

import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.telemetry.tracing import tag_request

log = logging.getLogger("digits")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_random = random.Random()  # noqa: S311 - an id only finds a log line, and `secrets` costs a system call
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context


class RequestLog:
    """ASGI middleware. Sets ``request_id`` and ``log`` in ``scope["state"]``.

    Handlers add fields of the log line to ``log``, or delete it for no line. ``count`` is called for every request
    with route or None, method, status and seconds; status 0 is a caller who disconnected before the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[str | None, str, int, float], None] | None = None,
    ) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{_random.getrandbits(64):016x}"
        state: dict[str, Any] = scope.setdefault("state", {})
        state.update(request_id=request_id, log=tag_request(request_id))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log.exception("unhandled error", extra={"fields": {"request_id": request_id}})
            if status:
                raise  # the answer has begun: only cutting the connection is left
            await problem_response(error, scope)(scope, receive, send_with_id)
        finally:
            route = scope["route"].path if "route" in scope else None
            duration_s = time.perf_counter() - started
            if self._count is not None:
                self._count(route, scope["method"], status, duration_s)
            if "log" in state and log.isEnabledFor(logging.INFO):
                line = {
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "duration_ms": round(duration_s * 1000, 3),
                    **state["log"],
                }
                traceparent = headers.get(b"traceparent", b"").decode("latin-1")
                if _TRACEPARENT.fullmatch(traceparent):
                    line["traceparent"] = traceparent
                log.info("request", extra={"fields": line})
