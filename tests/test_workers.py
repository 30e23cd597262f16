"""Several workers on one port: replaced when they die, restarted one by one, stopped together."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS
from tests.dialects import SEVEN
from tests.server import Callers, Process, running

ASK = {"url": "/predict", "content": SEVEN}


@contextmanager
def two_workers(model_dir: Path, **settings: object) -> Iterator[tuple[Process, str, list[int]]]:
    """The process, its URL and the pids of its workers, which are ready."""
    with running(model_dir=model_dir, engine="litert", workers=2, **settings) as process:
        yield process, process.url(), [ready_worker(process), ready_worker(process)]


def ready_worker(process: Process) -> int:
    return int(process.line_with(r'"ready".*"worker":(\d+)')[1])


def test_a_worker_that_is_killed_loses_its_own_requests_alone_and_is_replaced(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, url, workers):
        callers = Callers(url, ASK, count=8)
        callers.wait_for(100)
        os.kill(workers[0], signal.SIGKILL)
        process.line_with(rf"Child process \[{workers[0]}\] died")
        ready_worker(process)
        callers.wait_for(100)
        callers.stop()

    assert {answer.status_code for answer in callers.answers} == {200}
    assert len(callers.lost) <= 8  # one a connection


def test_sighup_replaces_the_workers_one_by_one(model_dir: Path) -> None:
    with two_workers(model_dir, drain_seconds=0.5) as (process, url, workers):
        callers = Callers(url, ASK, count=8)
        process.tell(signal.SIGHUP)
        new, stopped = [], []
        for _ in workers:  # each is stopped after its replacement is ready
            new.append(ready_worker(process))
            stopped.append(int(process.line_with(r'"stopped","worker":(\d+)')[1]))
        callers.wait_for(50)
        callers.stop()

    assert sorted(stopped) == sorted(workers)
    assert not set(new) & set(workers)
    assert {answer.status_code for answer in callers.answers} == {200}


@pytest.mark.slow
def test_a_model_that_became_unusable_stops_no_worker_that_has_a_good_one(model_dir: Path, copied_model: Path) -> None:
    with two_workers(copied_model) as (process, url, workers):
        (copied_model / LITE_WEIGHTS).write_bytes(b"no model")
        process.tell(signal.SIGHUP)
        process.line_with('"worker cannot start".*damaged model')
        process.line_with("aborting the restart")
        os.kill(workers[0], signal.SIGKILL)
        process.line_with('"worker cannot start".*damaged model')
        assert httpx2.get(f"{url}/readyz").status_code == 200
        shutil.copy(model_dir / LITE_WEIGHTS, copied_model)
        ready_worker(process)
        process.tell(signal.SIGTERM)

        assert process.status() == 0


def test_workers_stop_when_their_parent_was_killed(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, _, _):
        process.tell(signal.SIGKILL)

        process.rest()


def test_the_workers_keep_their_counts_in_a_folder_that_is_removed(model_dir: Path) -> None:
    with two_workers(model_dir) as (process, _, workers):
        environment = Path(f"/proc/{workers[0]}/environ").read_text(encoding="utf-8").split("\0")
        [folder] = [value for value in environment if value.startswith("PROMETHEUS_MULTIPROC_DIR=")]
        shared = Path(folder.partition("=")[2])
        counts = list(shared.glob("*.db"))
        process.tell(signal.SIGTERM)
        assert process.status() == 0

    assert counts != []
    assert not shared.exists()
