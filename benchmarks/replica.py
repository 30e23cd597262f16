"""The service on a port of its own: started, signalled, waited for, started again; what it logs is heard."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

from benchmarks.servers import ROOT, START_S

STOP_S = 120


class Replica:
    """``settings``: DIGITS_*, by their names; the others have their defaults."""

    def __init__(self, port: int, **settings: object) -> None:
        self.port = port
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGITS_")}
        own = {f"DIGITS_{name.upper()}": str(value) for name, value in ({"port": port} | settings).items()}
        self._environment = inherited | own
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Does not wait until it answers."""
        self._said = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, self._said))
        self._reader.start()

    def wait_for(self, *messages: str) -> dict[str, Any]:
        """The next line of its log with one of these messages. Raises OSError when it ends, or says none in time."""
        while True:
            try:
                said = self._said.get(timeout=START_S)
            except queue.Empty as error:
                raise OSError(f"the service does not say {messages}") from error
            if said is None:
                raise OSError(f"the service ended before it said {messages}")
            if said["message"] in messages:
                return said

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        assert self._reader is not None
        status = self._process.wait(STOP_S)
        self._reader.join()
        return status

    def end(self) -> None:
        """At once, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    @staticmethod
    def _read(process: subprocess.Popen[str], said: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if '"message": "request"' not in line:
                    said.put(json.loads(line))
        said.put(None)
