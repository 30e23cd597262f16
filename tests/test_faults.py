"""Faults injected into the running service by `tests/faulty.py`, and what comes of each."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS
from tests.asking import assert_is_problem
from tests.drawings import digit_drawn, encoded
from tests.server import Faulty, running, running_faulty

ONE, SEVEN = encoded(digit_drawn(1)), encoded(digit_drawn(7))
WAIT_S = 20
PATIENCE_S = 3  # of the watchdog, at least


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """A service that every fault of these tests leaves running."""
    with running_faulty(tmp_path_factory.mktemp("faulty"), request_timeout_ms=5000) as service:
        yield service


@pytest.fixture
def service(sound: Faulty) -> Iterator[Faulty]:
    yield sound
    sound.switch_off()


@pytest.fixture
def client(service: Faulty) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, timeout=WAIT_S) as client:
        yield client


def predict(service: Faulty, image: bytes = SEVEN) -> httpx2.Response:
    return httpx2.post(f"{service.url}/predict", content=image, timeout=WAIT_S)


@pytest.mark.parametrize("fault", ["raises", "nine_columns", "a_row_too_few"])
def test_an_engine_that_fails_is_an_internal_error_and_the_next_request_is_answered(
    service: Faulty, client: httpx2.Client, fault: str
) -> None:
    service.switch_on(fault)
    single = client.post("/predict", content=SEVEN)
    batch = client.post("/predict/batch", files=[("files", ("7.png", SEVEN))] * 3)
    service.switch_off()

    for answer in (single, batch):
        assert_is_problem(answer, 500, "internal_error")
        assert "secret" not in answer.text
    assert client.post("/predict", content=SEVEN).json()["digit"] == 7


def test_a_nan_is_an_internal_error_for_its_caller_alone(service: Faulty) -> None:
    service.switch_on("nan_for_sevens")
    images = [ONE, SEVEN] * 20
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda image: predict(service, image), images))

    for image, answer in zip(images, answers, strict=True):
        assert "NaN" not in answer.text
        if image is SEVEN:
            assert_is_problem(answer, 500, "internal_error")
        else:
            assert answer.json()["digit"] == 1


def test_a_request_whose_caller_has_disconnected_never_reaches_the_engine(service: Faulty) -> None:
    service.switch_on("waits")
    with ThreadPoolExecutor(1) as callers:
        first = callers.submit(predict, service)
        time.sleep(0.5)  # the engine has it
        host, port = service.url.removeprefix("http://").split(":")
        head = f"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: {len(SEVEN)}\r\n\r\n".encode()
        gone = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(5)]
        for caller in gone:
            caller.sendall(head + SEVEN)
        time.sleep(0.3)  # they are in the queue
        for caller in gone:
            caller.close()
        for _ in gone:
            service.process.line_with('"message":"request".*"status":0')
        still_runs = not first.done()
        service.switch_off()
        answer = first.result(WAIT_S)

    assert still_runs
    assert answer.json()["digit"] == 7


def test_a_clock_that_jumps_by_a_day_changes_no_answer(service: Faulty, client: httpx2.Client) -> None:
    answers, dates = [], set()
    for jumped in (False, True, False):
        service.switch_on("clock_jumps" if jumped else "none")
        for _ in range(10):
            answers.append(client.post("/predict", content=SEVEN))
            dates.add(json.loads(service.process.line_with('.*"request".*')[0])["time"][:10])

    assert {answer.status_code for answer in [*answers, client.get("/readyz")]} == {200}
    assert len(dates) >= 2  # the clock did jump


def test_an_event_loop_that_was_blocked_is_logged(service: Faulty, client: httpx2.Client) -> None:
    service.switch_on("blocks_the_loop")
    client.get("/readyz")
    service.switch_off()
    line = json.loads(service.process.line_with('.*"event loop blocked".*')[0])

    assert (line["level"], line["seconds"] >= 0.5) == ("warning", True)
    assert client.post("/predict", content=SEVEN).json()["digit"] == 7


def test_a_model_that_cannot_read_an_image_never_becomes_ready(tmp_path: Path) -> None:
    """It passes the engine's own check, which uses blank images."""
    (tmp_path / "fault").write_text("nan_unless_blank", encoding="ascii")
    with running("-m", "tests.faulty", str(tmp_path / "fault"), engine="litert") as process:
        assert process.status() == 1
        messages = [json.loads(line)["message"] for line in process.rest()]

        assert "the engine gave a NaN" in process.errors()
    assert "ready" not in messages


def test_an_engine_that_hangs_gives_timeouts_then_fails_readiness_then_ends_the_process(tmp_path: Path) -> None:
    with running_faulty(tmp_path, request_timeout_ms=300) as service:
        # suspended for longer than the watchdog waits, while the engine works: it goes on afterwards
        service.switch_on("waits")
        assert_is_problem(predict(service), 504, "deadline_exceeded")
        service.process.tell(signal.SIGSTOP)
        time.sleep(PATIENCE_S + 1)
        service.process.tell(signal.SIGCONT)
        service.switch_off()
        _wait_for_status(service, 200)
        assert predict(service).json()["digit"] == 7

        service.switch_on("hangs")
        assert_is_problem(predict(service), 504, "deadline_exceeded")
        _wait_for_status(service, 503)
        assert httpx2.get(f"{service.url}/healthz").status_code == 200

        assert service.process.status() == 1
        line = json.loads(service.process.line_with('.*"giving up".*')[0])
        assert line["level"] == "critical"
        assert line["reason"].startswith("the engine has not answered for ")


def _wait_for_status(service: Faulty, status: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while httpx2.get(f"{service.url}/readyz").status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_engine_that_hangs_on_the_event_loop_ends_the_process(tmp_path: Path) -> None:
    with running_faulty(tmp_path, request_timeout_ms=300) as service:
        service.switch_on("hangs_on_the_loop")
        with pytest.raises(httpx2.RemoteProtocolError):
            predict(service)

        assert service.process.status() == 1
        line = json.loads(service.process.line_with('.*"giving up".*')[0])
        assert line["reason"].startswith("the event loop has been blocked for ")


def test_a_model_whose_file_is_damaged_later_is_served_from_memory(copied_model: Path) -> None:
    weights = copied_model / LITE_WEIGHTS
    with running(engine="litert", model_dir=copied_model) as process:
        url = process.ready()
        digits = []
        for damage in (lambda: os.truncate(weights, 1000), lambda: weights.write_bytes(b"no model"), weights.unlink):
            damage()
            digits += [httpx2.post(f"{url}/predict", content=SEVEN).json()["digit"] for _ in range(3)]

    assert digits == [7] * 9


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_loses_the_log_and_nothing_else(tmp_path: Path) -> None:
    with running_faulty(tmp_path) as service:
        service.switch_on("fills_the_disk")
        answers = [predict(service) for _ in range(20)]
        service.process.tell(signal.SIGTERM)
        status = service.process.status()
        errors = service.process.errors().splitlines()

    assert {answer.status_code for answer in answers} == {200}
    assert status == 0
    assert errors == ["digits: the log cannot be written: No space left on device"]
