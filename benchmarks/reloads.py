"""`python -m benchmarks.reloads`: the model loaded anew again and again while callers ask, and what that costs."""

import signal
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.callers import Callers, asking
from benchmarks.load import uploads
from benchmarks.replica import Replica
from benchmarks.results import machine
from benchmarks.servers import ROOT, free_port, resident_mb

_CALLERS = 4
_PAUSE_S = 0.01
_QUIET_S = 5
_REST_S = 0.5  # until the old model is gone


@dataclass(frozen=True)
class Reloads:
    """``before``, ``during``: what callers got. ``seconds``: of each. ``mb``: resident memory, first before any."""

    before: Callers
    during: Callers
    seconds: list[float]
    mb: list[float]


def reload(times: int, engine: str, *, quiet_s: float = _QUIET_S, rest_s: float = _REST_S) -> Reloads:
    """``quiet_s``: of the load before. ``rest_s``: after each. Raises OSError when a reload fails."""
    upload = uploads((ROOT / "examples" / "seven.png").read_bytes())["raw"]
    replica = Replica(free_port(), engine=engine)
    replica.start()
    try:
        replica.wait_for("ready")
        with asking(replica.port, "/predict", upload, _CALLERS, _PAUSE_S) as before:
            time.sleep(quiet_s)
        mb, seconds = [resident_mb(replica.pid)], []
        with asking(replica.port, "/predict", upload, _CALLERS, _PAUSE_S) as during:
            for _ in range(times):
                replica.tell(signal.SIGHUP)
                said = replica.wait_for("reloaded", "reload failed")
                if said["message"] != "reloaded":
                    raise OSError(f"a reload failed: {said['reason']}")
                seconds.append(said["seconds"])
                time.sleep(rest_s)
                mb.append(resident_mb(replica.pid))
    finally:
        replica.end()
    return Reloads(before, during, seconds, mb)


def main(
    times: Annotated[int, typer.Option(min=1, help="Reloads of each engine.")] = 100,
    engines: Annotated[str, typer.Option(help="With commas.")] = "litert,keras",
) -> None:
    """Reload under load; count failed requests, weigh the process."""
    typer.echo(f"{machine()} {_CALLERS} callers, each with {_PAUSE_S * 1000:g} ms between its requests.\n")
    typer.echo(
        "| engine | reloads | requests | failed | p50, p99 ms before | during | s each | MB before, after 1, 10, all |"
    )
    typer.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    failed = 0
    for engine in engines.split(","):
        found = reload(times, engine)
        failed += found.during.failed
        weights = ", ".join(f"{found.mb[min(after, times)]:.0f}" for after in (0, 1, 10, times))
        quiet, busy = (f"{each.percentile(50):.1f}, {each.percentile(99):.1f}" for each in (found.before, found.during))
        typer.echo(
            f"| {engine} | {times} | {found.during.statuses.total():,} | {found.during.failures} | {quiet} | {busy} | "
            f"{sorted(found.seconds)[times // 2]:.2f} | {weights} |"
        )
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
