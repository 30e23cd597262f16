"""`python -m benchmarks.overload`: far more than the service can answer, for a minute, and what callers get of it.

Open loop (`benchmarks.openloop`) from a process of its own, on the same cores as the service, from which it takes time.
Meanwhile this process asks for `/healthz`, `/readyz` and one prediction again and again, each on a new connection.
"""

import http.client
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load import HOST, Upload, measure, uploads
from benchmarks.openloop import Flow, flow
from benchmarks.results import machine
from benchmarks.servers import ROOT, Running, digits, running

CONNECTIONS = 2000
_PROBE_S = 0.2
_WAIT_S = 10
_AFTER_S = 3  # of probes, after the load
_PICTURES = ("seven.png", "seven-drawn.png")


@dataclass(frozen=True)
class Overload:
    """``peak``: at a fifth more than is answered in a closed loop. ``gentle``: at 80 % of what `peak` was answered.

    ``recovery_s``: from the end of the load until every prediction was answered again. ``probes_ms``: of `/healthz` and
    `/readyz`; ``lost_probes``: of those without 200. ``mb``: resident memory before and after.
    """

    peak: Flow
    gentle: Flow
    over: Flow
    recovery_s: float
    probes_ms: list[float]
    lost_probes: int
    mb: tuple[float, float]


class _Probes:
    """Asks until stopped, on a thread. ``predictions``: when each was sent, and whether it was answered with 200."""

    def __init__(self, port: int, upload: Upload) -> None:
        self.ms: list[float] = []
        self.lost = 0
        self.predictions: list[tuple[float, bool]] = []
        self._port, self._upload = port, upload
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stopped.wait(_PROBE_S):
            for path in ("/healthz", "/readyz"):
                started = time.monotonic()
                self.lost += self._status("GET", path) != http.client.OK
                self.ms.append((time.monotonic() - started) * 1000)
            started = time.monotonic()
            self.predictions.append((started, self._status("POST", "/predict") == http.client.OK))

    def _status(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_WAIT_S)
        with suppress(OSError):
            body = self._upload.body if method == "POST" else None
            connection.request(method, path, body, {"Content-Type": self._upload.content_type})
            status = connection.getresponse().status
            connection.close()
            return status
        return 0


def overload(server: Running, upload: Upload, times: float, seconds: float, connections: int = CONNECTIONS) -> Overload:
    """The three loads, one after the other; the first two take a third of ``seconds`` each."""
    closed = measure(server.port, "/predict", upload, 16, seconds / 6).rate
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client:

        def load(rate: float, for_s: float) -> Flow:
            return client.submit(flow, server.port, "/predict", upload, rate, for_s, connections).result()

        peak = load(1.2 * closed, seconds / 3)
        gentle = load(0.8 * peak.rate, seconds / 3)
        before = server.resident_mb()
        probes = _Probes(server.port, upload)
        try:
            over = load(times * peak.rate, seconds)
            time.sleep(_AFTER_S)
        finally:
            probes.stop()
    failed = [sent for sent, answered in probes.predictions if sent > over.ended and not answered]
    recovery_s = max([sent + _PROBE_S for sent in failed], default=over.ended) - over.ended
    return Overload(peak, gentle, over, recovery_s, probes.ms, probes.lost, (before, server.resident_mb()))


def main(
    times: Annotated[float, typer.Option(min=1, help="The load, in multiples of the peak.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 60,
    engines: Annotated[str, typer.Option(help="With commas.")] = "litert,keras",
    pictures: Annotated[str, typer.Option(help="Of examples/, with commas.")] = ",".join(_PICTURES),
) -> None:
    """Measure the peak, four fifths of it, and a multiple of it; print one table."""
    client = f"{CONNECTIONS} connections, the client on the same cores"
    typer.echo(f"{machine()} {client}. {times:g} times the peak, {seconds:g} s.\n")
    rows: dict[str, list[str]] = {}
    for engine in engines.split(","):
        for picture in pictures.split(","):
            upload = uploads((Path(ROOT) / "examples" / picture).read_bytes())["raw"]
            with running(digits(engine, engine=engine)) as server:
                for name, said in _said(overload(server, upload, times, seconds)).items():
                    rows.setdefault(name, []).append(said)
            rows.setdefault("", []).append(f"{engine}, {picture}")
    head = rows.pop("")
    typer.echo(f"| | {' | '.join(head)} |\n| --- |{' --- |' * len(head)}")
    for name, cells in rows.items():
        typer.echo(f"| {name} | {' | '.join(cells)} |")


def _said(found: Overload) -> dict[str, str]:
    peak, gentle, over = found.peak, found.gentle, found.over
    slowest = sorted(found.probes_ms)
    return {
        "offered, answered at the peak, requests/s": f"{peak.offered / peak.seconds:,.0f}, {peak.rate:,.0f}",
        "p50, p99 at 80 % of it, ms": f"{gentle.percentile(50):.1f}, {gentle.percentile(99):.1f}",
        "offered in the overload, requests/s": f"{over.offered / over.seconds:,.0f}",
        "answered with 200, requests/s (of the peak)": f"{over.rate:,.0f} ({over.rate / peak.rate:.0%})",
        "their p50, p99, ms (p99 in times that at 80 %)": f"{over.percentile(50):.1f}, {over.percentile(99):.1f} "
        f"({over.percentile(99) / gentle.percentile(99):.1f})",
        "refused with 503, requests/s": f"{over.statuses[503] / over.seconds:,.0f}",
        "their p50, p99, ms": f"{over.refused_percentile(50):.1f}, {over.refused_percentile(99):.1f}",
        "not sent, all connections waiting": f"{over.unsent / over.offered:.0%}",
        "broken, unanswered, other statuses": f"{over.broken}, {over.unanswered}, "
        f"{over.statuses.total() - over.statuses[200] - over.statuses[503]}",
        "`/healthz`, `/readyz`: p50, p99, slowest ms (lost)": f"{slowest[len(slowest) // 2]:.0f}, "
        f"{slowest[int(len(slowest) * 0.99)]:.0f}, {slowest[-1]:.0f} ({found.lost_probes} of {len(slowest)})",
        "recovered after, s": f"{found.recovery_s:.2f}",
        "resident MB before, after": f"{found.mb[0]:.0f}, {found.mb[1]:.0f}",
    }


if __name__ == "__main__":
    typer.run(main)
