"""Servers of their own processes on 127.0.0.1: started, waited for, weighed, stopped. Knows no load."""

import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.load import HOST, Load, Upload, measure

ROOT = Path(__file__).parent.parent
START_S = 120
_STOP_S = 15
_POLL_S = 0.01
_REST_S, _LOOK_S = 10, 0.1


@dataclass(frozen=True)
class Server:
    """``command``: with ``{port}`` where the port goes. ``paths``: where it takes which upload. ``ready``: 200 then."""

    name: str
    command: tuple[str, ...]
    paths: Mapping[str, str]
    ready: str = "/readyz"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """``start_s``: seconds from the start of the process until it was ready."""

    server: Server
    pid: int
    port: int
    start_s: float

    def load(self, way: str, upload: Upload, connections: int, seconds: float) -> Load:
        """The upload sent to where the server takes it, with what its processes spent on it. Waits until it rests."""
        before = _cpu_s(self.pid)
        found = measure(self.port, self.server.paths[way], upload, connections, seconds)
        spent = _cpu_s(self.pid) - before
        self._rest()
        return replace(found, cpu_ms=1000 * spent / found.images if found.images and spent else math.nan)

    def _rest(self) -> None:
        """Some servers go on with what was asked, though nobody waits for it: that would burden the next one's load."""
        until = time.monotonic() + _REST_S
        while time.monotonic() < until:
            before = _cpu_s(self.pid)
            time.sleep(_LOOK_S)
            if _cpu_s(self.pid) - before < _LOOK_S / 2:
                return

    def resident_mb(self) -> float:
        """MB (2^20 bytes) of the process and its descendants; pages that they share count in each of them."""
        return resident_mb(self.pid)

    def ask(self, way: str, upload: Upload) -> tuple[bytes, str, float]:
        """The answer to one request, its Server-Timing, and the seconds it took. Raises OSError but for 200."""
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


def digits(name: str, *, python: str = sys.executable, **settings: object) -> Server:
    """The service with some DIGITS_* settings, the others at their defaults."""
    environment = {f"DIGITS_{setting.upper()}": str(value) for setting, value in settings.items()}
    paths = {"multipart": "/predict", "raw": "/predict", "json": "/predict", "batch": "/predict/batch"}
    return Server(name, (python, "-m", "app"), paths, environment=environment)


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """The server, once it is ready. Raises OSError, with its last word, when it does not become so."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGITS_")}
    started = time.monotonic()
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [word.format(port=port) for word in server.command],
            cwd=ROOT,
            env=inherited | {"DIGITS_PORT": str(port), **server.environment},
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,  # so that what it started can be stopped with it
        )
        try:
            if not _ready(process, port, server, started + START_S):
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
                raise OSError(f"{server.name} does not start: {said[-1]}")
            yield Running(server, process.pid, port, time.monotonic() - started)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB of 2^20 bytes; NaN where there is no /proc."""
    return sum(process.resident_mb for process in family(pid)) or math.nan


@dataclass(frozen=True)
class Process:
    """What Linux accounts to it until now."""

    cpu_s: float
    resident_mb: float


def family(pid: int) -> list[Process]:
    """The process and its descendants. Empty where there is no /proc."""
    found: dict[int, tuple[int, Process]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            cpu_s = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            mb = int(words[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            found[int(stat.parent.name)] = (int(words[1]), Process(cpu_s, mb))
    members, size = {pid} & found.keys(), 0
    while size != len(members):
        size = len(members)
        members |= {child for child, (parent, _) in found.items() if parent in members}
    return [found[member][1] for member in members]


def _cpu_s(pid: int) -> float:
    return sum(process.cpu_s for process in family(pid))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _ready(process: subprocess.Popen[bytes], port: int, server: Server, until: float) -> bool:
    """Poll on one bare connection: a client of any comfort would take from a small machine what it measures."""
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
