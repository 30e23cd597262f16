"""The command `digits`, as a user or a script runs it."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import patch

import httpx2
import pytest

from app.cli import __main__ as cli
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import number_drawn, on_paper, side_by_side
from tests.server import ROOT, Process, running

WAIT_S = 60

# The command in an interpreter that lacks a module.
WITHOUT = """
import sys
from app.cli.__main__ import main
sys.modules[sys.argv.pop(1)] = None
main()
"""


@dataclass(frozen=True)
class Ran:
    """The outcome of a command."""

    status: int
    out: str
    err: str


def digits(*arguments: str | Path, given: bytes = b"", **environment: str) -> Ran:
    """The command, run in this process: a new one takes 0.4 s to start."""
    out, err = io.StringIO(), io.StringIO()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGITS_")}
    with (
        patch.dict(os.environ, kept | {"COLUMNS": "200"} | environment, clear=True),
        patch.object(sys, "argv", ["digits", *map(str, arguments)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given))),
        redirect_stdout(out),
        redirect_stderr(err),
        chdir(ROOT),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    code = ended.value.code
    return Ran(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())


def digits_of_its_own(*arguments: str) -> Ran:
    """`python ...` in a process."""
    ran = subprocess.run(
        [sys.executable, *arguments], capture_output=True, cwd=ROOT, text=True, check=False, timeout=WAIT_S
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each digit, named after it; in a folder below, one more and a text."""
    for digit in range(10):
        (tmp_path / f"{digit}.png").write_bytes(encoded(digit_drawn(digit)))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "7.JPG").write_bytes(encoded(on_paper(enlarged(digit_drawn(7))), "JPEG"))
    (tmp_path / "below" / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture(params=["the model loaded here", "a service"])
def where(request: pytest.FixtureRequest) -> list[str]:
    """The options that choose what answers."""
    return ["--url", request.getfixturevalue("url")] if request.param == "a service" else []


def test_each_file_has_a_line_with_its_digit(folder: Path, where: list[str]) -> None:
    files = [folder / f"{digit}.png" for digit in range(10)]

    ran = digits("predict", *files, *where)

    assert (ran.status, ran.err) == (0, "")
    assert [line.split()[:2] for line in ran.out.splitlines()] == [[str(file), file.stem] for file in files]


def test_a_file_that_cannot_be_read_has_its_reason_and_the_others_are_read(folder: Path, where: list[str]) -> None:
    (folder / "cut.png").write_bytes(encoded(enlarged(digit_drawn(3)))[:300])
    (folder / "blank.png").write_bytes(encoded(on_paper(digit_drawn(0) * 0)))
    names = ["3.png", "below/notes.txt", "cut.png", "blank.png", "nowhere.png", "below", "4.png"]

    ran = digits("predict", "--json", *(folder / name for name in names), *where)

    entries = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.status, ran.err) == (1, "")
    expected = [*names[:5], "below/7.JPG", "4.png"]
    assert [entry["filename"] for entry in entries] == [str(folder / name) for name in expected]
    assert [entry["error"]["code"] if entry["error"] else entry["prediction"]["digit"] for entry in entries] == [
        3,
        "unsupported_media_type",
        "undecodable_image",
        "no_ink",
        "unreadable_file",
        7,
        4,
    ]
    table = digits("predict", folder / "below" / "notes.txt", *where)
    assert "notes.txt  not read: This is not a supported image format" in table.out


def test_json_lines_are_the_entries_of_a_batch(folder: Path, url: str, where: list[str]) -> None:
    files = [folder / "2.png", folder / "below" / "7.JPG"]
    uploads = [("files", (str(file), file.read_bytes())) for file in files]
    asked = httpx2.post(f"{url}/predict/batch?top_k=2&explain=true&preprocess=plain&accept_risk=0.0001", files=uploads)

    options = ["--top-k", "2", "--explain", "--preprocess", "plain", "--accept-risk", "0.0001"]
    ran = digits("predict", "--json", *options, *files, *where)

    entries = [json.loads(line) for line in ran.out.splitlines()]
    assert entries == asked.json()["predictions"]
    assert entries[1]["prediction"]["rejection"]["threshold"] == 0.0001


@pytest.mark.parametrize("option", ["digits", "candidates", "fields"])
def test_numbers_are_read_as_in_a_batch(tmp_path: Path, url: str, where: list[str], option: str) -> None:
    text, number = tmp_path / "notes.txt", tmp_path / "27.png"
    text.write_text("no picture")
    number.write_bytes(encoded(on_paper(number_drawn("27"))))
    sent = {"digits": "2", "candidates": '["21", "27"]', "fields": '[{"name": "all", "box": [0, 0, 1, 1]}]'}[option]
    (tmp_path / "candidates").write_text("21\n27\n")
    (tmp_path / "fields").write_text(sent)
    uploads = [("files", (str(file), file.read_bytes())) for file in (text, number)]
    asked = httpx2.post(f"{url}/read/batch", files=uploads, data={option: sent}).json()["readings"]
    asked[0]["error"] = {name: asked[0]["error"][name] for name in ("code", "detail")}  # all that both give

    given = sent if option == "digits" else tmp_path / option
    ran = digits("read", "--json", f"--{option}", given, text, number, *where)

    entries = [json.loads(line) for line in ran.out.splitlines()]
    entries[0]["error"] = {name: entries[0]["error"][name] for name in ("code", "detail")}
    assert entries == asked
    assert ran.status == 1
    table = digits("read", f"--{option}", given, number, *where)
    assert re.search(r"27\.png  (all  )?27  \d\d\.\d\d %", table.out)


def test_a_file_without_candidates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "candidates").touch()
    ran = digits("read", "--candidates", tmp_path / "candidates", tmp_path / "27.png")

    assert ran.status == 2
    assert "no candidate" in ran.err


def test_directories_and_patterns_are_expanded(folder: Path) -> None:
    ran = digits("predict", "--json", folder, folder / "[45].png")

    found = [Path(json.loads(line)["filename"]) for line in ran.out.splitlines()]
    assert [str(file.relative_to(folder)) for file in found] == [
        *(f"{digit}.png" for digit in range(10)),
        "below/7.JPG",
        "4.png",
        "5.png",
    ]


def test_a_dash_is_standard_input_and_top_k_prints_the_most_probable_digits() -> None:
    ran = digits("predict", "-", "--top-k", "3", given=encoded(digit_drawn(6)))

    assert ran.status == 0
    assert ran.out.split()[:2] == ["-", "6"]
    assert ran.out.count("%") == 3


def test_a_rejected_answer_has_its_reason(tmp_path: Path) -> None:
    several = tmp_path / "several.png"
    several.write_bytes(encoded(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)]))))

    ran = digits("predict", "--table", several)

    assert ran.status == 0
    assert ran.out.rstrip().endswith("not accepted: several_digits (crop to one of them, or use digits read)")


def test_an_explanation_is_drawn(folder: Path) -> None:
    [_, head, *rows, place] = digits("predict", "--explain", folder / "1.png").out.splitlines()

    assert head.split("  ")[1] == "what the model saw"
    assert len(rows) == 14
    inked = [row[2:30] for row in rows if row[2:30].strip()]
    assert 9 <= len(inked) <= 11  # twenty pixels high, two a line
    assert all("█" in row or "▓" in row or "▒" in row for row in inked[1:-1])
    assert place.startswith("  from x ")


def test_control_characters_in_a_file_name_are_not_printed(folder: Path) -> None:
    (folder / "1.png").rename(folder / "\x1b[2J1\n.png")

    ran = digits("predict", folder / "\x1b[2J1\n.png")

    assert len(ran.out.splitlines()) == 1
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    "arguments",
    [["predict", "."], ["read"], ["read", "x", "--digits", "0"], ["serve", "--port", "1"]],
    ids=" ".join,
)
def test_wrong_usage_has_a_status_of_its_own(arguments: list[str], tmp_path: Path) -> None:
    assert digits(*(tmp_path if each == "." else each for each in arguments)).status == 2


@contextmanager
def _stand_in(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Another server, and the headers that it received."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_another_server_is_recognised() -> None:
    with _stand_in(200, b"<html>") as (address, _):
        ran = digits("predict", "examples/seven.png", "--url", address)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"digits: {address} answers 200, but is not this service: check the URL\n"


def test_the_key_comes_from_the_environment_and_its_rejection_is_shown() -> None:
    problem = {"code": "unauthorized", "detail": "Send a key."}
    with _stand_in(401, json.dumps(problem).encode()) as (address, seen):
        ran = digits("predict", "--json", "examples/seven.png", "--url", address, DIGITS_API_KEY="abc\n")
        card = digits("card", "--url", address)

    assert [headers.get("X-API-Key") for headers in seen] == ["abc", None]
    assert (card.status, card.err) == (1, f"digits: {address}: Send a key.\n")
    assert ran.status == 1
    assert json.loads(ran.out)["error"] == problem


def test_retry_after_is_honoured(folder: Path) -> None:
    with running(engine="litert", rate_limit="1/second") as process:
        address = process.url()
        process.line_with('"ready"')

        ran = digits("predict", *(folder / f"{digit}.png" for digit in (1, 2, 3)), "--url", f"{address}/predict")

        assert process.line_with('"status":429')
    assert ran.status == 0
    assert [line.split()[1] for line in ran.out.splitlines()] == ["1", "2", "3"]


def test_bench_measures_throughput_latency_and_errors(url: str, folder: Path) -> None:
    text = folder / "below" / "notes.txt"

    ran = digits("bench", text, folder / "1.png", "--url", url, "--seconds", "0.5", "--connections", "1")

    found = re.fullmatch(
        rf"{url}: 2 pictures of 13 to \d+ bytes, 1 connections, ([\d.]+) s\n"
        r"read       ([\d,]+) pictures, ([\d,.]+) per second\n"
        r"latency    p50 ([\d.]+) ms, p99 ([\d.]+) ms\n"
        r"errors     ([\d,]+) unsupported_media_type\n"
        r"client     \d+% of a processor core; .*\n",
        ran.out,
    )
    assert found, ran.out
    seconds, read, rate, p50, p99, errors = (float(figure.replace(",", "")) for figure in found.groups())
    assert ran.status == 0
    assert abs(read - errors) <= 1
    assert read / (seconds + 0.06) < rate < read / (seconds - 0.06)  # printed to a tenth
    assert 0 < p50 <= p99 <= (seconds + 0.06) * 1000
    assert digits("bench", text, "--url", url, "--seconds", "0.1").status == 1


def test_the_card_shows_the_manifest(url: str) -> None:
    here, there = digits("card", "--json"), digits("card", "--json", "--url", url)

    assert json.loads(here.out) == json.loads(there.out) == json.loads((ROOT / "models/digits.json").read_text())
    assert digits("card").out.startswith("digits 2.")


NOBODY = "nothing is listening at http://localhost:1: start the service"


@pytest.mark.parametrize(
    ("command", "changed", "line"),
    [
        ("predict examples", {"DIGITS_MODEL_DIR": "/nowhere"}, "no model: /nowhere/digits.json does not exist (set "),
        ("predict examples", {"DIGITS_MAX_PIXELS": "0"}, "DIGITS_MAX_PIXELS: "),
        ("predict examples --url localhost:1", {}, NOBODY),
        ("bench examples --url localhost:1", {}, NOBODY),
        ("card --url localhost:1", {}, NOBODY),
        ("card --url localhost:1", {"DIGITS_API_KEY": "schlüssel"}, "DIGITS_API_KEY must be one line"),
        ("card --url localhost:99999", {}, "http://localhost:99999 is not a valid URL: use one such as "),
        ("card --url http://[::1", {}, "http://[::1 is not a valid URL: use one such as "),
    ],
)
def test_an_error_that_the_user_can_fix_is_one_line(command: str, changed: dict[str, str], line: str) -> None:
    ran = digits(*command.split(), given=b"", **changed)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"digits: {line}")
    assert len(ran.err.splitlines()) == 1


def test_the_model_loaded_here_needs_no_tensorflow() -> None:
    ran = digits_of_its_own("-c", WITHOUT, "tensorflow", "predict", "examples")

    assert (ran.status, ran.err) == (0, "")


def test_a_missing_extra_is_one_line() -> None:
    ran = digits_of_its_own("-c", WITHOUT, "typer", "predict", "examples")

    assert ran.status == 1
    assert ran.err == "digits: typer is not installed; without it only `digits serve` works: pip install '.[cli]'\n"


def test_serve_is_the_service() -> None:
    process = Process("-m", "app.cli", "serve", port=0, engine="litert", workers=2)
    try:
        address = process.url()
        process.line_with('"ready"')
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=5)) as caller:  # it listens a moment later
            answer = caller.get(f"{address}/readyz")
    finally:
        process.end()

    assert answer.json() == {"status": "ready"}
