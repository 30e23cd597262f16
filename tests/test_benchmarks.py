"""The benchmarks' own arithmetic, and the client that makes the load where `wrk` is not installed."""

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import plots
from benchmarks.load import Load, uploads
from benchmarks.report import service_report
from benchmarks.results import Results
from benchmarks.servers import Running, Server, running
from benchmarks.service import SEVEN, servers
from benchmarks.soak import soak
from benchmarks.soak import table as soak_table
from benchmarks.targets import Bound, ratios, spread, table


def _load(rate: float) -> Load:
    return Load(rate, p50_ms=1, p99_ms=2, requests=100, images=100, refused=0, cpu_ms=0.5)


def _results() -> Results:
    results = Results("a machine, a day")
    for name, rates in {"no work": (1000, 2000), "keras": (600, 1000), "litert": (600, 1400)}.items():
        results.loads[name, "multipart", 16] = [_load(rate) for rate in rates]
    return results


@pytest.fixture
def ceiling() -> Server:
    """FastAPI that does no work."""
    return servers()[0]


@pytest.mark.parametrize(
    ("bound", "measured", "said"),
    [
        (Bound("≥", 3), [3.0], "3.00 · ≥ 3 **met**"),
        (Bound("≥", 3), [2.0, 2.99, 4.0], "2.99 (2.00 to 4.00) · ≥ 3 **missed**"),
        (Bound("≤", 150, " MB"), [151.0], "151 MB · ≤ 150 MB **missed**"),
        (Bound("≤", 2), [], "≤ 2: not measured"),
        (Bound("≤", 2), [math.nan], "≤ 2: not measured"),
    ],
)
def test_a_target_says_what_was_measured_and_whether_that_is_enough(
    bound: Bound, measured: list[float], said: str
) -> None:
    assert bound.cell(measured) == said


def test_ratios_are_taken_round_by_round() -> None:
    results = _results()

    shares = ratios(results.rates("litert", "multipart", 16), results.rates("no work", "multipart", 16))

    assert spread(shares) == "0.65 (0.60 to 0.70)"


def test_a_report_of_a_run_that_measured_little_names_every_target(tmp_path: Path) -> None:
    results = _results()

    said = service_report(results)

    assert all(line in said for line in table(results))
    assert "0.55 (0.50 to 0.60) · ≥ 0.55 **met** | 0.65 (0.60 to 0.70) · ≥ 0.7 **missed**" in said
    assert said.count("not measured") == 28
    for draw in (plots.throughput, plots.latency, plots.memory):
        draw(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_own_client_counts_what_is_answered(ceiling: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with running(ceiling) as server:
        found = server.load("multipart", uploads(SEVEN.read_bytes())["multipart"], 2, 0.2)
        refused = Running(Server("", (), {"raw": "/nowhere"}), server.pid, server.port, 0).load(
            "raw", uploads(SEVEN.read_bytes())["raw"], 2, 0.1
        )

    assert found.images == found.requests > 0
    assert found.rate == pytest.approx(found.images / 0.2, rel=0.5)
    assert 0 < found.p50_ms <= found.p99_ms
    assert (refused.rate, refused.refused) == (0, 1)


def test_a_server_that_does_not_start_says_why() -> None:
    command = ("python3", "-c", "raise SystemExit('no such model')")

    with (
        pytest.raises(OSError, match="this one does not start: no such model"),
        running(Server("this one", command, {})),
    ):
        pass


def test_a_short_soak_loses_nothing_and_compares_every_answer() -> None:
    found = soak(6, "litert", [])

    assert (found.lost, found.wrong) == (Counter(), [])
    assert found.images > 20
    assert found.left
    assert found.reloads
    assert {200, 415, 422} <= set(found.statuses)
    assert "| wrong | 0 |" in soak_table(found, 6)
