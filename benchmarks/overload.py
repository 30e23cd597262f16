"""`python -m benchmarks.overload`: several times more requests than the service can answer, and what callers get.

An open loop (`benchmarks.client`) in a process of its own makes the load, on the same cores as the service. Meanwhile
this process requests `/healthz`, `/readyz` and one prediction again and again, each on a new connection.
"""

import http.client
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.client import HOST, Flow, closed_loop, open_loop
from benchmarks.load import Upload, uploads
from benchmarks.nginx import nginx
from benchmarks.report import rows
from benchmarks.results import machine
from benchmarks.servers import ROOT, Running, digits, running

CONNECTIONS = 2000
_PROBE_S = 0.2
_TIMEOUT_S = 10
_AFTER_S = 3  # of probes, after the load
_PICTURES = "seven.png,seven-drawn.png"


@dataclass(frozen=True)
class Overload:
    """``peak``: at 1.2 times the rate of a closed loop. ``gentle``: at 80 % of the rate answered in ``peak``.

    ``recovery_s``: from the end of the load until every prediction is answered again. ``probes_ms``: latency of
    `/healthz` and `/readyz`; ``lost_probes``: those without 200. ``mb``: resident memory before and after.
    """

    peak: Flow
    gentle: Flow
    over: Flow
    recovery_s: float
    probes_ms: list[float]
    lost_probes: int
    mb: tuple[float, float]


class _Probes:
    """Runs on a thread until stopped. ``predictions``: when each was sent, and whether it was answered with 200."""

    def __init__(self, port: int, front: int, upload: Upload) -> None:
        self.ms: list[float] = []
        self.lost = 0
        self.predictions: list[tuple[float, bool]] = []
        self._port, self._front, self._upload = port, front, upload
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._probe)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _probe(self) -> None:
        while not self._stopped.wait(_PROBE_S):
            for path in ("/healthz", "/readyz"):
                started = time.monotonic()
                self.lost += self._status(self._port, "GET", path) != http.client.OK
                self.ms.append((time.monotonic() - started) * 1000)
            started = time.monotonic()
            self.predictions.append((started, self._status(self._front, "POST", "/predict") == http.client.OK))

    def _status(self, port: int, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
        with suppress(OSError, http.client.HTTPException):
            body = self._upload.body if method == "POST" else None
            connection.request(method, path, body, {"Content-Type": self._upload.content_type})
            status = connection.getresponse().status
            connection.close()
            return status
        return 0


def overload(server: Running, front: int, upload: Upload, times: float, seconds: float) -> Overload:
    """The three loads one after the other, sent to the port ``front``; the first two take a third of ``seconds``."""
    request = upload.request("/predict")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client:

        def load(rate: float, for_s: float) -> Flow:
            return client.submit(open_loop, front, request, rate, for_s, CONNECTIONS).result()

        closed = client.submit(closed_loop, front, [request], seconds / 6, 16).result().rate
        peak = load(1.2 * closed, seconds / 3)
        gentle = load(0.8 * peak.rate, seconds / 3)
        before = server.resident_mb()
        probes = _Probes(server.port, front, upload)
        try:
            over = load(times * peak.rate, seconds)
            time.sleep(_AFTER_S)
        finally:
            probes.stop()
    failed = [sent for sent, answered in probes.predictions if sent > over.ended and not answered]
    recovery_s = max([sent + _PROBE_S for sent in failed], default=over.ended) - over.ended
    return Overload(peak, gentle, over, recovery_s, probes.ms, probes.lost, (before, server.resident_mb()))


def main(
    times: Annotated[float, typer.Option(min=1, help="The load, in multiples of the peak.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 60,
    engines: Annotated[str, typer.Option(help="Separated by commas.")] = "litert,keras",
    pictures: Annotated[str, typer.Option(help="Of examples/, separated by commas.")] = _PICTURES,
    workers: Annotated[int, typer.Option(min=1, help="DIGITS_WORKERS.")] = 1,
    behind_nginx: Annotated[
        bool, typer.Option("--nginx", help="Send the load through nginx with deploy/nginx/nginx.conf.")
    ] = False,
) -> None:
    """Measure the peak, 80 % of it, and a multiple of it; print one table. Exit status 1 when an answer was lost."""
    columns: dict[str, dict[str, str]] = {}
    lost = 0
    for engine in engines.split(","):
        for picture in pictures.split(","):
            upload = uploads((ROOT / "examples" / picture).read_bytes())["raw"]
            with ExitStack() as stack:
                server = stack.enter_context(running(digits(engine, engine=engine, workers=workers)))
                port = server.port
                front = stack.enter_context(nginx(port)).port if behind_nginx else port
                found = overload(server, front, upload, times, seconds)
            columns[f"{engine}, {picture}"] = _cells(found)
            lost += found.over.broken + found.over.unanswered
    about = f"{CONNECTIONS} connections, the client on the same cores{', behind nginx' if behind_nginx else ''}."
    names = next(iter(columns.values())).keys()
    table = rows(["", *columns], [[name, *(cells[name] for cells in columns.values())] for name in names])
    typer.echo("\n".join([f"{machine()} {about} {times:g} times the peak, {seconds:g} s.", "", *table]))
    if lost:
        raise typer.Exit(1)


def _cells(found: Overload) -> dict[str, str]:
    peak, gentle, over = found.peak, found.gentle, found.over
    probes = sorted(found.probes_ms)
    others = over.statuses.total() - over.statuses[200] - over.statuses[503]
    return {
        "offered, answered at the peak, requests/s": f"{peak.offered / peak.seconds:,.0f}, {peak.rate:,.0f}",
        "p50, p99 at 80 % of it, ms": f"{gentle.percentile(50):.1f}, {gentle.percentile(99):.1f}",
        "offered in the overload, requests/s": f"{over.offered / over.seconds:,.0f}",
        "answered with 200, requests/s (of the peak)": f"{over.rate:,.0f} ({over.rate / peak.rate:.0%})",
        "their p50, p99, ms (p99 ÷ that at 80 %)": f"{over.percentile(50):.1f}, {over.percentile(99):.1f} "
        f"({over.percentile(99) / gentle.percentile(99):.1f})",
        "refused with 503, requests/s": f"{over.statuses[503] / over.seconds:,.0f}",
        "their p50, p99, ms": f"{over.percentile(50, refused=True):.1f}, {over.percentile(99, refused=True):.1f}",
        "not sent: no free connection": f"{over.unsent / over.offered:.0%}",
        "broken, unanswered, other statuses": f"{over.broken}, {over.unanswered}, {others}",
        "probes: p50, p99, slowest ms (lost)": f"{probes[len(probes) // 2]:.0f}, "
        f"{probes[int(len(probes) * 0.99)]:.0f}, {probes[-1]:.0f} ({found.lost_probes} of {len(probes)})",
        "recovered after, s": f"{found.recovery_s:.2f}",
        "resident MB before, after": f"{found.mb[0]:.0f}, {found.mb[1]:.0f}",
    }


if __name__ == "__main__":
    typer.run(main)
