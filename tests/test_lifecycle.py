"""Stopping, restarting and reloading while callers ask: nobody is to notice."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS, MANIFEST, read_manifest, write_manifest
from tests.asking import assert_is_problem
from tests.drawings import digit_drawn, encoded
from tests.server import Process, running

SEVEN = encoded(digit_drawn(7))
WAIT_S = 20
AT_ONCE_S = 10  # on a busy machine; the drains below last a minute
WORKERS = pytest.mark.parametrize("workers", [1, 2])


@contextmanager
def ready(model_dir: Path, workers: int = 1, **settings: object) -> Iterator[tuple[Process, str]]:
    with running(engine="litert", model_dir=model_dir, workers=workers, **settings) as process:
        url = process.url()
        for _ in range(workers):
            process.line_with('"ready"')
        yield process, url


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fresh(url: str, path: str = "/predict") -> httpx2.Response:
    """An answer on a connection of its own."""
    return httpx2.get(f"{url}{path}") if path != "/predict" else httpx2.post(f"{url}{path}", content=SEVEN)


@WORKERS
def test_a_service_that_drains_says_so_to_balancers_and_answers_everyone_else(model_dir: Path, workers: int) -> None:
    with ready(model_dir, workers, drain_seconds=2) as (process, url), httpx2.Client(base_url=url) as client:
        client.get("/healthz")  # on a connection that stays open
        process.tell(signal.SIGTERM)
        wait_for(lambda: client.get("/readyz").status_code != httpx2.codes.OK)
        not_ready, health = client.get("/readyz"), client.get("/healthz")
        in_dialect = client.get("/v2/health/ready")
        answers = [client.post("/predict", content=SEVEN), fresh(url), fresh(url)]
        closes = [answer.headers.get("connection") for answer in answers]

        assert process.status(WAIT_S) == 0
        assert "Traceback" not in process.errors()
    assert_is_problem(not_ready, 503, "not_ready")
    assert int(not_ready.headers["retry-after"]) >= 1
    assert (health.status_code, in_dialect.status_code) == (200, 503)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert closes == [None] * 3


def test_after_the_drain_the_next_answer_closes_its_connection_and_nobody_new_comes_in(model_dir: Path) -> None:
    with ready(model_dir, drain_seconds=0.1) as (process, url), httpx2.Client(base_url=url) as client:
        client.get("/healthz")
        process.tell(signal.SIGTERM)
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        wait_for(lambda: _is_refused(address))
        answer = client.post("/predict", content=SEVEN)

        assert process.status(WAIT_S) == 0
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def _is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=0.05).close()
    except OSError:
        return True
    return False


@WORKERS
@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["SIGINT", "SIGTERM twice"]
)
def test_an_interrupt_or_a_second_signal_ends_a_drain_at_once(
    model_dir: Path, workers: int, signals: list[signal.Signals]
) -> None:
    """Even with a connection open, and a request on it that is not finished."""
    with ready(model_dir, workers, drain_seconds=60) as (process, url):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=WAIT_S) as caller:
            caller.sendall(
                b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            )
            caller.recv(100)
            for number in signals:
                process.tell(number)
                time.sleep(0.3)

            assert process.status(AT_ONCE_S) == 0
        assert "Traceback" not in process.errors()


def test_a_request_that_runs_is_given_as_long_as_an_answer_may_take(model_dir: Path, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    process = Process("-m", "tests.faulty", "stands", str(switch), port=0, engine="litert", model_dir=model_dir)
    try:
        url = process.url()
        process.line_with('"ready"')
        switch.touch()
        answers: list[httpx2.Response] = []

        def ask() -> None:
            answers.append(httpx2.post(f"{url}/predict", content=SEVEN, timeout=WAIT_S))

        asking = [threading.Thread(target=ask) for _ in range(6)]
        for caller in asking:
            caller.start()
            time.sleep(0.1)
        process.tell(signal.SIGTERM)
        time.sleep(4)  # more than uvicorn gives them unless it is told otherwise here
        switch.unlink()
        for caller in asking:
            caller.join()

        assert process.status(WAIT_S) == 0
    finally:
        process.end()
    assert [answer.status_code for answer in answers] == [200] * 6


def test_a_worker_that_is_killed_under_load_costs_what_it_held_and_no_more(model_dir: Path) -> None:
    """Each of eight callers has one request on its way: no more than that can be lost."""
    lost: list[Exception] = []
    statuses: list[int] = []
    stopped = threading.Event()

    def ask(url: str) -> None:
        while not stopped.is_set():
            with httpx2.Client(base_url=url, timeout=WAIT_S) as client:
                try:
                    while not stopped.is_set():
                        statuses.append(client.post("/predict", content=SEVEN).status_code)
                        time.sleep(0.01)  # a core for the worker that starts
                except httpx2.TransportError as error:
                    lost.append(error)

    with running(engine="litert", model_dir=model_dir, workers=2) as process:
        url = process.url()
        workers = [int(process.line_with(r'"ready".*"worker": (\d+)')[1]) for _ in range(2)]
        asking = [threading.Thread(target=ask, args=[url]) for _ in range(8)]
        for caller in asking:
            caller.start()
        wait_for(lambda: len(statuses) > 100)
        os.kill(workers[0], signal.SIGKILL)
        process.line_with('"worker ended"')
        process.line_with('"ready"')
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 100)
        stopped.set()
        for caller in asking:
            caller.join()

    assert set(statuses) == {200}
    assert len(lost) <= len(asking)


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model, of which `as_version` makes another."""
    for name in (MANIFEST, LITE_WEIGHTS):
        shutil.copy(model_dir / name, tmp_path)
    return tmp_path


def as_version(folder: Path, version: str, temperature: float) -> None:
    changed = {"version": version, "temperature": temperature}
    write_manifest(read_manifest(folder).model_copy(update=changed), folder)


def test_a_reload_fails_nobody_and_an_answer_is_of_one_model_alone(copied: Path) -> None:
    """The two models differ in their temperature, and so in their confidence: it tells which one has decided."""
    answers: list[httpx2.Response] = []
    stopped = threading.Event()

    def ask(url: str) -> None:
        batch = [("files", ("7.png", SEVEN))] * 20
        with httpx2.Client(base_url=url, timeout=WAIT_S) as client:
            while not stopped.is_set():
                answers.append(client.post("/predict", content=SEVEN))
                answers.append(client.post("/predict/batch", files=batch))

    as_version(copied, "1", 1.0)
    with ready(copied) as (process, url):
        asking = [threading.Thread(target=ask, args=[url]) for _ in range(4)]
        for caller in asking:
            caller.start()
        for turn in range(6):
            as_version(copied, str(turn % 2), 1.0 + 5 * (turn % 2 == 0))
            process.tell(signal.SIGHUP)
            process.line_with(f'"reloaded", "model": "digits {turn % 2}"')
        stopped.set()
        for caller in asking:
            caller.join()

    assert {answer.status_code for answer in answers} == {httpx2.codes.OK}
    confidences: dict[str, set[float]] = {"0": set(), "1": set()}
    for answer in answers:
        body: dict[str, Any] = answer.json()
        entries = [entry["prediction"] for entry in body["predictions"]] if "predictions" in body else [body]
        assert {entry["model"]["version"] for entry in entries} == {body["model"]["version"]}
        confidences[body["model"]["version"]] |= {round(entry["confidence"], 4) for entry in entries}
    assert [len(found) for found in confidences.values()] == [1, 1]
    assert confidences["0"] != confidences["1"]


@WORKERS
def test_a_model_that_is_no_good_leaves_the_old_one_and_one_line(copied: Path, workers: int) -> None:
    with ready(copied, workers) as (process, url):
        version = httpx2.get(f"{url}/model").json()["version"]
        weights = (copied / LITE_WEIGHTS).read_bytes()
        (copied / LITE_WEIGHTS).write_bytes(weights[: len(weights) // 2])
        process.tell(signal.SIGHUP)
        said = [json.loads(process.line_with('.*"reload failed".*')[0]) for _ in range(workers)]
        answers = [fresh(url) for _ in range(10)]
        still_ready = fresh(url, "/readyz")
        (copied / LITE_WEIGHTS).write_bytes(weights)
        as_version(copied, "2.0.0", 1.0)
        process.tell(signal.SIGHUP)
        for _ in range(workers):
            process.line_with('"reloaded", "model": "digits 2.0.0"')
        new = {fresh(url).json()["model"]["version"] for _ in range(10)}

    for line in said:
        assert line["level"] == "error"
        assert line["reason"].startswith("damaged model: ")
        assert "traceback" not in line
    assert {answer.json()["model"]["version"] for answer in answers} == {version}
    assert still_ready.status_code == httpx2.codes.OK
    assert new == {"2.0.0"}
