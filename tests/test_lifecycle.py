"""Stopping and reloading while callers send requests: no request fails."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS, read_manifest, write_manifest
from tests.asking import assert_is_problem
from tests.dialects import SEVEN
from tests.server import Callers, running, running_faulty

WAIT_S = 20


@pytest.mark.parametrize("workers", [1, 2])
def test_during_a_drain_readiness_fails_and_everything_else_is_answered(workers: int) -> None:
    with running(engine="litert", workers=workers, drain_seconds=2) as process:
        url = process.ready(workers)
        with httpx2.Client(base_url=url) as client:
            client.get("/healthz")  # on a connection that stays open
            process.tell(signal.SIGTERM)
            for _ in range(workers):
                process.line_with('"stopping"')
            not_ready, alive = client.get("/readyz"), client.get("/healthz")
            in_dialect = client.get("/v2/health/ready")
            answers = [client.post("/predict", content=SEVEN), httpx2.post(f"{url}/predict", content=SEVEN)]

            assert process.status(WAIT_S) == 0
        process.rest()
        assert process.errors() == ""
    assert_is_problem(not_ready, 503, "not_ready")
    assert int(not_ready.headers["retry-after"]) >= 1
    assert (alive.status_code, in_dialect.status_code) == (200, 503)
    assert [answer.status_code for answer in answers] == [200, 200]


def test_requests_in_flight_are_answered_before_the_process_ends(tmp_path: Path) -> None:
    with running_faulty(tmp_path) as service, ThreadPoolExecutor(6) as callers:
        service.switch_on("waits")
        address = f"{service.url}/predict"
        asked = [callers.submit(httpx2.post, address, content=SEVEN, timeout=WAIT_S) for _ in range(6)]
        time.sleep(0.5)
        service.process.tell(signal.SIGTERM)
        service.process.line_with('"stopping"')
        time.sleep(1)
        service.switch_off()
        answers = [answer.result() for answer in asked]

        assert service.process.status(WAIT_S) == 0
    assert [(answer.status_code, answer.headers["connection"]) for answer in answers] == [(200, "close")] * 6


def set_version(folder: Path, version: str, temperature: float) -> None:
    changed = {"version": version, "temperature": temperature}
    write_manifest(read_manifest(folder).model_copy(update=changed), folder)


def test_a_reload_fails_no_request_and_each_answer_is_of_one_model(copied_model: Path) -> None:
    """The two models differ in their temperature, so that the confidence tells which one has answered."""
    batch = {"url": "/predict/batch", "files": [("files", ("7.png", SEVEN))] * 20}
    set_version(copied_model, "1", 1.0)
    with running(engine="litert", model_dir=copied_model) as process:
        url = process.ready()
        callers = Callers(url, {"url": "/predict", "content": SEVEN}, batch, count=4)
        for turn in range(6):
            set_version(copied_model, str(turn % 2), 1.0 + 5 * (turn % 2 == 0))
            process.tell(signal.SIGHUP)
            process.line_with(f'"reloaded","model":"digits {turn % 2}"')
        callers.stop()

    assert callers.lost == []
    assert {answer.status_code for answer in callers.answers} == {200}
    confidences: dict[str, set[float]] = {"0": set(), "1": set()}
    for answer in callers.answers:
        body: dict[str, Any] = answer.json()
        entries = [entry["prediction"] for entry in body["predictions"]] if "predictions" in body else [body]
        assert {entry["model"]["version"] for entry in entries} == {body["model"]["version"]}
        confidences[body["model"]["version"]] |= {round(entry["confidence"], 4) for entry in entries}
    assert [len(found) for found in confidences.values()] == [1, 1]
    assert confidences["0"] != confidences["1"]


def test_a_reload_of_an_unusable_model_keeps_the_old_one(copied_model: Path) -> None:
    with running(engine="litert", model_dir=copied_model) as process:
        url = process.ready()
        version = httpx2.get(f"{url}/model").json()["version"]
        weights = (copied_model / LITE_WEIGHTS).read_bytes()
        (copied_model / LITE_WEIGHTS).write_bytes(weights[: len(weights) // 2])
        process.tell(signal.SIGHUP)
        line = json.loads(process.line_with('.*"reload failed".*')[0])
        answer, still_ready = httpx2.post(f"{url}/predict", content=SEVEN), httpx2.get(f"{url}/readyz")
        (copied_model / LITE_WEIGHTS).write_bytes(weights)
        set_version(copied_model, "2.0.0", 1.0)
        process.tell(signal.SIGHUP)
        process.line_with('"reloaded","model":"digits 2.0.0"')

        assert httpx2.get(f"{url}/model").json()["version"] == "2.0.0"
    assert (line["level"], "traceback" in line) == ("error", False)
    assert line["reason"].startswith("damaged model: ")
    assert (answer.json()["model"]["version"], still_ready.status_code) == (version, 200)
