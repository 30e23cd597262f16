"""What /metrics says after what was asked."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.imaging.preprocess import Ink
from app.model.engine import KerasEngine
from app.model.manifest import Histogram, Reference
from app.telemetry.metrics import DRIFT_EVERY_S, DRIFT_LEAST, DRIFT_WINDOW, Metrics
from app.telemetry.shared_memory import create
from tests.asking import WAIT_S, Run, service
from tests.drawings import digit_drawn, encoded
from tests.scraping import Scrape
from tests.test_workers import ready_worker, two_workers

pytestmark = pytest.mark.anyio

INK = np.zeros((28, 28, 1), np.float32)
STAGES = ("decode", "preprocess", "queue", "inference")
ONE = [0.0, 1.0] + [0.0] * 8
SEVEN = [0.0] * 7 + [1.0] + [0.0] * 2


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    return Scrape(await client.get("/metrics"))


def scraped(metrics: Metrics) -> Scrape:
    return Scrape(httpx2.Response(200, content=metrics.text()))


def answer(metrics: Metrics, probabilities: list[float]) -> None:
    metrics.count_answer(INK, probabilities, None, (1, 1, 1, 1), inverted=False)


@pytest.fixture
def seven_picture() -> bytes:
    return encoded(digit_drawn(7))


@pytest.fixture
def reference() -> Reference:
    """Pictures that are dark, of certain answers, half of them ones and half of them sevens."""
    always, never = Histogram(edges=(0.5,), shares=(0, 1)), Histogram(edges=(0.5,), shares=(1, 0))
    digit = Histogram(edges=(1.5,), shares=(0.5, 0.5))
    return Reference(
        source="mnist",
        pictures=5000,
        ink_fraction=never,
        stroke_width=never,
        polarity=never,
        confidence=always,
        digit=digit,
    )


@pytest.fixture
def every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.metrics.DRIFT_EVERY_S", 0)


async def test_requests_are_counted_by_route_method_and_status(seven: KerasEngine, seven_picture: bytes) -> None:
    async with service(seven) as client:
        for body in (seven_picture, seven_picture, b"no picture"):
            await client.post("/predict", content=body)
        found = await scrape(client)

    counted = {
        status: found.value("digits_http_requests_total", route="/predict", method="POST", status=status)
        for status in ("200", "415", "500")
    }
    assert counted == {"200": 2, "415": 1, "500": None}
    assert found.value("digits_http_request_duration_seconds_count", route="/predict", method="POST") == 3
    seconds = found.value("digits_http_request_duration_seconds_sum", route="/predict", method="POST")
    assert seconds is not None
    assert 0 < seconds < WAIT_S


async def test_no_caller_makes_up_a_label(seven: KerasEngine) -> None:
    async with service(seven) as client:
        await client.get("/made-up")
        await client.request("BREW", "/made-up")
        await client.request("BREW", "/predict")
        await client.get("/v1/models/made-up")
        await client.get("/playground/made-up")
        found = await scrape(client)

    requests = "digits_http_requests_total"
    assert found.value(requests, route="none", method="GET", status="404") == 1
    assert found.value(requests, route="none", method="other", status="404") == 1
    assert found.value(requests, route="/predict", method="other", status="405") == 1
    assert found.value(requests, route="/v1/{address:path}", method="GET", status="404") == 1
    assert found.value(requests, route="/playground/{name}", method="GET", status="404") == 1
    assert "made-up" not in found.text
    assert "BREW" not in found.text


async def test_a_picture_is_counted_in_all_stages_and_by_its_answer(seven: KerasEngine, seven_picture: bytes) -> None:
    async with service(seven) as client:
        await client.post("/predict", content=seven_picture)
        found = await scrape(client)

    assert [found.value("digits_stage_duration_seconds_count", stage=stage) for stage in STAGES] == [1, 1, 1, 1]
    assert found.series("digits_predictions_total") == {str(digit): float(digit == 7) for digit in range(10)}
    assert found.value("digits_confidence_count") == 1
    assert (found.value("digits_batch_size_count"), found.value("digits_batch_size_sum")) == (1, 1)
    assert set(found.series("digits_rejections_total").values()) == {0}


async def test_every_picture_of_a_batch_is_counted(seven: KerasEngine, seven_picture: bytes) -> None:
    async with service(seven) as client:
        await client.post("/predict/batch", files=[("files", seven_picture)] * 5 + [("files", b"no picture")])
        found = await scrape(client)

    assert found.value("digits_predictions_total", digit="7") == 5
    assert found.value("digits_batch_size_sum") == 5


async def test_a_tensor_is_counted_by_its_answer_and_in_the_stages_that_it_passed(seven: KerasEngine) -> None:
    async with service(seven) as client:
        await client.post("/v1/models/digits:predict", json={"instances": [INK.tolist()]})
        found = await scrape(client)

    assert found.value("digits_predictions_total", digit="7") == 1
    assert [found.value("digits_stage_duration_seconds_count", stage=stage) for stage in STAGES] == [0, 0, 1, 1]


async def test_an_answer_that_is_not_accepted_is_counted_with_its_reason(
    engine_of: Callable[[Run], KerasEngine], seven_picture: bytes
) -> None:
    unsure = engine_of(lambda ink: np.zeros((len(ink), 10), np.float32))
    async with service(unsure) as client:
        await client.post("/predict", content=seven_picture)
        found = await scrape(client)

    rejected = found.series("digits_rejections_total")
    assert rejected == {"not_a_digit": 0, "low_confidence": 1, "several_digits": 0}


async def test_the_queue_is_as_deep_as_pictures_wait_and_empty_in_the_end(
    engine_of: Callable[[Run], KerasEngine], seven_picture: bytes
) -> None:
    go = threading.Event()

    def waiting(ink: Ink) -> Ink:
        go.wait(WAIT_S)
        return np.zeros((len(ink), 10), np.float32)

    async with service(engine_of(waiting), max_batch=1, max_queue=3) as client:
        asked = [asyncio.create_task(client.post("/predict", content=seven_picture)) for _ in range(6)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # one for whom there is no room
        full = await scrape(client)
        go.set()
        await asyncio.wait(asked)
        empty = await scrape(client)

    assert {task.result().status_code for task in done} == {503}
    assert full.value("digits_queue_depth") == 3
    assert empty.value("digits_queue_depth") == 0


async def test_the_metrics_are_there_before_the_model_and_name_it_once_it_is(seven: KerasEngine) -> None:
    async with service(None) as client:
        loading = await client.get("/metrics")
    async with service(seven) as client:
        loaded = await scrape(client)

    assert loading.headers["content-type"].startswith("text/plain; version=")
    assert "digits_model_info" not in Scrape(loading).names
    assert loaded.value("digits_model_info", version="1.2.3", sha256="0" * 64) == 1


def test_python_and_the_process_are_described() -> None:
    found = scraped(Metrics())

    assert "python_info" in found.names
    if Path("/proc/self/stat").exists():
        memory = found.value("process_resident_memory_bytes", worker="0")
        assert memory is not None
        assert memory > 10 * 2**20


async def test_two_apps_count_apart(seven: KerasEngine, seven_picture: bytes) -> None:
    async with service(seven) as one, service(seven) as other:
        await one.post("/predict", content=seven_picture)

        assert (await scrape(other)).value("digits_predictions_total", digit="7") == 0


def test_without_a_reference_drift_is_not_told() -> None:
    metrics = Metrics()
    metrics.serve("1.0.0", "0", None)
    for _ in range(DRIFT_LEAST):
        answer(metrics, SEVEN)

    assert "drift" not in scraped(metrics).text


@pytest.mark.usefixtures("every_picture")
def test_drift_is_told_once_there_are_enough_pictures(reference: Reference) -> None:
    metrics = Metrics()
    metrics.serve("1.0.0", "0", reference)
    for _ in range(DRIFT_LEAST - 1):
        answer(metrics, SEVEN)
    before = scraped(metrics)
    answer(metrics, SEVEN)
    after = scraped(metrics)

    assert before.series("digits_drift_psi") == {}
    assert before.value("digits_drift_reference_pictures", source="mnist") == 5000
    drift = after.series("digits_drift_psi")
    assert drift.pop("digit") > 1  # of ones and sevens the sevens alone are left
    assert drift == {"ink_fraction": 0, "stroke_width": 0, "polarity": 0, "confidence": 0}


@pytest.mark.usefixtures("every_picture")
def test_drift_forgets_what_the_window_has_left(reference: Reference) -> None:
    metrics = Metrics()
    metrics.serve("1.0.0", "0", reference)
    for _ in range(DRIFT_WINDOW):
        answer(metrics, ONE)
    drifted = scraped(metrics).series("digits_drift_psi")["digit"]
    for _ in range(DRIFT_WINDOW // 2):
        answer(metrics, SEVEN)

    assert drifted > 1
    assert scraped(metrics).series("digits_drift_psi")["digit"] == 0


def test_drift_measures_a_picture_now_and_then(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Ink] = []

    def noting(ink: Ink) -> tuple[float, float]:
        measured.append(ink)
        return 0, 0

    monkeypatch.setattr("app.telemetry.metrics.shape", noting)
    metrics = Metrics()
    metrics.serve("1.0.0", "0", reference)
    started = time.monotonic()
    while len(measured) < 3:
        answer(metrics, SEVEN)

    assert time.monotonic() - started >= 2 * DRIFT_EVERY_S


def test_a_successor_goes_on_counting_but_not_with_a_queue_that_has_gone() -> None:
    file = create()
    try:
        died = Metrics((), file)
        died.set_queue_depth(5)
        answer(died, SEVEN)
        successor = Metrics((), file)  # of the same row: a lock never keeps its own process out
        answer(successor, SEVEN)
        found = scraped(successor)
    finally:
        os.close(file)

    assert found.value("digits_predictions_total", digit="7") == 2
    assert found.value("digits_queue_depth") == 0


def test_workers_are_added_up_and_one_that_died_takes_nothing_with_it(model_dir: Path, seven_picture: bytes) -> None:
    with two_workers(model_dir) as (process, url, workers):

        def read() -> list[float | None]:
            found = Scrape(httpx2.get(f"{url}/metrics"))
            answered = {"route": "/predict", "method": "POST", "status": "200"}
            return [
                found.value("digits_http_requests_total", **answered),
                found.value("digits_predictions_total", digit="7"),
            ]

        for stopped, count in zip(workers, (2, 3), strict=True):  # so that the other answers
            os.kill(stopped, signal.SIGSTOP)
            for _ in range(count):
                assert httpx2.post(f"{url}/predict", content=seven_picture).status_code == httpx2.codes.OK
            os.kill(stopped, signal.SIGCONT)
        together = read()
        os.kill(workers[0], signal.SIGKILL)
        process.line_with("worker ended")
        without = read()
        replacement = ready_worker(process)
        os.kill(workers[1], signal.SIGSTOP)
        httpx2.post(f"{url}/predict", content=seven_picture)
        by_the_new = read()
        os.kill(workers[1], signal.SIGCONT)
        of_both = Scrape(httpx2.get(f"{url}/metrics")).series("process_start_time_seconds")

    assert (together, without, by_the_new) == ([5, 5], [5, 5], [6, 6])
    assert replacement not in workers
    assert sorted(of_both) == ["0", "1"]  # the replacement has the place of the dead one
