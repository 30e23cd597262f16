"""`python -m benchmarks.restarts`: two replicas behind nginx, restarted one after the other while callers ask."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.callers import Callers, asking
from benchmarks.load import HOST, uploads
from benchmarks.replica import Replica
from benchmarks.results import machine
from benchmarks.servers import ROOT, START_S, free_port

_DEADLINE_S = 300
_CALLERS = 8
_SHIPPED = ROOT / "deploy" / "nginx" / "nginx.conf"
_LOG = 'log_format tried "$status $upstream_status";\n  access_log {folder}/answers tried;'


@dataclass(frozen=True)
class Restarts:
    """``callers``: what they got. ``exits``, ``stop_s``: statuses of the replicas, and seconds until they had ended.

    ``passed_on``: requests that nginx asked the other replica for, by the first one's status; 502 where it let nobody
    in. ``broken``: connections that a replica closed on nginx without an answer.
    """

    callers: Callers
    passed_on: Counter[str]
    broken: int
    exits: list[int]
    stop_s: list[float]


def restart_both(requests: int, drain_s: float, engine: str = "litert") -> Restarts:
    """Both restarted once, and at least so many requests. Raises OSError for what does not start."""
    upload = uploads((ROOT / "examples" / "seven.png").read_bytes())["raw"]
    until = time.monotonic() + _DEADLINE_S
    exits, stop_s = [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = [Replica(free_port(), engine=engine, drain_seconds=drain_s) for _ in range(2)]
        for replica in replicas:
            stack.callback(replica.end)
            replica.start()
        for replica in replicas:
            replica.wait_for("ready")
        port = free_port()
        nginx = _nginx(folder, port, *(replica.port for replica in replicas))
        stack.callback(_end, nginx)
        _wait_for(nginx, port)
        with asking(port, "/predict", upload, _CALLERS) as callers:
            callers.wait_for(requests // 5, until)
            for replica in replicas:
                started = time.monotonic()
                replica.tell(signal.SIGTERM)
                exits.append(replica.wait())
                stop_s.append(time.monotonic() - started)
                replica.start()
                replica.wait_for("ready")
                callers.wait_for(callers.statuses.total() + requests // 5, until)
            callers.wait_for(requests, until)
        _end(nginx)
        tried = (folder / "answers").read_text(encoding="ascii").splitlines()
        passed_on = Counter(line.split()[1].strip(",") for line in tried if "," in line)
        errors = (folder / "errors").read_text(encoding="utf-8", errors="replace")
    return Restarts(callers, passed_on, errors.count("prematurely") + errors.count("reset by peer"), exits, stop_s)


def nginx_program() -> str | None:
    """Where nginx is, which Debian has outside of a user's path; None where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _nginx(folder: Path, port: int, first: int, second: int) -> subprocess.Popen[bytes]:
    program = nginx_program()
    if program is None:
        raise OSError("nginx is not installed")
    configuration = folder / "nginx.conf"
    text = _SHIPPED.read_text(encoding="utf-8")
    for theirs, ours in (
        ("digits-1:8000", f"{HOST}:{first}"),
        ("digits-2:8000", f"{HOST}:{second}"),
        ("listen 8080", f"listen {HOST}:{port}"),
        ("/tmp/", f"{folder}/"),  # noqa: S108 - which a container has to itself
        ("error_log stderr", f"error_log {folder}/errors"),
        ("access_log off;", _LOG.format(folder=folder)),
    ):
        if theirs not in text:
            raise ValueError(f"{_SHIPPED} does not say {theirs}")
        text = text.replace(theirs, ours)
    configuration.write_text(text, encoding="utf-8")
    folder.chmod(0o777)  # nginx's workers are nobody's
    return subprocess.Popen([program, "-c", configuration, "-g", "daemon off;"], stderr=subprocess.DEVNULL)


def _wait_for(nginx: subprocess.Popen[bytes], port: int) -> None:
    """Raises OSError when it does not start."""
    until = time.monotonic() + START_S
    while nginx.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise OSError("nginx does not start")


def _end(nginx: subprocess.Popen[bytes]) -> None:
    nginx.terminate()
    nginx.wait()


def main(
    requests: Annotated[int, typer.Option(min=100, help="At least so many.")] = 10_000,
    drain_seconds: Annotated[float, typer.Option(min=0, help="DIGITS_DRAIN_SECONDS of the replicas.")] = 2,
    engine: Annotated[str, typer.Option(help="keras or litert.")] = "litert",
) -> None:
    """Restart two replicas behind nginx under load, and count what callers saw of it."""
    found = restart_both(requests, drain_seconds, engine)
    callers = found.callers
    typer.echo(f"{machine()}\n")
    typer.echo(
        "| requests | failed | p50, p99 ms | passed on by nginx | connections broken | exits | seconds to stop |"
    )
    typer.echo("| --- | --- | --- | --- | --- | --- | --- |")
    passed_on = ", ".join(f"{status}: {count}" for status, count in found.passed_on.items()) or "none"
    stops = " and ".join(f"{seconds:.1f}" for seconds in found.stop_s)
    typer.echo(
        f"| {callers.statuses.total():,} | {callers.failures} | {callers.percentile(50):.1f}, "
        f"{callers.percentile(99):.1f} | {passed_on} | {found.broken} | {found.exits} | {stops} |"
    )
    if callers.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
