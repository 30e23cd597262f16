"""`python -m benchmarks`: measures the service on this machine, as tables and a plot. `--help` lists the options."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import plots
from benchmarks.report import service_report
from benchmarks.results import Results, conditions
from benchmarks.service import (
    CONNECTIONS,
    all_up,
    measure_growth,
    measure_loads,
    measure_mix,
    measure_photos,
    measure_starts,
)
from benchmarks.targets import ENGINES
from training.data.folders import read_labels

app = typer.Typer(pretty_exceptions_enable=False)
RESULTS = Path(__file__).parent / "results"


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each load is measured, and each start.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each load; `wrk` rounds to whole seconds.")] = 1,
    requests: Annotated[int, typer.Option(min=100, help="Requests over which memory growth is measured.")] = 40_000,
    connections: Annotated[str, typer.Option(help="Numbers of connections, separated by commas.")] = ",".join(
        map(str, CONNECTIONS)
    ),
    engines: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(ENGINES),
    mix: Annotated[Path | None, typer.Option(help="A folder of real pictures, listed in its labels.csv.")] = None,
    only_tags: Annotated[str, typer.Option(help="Only these pictures of the mix, separated by commas.")] = "",
    out: Annotated[Path, typer.Option(help="The directory that the results go to.")] = RESULTS,
) -> None:
    """Measure start, throughput, latency, real pictures and memory; write service.md and its plot."""
    results = Results(conditions(rounds, seconds))
    chosen = engines.split(",")
    measure_starts(results, chosen, rounds)
    with ExitStack() as stack:
        up = all_up(stack, chosen)
        measure_loads(results, up, [int(number) for number in connections.split(",")], rounds, seconds)
        if mix:
            files = read_labels(mix, only_tags.split(",") if only_tags else ())
            order = np.random.default_rng(0).permutation(len(files))
            measure_mix(results, up, [files[place].path.read_bytes() for place in order], rounds)
        measure_photos(results, up, rounds)
    measure_growth(results, chosen, requests, seconds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "service.md").write_text(service_report(results), encoding="utf-8")
    plots.throughput(results, out / "throughput.png")
    typer.echo(out / "service.md")


if __name__ == "__main__":
    try:
        app()
    except OSError as error:  # a server does not start or does not answer
        sys.exit(f"benchmarks: {error}")
