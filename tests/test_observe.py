"""What watches the service: Prometheus's configuration and alerts, Grafana's dashboard, against a real /metrics."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.drawings import encoded, mnist_test
from tests.scraping import Scrape
from tests.server import ROOT, running

OBSERVE = ROOT / "observe"
DASHBOARD = OBSERVE / "grafana" / "provisioning" / "dashboards" / "digits.json"
OF_PROMETHEUS = {"up"}  # about the scrape itself
OF_ALERTS = {"ALERTS"}  # of Prometheus too, of the rules beside it
UNITS = {"bytes", "percentunit", "reqps", "s", "short"}  # Grafana draws one that it does not know as a suffix
DRIFT_S = 30

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")


@pytest.fixture(scope="module")
def scrape(model_dir: Path) -> Scrape:
    """Of a real server, after requests of every kind, until drift is told."""
    with running(model_dir=model_dir, engine="litert") as process, httpx2.Client(base_url=process.url()) as client:
        process.line_with('"ready"')
        pictures = [encoded(grey) for grey in mnist_test()[0]]
        client.get("/made-up")
        deadline = time.monotonic() + DRIFT_S
        while time.monotonic() < deadline:
            for picture in pictures:  # of which drift measures a hundred a second
                client.post("/predict", content=picture)
            found = Scrape(client.get("/metrics"))
            if found.series("digits_drift_psi"):
                return found
    pytest.fail("drift is not told")


def run_promtool(*arguments: str, given: str | None = None) -> tuple[int, str]:
    ran = subprocess.run(
        ["promtool", *arguments], cwd=OBSERVE, input=given, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def dashboard_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return panels


def dashboard_expressions() -> Iterator[str]:
    for panel in dashboard_panels():
        for target in panel["targets"]:
            yield target["expr"]


def alert_expressions() -> Iterator[str]:
    """Of YAML by its indentation: `expr: one line`, or `expr: |` and lines that are deeper."""
    rules = (OBSERVE / "alerts.yml").read_text(encoding="utf-8")
    for found in re.finditer(r"^( +)expr: (?:\|\n((?:\1 +.*\n)+)|(.*)\n)", rules, re.MULTILINE):
        yield found[2] or found[3]


def names(expression: str) -> set[str]:
    """Of the metrics in an expression of PromQL."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|without|ignoring) \([^)]*\)', "", expression)
    return set(re.findall(r"\b(?:digits|process|python)_\w+|\bup\b|\bALERTS\b", bare))


def test_every_metric_of_an_alert_is_there(scrape: Scrape) -> None:
    expressions = list(alert_expressions())

    assert len(expressions) == (OBSERVE / "alerts.yml").read_text(encoding="utf-8").count("alert:")
    assert all(names(expression) for expression in expressions)
    assert set().union(*map(names, expressions)) - scrape.names == OF_PROMETHEUS


def test_every_metric_of_the_dashboard_is_there(scrape: Scrape) -> None:
    expressions = list(dashboard_expressions())

    assert all(names(expression) for expression in expressions)
    assert set().union(*map(names, expressions)) - scrape.names == OF_PROMETHEUS | OF_ALERTS


def test_panels_are_of_kinds_and_units_that_grafana_has_and_do_not_overlap() -> None:
    panels = dashboard_panels()
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]

    assert {panel["type"] for panel in panels} == {"stat", "timeseries"}
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels} <= UNITS
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


def test_single_values_are_of_now_and_have_colours_of_their_own() -> None:
    """Over a range the last value outlives the service by an hour; by default 80 of anything is red."""
    values = [panel for panel in dashboard_panels() if panel["type"] == "stat"]

    assert values
    for panel in values:
        assert all(target["instant"] and not target["range"] for target in panel["targets"]), panel["title"]
        assert {"thresholds", "noValue"} <= panel["fieldConfig"]["defaults"].keys(), panel["title"]


def test_every_bucket_that_is_asked_for_is_there(scrape: Scrape) -> None:
    asked = {bound for expression in dashboard_expressions() for bound in re.findall(r'le="([^"]+)"', expression)}

    assert asked
    assert not [bound for bound in asked if scrape.value("digits_confidence_bucket", le=bound) is None]


def test_digits_of_mnist_are_hardly_drift_from_mnist(scrape: Scrape) -> None:
    drift = scrape.series("digits_drift_psi")

    assert set(drift) == {"ink_fraction", "stroke_width", "polarity", "confidence", "digit"}
    assert drift["polarity"] == 0
    assert max(drift.values()) < 1  # of 200 pictures again and again; paper and ink turned over would be 18


@promtool
def test_prometheus_reads_the_metrics_without_a_complaint(scrape: Scrape) -> None:
    assert run_promtool("check", "metrics", given=scrape.text) == (0, "")


@promtool
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=["config", "alerts"]
)
def test_prometheus_accepts_its_configuration_and_the_alerts_do_as_they_say(arguments: tuple[str, ...]) -> None:
    status, said = run_promtool(*arguments)

    assert status == 0, said
