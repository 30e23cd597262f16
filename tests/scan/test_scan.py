"""`digits scan`: each picture once, whatever is killed; its report, and the review of what was not accepted."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.cli.test_cli import WITHOUT, digits, digits_of_its_own
from tests.drawings import digit_drawn, encoded
from tests.pictures import number_drawn, on_paper, side_by_side
from tests.scan.test_shards import PICTURES, folder, tar
from tests.server import ROOT, has_ended, running
from training.data.folders import read_labels, read_unlabelled

WAIT_S = 120
TWO = encoded(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)])))


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "app.cli", "scan", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def scan(*arguments: str | Path) -> str:
    """What a scan prints that ends well."""
    ran = digits("scan", *arguments, "--processes", "1")
    assert (ran.status, ran.err) == (0, "")
    return ran.out


def keys(out: Path) -> list[str]:
    """Of all rows, sorted."""
    return sorted(key for file in out.glob("*.parquet") for key in pq.read_table(file)["key"].to_pylist())


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that it spawned to read."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, line in lines.items() if b"spawn_main" in line]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough pictures that a scan can be killed while it reads."""
    return folder(tmp_path, {f"{number}-{name}": data for number in range(100) for name, data in PICTURES.items()})


def begun(many: Path, out: Path) -> subprocess.Popen[str]:
    """A scan that has written its first results."""
    process = start(many, "--out", out, "--shard", "20", "--processes", "2")
    deadline = time.monotonic() + WAIT_S
    while not list(out.glob("*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.random() / 2)
    return process


def test_a_killed_scan_ends_its_workers_and_is_continued(many: Path, tmp_path: Path) -> None:
    process = begun(many, tmp_path / "out")
    workers = workers_of(process)

    process.kill()

    process.communicate(timeout=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while not all(map(has_ended, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert workers
    scan(many, "--out", tmp_path / "out", "--shard", "20")
    assert keys(tmp_path / "out") == sorted(path.name for path in many.iterdir())
    assert list((tmp_path / "out").glob("*.part")) == []


def test_a_killed_worker_is_replaced(many: Path, tmp_path: Path) -> None:
    process = begun(many, tmp_path / "out")

    for worker in workers_of(process)[:1]:
        os.kill(worker, signal.SIGKILL)

    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")
    assert keys(tmp_path / "out") == sorted(path.name for path in many.iterdir())


def test_two_scans_at_once_write_each_picture_once(many: Path, tmp_path: Path) -> None:
    both = [start(many, "--out", tmp_path / "out", "--shard", "20", "--processes", "1") for _ in range(2)]

    assert [process.communicate(timeout=WAIT_S)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert keys(tmp_path / "out") == sorted(path.name for path in many.iterdir())
    assert list((tmp_path / "out").glob("*.part")) == []


@pytest.mark.parametrize(
    ("change", "line"), [({"shard": 20}, "shard 20 instead of 1000"), ({"sha256": "0"}, "sha256 0 instead of ")]
)
def test_other_options_or_another_model_are_refused_in_one_line(
    reported: Path, tmp_path: Path, change: dict[str, object], line: str
) -> None:
    made_with = json.loads((reported / "scan.json").read_text(encoding="utf-8"))
    (tmp_path / "scan.json").write_text(json.dumps(made_with | change), encoding="utf-8")

    ran = digits("scan", "examples", "--out", tmp_path)

    assert ran.status == 1
    assert ran.err.startswith(f"digits: {tmp_path} holds results of another model or other options ({line}")
    assert len(ran.err.splitlines()) == 1


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.parquet").touch()

    ran = digits("scan", "examples", "--out", tmp_path)

    assert ran.err.startswith(f"digits: {tmp_path} holds Parquet files of something else")


def test_pictures_and_results_may_share_a_folder(tmp_path: Path) -> None:
    path = folder(tmp_path, PICTURES)

    for _ in range(2):
        scan(path, "--out", path)

    assert keys(path) == [*PICTURES]


def test_results_of_files_that_changed_are_moved_away(tmp_path: Path) -> None:
    path, out = folder(tmp_path, PICTURES), tmp_path / "out"
    scan(path, "--out", out, "--shard", "5")
    (path / "0.png").write_bytes(PICTURES["7.png"])
    (path / "a.png").write_bytes(PICTURES["1.png"])

    said = scan(path, "--out", out, "--shard", "5")

    assert "1 results of files that have changed" in said
    assert keys(out) == [*PICTURES, "a.png"]
    assert len(list((out / "superseded").iterdir())) == 1


def test_the_table_holds_the_same_rows(tmp_path: Path) -> None:
    path = folder(tmp_path, PICTURES | {"a.png": b"no picture"})

    scan(path, "--out", tmp_path / "out", "--csv")

    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [row["digit"] for row in table] == [*map(str, range(10)), ""]
    assert [row["error"] for row in table] == [""] * 10 + ["unsupported_media_type"]
    assert all(row[f"p{row['digit']}"] == row["confidence"] for row in table[:10])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a folder and a tar, each with a picture that is not accepted."""
    path = tmp_path_factory.mktemp("scan")
    scan(folder(path, PICTURES | {"<b>.png": TWO, "bad.png": b""}), tar(path, {"two.png": TWO}), "--out", path / "out")
    return path / "out"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        yield chromium
        chromium.close()


def opened(browser: Browser, reported: Path, **options: Any) -> Page:  # noqa: ANN401 - Playwright's
    page = browser.new_page(**options)
    page.goto((reported / "report.html").as_uri())
    return page


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_wrong_with_the_report(browser: Browser, reported: Path, scheme: str, width: int) -> None:
    page = opened(browser, reported, color_scheme=scheme, viewport={"width": width, "height": 800})
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))

    for button in (None, "Review them, one by one"):
        if button:
            page.get_by_role("button", name=button).click()
        assert page.evaluate("axe.run().then(({ violations }) => violations.map(({ help }) => help))") == []
        assert page.evaluate("document.documentElement.scrollWidth") == width  # no sideways scrolling


def test_the_report_links_each_crop_to_its_source(browser: Browser, reported: Path) -> None:
    page = opened(browser, reported)

    links = page.locator("#rejected a")
    assert sorted(links.all_inner_texts()) == ["<b>.png", "in.tar: two.png"]
    assert {link.get_attribute("href") for link in links.all()} == {
        (reported.parent / "in" / "<b>.png").as_uri(),
        (reported.parent / "in.tar").as_uri(),
    }
    assert "13 pictures: 10 accepted, 2 not accepted, 1 not read" in page.inner_text("main")


def test_corrections_are_a_table_for_training(browser: Browser, reported: Path, tmp_path: Path) -> None:
    page = opened(browser, reported)
    page.get_by_role("button", name="Review them, one by one").click()
    for key in ("1", "2", "ArrowLeft", "ArrowLeft", "4", "n"):
        page.keyboard.press(key)

    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()

    table = tmp_path / "corrections.csv"
    download.value.save_as(table)
    [labelled] = read_labels(table)
    [none] = read_unlabelled(table)
    assert labelled.label == 4
    assert labelled.path.is_file()
    assert none.is_file()


def test_review_needs_a_report(tmp_path: Path) -> None:
    ran = digits("review", tmp_path)

    assert (ran.status, ran.err) == (
        1,
        f"digits: {tmp_path}: no report.html there; name the --out of a finished scan\n",
    )


def test_a_missing_library_is_one_line() -> None:
    ran = digits_of_its_own("-c", WITHOUT, "pyarrow", "scan", "examples", "--out", "/nowhere")

    assert (ran.status, ran.err) == (1, "digits: pyarrow is not installed: pip install '.[scan]'\n")


def test_numbers_are_read_as_the_service_reads_them(tmp_path: Path) -> None:
    pages = {"a.png": encoded(on_paper(number_drawn("2074"))), "b.png": TWO, "c.png": b"no picture"}

    said = scan(folder(tmp_path, pages), "--out", tmp_path / "out", "--read", "--csv")

    [file] = (tmp_path / "out").glob("*.parquet")
    read = pq.read_table(file).to_pylist()
    with running(engine="litert-int8") as process:
        url = f"{process.ready()}/read"
        answers = [httpx2.post(url, content=page).json() for page in pages.values()]
    for row, answer in zip(read[:2], answers, strict=False):
        assert [number["text"] for number in row["numbers"]] == row["text"].split()
        for number, answered in zip(row["numbers"], answer["numbers"], strict=True):
            assert number.pop("probability") == pytest.approx(answered["probability"], abs=1e-6)
            reason = answered["rejection"] and answered["rejection"]["reason"]
            assert number == {name: answered[name] for name in ("text", "accepted", "box", "line")} | {"reason": reason}
    assert (read[2]["error"], read[2]["numbers"]) == (answers[2]["code"], None)
    assert "3 pictures: " in said
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as lines:
        assert [row["text"] for row in csv.DictReader(lines)] == ["2074", read[1]["text"], ""]
    ran = digits("scan", tmp_path / "in", "--out", tmp_path / "out")
    assert "read True instead of False" in ran.err
