"""One process that answers: uvicorn around the app."""

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from app.connections import bounded
from app.main import create_app
from app.settings import Settings


def serve(
    settings: Settings, listening: socket.socket, started: float, on_ready: Callable[[], None] | None = None
) -> str | None:
    """Answer until told to stop -> None, or what is wrong with the model.

    ``started``: when the process was, in monotonic seconds. ``on_ready`` is called on the event loop, once callers are
    answered.
    """
    logging.captureWarnings(True)  # of libraries, about a caller's picture: nothing that an operator could mend
    for name in ("PIL", "py.warnings", "python_multipart"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    app = create_app(settings)
    app.state.started = started
    config = uvicorn.Config(
        app,
        http=bounded(settings.request_timeout_ms),
        ws="none",
        workers=1,  # not what WEB_CONCURRENCY says
        log_config=None,
        log_level={"info": "warning"}.get(settings.log_level, settings.log_level),  # ours say when it is ready
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )

    def answering() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())  # what came meanwhile is obeyed now
        if on_ready and not app.state.failure:
            on_ready()

    _Server(config, answering).run([listening])
    failure: str | None = app.state.failure
    return failure


class _Server(uvicorn.Server):
    """uvicorn's, which says when it answers."""

    def __init__(self, config: uvicorn.Config, answering: Callable[[], None]) -> None:
        super().__init__(config)
        self._answering = answering

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answering()
