"""Around every request: its id, its one line in the log, and an answer whatever is raised. Pure ASGI.

Logs hold nothing that a caller sent but what is validated: never a body, a path that matched no route, or a query.
"""

import json
import logging
import logging.handlers
import queue
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DigitsError
from app.problems import problem_response

Lines = queue.SimpleQueue[Any]

log = logging.getLogger("digits")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LINES_GATHER_S = 0.05
_ids = random.Random()  # noqa: S311 - to find a line in a log; a secret costs a call of the system
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and what the call gave as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@lru_cache(1)
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


def start_logging(level: str) -> logging.handlers.QueueListener:
    """JSON lines on standard output, written by a thread of their own. Stop the listener to flush."""
    # what no line tells costs each of them time: see "Optimization" in Python's logging HOWTO
    for told in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        setattr(logging, told, None)
    lines: Lines = queue.SimpleQueue()
    stream = _Stream(lines)
    stream.setFormatter(JsonFormatter())
    listener = _Listener(lines, stream)
    handler = _UnpreparedQueueHandler(lines)
    for name in ("digits", "uvicorn", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    # of a body that is malformed it writes the byte that is wrong, on standard error where nobody takes its lines
    logging.getLogger("python_multipart").addHandler(logging.NullHandler())
    listener.start()
    return listener


class _Listener(logging.handlers.QueueListener):
    """Sleeps while lines gather: a thread that each line woke would take the interpreter from the request's."""

    def __init__(self, lines: Lines, handler: logging.Handler) -> None:
        super().__init__(lines, handler)
        self._lines = lines

    def dequeue(self, block: bool) -> logging.LogRecord:
        while self._lines.empty():
            time.sleep(_LINES_GATHER_S)
        record: logging.LogRecord = self._lines.get_nowait()
        return record


class _Stream(logging.StreamHandler[TextIO]):
    """Standard output, flushed once all the lines are written that have gathered."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(sys.stdout)
        self._lines = lines
        self._failed = False

    def flush(self) -> None:
        if self._lines.empty():
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """A full disk, or a reader who has gone, costs the log and nothing else. Said once."""
        error = sys.exc_info()[1]
        if not self._failed:
            self._failed = True
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            sys.stderr.write(f"digits: the log cannot be written: {reason}\n")


class _UnpreparedQueueHandler(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # same process: nothing to pickle, so leave formatting to the listener's thread


class RequestLog:
    """ASGI middleware. Handlers put what is to be logged into ``scope["state"]["log"]``.

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
            if log.isEnabledFor(logging.INFO):
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
