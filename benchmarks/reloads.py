"""`python -m benchmarks.reloads`: the model reloaded again and again under load: failures, latency, memory."""

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.callers import Callers, calling
from benchmarks.load import uploads
from benchmarks.report import rows
from benchmarks.results import machine
from benchmarks.servers import SEVEN, digits, running

_CALLERS = 4
_PAUSE_S = 0.01
_SETTLE_S = 0.5  # until the old model is freed
_GROWTH_MB = 30  # more than one reload leaves behind


@dataclass(frozen=True)
class Reloads:
    """``before``, ``during``: what callers got. ``seconds``: of each reload. ``mb``: memory before and after each."""

    before: Callers
    during: Callers
    seconds: list[float]
    mb: list[float]


def reload(times: int, engine: str, quiet_s: float) -> Reloads:
    """``quiet_s``: seconds of load before the first reload. Raises OSError when a reload fails."""
    upload = uploads(SEVEN.read_bytes())["raw"]
    with running(digits(engine, engine=engine), logs=True) as server:
        with calling(server.port, "/predict", upload, _CALLERS, _PAUSE_S) as before:
            time.sleep(quiet_s)
        mb, seconds = [server.resident_mb()], []
        with calling(server.port, "/predict", upload, _CALLERS, _PAUSE_S) as during:
            for _ in range(times):
                seconds.append(server.reload())
                time.sleep(_SETTLE_S)
                mb.append(server.resident_mb())
    return Reloads(before, during, seconds, mb)


def main(
    times: Annotated[int, typer.Option(min=1, help="Reloads of each engine.")] = 100,
    engines: Annotated[str, typer.Option(help="Separated by commas.")] = "litert,keras",
    quiet_seconds: Annotated[float, typer.Option(min=0.1, help="Of load before the first reload.")] = 5,
) -> None:
    """Reload under load. Exit status 1 when a request failed, or memory grew from the first reload to the last."""
    head = [
        "engine",
        "reloads",
        "requests",
        "failed",
        "p50, p99 ms before",
        "during",
        "s each",
        "MB after 0, 1, 10, all",
    ]
    body, passed = [], True
    for engine in engines.split(","):
        found = reload(times, engine, quiet_seconds)
        passed = passed and not found.during.failed and found.mb[-1] < found.mb[1] + _GROWTH_MB
        body.append(
            [
                engine,
                str(times),
                f"{found.during.statuses.total():,}",
                found.during.failures,
                found.before.latency,
                found.during.latency,
                f"{sorted(found.seconds)[times // 2]:.2f}",
                ", ".join(f"{found.mb[min(after, times)]:.0f}" for after in (0, 1, 10, times)),
            ]
        )
    about = f"{machine()} {_CALLERS} callers, each with {_PAUSE_S * 1000:g} ms between its requests."
    typer.echo("\n".join([about, "", *rows(head, body)]))
    if not passed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
