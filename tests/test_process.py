"""The process: it starts only with valid settings, a free address and a usable model, and stops at a signal."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from app.model.manifest import LITE_WEIGHTS, MANIFEST
from tests.asking import assert_is_problem
from tests.dialects import SEVEN
from tests.server import ROOT, running

STOP_S = 15  # on a busy machine; the drains of these tests last a minute
WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "http"},
        {"workers": 0, "log_level": "loud"},
        {"rate_limit": "5/min", "rate_limit_storage": "memcached://x"},
    ],
    ids=str,
)
def test_invalid_settings_stop_the_start_each_named_in_a_line_of_its_own(wrong: dict[str, object]) -> None:
    with running(**wrong) as process:
        assert process.status() == 1
        lines = process.errors().splitlines()

    assert [line.split(":")[:2] for line in lines] == [["digits", f" DIGITS_{name.upper()}"] for name in wrong]


@pytest.mark.parametrize("host", ["203.0.113.1", "nowhere.invalid", "a..b"])
def test_an_address_of_another_machine_stops_the_start_with_one_line(host: str) -> None:
    with running(host=host) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()

    assert line.startswith(f"digits: cannot listen on {host}, port 0: ")


@WORKERS
def test_one_address_serves_both_families_and_trusts_proxies_in_both(workers: int) -> None:
    """IPv4 clients appear there as ::ffff:127.0.0.1."""
    settings = {"host": "::", "engine": "litert", "trusted_proxies": "127.0.0.1", "rate_limit": f"{workers}/day"}
    with running(workers=workers, **settings) as process:
        port = process.line_with(r'"address":"http://\[::\]:(\d+)"')[1]
        for _ in range(workers):
            process.line_with('"ready"')

        def posts(host: str, client: str) -> set[int]:
            headers = {"X-Forwarded-For": client}
            urls = [f"http://{host}:{port}/predict"] * (workers * workers + 1)  # each worker counts for itself
            answers = []
            for url in urls:  # on a connection each; a worker that has just logged "ready" listens a moment later
                with httpx2.Client(transport=httpx2.HTTPTransport(retries=5)) as caller:
                    answers.append(caller.post(url, content=SEVEN, headers=headers).status_code)
            return set(answers)

        assert posts("127.0.0.1", "192.0.2.1") == posts("127.0.0.1", "192.0.2.2") == {200, 429}
        assert posts("[::1]", "192.0.2.3") == {200, 429}


@WORKERS
def test_a_port_in_use_stops_the_start_before_anything_is_loaded(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(port=port, workers=workers) as process:
            assert process.status() == 1
            assert process.errors() == f"digits: port {port} is in use: stop what listens there, or set DIGITS_PORT\n"
            assert process.rest() == []


@WORKERS
def test_a_model_that_cannot_be_used_stops_the_start_with_one_line(
    model_dir: Path, tmp_path: Path, workers: int
) -> None:
    shutil.copy(model_dir / MANIFEST, tmp_path)
    (tmp_path / LITE_WEIGHTS).write_bytes(b"no model")

    with running(model_dir=tmp_path, engine="litert", workers=workers) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()
        messages = [json.loads(line)["message"] for line in process.rest()]

    assert line.startswith("digits: damaged model: ")
    assert "ready" not in messages


def test_it_logs_what_it_loads_and_how_long_that_took(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert", max_pixel="1000") as process:
        loading = json.loads(process.line_with('.*"loading".*')[0])
        misspelt = json.loads(process.line_with('.*"no such setting".*')[0])
        ready = json.loads(process.line_with('.*"ready".*')[0])

    assert (loading["engine"], loading["model_dir"], loading["workers"]) == ("litert", str(model_dir), 1)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", loading["address"])
    assert misspelt["names"] == "DIGITS_MAX_PIXEL"
    assert (ready["address"], ready["worker"]) == (loading["address"], process.pid)
    between = datetime.fromisoformat(ready["time"]) - datetime.fromisoformat(loading["time"])
    assert 0 < ready["seconds"] <= between.total_seconds() + 0.01


def test_a_terminal_gets_plain_lines() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"DIGITS_PORT": "0", "DIGITS_ENGINE": "litert"}
    with (
        subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stdout=theirs, stderr=subprocess.DEVNULL
        ) as process,
        os.fdopen(ours, encoding="utf-8") as terminal,
    ):
        os.close(theirs)  # so that reading ends with the process
        loading, ready = terminal.readline(), terminal.readline()
        process.send_signal(signal.SIGHUP)  # the terminal was closed
        status = process.wait(STOP_S)

    assert status == 0
    assert re.match(r"\d\d:\d\d:\d\d loading: address http://127\.0\.0\.1:\d+, engine litert, ", loading)
    assert re.match(r"\d\d:\d\d:\d\d ready: model digits \d", ready)


def test_while_it_loads_it_is_alive_and_not_ready() -> None:
    with running() as process:
        url = process.url()
        alive, not_ready = httpx2.get(f"{url}/healthz"), httpx2.get(f"{url}/readyz")

    assert alive.status_code == 200
    assert_is_problem(not_ready, 503, "not_ready")
    assert not_ready.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("workers", "loaded", "signals"),
    [
        (1, False, [signal.SIGTERM]),
        (2, False, [signal.SIGTERM]),
        (1, True, [signal.SIGTERM, signal.SIGINT]),
        (1, True, [signal.SIGTERM, signal.SIGTERM]),
        (2, True, [signal.SIGINT]),
    ],
    ids=["loading", "loading workers", "drain, then SIGINT", "drain, then SIGTERM", "SIGINT to all workers"],
)
def test_a_signal_stops_it_at_once(workers: int, loaded: bool, signals: list[signal.Signals]) -> None:
    with running(engine="litert" if loaded else "keras", workers=workers, drain_seconds=60) as process:
        url = process.ready(workers) if loaded else process.url()
        with httpx2.Client(base_url=url) as client:
            if loaded:
                assert client.post("/predict", content=SEVEN).json()["digit"] == 7
            process.tell_everyone(signals[0])  # while the connection is open
            for number in signals[1:]:
                process.line_with('"stopping"')
                process.tell_everyone(number)

            assert process.status(STOP_S) == 0
        process.rest()
        assert process.errors() == ""
