"""Several processes on one port: replaced when they die, stopped together, and none left behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS, MANIFEST, read_manifest, sha256_of, write_manifest
from tests.drawings import digit_drawn, encoded
from tests.server import ROOT, Process, running

STOP_S = 10
WAIT_S = 10

# Says that it is there; once told to go on, writes two hundred lines of 100,000 letters, each at once.
_LINES = """
import sys
from app.workers import share_standard_output
share_standard_output()
print("there", flush=True)
sys.stdin.read()
for _ in range(200):
    sys.stdout.write(sys.argv[1] * 100_000 + "\\n")
"""


@contextmanager
def two_workers(model_dir: Path, **settings: object) -> Iterator[tuple[Process, str, list[int]]]:
    """The process, its URL and the numbers of its workers, all of them ready."""
    with running(model_dir=model_dir, engine="litert", workers=2, **settings) as process:
        yield process, process.url(), [ready_worker(process), ready_worker(process)]


def ready_worker(process: Process) -> int:
    return int(process.line_with(r'"ready".*"worker": (\d+)')[1])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def libraries(pid: int) -> set[str]:
    mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return {name for name in ("ai_edge_litert", "cv2", "numpy", "tensorflow") if f"/{name}/" in mapped}


def test_each_worker_has_a_model_of_its_own_and_the_supervisor_has_none(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, url, workers):
        assert httpx2.post(f"{url}/predict", content=encoded(digit_drawn(7))).json()["digit"] == 7
        assert sorted(children(process.pid)) == sorted(workers)
        assert libraries(process.pid) == set()
        assert [libraries(worker) for worker in workers] == [{"ai_edge_litert", "cv2", "numpy"}] * 2


def test_a_killed_worker_is_replaced_and_the_other_answers_meanwhile(model_dir: Path) -> None:
    answers: list[httpx2.Response] = []
    replaced = threading.Event()

    def ask(url: str) -> None:
        body = encoded(digit_drawn(7))
        with httpx2.Client(base_url=url, headers={"Connection": "close"}, timeout=WAIT_S) as client:
            while not replaced.is_set():  # each on a connection of its own, which any worker may take
                answers.append(client.post("/predict", content=body))

    with two_workers(model_dir) as (process, url, workers):
        os.kill(workers[0], signal.SIGKILL)
        ended = json.loads(process.line_with('.*"worker ended".*')[0])
        asking = threading.Thread(target=ask, args=[url])
        asking.start()
        replacement = ready_worker(process)
        replaced.set()
        asking.join()

        assert sorted(children(process.pid)) == sorted([workers[1], replacement])
    assert (ended["level"], ended["worker"], ended["status"]) == ("warning", workers[0], -signal.SIGKILL)
    assert {answer.status_code for answer in answers} == {httpx2.codes.OK}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_all_end_when_the_supervisor_is_told_to(model_dir: Path, number: signal.Signals) -> None:
    with two_workers(model_dir) as (process, url, _), httpx2.Client(base_url=url) as client:
        client.get("/healthz")  # on a connection that stays open
        process.tell(number)

        assert process.status(STOP_S) == 0
        process.rest()  # comes once nobody is left to write
        assert "Traceback" not in process.errors()


def test_a_worker_that_hears_nothing_is_killed_in_the_end(model_dir: Path) -> None:
    with two_workers(model_dir, request_timeout_ms=100) as (process, _, workers):
        os.kill(workers[0], signal.SIGSTOP)
        process.tell(signal.SIGTERM)

        assert process.status() == 0
        process.rest()


def test_a_terminal_s_interrupt_reaches_all_and_ends_them_quietly(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, _, _):
        process.tell_everyone(signal.SIGINT)

        assert process.status(STOP_S) == 0
        process.rest()
        assert "Traceback" not in process.errors()


def test_a_request_that_runs_is_answered_before_the_end(model_dir: Path) -> None:
    body = encoded(digit_drawn(7))
    head = f"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    with two_workers(model_dir) as (process, url, _):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=WAIT_S) as caller:
            caller.sendall(head.encode())
            assert caller.recv(4096).startswith(b"HTTP/1.1 100 ")  # it is being read
            process.tell(signal.SIGTERM)
            _wait_until_refused(address)
            caller.sendall(body)
            answer = b"".join(iter(lambda: caller.recv(4096), b""))

        assert process.status(STOP_S) == 0
    assert answer.startswith(b"HTTP/1.1 200 ")


def _wait_until_refused(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + WAIT_S
    with suppress(ConnectionError):
        while time.monotonic() < deadline:
            socket.create_connection(address, timeout=WAIT_S).close()
        pytest.fail("connections are still taken")


def test_workers_do_not_outlive_a_supervisor_that_was_killed(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, _, _):
        process.tell(signal.SIGKILL)

        process.rest()


def test_a_model_that_is_missing_ends_all_with_one_line(tmp_path: Path) -> None:
    with running(model_dir=tmp_path, engine="litert", workers=2) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()
        said = [json.loads(line)["message"] for line in process.rest()]

    assert line.startswith("digits: no model: ")
    assert said == ["loading"]  # and not that a worker was started once more


def test_a_model_that_only_its_library_finds_broken_ends_all_with_one_line(model_dir: Path, tmp_path: Path) -> None:
    shutil.copy(model_dir / MANIFEST, tmp_path)
    weights = tmp_path / LITE_WEIGHTS
    weights.write_bytes(b"no model")
    manifest = read_manifest(tmp_path)
    sums = manifest.sha256 | {LITE_WEIGHTS: sha256_of(weights)}
    write_manifest(manifest.model_copy(update={"sha256": sums}), tmp_path)

    with running(model_dir=tmp_path, engine="litert", workers=2) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()

    assert line.startswith("digits: foreign model: ")


def test_a_model_that_went_bad_costs_no_worker_that_has_a_good_one(model_dir: Path, tmp_path: Path) -> None:
    for name in (MANIFEST, LITE_WEIGHTS):
        shutil.copy(model_dir / name, tmp_path)
    with two_workers(tmp_path) as (process, url, [first, _]):
        (tmp_path / LITE_WEIGHTS).write_bytes(b"no model")
        os.kill(first, signal.SIGKILL)
        assert "damaged model" in process.line_with(r'"worker cannot start".*"reason": "([^"]*)"')[1]
        assert httpx2.get(f"{url}/readyz").status_code == 200
        shutil.copy(model_dir / LITE_WEIGHTS, tmp_path)
        ready_worker(process)
        process.tell(signal.SIGTERM)
        assert process.status() == 0


def test_workers_that_die_before_they_are_ready_are_not_replaced_for_ever(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="keras", workers=2) as process:
        process.url()
        for _ in range(2):
            os.kill(_first_child(process.pid), signal.SIGKILL)
            process.line_with('"worker ended"')
        os.kill(_first_child(process.pid), signal.SIGKILL)

        assert process.status() == 1
        [line] = process.errors().splitlines()
        process.rest()

    assert line.startswith("digits: workers end before they are ready, the last with status -9")


def _first_child(pid: int) -> int:
    deadline = time.monotonic() + WAIT_S
    while not (found := children(pid)):
        assert time.monotonic() < deadline, "no worker was started"
    return found[0]


def test_lines_of_several_processes_are_whole(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, url, _):

        def ask() -> None:
            with httpx2.Client(base_url=url) as client:
                for _ in range(25):
                    client.get("/healthz", headers={"X-Request-ID": "x" * 128})

        asking = [threading.Thread(target=ask) for _ in range(8)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        process.tell(signal.SIGTERM)
        messages = [json.loads(line)["message"] for line in process.rest()]

    assert messages.count("request") == 8 * 25


def test_lines_longer_than_a_pipe_takes_at_once_are_whole() -> None:
    ours, theirs = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", _LINES, letter], cwd=ROOT, stdin=subprocess.PIPE, stdout=theirs)
        for letter in "ab"
    ]
    os.close(theirs)
    with os.fdopen(ours, encoding="ascii") as pipe:
        assert [pipe.readline(), pipe.readline()] == ["there\n", "there\n"]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()
        lines = pipe.read().splitlines()

    assert [writer.wait(WAIT_S) for writer in writers] == [0, 0]
    assert sorted(lines) == ["a" * 100_000] * 200 + ["b" * 100_000] * 200
