"""Faults injected into the real service, and what comes of each. `tests/faulty.py` is how they get in."""

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS, MANIFEST
from tests.asking import assert_is_problem
from tests.drawings import digit_drawn, encoded
from tests.server import ROOT, START_S, Process, running

ONE, SEVEN = encoded(digit_drawn(1)), encoded(digit_drawn(7))
WAIT_S = 20


class Faulty:
    """A service with a fault that can be switched on and off."""

    def __init__(self, process: Process, switch: Path) -> None:
        self.process = process
        self._switch = switch
        self.url = process.url()
        process.line_with('"ready"')
        self.client = httpx2.Client(base_url=self.url, timeout=WAIT_S)

    def switch_on(self) -> None:
        self._switch.touch()

    def switch_off(self) -> None:
        self._switch.unlink()

    def ask(self, image: bytes = SEVEN) -> httpx2.Response:
        return self.client.post("/predict", content=image)


@contextmanager
def faulty(fault: str, folder: Path, **settings: object) -> Iterator[Faulty]:
    switch = folder / "fault"
    given: dict[str, object] = {"port": 0, "engine": "litert", "model_dir": ROOT / "models"}
    process = Process("-m", "tests.faulty", fault, str(switch), **given | settings)
    try:
        service = Faulty(process, switch)
        with closing(service.client):
            yield service
    finally:
        process.end()


@pytest.mark.parametrize("fault", ["raises", "nine_columns", "a_row_too_few"])
def test_an_engine_that_fails_is_an_internal_error_and_the_next_is_answered(fault: str, tmp_path: Path) -> None:
    with faulty(fault, tmp_path) as service:
        service.switch_on()
        single = service.ask()
        batch = service.client.post("/predict/batch", files=[("files", ("7.png", SEVEN))] * 3)
        service.switch_off()
        after = service.ask()

    for answer in (single, batch):
        assert_is_problem(answer, 500, "internal_error")
        assert "secret" not in answer.text
    assert after.json()["digit"] == 7


def test_a_nan_is_an_internal_error_for_its_caller_and_nobody_else(tmp_path: Path) -> None:
    with faulty("nan_for_sevens", tmp_path) as service, ThreadPoolExecutor(8) as callers:
        service.switch_on()
        images = [ONE, SEVEN] * 40
        answers = list(callers.map(service.ask, images))

    for image, answer in zip(images, answers, strict=True):
        assert "NaN" not in answer.text
        if image is SEVEN:
            assert_is_problem(answer, 500, "internal_error")
        else:
            assert answer.json()["digit"] == 1


def test_a_model_that_cannot_read_a_picture_never_becomes_ready(tmp_path: Path) -> None:
    """It passes the engine's own check, by empty pictures; the first real one is a seven."""
    switch = tmp_path / "fault"
    switch.touch()
    process = Process("-m", "tests.faulty", "nan_for_sevens", str(switch), port=0, engine="litert")
    try:
        assert process.status() == 1
        [line] = [line for line in process.errors().splitlines() if line.startswith("digits: ")]
        messages = [json.loads(line)["message"] for line in process.rest()]
    finally:
        process.end()

    assert "the engine gave a NaN" in line
    assert "ready" not in messages


def test_an_engine_that_hangs_is_told_to_callers_then_to_balancers_and_then_ends_the_process(tmp_path: Path) -> None:
    with faulty("hangs", tmp_path, request_timeout_ms=300) as service:
        service.switch_on()
        assert_is_problem(service.ask(), 504, "deadline_exceeded")
        deadline = time.monotonic() + WAIT_S
        while service.client.get("/readyz").status_code == httpx2.codes.OK and time.monotonic() < deadline:
            time.sleep(0.1)
        assert_is_problem(service.client.get("/readyz"), 503, "not_ready")
        assert service.client.get("/healthz").status_code == httpx2.codes.OK

        assert service.process.status() == 1
        said = json.loads(service.process.line_with('.*"giving up".*')[0])
        [line] = service.process.errors().splitlines()[-1:]
    assert said["level"] == "critical"
    assert line.startswith("digits: the engine has not answered for ")


def test_a_quick_engine_that_hangs_holds_the_event_loop_up_until_the_process_ends(tmp_path: Path) -> None:
    with faulty("hangs_on_the_loop", tmp_path, request_timeout_ms=300) as service:
        service.switch_on()
        with pytest.raises(httpx2.RemoteProtocolError):
            service.ask()

        assert service.process.status() == 1
        [line] = service.process.errors().splitlines()[-1:]
    assert line.startswith("digits: the event loop has stood still for ")


def test_a_worker_whose_engine_hangs_is_replaced(tmp_path: Path) -> None:
    with faulty("hangs", tmp_path, request_timeout_ms=300, workers=2) as service:
        service.process.line_with('"ready"')
        service.switch_on()
        assert_is_problem(service.ask(), 504, "deadline_exceeded")
        service.switch_off()
        service.process.line_with('"worker ended".*"status": 1')
        service.process.line_with('"ready"')

        assert service.ask().json()["digit"] == 7


def test_a_process_that_was_stopped_and_goes_on_is_not_taken_for_one_that_hangs(tmp_path: Path) -> None:
    with faulty("stands", tmp_path, request_timeout_ms=100) as service:
        service.switch_on()
        service.ask()  # the engine still runs
        service.process.tell(signal.SIGSTOP)
        time.sleep(4)  # longer than the watchdog's patience
        service.process.tell(signal.SIGCONT)
        service.switch_off()
        deadline = time.monotonic() + WAIT_S
        while (answer := service.ask()).status_code != httpx2.codes.OK and time.monotonic() < deadline:
            time.sleep(0.1)

    assert answer.json()["digit"] == 7


def test_work_for_callers_who_have_gone_is_dropped_before_the_engine_has_it(tmp_path: Path) -> None:
    with faulty("stands", tmp_path) as service, ThreadPoolExecutor(1) as callers:
        service.switch_on()
        first = callers.submit(service.ask)
        time.sleep(0.5)  # the engine has it
        host, port = service.url.removeprefix("http://").split(":")
        head = f"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: {len(SEVEN)}\r\n\r\n".encode()
        gone = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(5)]
        for caller in gone:
            caller.sendall(head + SEVEN)
        time.sleep(0.3)  # they wait
        for caller in gone:
            caller.close()
        lines = [json.loads(service.process.line_with('.*"message": "request".*')[0]) for _ in gone]
        still_runs = not first.done()
        service.switch_off()
        answer = first.result(WAIT_S)

    assert still_runs
    assert [line["status"] for line in lines] == [0] * 5
    assert answer.json()["digit"] == 7


def test_the_clock_may_jump(tmp_path: Path) -> None:
    """A day forth and back, while the service is asked. Deadlines hold, and nobody is refused."""
    with faulty("clock", tmp_path, request_timeout_ms=5000) as service:
        answers = []
        for turn in range(60):
            if turn % 20 == 10:
                service.switch_on()
            if turn % 20 == 0 and turn:
                service.switch_off()
            answers.append(service.ask())
        ready = service.client.get("/readyz")
        dates = {json.loads(service.process.line_with('.*"request".*')[0])["time"][:10] for _ in answers}

    assert {answer.status_code for answer in [*answers, ready]} == {httpx2.codes.OK}
    assert len(dates) >= 2  # the clock did jump


def test_nothing_in_the_service_waits_by_the_clock_on_the_wall() -> None:
    calls = {
        (path.name, node.attr)
        for path in (ROOT / "app").rglob("*.py")
        if path.name not in {"quotas.py", "tracing.py"}  # windows of quotas and times of spans are the clock's
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"time", "datetime"}
    }

    assert calls
    assert not [call for call in calls if call[1] in {"time", "time_ns", "now", "utcnow", "today"}]


def test_an_event_loop_that_was_blocked_is_told_to_the_log_with_how_long(tmp_path: Path) -> None:
    with faulty("blocked", tmp_path) as service:
        service.switch_on()
        service.client.get("/readyz")
        service.switch_off()
        said = json.loads(service.process.line_with('.*"event loop blocked".*')[0])

        assert service.ask().json()["digit"] == 7
    assert (said["level"], said["seconds"] >= 0.5) == ("warning", True)


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may spoil."""
    for name in (MANIFEST, LITE_WEIGHTS):
        shutil.copy(model_dir / name, tmp_path)
    return tmp_path


def cut_short(weights: Path) -> None:
    os.truncate(weights, 1000)


def swap(weights: Path) -> None:
    weights.write_bytes(os.urandom(weights.stat().st_size))


def remove(weights: Path) -> None:
    weights.unlink()


def put_a_folder_there(weights: Path) -> None:
    weights.unlink(missing_ok=True)
    weights.mkdir()


def test_a_model_whose_file_is_spoilt_is_served_on_from_memory(copied: Path) -> None:
    """Whether it does not start, or is not taken by a reload, is asked elsewhere."""
    with running(engine="litert", model_dir=copied) as process:
        url = process.url()
        process.line_with('"ready"')
        digits = []
        for spoil in (cut_short, swap, remove, put_a_folder_there):
            spoil(copied / LITE_WEIGHTS)
            digits += [httpx2.post(f"{url}/predict", content=SEVEN).json()["digit"] for _ in range(3)]

    assert digits == [7] * 12


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_costs_the_log_and_nothing_else(model_dir: Path, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {"PORT": port, "ENGINE": "litert", "MODEL_DIR": model_dir, "WORKERS": workers}
    environment = os.environ | {f"DIGITS_{name}": str(value) for name, value in settings.items()}
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
                _wait_until_ready(client)
                answers = [client.post("/predict", content=SEVEN) for _ in range(200)]
                time.sleep(0.2)  # until the lines would have been written
                answers.append(client.post("/predict", content=SEVEN))
        finally:
            process.send_signal(signal.SIGTERM)
        said = process.stderr.read().splitlines()

    assert {answer.status_code for answer in answers} == {httpx2.codes.OK}
    assert process.returncode == 0
    lost = [line for line in said if line.startswith("digits: ")]
    assert set(lost) == {"digits: the log cannot be written: No space left on device"}
    assert len(lost) <= 1 + (workers if workers > 1 else 0)  # once a process
    assert not [line for line in said if "Traceback" in line], said


def _wait_until_ready(client: httpx2.Client) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == httpx2.codes.OK:
                return
        except httpx2.ConnectError:
            pass
        time.sleep(0.05)
    pytest.fail("it does not become ready")
