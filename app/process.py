"""The process: settings, address, log; one server, or a supervisor of several; the exit status.

It imports no more than a supervisor needs. FastAPI, OpenCV and the engine come with `app.server`, where requests are
answered.
"""

import errno
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from app.settings import Settings, complaint, misspelt
from app.telemetry.logs import start_logging
from app.workers import Assignment, hold_signals_back, share_standard_output, supervise

log = logging.getLogger("digits")

_CLOSING_S = 6  # what the server waits for beside them, and its engine's last batch
_BACKLOG = 2048  # connections that may wait to be accepted, as uvicorn has it; the system may allow fewer


def main() -> None:
    """Serve until told to stop. Exit status 1, after one clear line, for a wrong setting, address or model."""
    started = time.monotonic() - _age_s()
    hold_signals_back()
    settings = _settings()
    assignment = Assignment.of(sys.argv[1:])
    listening = assignment.listening if assignment else _listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listening.getsockname()[1]})  # the system's choice, where it was 0
    if settings.workers > 1:
        share_standard_output()
    listener = start_logging(settings.log_level)
    if not assignment:
        _log_loading(settings)
    try:
        if settings.workers > 1 and not assignment:
            failure = supervise(settings.workers, listening, _stop_s(settings))
        else:
            from app.server import serve

            failure = (
                serve(settings, listening, started, assignment.say_ready)
                if assignment
                else serve(settings, listening, started)
            )
    finally:
        listener.stop()
        _drop_what_cannot_be_written()
    if failure and assignment:  # it never was ready
        assignment.say(failure)
        sys.exit(1)
    if failure:
        sys.exit(f"digits: {failure}")
    if threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(0)  # nobody waits for a model that is still being loaded, and nothing can interrupt it


def _drop_what_cannot_be_written() -> None:
    """Of the log, which has said so: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        sys.exit(complaint(error))


def _listen(host: str, port: int) -> socket.socket:
    """The port, taken before anything large is loaded.

    SO_REUSEADDR, which `create_server` sets, lets a service start again at once. Two sockets that have it may be bound
    to one port until one of them listens: hence not bound alone.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except (OSError, UnicodeError) as error:  # UnicodeError for what can be no host's name
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            sys.exit(f"digits: port {port} is in use: stop what listens there, or set DIGITS_PORT")
        sys.exit(f"digits: cannot listen on {host}, port {port}: {error}")


def _stop_s(settings: Settings) -> float:
    """What a worker may take at most: the drain, the requests that run, and what it takes to close."""
    return settings.drain_seconds + settings.request_timeout_ms / 1000 + _CLOSING_S


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
        log.warning("no API keys: whoever reaches this address may ask", extra={"fields": {"host": settings.host}})


def _age_s() -> float:
    """Seconds since this process was started, as Linux knows; 0 elsewhere."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
