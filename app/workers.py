"""Several processes that answer on one port: each a worker with its own model, all accepting from one socket.

A worker accepts nothing before its model is warm, so that no caller meets one that still loads. The supervisor knows
nothing of models or requests, and asks no worker whether it is well: one that hangs accepts nothing more.

uvicorn's own supervisor was not taken. It asks its workers, and kills one that importing TensorFlow keeps from
answering in time; until that time is over it hears of no signal and of no other worker's end. It cannot be told what
is wrong with a model.
"""

import asyncio
import fcntl
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

log = logging.getLogger("digits")

_ARGUMENT = "worker"  # makes a process one; the numbers of its two sockets follow
_READY = "ready"
_STOPS = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_STOPS, signal.SIGHUP, signal.SIGCHLD)
_AGAIN_S = 5  # after a worker that could not start while others answer
_PATIENCE = 3  # workers in a row that died before they were ready: the next would, too


def hold_signals_back() -> None:
    """Keep signals waiting until a supervisor waits for them, or a server has its handlers: none is lost.

    Called before the first thread is started, which would take them otherwise. Workers inherit it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    for number in _HEARD:
        signal.signal(number, lambda *_: None)  # uvicorn stops gracefully, and then raises the signal once more


def supervise(count: int, listening: socket.socket, stop_s: float) -> str | None:
    """Keep ``count`` workers until told to stop -> None, or what is wrong when they cannot load.

    Signals are held back; SIGHUP is passed on. ``stop_s``: how long a worker may take to stop before it is killed.
    """
    workers: list[_Worker] = []
    lost = 0
    told: int = signal.SIGINT
    memory = Path("/dev/shm")  # noqa: S108 - in which the directory is made for this user alone
    counts = tempfile.TemporaryDirectory(prefix="digits-", dir=memory if memory.is_dir() else None)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts.name  # where workers count, for `app.telemetry.metrics`
    try:
        workers.extend(_Worker(listening) for _ in range(count))
        while (told := signal.sigwait(_HEARD)) not in _STOPS:
            if told == signal.SIGHUP:
                if sys.stdout.isatty():  # the terminal was closed
                    return None
                for worker in workers:
                    worker.process.send_signal(signal.SIGHUP)  # one that still loads hears it once it is ready
            for place, worker in enumerate(workers):
                status = worker.process.poll()
                if status is None:
                    continue
                said = worker.said()
                fields: dict[str, object] = {"worker": worker.process.pid, "status": status}
                if said != _READY and any(other.answers() for other in workers):  # they go on, whatever is wrong
                    log.error("worker cannot start", extra={"fields": fields | {"reason": said, "again_s": _AGAIN_S}})
                    if stop := signal.sigtimedwait(_STOPS, _AGAIN_S):
                        told = stop.si_signo
                        return None
                elif said not in {"", _READY}:
                    return said
                else:
                    lost = 0 if said == _READY else lost + 1
                    if lost == _PATIENCE:
                        why = f"the last with status {status}: is there enough memory?"
                        return f"workers end before they are ready, {why}"
                    log.warning("worker ended", extra={"fields": fields})
                workers[place] = _Worker(listening)
        return None
    finally:
        listening.close()
        _end(workers, told, stop_s)
        counts.cleanup()


class _Worker:
    """This same command once more, with a line to it. The line's other end closes with the process, and tells it."""

    def __init__(self, listening: socket.socket) -> None:
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        self._said = b""
        with theirs:
            given = (listening.fileno(), theirs.fileno())
            self.process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:], _ARGUMENT, *map(str, given)], pass_fds=given
            )

    def said(self) -> str:
        """Everything it has said: nothing, that it is ready, or what is wrong with the model."""
        with suppress(BlockingIOError):
            while more := self._line.recv(4096):
                self._said += more
        return self._said.decode()

    def answers(self) -> bool:
        return self.process.poll() is None and self.said() == _READY

    def tell_to_stop(self, how: int) -> None:
        """One that still loads has no callers and hears nothing."""
        self.process.send_signal(how if self.said() == _READY else signal.SIGKILL)


def _end(workers: Collection[_Worker], how: int, stop_s: float) -> None:
    """SIGTERM: they finish what they have. Whatever else is ``how``, or comes meanwhile, ends them at once."""
    for worker in workers:
        worker.tell_to_stop(signal.SIGTERM if how == signal.SIGTERM else signal.SIGINT)
    deadline = time.monotonic() + stop_s
    while any(worker.process.poll() is None for worker in workers) and time.monotonic() < deadline:
        told = signal.sigtimedwait((*_STOPS, signal.SIGCHLD), max(0, deadline - time.monotonic()))
        if told and told.si_signo in _STOPS:
            for worker in workers:
                worker.tell_to_stop(signal.SIGINT)
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


@dataclass(frozen=True)
class Assignment:
    """What a worker is given: the socket to accept from, and the line to its supervisor."""

    listening: socket.socket
    _line: socket.socket

    @classmethod
    def of(cls, arguments: list[str]) -> Self | None:
        """That of this process, or None if it is no worker."""
        if arguments[:1] != [_ARGUMENT]:
            return None
        listening, line = (socket.socket(fileno=int(number)) for number in arguments[1:3])
        return cls(listening, line)

    def say(self, what: str) -> None:
        """Tell the supervisor, if there still is one."""
        with suppress(OSError):
            self._line.sendall(what.encode())

    def say_ready(self) -> None:
        """Called on the event loop. From here on the worker stops when its supervisor has gone."""
        self.say(_READY)
        asyncio.get_running_loop().add_reader(self._line, self._left_alone)

    def _left_alone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._line)
        os.kill(os.getpid(), signal.SIGTERM)


def share_standard_output() -> None:
    """From here on a line that is written at once stays whole beside those of other processes."""
    sys.stdout = io.TextIOWrapper(_Shared(sys.stdout.fileno(), "w", closefd=False))  # which gathers whole writes


class _Shared(io.FileIO):
    """A pipe takes 4096 bytes in one piece, and a traceback is longer: hence a lock, one that death opens."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        rest = memoryview(data)
        with suppress(OSError):  # a file that cannot be locked
            fcntl.lockf(self, fcntl.LOCK_EX)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        finally:
            with suppress(OSError):
                fcntl.lockf(self, fcntl.LOCK_UN)
        return len(data)
