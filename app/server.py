"""One process that answers: uvicorn around the app. What it refuses when there is too much, and how it stops."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio import CancelledError, Task, current_task
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.overload import Gate, refusal, whole_post
from app.api.problems import error_headers
from app.api.request_log import RequestLog
from app.connections import Bounded
from app.errors import BadRequest, Overloaded
from app.inference.memory import cores, give_back_at_once
from app.inference.service import Service
from app.main import create_app
from app.settings import Settings
from app.telemetry.metrics import Metrics

log = logging.getLogger("digits")

_LEAST_A_CORE = 16  # requests inside, whatever they take
_KEEP_ALIVE_S = 75  # proxies keep idle connections for 60 s: they shall close first, and not meet ours closing
_LINGER_S = 1  # for which connections stay open after a drain, so that their next answer closes them
_REFUSALS_AN_ANSWER = 2  # 30 µs each, reading and writing included: a tenth of what an answer takes
_REFUSALS_A_S = (1500, 2500)
_REFUSALS_AT_ONCE = 250
_BYTES_A_REFUSAL = 16384  # of a request; a larger one counts as several, for reading it takes as long
_REFUSALS_PAUSE_S = 0.005
_ACCEPTS_A_S = 1000
_PAUSE_S = 1
_ACCEPT_S = 0.1  # in which those are taken who knocked before the door was shut
_CLOSE = (b"connection", b"close")
_POST_BATCH = b"POST /predict/batch"


def serve(
    settings: Settings,
    listening: socket.socket,
    started: float,
    on_ready: Callable[[], None] | None = None,
) -> str | None:
    """Answer until told to stop -> None, or what is wrong with the model.

    ``started``: when the process was, in monotonic seconds. ``on_ready`` is called on the event loop, once callers are
    answered.
    """
    give_back_at_once()
    logging.captureWarnings(True)  # of libraries, about a caller's picture: nothing that an operator could mend
    for name in ("PIL", "py.warnings", "python_multipart"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    app = create_app(settings)
    app.state.started = started
    gate = Gate(settings.max_delay_ms / 1000, _LEAST_A_CORE * cores(), settings.max_queue)
    metrics: Metrics = app.state.metrics
    config = uvicorn.Config(
        _Admission(app, gate, metrics),
        ws="none",
        workers=1,  # not what WEB_CONCURRENCY says
        log_config=None,
        log_level={"info": "warning"}.get(settings.log_level, settings.log_level),  # ours say when it is ready
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),  # uvicorn believes whoever asks from this machine
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=stop_s(settings),
    )

    def answering() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, server.handle_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())  # what came meanwhile is obeyed now
        if on_ready and not app.state.failure:
            on_ready()

    server = _Server(config, app, gate, _Refusals(gate, app.state.service, metrics), answering, settings)
    server.run([listening])
    failure: str | None = app.state.failure
    return failure


def stop_s(settings: Settings) -> int:
    """Whole seconds that requests which run are given at the end: as long as an answer may take, and one more."""
    return settings.request_timeout_ms // 1000 + 2


class _Server(uvicorn.Server):
    """uvicorn's, which says when it answers, and stops as a caller behind a proxy would have it.

    SIGTERM: `/readyz` says no, all else goes on for ``drain_s``; then nobody new is let in, every answer closes its
    connection, what runs is finished. A second signal, or SIGINT, ends it at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        gate: Gate,
        refusals: "_Refusals",
        answering: Callable[[], None],
        settings: Settings,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._gate = gate
        self._refusals = refusals
        self._answering = answering
        self._drain_s = settings.drain_seconds
        self._timeout_s = settings.request_timeout_ms / 1000
        self._drained_at: float | None = None
        self._at_once = False
        self._accepted_at = 0.0
        self._connecting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvloop's own server takes one connection a turn of the loop
        self._loop = asyncio.get_running_loop()
        for listening in sockets or []:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)
        self._answering()

    def _accept(self, listening: socket.socket) -> None:
        """Those who wait: one where the loop is free, so that workers share them, and more the longer it was busy."""
        now = time.monotonic()
        many = 1 + int(min(now - self._accepted_at, 0.1) * _ACCEPTS_A_S)
        self._accepted_at = now
        for _ in range(many):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):  # another worker was quicker, or the caller has gone
                return
            except OSError as error:  # too many open files, or no memory
                log.warning("no connection can be taken", extra={"fields": {"reason": error.strerror}})
                self._loop.remove_reader(listening)
                self._loop.call_later(_PAUSE_S, self._listen_again, listening)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _listen_again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(
            self._gate,
            self._refusals,
            timeout_s=self._timeout_s,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT or self._drained_at is not None:
            self.should_exit = self._at_once = True
            self._loop.call_soon_threadsafe(self._cut)
        elif self._app.state.service.drain():
            self._drained_at = time.monotonic() + self._drain_s
            fields = {"drain_s": self._drain_s}
            self._loop.call_soon_threadsafe(partial(log.info, "stopping", extra={"fields": fields}))
        else:  # it still loads: nobody waits for an answer
            self.should_exit = True

    def handle_hangup(self) -> None:
        """Load the model anew; at a terminal, which has been closed, stop."""
        if sys.stdout.isatty():
            self.handle_exit(signal.SIGINT, None)
        else:
            self._app.state.reload.set()

    async def on_tick(self, counter: int) -> bool:
        drained = self._drained_at is not None and time.monotonic() >= self._drained_at
        return await super().on_tick(counter) or drained

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.default_headers.append(_CLOSE)
        if self._at_once:
            self._cut()
        else:
            for listening in sockets or []:
                listening.listen(0)  # who knocks from here on tries again, and is refused then; who knocked before
            await asyncio.sleep(_ACCEPT_S)  # is taken, and not reset
            self._close(sockets or [])
            await self._linger()
        self._close(sockets or [])
        await super().shutdown(sockets)
        if not self._app.state.failure:
            log.info("stopped", extra={"fields": {"worker": os.getpid()}})

    def _close(self, sockets: list[socket.socket]) -> None:
        for listening in sockets:
            if listening.fileno() >= 0:
                self._accepted_at = 0.0
                self._accept(listening)  # who is still in the kernel's line would be reset
                self._loop.remove_reader(listening)
            listening.close()

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _linger(self) -> None:
        """A proxy may send on a connection at the moment at which it is closed: let an answer close it instead."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and not connection.is_idle():
                connection.shutdown()  # which closes it after its answer
        until = time.monotonic() + (_LINGER_S if self._drain_s else 0)
        while (self.server_state.connections or self._connecting) and time.monotonic() < until:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(_ACCEPT_S)


class _Refusals:
    """Refusals leave at once as long as there are few of them: most of the time is for those inside.

    Where there are more they wait for their turn, one at a connection, and that connection sends nothing meanwhile.
    """

    def __init__(self, gate: Gate, service: Service, metrics: Metrics) -> None:
        self._gate = gate
        self._service = service
        self._metrics = metrics
        self._waiting: deque[tuple[_Protocol, str, str, Callable[[], Overloaded], float]] = deque()
        self._left = 0.0  # of those that may leave
        self._counted_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def due(self, connection: "_Protocol", start: bytes) -> Callable[[], Overloaded] | None:
        """What makes the error for a POST on it that begins so, if it is to be refused.

        The app itself refuses the first batch for which there is no room; those that follow would cost it ten times as
        much as they do here.
        """
        if self._gate.is_full(0.0):
            return partial(self._gate.refuse, id(connection))
        return None

    def add(
        self, connection: "_Protocol", path: str, request_id: str, refuse: Callable[[], Overloaded], size: int
    ) -> None:
        """``size``: bytes of the request."""
        connection.is_asked_again()
        self._waiting.append((connection, path, request_id, refuse, max(1, size / _BYTES_A_REFUSAL)))
        if self._timer is None:
            self._send()

    def _send(self) -> None:
        now = time.monotonic()
        a_second = min(max(_REFUSALS_AN_ANSWER * self._gate.rate, _REFUSALS_A_S[0]), _REFUSALS_A_S[1])
        self._left = min(self._left + (now - self._counted_at) * a_second, _REFUSALS_AT_ONCE)
        self._counted_at = now
        while self._waiting and self._left >= 1:
            connection, path, request_id, refuse, cost = self._waiting.popleft()
            if connection.refused:  # and still there
                self._left -= cost
                connection.send_refusal(path, request_id, refuse())
                self.count(path.partition("?")[0], "POST", Overloaded.status)
        again = asyncio.get_running_loop().call_later
        self._timer = again(_REFUSALS_PAUSE_S, self._send) if self._waiting else None

    def count(self, path: str | None, method: str, status: int) -> None:
        """A request that no part of the app has seen."""
        self._metrics.count_request(path, method, status)


class _Caller:
    """The task that works for a connection, for as long as it does."""

    task: Task[Any] | None = None
    gone = False


class _Protocol(Bounded):
    """Refuses at the gate what would wait too long, and drops the work of callers who have gone."""

    def __init__(self, gate: Gate, refusals: "_Refusals", **uvicorns: Any) -> None:  # noqa: ANN401
        super().__init__(**uvicorns)
        self._gate, self._refusals = gate, refusals
        self._caller = _Caller()
        self._between = True  # requests: nothing of the next has been parsed
        self.refused = False  # and the refusal has not left yet

    def data_received(self, data: bytes) -> None:
        if self.refused:  # a caller who sends on without the answer
            self.transport.abort()
        elif (
            self._between
            and (refuse := self._refusals.due(self, data))
            and self._may_write()
            and (asked := whole_post(data))
        ):
            self._unset_keepalive_if_required()
            self._refusals.add(self, *asked, refuse, len(data))
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._between = False

    def on_headers_complete(self) -> None:
        self.scope["caller"] = self._caller  # type: ignore[typeddict-unknown-key]
        if self.parser.get_method() == b"POST" and (refuse := self._refusals.due(self, b"POST " + self.url)):
            self.scope["refused"] = refuse()  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self.is_whole():
            return
        self._between = True
        self.scope["whole"] = True  # type: ignore[typeddict-unknown-key]
        if not self.cycle.response_complete and self.scope["method"] == "POST" and "refused" not in self.scope:
            self.scope["gate"] = self._gate  # type: ignore[typeddict-unknown-key]
            self._gate.enter()

    def is_asked_again(self) -> None:
        """A request that will be refused: there is no cycle of uvicorn's by which it would be seen."""
        self.refused = True
        self._seen_waiting = False

    def is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.refused = False
        for cycle, _ in self.pipeline:  # which nobody will start
            if cycle.scope.pop("gate", None):  # type: ignore[typeddict-item]
                self._gate.leave()
        if self._caller.task is not None and not self.cycle.response_complete:
            self._caller.gone = True
            self._caller.task.cancel()

    def _refuse(self, detail: str) -> None:
        super()._refuse(detail)
        self._refusals.count(None, "", BadRequest.status)

    def _may_write(self) -> bool:
        return self.is_idle() and not self.flow.write_paused and not self.transport.is_closing()

    def send_refusal(self, path: str, request_id: str, error: Overloaded) -> None:
        self.refused = False
        media_type, body = refusal(path, request_id, error)
        default = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(
            f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n"
            f"retry-after: {error.retry_after_s}\r\nx-request-id: {request_id}\r\n".encode()
            + b"%b\r\n%b" % (default, body)
        )
        if _CLOSE in self.server_state.default_headers:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


class _Admission:
    """Around the app: answers those who are refused, and notes who works for whom."""

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics) -> None:
        self._app = app
        self._gate = gate
        self._metrics = metrics
        self._refusing = RequestLog(_refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "refused" in scope:
            await self._refusing(scope, receive, send)
            self._metrics.count_request(scope["path"], scope["method"], Overloaded.status)
            return
        caller: _Caller = scope["caller"]
        caller.task = current_task()
        try:
            await self._app(scope, receive, send)
        except CancelledError:
            if not caller.gone:
                raise
        finally:
            caller.task = None
            if scope.pop("gate", None):
                self._gate.leave()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error: Overloaded = scope["refused"]
    media_type, body = refusal(scope["path"], scope["state"]["request_id"], error)
    await Response(body, error.status, error_headers(error), media_type=media_type)(scope, receive, send)
