"""What /metrics shows after requests and answers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.model.engine import KerasEngine
from app.model.manifest import Histogram, Reference
from app.telemetry.drift import FEATURES, LEAST
from app.telemetry.metrics import Metrics
from tests.asking import WAIT_S, Run, Standing, service
from tests.drawings import digit_drawn, encoded
from tests.scraping import Scrape
from tests.server import ROOT

INK = np.zeros((28, 28, 1), np.float32)
STAGES = ("decode", "preprocess", "queue", "inference")
SEVEN = [0.0] * 7 + [1.0] + [0.0] * 2
PICTURE = encoded(digit_drawn(7))


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    return Scrape(await client.get("/metrics"))


def scraped(metrics: Metrics) -> Scrape:
    return Scrape(httpx2.Response(200, content=metrics.text()))


def answer(metrics: Metrics) -> None:
    metrics.count_answer(INK, SEVEN, None, (1, 1, 1, 1), inverted=False)


@pytest.fixture
def reference() -> Reference:
    """Blank light images with certain answers, half of them ones and half of them sevens."""
    features = dict.fromkeys(FEATURES, Histogram(edges=(0.5,), shares=(1, 0)))
    features["confidence"] = Histogram(edges=(0.5,), shares=(0, 1))
    features["digit"] = Histogram(edges=(1.5,), shares=(0.5, 0.5))
    return Reference.model_validate({"source": "mnist", "pictures": 5000, **features})


async def test_requests_are_counted_by_route_method_and_status(client: httpx2.AsyncClient) -> None:
    for body in (PICTURE, PICTURE, b"no picture"):
        await client.post("/predict", content=body)
    found = await scrape(client)

    counted = {
        status: found.value("digits_http_requests_total", route="/predict", method="POST", status=status)
        for status in ("200", "415", "500")
    }
    assert counted == {"200": 2, "415": 1, "500": None}
    assert found.value("digits_http_request_duration_seconds_count", route="/predict", method="POST") == 3
    seconds = found.value("digits_http_request_duration_seconds_sum", route="/predict", method="POST")
    assert 0 < (seconds or 0) < WAIT_S


def test_callers_cannot_create_label_values() -> None:
    metrics = Metrics()
    metrics.count_request(None, "BREW", 404, 0.1)
    metrics.count_request("/predict", "BREW", 405, 0.1)
    found = scraped(metrics)

    requests = "digits_http_requests_total"
    assert found.value(requests, route="none", method="other", status="404") == 1
    assert found.value(requests, route="/predict", method="other", status="405") == 1
    assert "BREW" not in found.text


@pytest.mark.parametrize(
    ("path", "sent", "images", "stages"),
    [
        ("/predict", {"content": PICTURE}, 1, [1, 1, 1, 1]),
        ("/predict/batch", {"files": [("files", PICTURE)] * 5 + [("files", b"no picture")]}, 5, [5, 5, 5, 5]),
        ("/v1/models/digits:predict", {"json": {"instances": [INK.tolist()]}}, 1, [0, 0, 1, 1]),
    ],
    ids=["an image", "a batch", "a tensor"],
)
async def test_each_image_is_counted_by_its_answer_and_in_its_stages(
    client: httpx2.AsyncClient, path: str, sent: dict[str, object], images: int, stages: list[int]
) -> None:
    assert (await client.post(path, **sent)).is_success  # type: ignore[arg-type] # what the case needs
    found = await scrape(client)

    assert [found.value("digits_stage_duration_seconds_count", stage=stage) for stage in STAGES] == stages
    assert found.series("digits_predictions_total") == {str(digit): images * (digit == 7) for digit in range(10)}
    assert found.value("digits_confidence_count") == images
    assert found.value("digits_batch_size_sum") == images
    assert set(found.series("digits_rejections_total").values()) == {0}


async def test_an_answer_that_is_not_accepted_is_counted_with_its_reason(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    async with service(engine_of(lambda ink: np.zeros((len(ink), 10), np.float32))) as client:
        await client.post("/predict", content=PICTURE)
        found = await scrape(client)

    rejected = found.series("digits_rejections_total")
    assert rejected == {"not_a_digit": 0, "low_confidence": 1, "several_digits": 0}


async def test_the_queue_depth_is_the_number_of_waiting_images(engine_of: Callable[[Run], KerasEngine]) -> None:
    model = Standing()
    async with service(engine_of(model), max_batch=1) as client:
        asked = [asyncio.create_task(client.post("/predict", content=PICTURE)) for _ in range(4)]
        async with asyncio.timeout(WAIT_S):
            # 4 if the engine took the first after all had come: the gauge is set when an image joins or leaves
            while (await scrape(client)).value("digits_queue_depth") not in {3, 4}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        model.let_go.set()
        await asyncio.wait(asked)
        empty = await scrape(client)

    assert empty.value("digits_queue_depth") == 0


async def test_metrics_are_served_before_the_model_is_loaded_and_name_it_afterwards(seven: KerasEngine) -> None:
    async with service(None) as client:
        loading = await client.get("/metrics")
    async with service(seven) as client:
        loaded = await scrape(client)

    assert loading.headers["content-type"].startswith("text/plain; version=")
    assert "digits_model_info" not in Scrape(loading).names
    assert loaded.value("digits_model_info", version="1.2.3", sha256="0" * 64) == 1


def test_apps_count_separately_and_show_the_model_in_use() -> None:
    one, other = Metrics(), Metrics()
    answer(one)
    one.set_model("1", "a", None)
    one.set_model("2", "b", None)
    found = scraped(one)

    assert found.value("digits_model_info", version="1", sha256="a") == 0
    assert found.value("digits_model_info", version="2", sha256="b") == 1
    assert found.value("digits_predictions_total", digit="7") == 1
    assert scraped(other).value("digits_predictions_total", digit="7") == 0
    assert found.series("digits_drift_psi") == {}  # neither has a reference
    assert set(found.series("digits_drift_reference_pictures").values()) == {0}
    assert "python_info" in found.names
    assert not [name for name in found.names if name.endswith("_created")]
    if Path("/proc/self/stat").exists():
        assert (found.value("process_resident_memory_bytes") or 0) > 10 * 2**20


# Drift


def test_drift_is_shown_once_there_are_enough_images(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.drift.EVERY_S", 0)
    metrics = Metrics()
    metrics.set_model("1.0.0", "0", reference)
    for _ in range(LEAST - 1):
        answer(metrics)
    before = scraped(metrics)
    answer(metrics)
    after = scraped(metrics)

    assert before.series("digits_drift_psi") == {}
    assert before.series("digits_drift_reference_pictures") == {"mnist": 5000, "pictures": 0}
    drift = after.series("digits_drift_psi")
    assert drift.pop("digit") > 1  # sevens only, instead of ones and sevens
    assert drift == {"ink_fraction": 0, "stroke_width": 0, "polarity": 0, "confidence": 0}
    for place, share, images in ((0, 0.5, 0), (1, 0.5, LEAST), (2, 0, 0)):
        labels = {"feature": "digit", "bin": str(place)}
        assert after.value("digits_drift_reference_share", **labels) == share
        assert after.value("digits_drift_pictures_total", **labels) == images


# Several workers

# Counts as a worker does, shows the metrics, and ends without cleaning up.
_WORKER = """
import os, sys
import numpy as np
from app.telemetry.metrics import Metrics
metrics = Metrics()
metrics.set_model("1", "a", None)
metrics.set_queue_depth(2)
for _ in range(int(sys.argv[1])):
    metrics.count_request("/predict", "POST", 200, 0.01)
    metrics.count_answer(np.zeros((28, 28, 1)), [1.0] + [0.0] * 9, None, (1, 1), inverted=False)
sys.stdout.buffer.write(metrics.text())
sys.stdout.flush()
os._exit(1)
"""


def test_workers_are_added_up_and_a_dead_one_keeps_its_counts_but_not_its_queue(tmp_path: Path) -> None:
    shown = [
        subprocess.run(
            [sys.executable, "-c", _WORKER, str(answers)],
            cwd=ROOT,
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            check=False,
        ).stdout
        for answers in (2, 3)
    ]
    first, both = (Scrape(httpx2.Response(200, content=text)) for text in shown)

    for found, answers in ((first, 2), (both, 5)):
        assert found.value("digits_http_requests_total", route="/predict", method="POST", status="200") == answers
        assert found.value("digits_predictions_total", digit="0") == answers
        assert found.value("digits_stage_duration_seconds_count", stage="inference") == answers
        assert found.value("digits_queue_depth") == 2
        assert found.value("digits_model_info", version="1", sha256="a") == 1
        assert len(found.series("process_start_time_seconds")) == 1
        assert "python_info" in found.names
