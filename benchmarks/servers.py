"""Servers in processes of their own on 127.0.0.1: start, wait until ready, signal, measure memory and CPU, stop."""

import http.client
import json
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from benchmarks.client import HOST
from benchmarks.load import Load, Upload, measure

ROOT = Path(__file__).parent.parent
SEVEN = ROOT / "examples" / "seven.png"
START_S = 120
_STOP_S = 120
_POLL_S = 0.01
_REST_S, _REST_POLL_S = 10, 0.1


@dataclass(frozen=True)
class Server:
    """``command``: ``{port}`` stands for the port. ``paths``: of each upload. ``ready``: answers 200 when ready."""

    name: str
    command: tuple[str, ...]
    paths: Mapping[str, str]
    ready: str = "/readyz"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """``start_s``: seconds from process start to ready. ``log``: its log lines, and None at the end."""

    server: Server
    process: subprocess.Popen[str]
    port: int
    start_s: float
    log: queue.SimpleQueue[dict[str, Any] | None]

    @property
    def pid(self) -> int:
        return self.process.pid

    def load(self, way: str, upload: Upload, connections: int, seconds: float) -> Load:
        """Load with this upload, and the CPU time that the server spent on it. Returns when the server is idle."""
        before = _cpu_s(self.pid)
        found = measure(self.port, self.server.paths[way], upload, connections, seconds)
        spent = _cpu_s(self.pid) - before
        self._wait_until_idle()
        return replace(found, cpu_ms=1000 * spent / found.images if found.images and spent else math.nan)

    def _wait_until_idle(self) -> None:
        """Some servers keep working after the callers left, which would burden the next server's load."""
        until = time.monotonic() + _REST_S
        while time.monotonic() < until:
            before = _cpu_s(self.pid)
            time.sleep(_REST_POLL_S)
            if _cpu_s(self.pid) - before < _REST_POLL_S / 2:
                return

    def resident_mb(self) -> float:
        """MB (2^20 bytes) of the process and its descendants; pages that they share count in each."""
        return resident_mb(self.pid)

    def ask(self, way: str, upload: Upload) -> tuple[bytes, str, float]:
        """The answer to one request, its Server-Timing, and its seconds. Raises OSError unless the status is 200."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=START_S)
        try:
            started = time.perf_counter()
            connection.request("POST", self.server.paths[way], upload.body, {"Content-Type": upload.content_type})
            answer = connection.getresponse()
            body = answer.read()
            seconds = time.perf_counter() - started
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(f"{self.server.name} answers {answer.status}: {body[:200]!r}")
        return body, answer.getheader("Server-Timing", ""), seconds

    def reload(self) -> float:
        """Reloads the model and returns the seconds it took. Needs ``logs``. Raises OSError when it fails."""
        self.process.send_signal(signal.SIGHUP)
        while (line := self.log.get(timeout=START_S)) is not None:
            if line["message"] == "reloaded":
                return float(line["seconds"])
            if line["message"] == "reload failed":
                raise OSError(f"a reload failed: {line['reason']}")
        raise OSError("the service ended during a reload")

    def stop(self) -> int:
        """The exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(_STOP_S)


def digits(name: str, **settings: object) -> Server:
    """The service with some DIGITS_* settings, the others at their defaults."""
    environment = {f"DIGITS_{setting.upper()}": str(value) for setting, value in settings.items()}
    paths = {"multipart": "/predict", "raw": "/predict", "json": "/predict", "batch": "/predict/batch"}
    return Server(name, (sys.executable, "-m", "app"), paths, environment=environment)


@contextmanager
def running(server: Server, port: int | None = None, *, logs: bool = False) -> Iterator[Running]:
    """The server once it is ready. ``logs``: parse its log. Raises OSError with its error when it does not start."""
    port = port or free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGITS_")}
    log: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    started = time.monotonic()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as errors:
        process = subprocess.Popen(
            [word.format(port=port) for word in server.command],
            cwd=ROOT,
            env=inherited | {"DIGITS_PORT": str(port), **server.environment},
            stdout=subprocess.PIPE if logs else subprocess.DEVNULL,
            stderr=errors,
            text=True,
            start_new_session=True,  # so that its descendants can be stopped as well
        )
        if process.stdout:
            threading.Thread(target=_read_log, args=(process.stdout, log)).start()
        try:
            if not _wait_until_ready(process, port, server, started + START_S):
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["no error was printed"]
                raise OSError(f"{server.name} does not start: {lines[-1]}")
            yield Running(server, process, port, time.monotonic() - started, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB of 2^20 bytes; NaN without /proc."""
    return sum(mb for _, mb in _usage(pid)) or math.nan


def _cpu_s(pid: int) -> float:
    return sum(cpu_s for cpu_s, _ in _usage(pid))


def _usage(pid: int) -> list[tuple[float, float]]:
    """CPU seconds and resident MB of the process and each of its descendants. Empty without /proc."""
    found: dict[int, tuple[int, float, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has just ended
            words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            cpu_s = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            mb = int(words[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            found[int(stat.parent.name)] = (int(words[1]), cpu_s, mb)
    members, size = {pid} & found.keys(), 0
    while size != len(members):
        size = len(members)
        members |= {child for child, (parent, _, _) in found.items() if parent in members}
    return [found[member][1:] for member in members]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _read_log(lines: IO[str], log: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with lines:
        for line in lines:
            if line.startswith("{") and '"message":"request"' not in line:
                log.put(json.loads(line))
    log.put(None)


def _wait_until_ready(process: subprocess.Popen[str], port: int, server: Server, until: float) -> bool:
    """Polls on one bare connection, because an HTTP client library would use CPU time that the start needs."""
    question = f"GET {server.ready} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=START_S) as connection:
            while time.monotonic() < until:
                connection.sendall(question)
                answer = connection.recv(65536)
                if b"HTTP/1.1 200" in answer:
                    return True
                if not answer:
                    break
                time.sleep(_POLL_S)
        time.sleep(_POLL_S)
    return False
