"""What watches the service: Prometheus's configuration and alerts, Grafana's dashboard, against a real /metrics."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.drawings import encoded, mnist_test
from tests.scraping import Scrape
from tests.server import ROOT, running

OBSERVE = ROOT / "observe"
DASHBOARD = OBSERVE / "grafana" / "provisioning" / "dashboards" / "digits.json"
OF_PROMETHEUS = {"up"}  # about the scrape itself
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


def dashboard_expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
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
    return set(re.findall(r"\b(?:digits|process|python)_\w+|\bup\b", bare))


def test_every_metric_of_an_alert_is_there(scrape: Scrape) -> None:
    expressions = list(alert_expressions())

    assert len(expressions) == (OBSERVE / "alerts.yml").read_text(encoding="utf-8").count("alert:")
    assert all(names(expression) for expression in expressions)
    assert set().union(*map(names, expressions)) - scrape.names == OF_PROMETHEUS


def test_every_metric_of_the_dashboard_is_there(scrape: Scrape) -> None:
    expressions = list(dashboard_expressions())

    assert all(names(expression) for expression in expressions)
    assert set().union(*map(names, expressions)) - scrape.names == OF_PROMETHEUS


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
