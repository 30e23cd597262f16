"""Starts the service as a process of its own, as users do."""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parent.parent
START_S = 90  # a cold start on a busy machine


class Process:
    """`python ...` with only the given DIGITS_* settings. A thread reads its standard output."""

    def __init__(self, *arguments: str, **settings: object) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGITS_")}
        environment = inherited | {f"DIGITS_{name.upper()}": str(value) for name, value in settings.items()}
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def line_with(self, pattern: str) -> re.Match[str]:
        """The next line of standard output that matches ``pattern``. Fails if there is none."""
        deadline = time.monotonic() + START_S
        while True:
            line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            assert line is not None, f"the process ended before {pattern!r}: {self.errors()}"
            if found := re.search(pattern, line):
                return found

    def url(self) -> str:
        """The address, once it listens."""
        return self.line_with(r'"address":"(http://[0-9.:]+)"')[1]

    def ready(self, workers: int = 1) -> str:
        """The address, once that many processes are ready to answer."""
        url = self.url()
        for _ in range(workers):
            self.line_with('"ready"')
        return url

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def tell_everyone(self, number: signal.Signals) -> None:
        """Send a signal to the process and its workers, as a terminal does."""
        os.killpg(self.pid, number)

    def rest(self) -> list[str]:
        """The other lines of the process and its workers, once all of them have ended."""
        deadline = time.monotonic() + START_S
        return list(iter(lambda: self._lines.get(timeout=max(0, deadline - time.monotonic())), None))

    def status(self, timeout_s: float = START_S) -> int:
        """Wait for the exit status."""
        return self._process.wait(timeout_s)

    def errors(self) -> str:
        """All of standard error, once the process has ended."""
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.tell_everyone(signal.SIGKILL)
        self._reader.join()
        self._process.communicate()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def has_ended(pid: int) -> bool:
    """Whether a process has ended, though its parent may not have asked."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(*command: str, **settings: object) -> Iterator[Process]:
    """The service, or another ``command`` of Python's, on a free port."""
    process = Process(*(command or ("-m", "app")), **{"port": 0} | settings)
    try:
        yield process
    finally:
        process.end()


class Faulty:
    """A service with faults of `tests.faulty` to switch on and off, once it is ready."""

    def __init__(self, process: Process, switch: Path) -> None:
        self.process = process
        self._switch = switch
        self.url = process.ready()

    def switch_on(self, fault: str) -> None:
        self._switch.with_suffix(".new").write_text(fault, encoding="ascii")
        self._switch.with_suffix(".new").rename(self._switch)

    def switch_off(self) -> None:
        self._switch.unlink(missing_ok=True)


@contextmanager
def running_faulty(folder: Path, **settings: object) -> Iterator[Faulty]:
    switch = folder / "fault"
    with running("-m", "tests.faulty", str(switch), **{"engine": "litert"} | settings) as process:
        yield Faulty(process, switch)


class Callers:
    """Callers that send these requests again and again, each on a connection of its own, until `stop`."""

    def __init__(self, url: str, *requests: dict[str, Any], count: int) -> None:
        self.answers: list[httpx2.Response] = []
        self.lost: list[Exception] = []
        self._url, self._requests = url, requests
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: int) -> None:
        deadline, until = time.monotonic() + START_S, len(self.answers) + answers
        while len(self.answers) < until:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._stopped.is_set():
            with httpx2.Client(base_url=self._url, timeout=START_S) as client:
                try:
                    while not self._stopped.is_set():
                        self.answers += [client.post(**request) for request in self._requests]
                        time.sleep(0.02)  # a core for the worker that starts
                except httpx2.TransportError as error:
                    self.lost.append(error)
