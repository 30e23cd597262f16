"""`python -m benchmarks.peers`: the service beside other model servers with the same model file."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.__main__ import RESULTS
from benchmarks.load import Upload, uploads
from benchmarks.peers.environments import ONE, TWO, Peer, install, peers
from benchmarks.report import latency, rows
from benchmarks.results import Results, conditions
from benchmarks.servers import SEVEN, START_S, Running, running
from benchmarks.service import warm_up
from benchmarks.targets import Bound, ratios, spread

CONNECTIONS = (1, 16, 64)
TARGETS = (  # images per second at 16 connections
    ("multipart", ONE, "LitServe", Bound("≥", 3)),
    ("multipart", ONE, "BentoML", Bound("≥", 6)),
    ("multipart", ONE, "Ray Serve", Bound("≥", 10)),
    ("multipart", ONE, "Ray Serve, defaults", Bound("≥", 10)),
    ("raw", TWO, "mosec, 2 processes", Bound("≥", 1)),
)
_ALIKE = """\
All servers run `models/digits.tflite` on LiteRT with the same decoding, preprocessing and calibration
([reader.py](../peers/reader.py)). Digits also rejects, logs, times and limits requests. One server runs at a time.
Ratios are of requests/s at 16 connections."""
WAYS = {"multipart": "Multipart", "raw": "Raw body"}

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each server is started and measured.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each load; `wrk` rounds to whole seconds.")] = 2,
    out: Annotated[Path, typer.Option(help="The directory that the results go to.")] = RESULTS,
) -> None:
    """Install each peer into an environment of its own, measure them in turns, write peers.md."""
    results = Results(conditions(rounds, seconds))
    absent: dict[str, str] = {}
    ours_and_others = peers()
    for round_ in range(rounds):
        for peer in ours_and_others:
            name = peer.server.name
            if name not in absent:
                try:
                    install(peer)
                    with running(peer.server) as server:
                        _measure(results, server, seconds)
                except OSError as error:
                    absent[name] = str(error)
            sys.stderr.write(f"round {round_ + 1} of {rounds}: {name}{': ' + absent[name] if name in absent else ''}\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / "peers.md").write_text(_report(results, ours_and_others, absent), encoding="utf-8")
    typer.echo(out / "peers.md")


def _measure(results: Results, server: Running, seconds: float) -> None:
    """Raises OSError when the server does not answer 7."""
    until = time.monotonic() + START_S
    ways = {
        way: upload for way, upload in uploads(SEVEN.read_bytes()).items() if way in WAYS.keys() & server.server.paths
    }
    for way, upload in ways.items():
        _first_answer(server, way, upload, until)
    warm_up(server, ways)
    for way, upload in ways.items():
        for connections in CONNECTIONS:
            results.loads[server.server.name, way, connections].append(server.load(way, upload, connections, seconds))
    results.start_s[server.server.name].append(server.start_s)
    results.resident_mb[server.server.name].append(server.resident_mb())


def _first_answer(server: Running, way: str, upload: Upload, until: float) -> None:
    while True:
        try:
            body, _, _ = server.ask(way, upload)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
            continue
        if json.loads(body)["digit"] != 7:
            raise OSError(f"{server.server.name} reads the seven of examples/ as {body[:100]!r}")
        return


def _report(results: Results, ours_and_others: list[Peer], absent: dict[str, str]) -> str:
    sections = [
        ["# Compared with other model servers", "", results.conditions],
        [_ALIKE],
        ["## Targets", "", *rows(["", "ratio"], _targets(results))],
        *([f"## {title}", "", *_loads(results, way)] for way, title in WAYS.items()),
        ["## How they ran", "", *_configurations(results, ours_and_others, absent)],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _targets(results: Results) -> Iterator[list[str]]:
    for way, ours, other, bound in TARGETS:
        measured = ratios(results.rates(ours, way, 16), results.rates(other, way, 16))
        yield [f"{ours} ÷ {other} ({way})", bound.cell(measured)]


def _loads(results: Results, way: str) -> list[str]:
    names = [name for name, kind, connections in results.loads if (kind, connections) == (way, 16)]
    head = ["server", *(f"{number}: {what}" for number in CONNECTIONS for what in ("requests/s", "p50 · p99 ms"))]
    body = []
    for name in names:
        at = [results.loads[name, way, number] for number in CONNECTIONS]
        cpu = spread([each.cpu_ms for each in at[1]])
        cells = [cell for loads in at for cell in (spread([each.rate for each in loads]), latency(loads))]
        body.append([name, *cells, cpu])
    return rows([*head, "16: CPU ms/request"], body)


def _configurations(results: Results, ours_and_others: list[Peer], absent: dict[str, str]) -> list[str]:
    body = []
    for peer in ours_and_others:
        name = peer.server.name
        if name in results.start_s:
            found = [spread(results.start_s[name]), spread(results.resident_mb[name])]
        else:
            found = [absent.get(name, "not measured"), ""]
        body.append([name, f"`{peer.requirement}`" if peer.requirement else "", peer.configuration, *found])
    head = ["server", "version", "configuration", "process start to ready, s", "resident MB after load, all processes"]
    return rows(head, body)


if __name__ == "__main__":
    app()
