"""The process: it starts only with what it can serve, says what it does, and stops when told to."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from tests.drawings import digit_drawn, encoded
from tests.server import ROOT, running

STOP_S = 10
WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "http"},
        {"max_body_bytes": "-1"},
        {"log_level": "loud"},
        {"workers": "0"},
        {"rate_limit": "5/min", "rate_limit_storage": "memcached://x"},
    ],
    ids=" ".join,
)
def test_a_wrong_setting_stops_the_start_with_a_line_that_names_it(wrong: dict[str, str]) -> None:
    with running(**wrong) as process:
        assert process.status() == 1
        lines = process.errors().splitlines()

    assert [line.split(":")[:2] for line in lines] == [["digits", f" DIGITS_{name.upper()}"] for name in wrong]


def test_a_misspelt_setting_is_named_in_the_log() -> None:
    with running(max_pixel="1000") as process:
        assert '"names": "DIGITS_MAX_PIXEL"' in process.line_with("no such setting").string


@WORKERS
def test_a_port_that_is_in_use_stops_the_start_before_anything_is_loaded(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(port=port, workers=workers) as process:
            assert process.status() == 1
            assert process.errors().splitlines() == [
                f"digits: port {port} is in use: stop what listens there, or set DIGITS_PORT"
            ]
            assert process.rest() == []


@pytest.mark.parametrize("host", ["203.0.113.1", "nowhere.invalid", "a..b"])
def test_an_address_that_is_not_this_machine_s_stops_the_start_with_one_line(host: str) -> None:
    with running(host=host) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()

    assert line.startswith(f"digits: cannot listen on {host}, port 0: ")


def test_a_port_is_free_again_at_once(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert") as process:
        url = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=url) as client:  # whose connection the service closes, and so keeps for a minute
            client.get("/healthz")
            process.tell(signal.SIGTERM)
            assert process.status() == 0

    with running(model_dir=model_dir, engine="litert", port=url.rpartition(":")[2]) as process:
        assert process.url() == url


def test_it_says_what_it_loads_where_and_how_long_that_took(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert") as process:
        loading = json.loads(process.line_with('.*"loading".*')[0])
        ready = json.loads(process.line_with('.*"ready".*')[0])

    assert (loading["engine"], loading["model_dir"], loading["workers"]) == ("litert", str(model_dir), 1)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", loading["address"])
    assert ready["address"] == loading["address"]
    assert ready["worker"] == process.pid
    between = datetime.fromisoformat(ready["time"]) - datetime.fromisoformat(loading["time"])
    assert ready["seconds"] > between.total_seconds()  # for Python had to start before it could say anything


def test_a_person_at_a_terminal_reads_plain_lines(model_dir: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"DIGITS_PORT": "0", "DIGITS_MODEL_DIR": str(model_dir), "DIGITS_ENGINE": "litert"}
    with (
        subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stdout=theirs, stderr=subprocess.DEVNULL
        ) as process,
        os.fdopen(ours, encoding="utf-8") as terminal,
    ):
        os.close(theirs)  # so that what is read ends with the process
        loading, ready = terminal.readline(), terminal.readline()
        process.terminate()
        status = process.wait(STOP_S)

    assert status == 0
    assert re.match(r"\d\d:\d\d:\d\d loading: address http://127\.0\.0\.1:\d+, engine litert, ", loading)
    assert re.match(r"\d\d:\d\d:\d\d ready: model digits \d", ready)


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_process_that_still_loads_stops_when_told_to(model_dir: Path, number: signal.Signals, workers: int) -> None:
    with running(model_dir=model_dir, workers=workers) as process:
        process.url()
        process.tell_everyone(number)

        assert process.status(STOP_S) == 0
        assert process.errors() == ""


def test_a_process_that_still_loads_says_so(model_dir: Path) -> None:
    with running(model_dir=model_dir) as process:
        answer = httpx2.get(f"{process.url()}/readyz")

    assert answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert answer.json()["code"] == "not_ready"
    assert answer.headers["retry-after"] == "1"


def test_a_process_that_serves_stops_when_told_to(model_dir: Path) -> None:
    with running(model_dir=model_dir) as process:
        url = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=url) as client:  # whose connection stays open
            answer = client.post("/predict", content=encoded(digit_drawn(7)))
            process.tell(signal.SIGTERM)

            assert process.status(STOP_S) == 0
        assert "Traceback" not in process.errors()

    assert answer.json()["digit"] == 7
