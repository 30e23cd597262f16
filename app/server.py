"""The process: settings -> uvicorn. Its socket, its workers, its signals, its exit status.

The parent of several workers imports no more than this module does. FastAPI, OpenCV and the engine come with
`app.main`, in the processes that answer requests.
"""

import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import ValidationError

from app.settings import Settings, complaint, misspelt
from app.telemetry.logs import start_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("digits")

_BACKLOG = 2048  # connections that wait to be accepted, as in uvicorn; the system may allow fewer
_KEEP_ALIVE_S = 75  # longer than the 60 s of most proxies: the client should close first
_WORKER_TIMEOUT_S = 20  # to answer uvicorn's health check while TensorFlow is imported, and to become ready at SIGHUP
_STARTUP_FAILURE = 3  # when a worker exits with this status, uvicorn stops all of them
_RETRY_S = 5  # between the starts of a worker that cannot load the model, while another one answers
_SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the folder that the workers share
_READY, _FAILURE = "ready", "failure"  # files in it: a worker has been ready; why none can be


def main() -> None:
    """Serve until stopped by a signal. Exit status 1, after one line, for an invalid setting, address or model."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until uvicorn handles them, and when it raises them again
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(complaint(error))
    listening = _listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listening.getsockname()[1]})  # which was 0 for any free port
    start_logging(settings.log_level)
    _log_loading(settings)
    try:
        failure = _serve_workers(settings, listening) if settings.workers > 1 else _serve(settings, listening)
    finally:
        _drop_unwritable_output()
    if failure:
        sys.exit(f"digits: {failure}")
    if threading.active_count() > 1:
        os._exit(0)  # without waiting for a model that is still being loaded


def _serve(settings: Settings, listening: socket.socket) -> str | None:
    """Serve from this process -> what is wrong with the model, if anything."""
    from app.lifespan import Lifespan
    from app.main import create_app

    failures: list[str] = []

    def fail(why: str) -> None:
        failures.append(why)
        signal.raise_signal(signal.SIGINT)

    lifespan = Lifespan(settings, fail)
    log_level = {"info": "warning"}.get(settings.log_level, settings.log_level)  # "ready" and "stopped" are our own
    config = uvicorn.Config(create_app(settings, lifespan), log_level=log_level, **_options(settings))
    with suppress(SystemExit):
        uvicorn.Server(config).run([listening])
    return failures[0] if failures else None


def _serve_workers(settings: Settings, listening: socket.socket) -> str | None:
    """Serve from several processes -> what is wrong with the model, if anything."""
    os.environ["DIGITS_PORT"] = str(settings.port)
    listening.close()  # uvicorn opens the port again
    memory = "/dev/shm"  # noqa: S108 - the folder below gets a random name
    with tempfile.TemporaryDirectory(prefix="digits-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        os.environ[_SHARED] = folder
        uvicorn.run(
            "app.server:worker_app",
            factory=True,
            host=settings.host,  # not `fd`: uvicorn takes that for a Unix socket, without addresses and TCP_NODELAY
            port=settings.port,
            workers=settings.workers,
            timeout_worker_healthcheck=_WORKER_TIMEOUT_S,
            log_level=settings.log_level,
            **_options(settings),
        )
        failure = Path(folder, _FAILURE)
        return failure.read_text(encoding="utf-8") if failure.exists() else None


def worker_app() -> "FastAPI":
    """The app of one of several workers. uvicorn calls this in each of their processes."""
    from app.lifespan import Lifespan
    from app.main import create_app

    settings = Settings()
    start_logging(settings.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    folder = Path(os.environ[_SHARED])

    def fail(why: str) -> None:
        status = _STARTUP_FAILURE
        if (folder / _READY).exists():  # others answer
            log.error("worker cannot start", extra={"fields": {"reason": why, "worker": os.getpid()}})
            status = 1
            time.sleep(_RETRY_S)
        else:
            (folder / _FAILURE).write_text(why, encoding="utf-8")
        os._exit(status)

    return create_app(settings, Lifespan(settings, fail, (folder / _READY).touch))


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),  # uvicorn's default trusts every caller on this machine
        "forwarded_allow_ips": _also_in_ipv6(settings.trusted_proxies),
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": settings.request_timeout_ms // 1000 + 2,
    }


def _also_in_ipv6(networks: str) -> list[str]:
    """The networks, and those of IPv4 as they appear on a socket of both families: ::ffff:a.b.c.d."""
    given = [ip_network(text.strip()) for text in networks.split(",")] if networks else []
    mapped = [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in given if each.version == 4]
    return [*map(str, given), *mapped]


def _listen(host: str, port: int) -> socket.socket:
    """The socket, which is open before anything large is imported.

    It listens at once: with SO_REUSEADDR, which `create_server` sets, two sockets may be bound to one port until one of
    them listens.
    """
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),  # which serves IPv4, too
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            sys.exit(f"digits: port {port} is in use: stop what listens there, or set DIGITS_PORT")
        sys.exit(f"digits: cannot listen on {host}, port {port}: {error}")


def _log_loading(settings: Settings) -> None:
    fields: dict[str, object] = {
        "address": settings.address,
        "engine": settings.engine,
        "model_dir": str(settings.model_dir),
        "workers": settings.workers,
    }
    log.info("loading", extra={"fields": fields})
    if names := misspelt():
        log.warning("no such setting", extra={"fields": {"names": ", ".join(names)}})
    if not settings.keys and not settings.local:
        fields = {"host": settings.host}
        log.warning("no API keys: anyone who reaches this address may use it", extra={"fields": fields})


def _drop_unwritable_output() -> None:
    """Discard log lines that a full disk or a closed pipe refused: Python would try again when it exits, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
