"""Prometheus's alerts and Grafana's dashboard, against a real /metrics."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.drawings import encoded, mnist_test
from tests.scraping import Scrape
from tests.server import ROOT, running

OBSERVE = ROOT / "observe"
DASHBOARD = OBSERVE / "grafana" / "provisioning" / "dashboards" / "digits.json"
OF_PROMETHEUS = {"up", "ALERTS"}  # which it makes itself
DRIFT_S = 30

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")


@pytest.fixture(scope="module")
def scrape(model_dir: Path) -> Scrape:
    """From a real server, after enough images for drift."""
    with running(model_dir=model_dir, engine="litert") as process, httpx2.Client(base_url=process.url()) as client:
        process.line_with('"ready"')
        pictures = [encoded(grey) for grey in mnist_test()[0]]
        client.get("/made-up")
        deadline = time.monotonic() + DRIFT_S
        while time.monotonic() < deadline:
            for picture in pictures:
                client.post("/predict", content=picture)
            found = Scrape(client.get("/metrics"))
            if found.series("digits_drift_psi"):
                return found
    pytest.fail("no drift is shown")


def run_promtool(*arguments: str, given: str | None = None) -> tuple[int, str]:
    ran = subprocess.run(
        ["promtool", *arguments], cwd=OBSERVE, input=given, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def dashboard_expressions() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def rule_expressions() -> list[str]:
    groups = yaml.safe_load((OBSERVE / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def names(expression: str) -> set[str]:
    """The metrics in a PromQL expression; those with a colon are recorded by rules."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|without|ignoring) \([^)]*\)', "", expression)
    return set(re.findall(r"\b(?:digits|process|python)[_:]\w+|\bup\b|\bALERTS\b", bare))


@pytest.mark.parametrize("expressions", [rule_expressions, dashboard_expressions])
def test_every_metric_of_the_rules_and_the_dashboard_exists(
    scrape: Scrape, expressions: Callable[[], list[str]]
) -> None:
    found = [names(expression) for expression in expressions()]
    recorded = set(re.findall(r"record: (\S+)", (OBSERVE / "alerts.yml").read_text(encoding="utf-8")))

    assert all(found)
    assert set().union(*found) - scrape.names <= OF_PROMETHEUS | recorded


def test_every_bucket_of_the_dashboard_exists(scrape: Scrape) -> None:
    asked = {bound for expression in dashboard_expressions() for bound in re.findall(r'le="([^"]+)"', expression)}

    assert asked
    assert not [bound for bound in asked if scrape.value("digits_confidence_bucket", le=bound) is None]


@promtool
def test_prometheus_accepts_the_metrics(scrape: Scrape) -> None:
    assert run_promtool("check", "metrics", given=scrape.text) == (0, "")


@promtool
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=["config", "alerts"]
)
def test_prometheus_accepts_its_configuration_and_the_alerts_fire_as_tested(arguments: tuple[str, ...]) -> None:
    status, said = run_promtool(*arguments)

    assert status == 0, said
