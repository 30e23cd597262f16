"""Around every request: its id, its one line in the log, and an answer whatever is raised. Pure ASGI.

Logs hold nothing that a caller sent but what is validated: never a body, a path that matched no route, or a query.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import DigitsError

log = logging.getLogger("digits")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ids = random.Random()  # noqa: S311 - to find a line in a log; a secret costs a call of the system
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context


class RequestLog:
    """ASGI middleware. Handlers put what is to be logged into ``scope["state"]["log"]``, or delete it for no line.

    ``paths``: endpoint -> path, of the routes that do not put themselves into the scope. ``count`` is told of every
    request: its route or None, method, status and seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: Mapping[Any, str] | None = None,
        count: Callable[[str | None, str, int, float], None] | None = None,
    ) -> None:
        self._app = app
        self._paths = paths or {}
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = traceparent = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value.decode("latin-1")
            elif name == b"traceparent":
                traceparent = value.decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(64):016x}"
        fields: dict[str, Any] = {}
        state = scope.setdefault("state", {})
        state["request_id"], state["log"] = request_id, fields
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("unhandled error", extra={"fields": {"request_id": request_id}})
            if status:
                raise  # the answer has begun: all that is left is to cut the connection
            error = DigitsError("The service failed to answer: report it with the request id.")
            await problem_response(error, scope)(scope, receive, send_with_id)
        finally:
            route = scope["route"].path if "route" in scope else self._paths.get(scope.get("endpoint"))
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
                    **fields,
                }
                if _TRACEPARENT.fullmatch(traceparent):
                    line["traceparent"] = traceparent
                log.info("request", extra={"fields": line})
