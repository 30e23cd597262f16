"""The playground: its files over HTTP, and the page as people use it, in a real Chromium.

The tests of the page are left out where there is no Chromium; its package is called `chromium` on Debian and Ubuntu.
"""

import asyncio
import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from app.main import create_app
from app.model.engine import KerasEngine
from app.settings import Settings
from tests.asking import WAIT_S, Run
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import on_paper, side_by_side
from tests.server import ROOT, running

FOLDER = ROOT / "app" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed")

Place = tuple[float, float]  # shares of the sheet's side, from its upper left corner

SEVEN: list[Place] = [(0.27, 0.25), (0.5, 0.24), (0.72, 0.23), (0.62, 0.45), (0.53, 0.62), (0.47, 0.8)]
DASH: list[Place] = [(0.4, 0.5), (0.6, 0.5)]
PICTURE = encoded(on_paper(enlarged(digit_drawn(7))))


@dataclass(frozen=True)
class Served:
    url: str
    app: FastAPI
    loop: asyncio.AbstractEventLoop
    server: uvicorn.Server

    def load(self, engine: KerasEngine) -> None:
        self.loop.call_soon_threadsafe(self.app.state.digits.service.start, engine)

    def stop(self) -> None:
        self.server.should_exit = True


@contextmanager
def serving(engine: KerasEngine | None, **changed: Any) -> Iterator[Served]:  # noqa: ANN401 - settings
    """The app on a free port, around a stand-in for the model or before it is loaded."""
    app = create_app(Settings(**changed))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    started = threading.Event()
    loops = []

    async def serve(listener: socket.socket) -> None:
        loops.append(asyncio.get_running_loop())
        if engine is not None:
            app.state.digits.service.start(engine)
        started.set()
        await server.serve([listener])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        assert started.wait(WAIT_S)
        served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}/", app, loops[0], server)
        try:
            yield served
        finally:
            served.stop()
            thread.join()
            app.state.digits.service.close()


@pytest.fixture(scope="module")
def served_seven(seven: KerasEngine) -> Iterator[str]:
    """The address of a service that sees a seven in everything."""
    with serving(seven) as served:
        yield served.url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page. Afterwards it has complained of nothing but refusals, and asked nobody but its own server."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    hosts: set[str | None] = set()

    def note(message: ConsoleMessage) -> None:
        refusal = message.text.startswith("Failed to load resource")  # Chromium's own word on a status of 400 or more
        if message.type in ("error", "warning") and not refusal:
            complaints.append(message.text)

    def open_page(url: str, **options: Any) -> Page:  # noqa: ANN401 - Playwright's
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert hosts <= {"127.0.0.1", None}  # data: and blob: have none


def draw(page: Page, *strokes: list[Place], lift: bool = True) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in strokes:
        for number, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5 if number else 1)
            if not number:
                page.mouse.down()
        if lift:
            page.mouse.up()


def choose(page: Page, data: bytes, name: str = "seven.png") -> None:
    page.get_by_label("Choose a picture").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    )


def ink(page: Page) -> int:
    """How many pixels of the sheet are drawn on."""
    count: int = page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas");
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
          return data.filter((value, i) => i % 4 === 3 && value).length;
        }"""
    )
    return count


def expect_answer(page: Page, headline: str, detail: str | re.Pattern[str] = "") -> None:
    expect(page.locator("#headline")).to_have_text(headline)
    expect(page.locator("#detail")).to_contain_text(detail)


def values(page: Page) -> list[str]:
    """What stands beside the bars."""
    return page.get_by_role("table").get_by_role("cell").all_inner_texts()


# Its files


def test_the_page_is_served_with_a_strict_policy(served_seven: str) -> None:
    answer = httpx2.get(served_seven)

    assert answer.status_code == httpx2.codes.OK
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["", *(f"playground/{file.name}" for file in sorted(FOLDER.iterdir()) if file.suffix != ".html")]
)
def test_a_file_is_not_sent_to_who_has_it(served_seven: str, path: str) -> None:
    first = httpx2.get(served_seven + path)
    again = httpx2.get(served_seven + path, headers={"If-None-Match": f'"another", W/{first.headers["etag"]}'})
    other = httpx2.get(served_seven + path, headers={"If-None-Match": '"another"'})

    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert first.content
    assert not again.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["", "playground/main.js"])
def test_head_answers_as_get_does_without_a_body(served_seven: str, path: str) -> None:
    got, head = httpx2.get(served_seven + path), httpx2.head(served_seven + path)

    assert not head.content
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "playground/", 404),
        ("GET", "playground/index.html", 404),
        ("GET", "playground/..%2Fmain.py", 404),
        ("GET", "playground/../main.py", 404),
        ("POST", "", 405),
        ("POST", "playground/main.js", 405),
    ],
)
def test_nothing_else_is_served(served_seven: str, method: str, path: str, status: int) -> None:
    answer = httpx2.request(method, served_seven + path)

    assert answer.status_code == status
    assert answer.json()["request_id"]


def test_the_playground_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 50_000


# Drawing


@in_chromium
def test_a_drawn_seven_is_read_as_a_seven(model_dir: Path, visit: Callable[..., Page]) -> None:
    with running(model_dir=model_dir, engine="litert") as process:
        url = process.url()
        process.line_with('"ready"')
        page = visit(url)
        draw(page, SEVEN)

        expect_answer(page, "Accepted", "sure that it is a 7.")
        expect(page.locator("#digit")).to_have_text("7")
        expect(page.get_by_role("row", name="7 9")).to_be_visible()  # 9…%
        expect(page.get_by_alt_text("Your digit in the middle of 28 by 28 pixels")).to_be_visible()
        expect(page.get_by_alt_text("would be less of a 7")).to_be_visible()
        assert page.locator("#seen").evaluate("picture => picture.naturalWidth") == 28
        expect(page.locator("#timing")).to_have_text(re.compile(r"^[\d.]+ ms round trip$"))
        expect(page.get_by_role("status")).to_have_text(re.compile("^Accepted: .* sure that it is a 7"))


@in_chromium
def test_the_bars_move_before_the_pen_is_lifted(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    assert values(page) == ["–"] * 10

    draw(page, SEVEN, lift=False)

    expect_answer(page, "Accepted")
    assert values(page)[7] == "97.9 %"
    assert values(page)[1] == "1.8 %"


@in_chromium
def test_one_question_is_asked_at_a_time_and_the_newest_wins(
    engine_of: Callable[[Run], KerasEngine], visit: Callable[..., Page]
) -> None:
    """The first answer, a one, is held back while more is drawn; the second is a two."""
    let_go = threading.Event()
    asked = 0

    def run(given: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal asked
        asked += 1
        assert let_go.wait(WAIT_S)
        return np.tile(np.eye(10, dtype=np.float32)[min(asked, 2)] * 9, (len(given), 1))

    with serving(engine_of(run)) as served:
        page = visit(served.url)
        questions: list[str] = []
        page.on("request", lambda request: questions.append(request.url) if request.method == "POST" else None)
        with page.expect_request("**/predict"):
            draw(page, SEVEN)
        for _ in range(5):
            draw(page, DASH)
        page.wait_for_timeout(300)  # in which more would be asked
        assert len(questions) == 1
        let_go.set()

        expect_answer(page, "Accepted", "it is a 2.")
        with page.expect_request("**/predict?explain=true"):
            pass
        assert [urlsplit(url).query for url in questions] == ["", "", "explain=true"]


@in_chromium
def test_undo_takes_back_a_stroke_a_picture_and_a_clear(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    undo, clear = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Clear")
    assert undo.get_attribute("aria-disabled") == clear.get_attribute("aria-disabled") == "true"
    draw(page, SEVEN)
    one = ink(page)
    draw(page, [(0.3, 0.6), (0.8, 0.6)])
    two = ink(page)
    assert 0 < one < two

    undo.click()
    assert ink(page) == one
    draw(page, [(0.3, 0.6), (0.8, 0.6)])
    clear.click()
    assert ink(page) == 0
    expect_answer(page, "Nothing drawn yet")
    assert values(page) == ["–"] * 10
    undo.click()
    assert ink(page) == two
    expect_answer(page, "Accepted")
    choose(page, PICTURE)
    expect(page.locator("#preview")).to_be_visible()
    assert ink(page) == 0
    page.keyboard.press("Control+z")
    expect(page.locator("#preview")).to_be_hidden()
    assert ink(page) == two
    for _ in range(2):
        undo.click()
    expect_answer(page, "Nothing drawn yet")
    assert undo.get_attribute("aria-disabled") == "true"


@in_chromium
def test_pressing_a_pen_widens_the_stroke(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    pen = page.context.new_cdp_session(page)
    drawn = []
    for force in (0.1, 0.9):
        for number, kind in enumerate(("mousePressed", "mouseMoved", "mouseMoved", "mouseReleased")):
            place = {"x": box["x"] + 100 + 30 * number, "y": box["y"] + 150}
            held = {"button": "left", "buttons": 1, "pointerType": "pen", "force": force, "clickCount": 1}
            pen.send("Input.dispatchMouseEvent", {"type": kind} | place | held)
        drawn.append(ink(page))
        page.get_by_role("button", name="Clear").click()

    assert drawn[1] > 1.5 * drawn[0]


@in_chromium
def test_a_finger_draws_and_does_not_scroll(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven, viewport={"width": 390, "height": 400}, has_touch=True, is_mobile=True)
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    touch("touchStart", (100, 350))
    for y in range(340, 140, -20):
        touch("touchMove", (100, y))
    touch("touchEnd")

    drawn = ink(page)
    assert drawn
    assert page.evaluate("scrollY") == 0
    expect(page.get_by_label("Take a photo")).to_have_attribute("capture", "environment")

    touch("touchStart", (200, 350))
    touch("touchMove", (200, 250))
    touch("touchCancel")  # a gesture of the system's
    assert ink(page) == drawn


@in_chromium
def test_keys_draw(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    sheet = page.get_by_role("application", name="Draw a digit")
    while not sheet.evaluate("canvas => canvas === document.activeElement"):
        page.keyboard.press("Tab")
    expect(page.get_by_text("Arrow keys move the pen")).to_have_css("opacity", "1")

    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text("Pen down")
    for key in ["ArrowRight"] * 6 + ["ArrowDown"] * 8:
        page.keyboard.press(key)
    page.keyboard.press("Space")

    expect_answer(page, "Accepted")
    expect(page.get_by_role("status")).to_have_text(re.compile("^Accepted"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    assert ink(page)
    page.keyboard.press("Enter")
    expect_answer(page, "Nothing drawn yet")
    assert ink(page) == 0


# Pictures


@in_chromium
def test_a_chosen_picture_is_shown_with_the_digit_framed(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)

    choose(page, PICTURE)

    expect_answer(page, "Accepted")
    expect(page.get_by_alt_text("seven.png", exact=True)).to_be_visible()
    expect(page.locator("#found")).to_have_attribute("viewBox", "0 0 280 280")
    x, width = (float(page.locator("#found rect").get_attribute(name) or 0) for name in ("x", "width"))
    assert 0 < x < x + width < 280

    draw(page, SEVEN)  # on a new sheet
    expect(page.locator("#preview")).to_be_hidden()
    assert ink(page)


@in_chromium
def test_a_pasted_picture_is_read(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (bytes) => {
          const blob = new Blob([new Uint8Array(bytes)], { type: "image/png" });
          await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        list(PICTURE),
    )

    page.keyboard.press("Control+v")

    expect_answer(page, "Accepted")
    expect(page.get_by_role("link", name="download image.png")).to_be_visible()


@in_chromium
def test_pasted_words_are_no_picture(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('seven')")

    page.keyboard.press("Control+v")

    expect_answer(page, "No picture")


@in_chromium
def test_a_dropped_picture_is_read(served_seven: str, visit: Callable[..., Page], tmp_path: Path) -> None:
    (tmp_path / "dropped.png").write_bytes(PICTURE)
    page = visit(served_seven)
    mouse = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "dropped.png")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        mouse.send("Input.dispatchDragEvent", {"type": kind, "x": 20, "y": 20, "data": data})
    expect(page.get_by_text("Drop it here")).to_be_visible()

    mouse.send("Input.dispatchDragEvent", {"type": "drop", "x": 20, "y": 20, "data": data})

    expect_answer(page, "Accepted")
    expect(page.get_by_text("Drop it here")).to_be_hidden()
    expect(page.locator("#curl")).to_have_text(f"curl -F file=@dropped.png {served_seven}predict")


# The same request


def run_as_shown(page: Page, folder: Path) -> list[str]:
    """What the page's curl line answers in a folder, as the bars would show it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = page.locator("#curl").inner_text()
    ran = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True)
    return [f"{100 * probability:.1f} %" for probability in json.loads(ran.stdout)["probabilities"]]


@in_chromium
@pytest.mark.parametrize("name", ["seven.png", """it's a "seven"; 7, \\$HOME.png"""], ids=["plain", "odd"])
def test_the_command_sends_the_chosen_file(
    served_seven: str, visit: Callable[..., Page], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(PICTURE)
    page = visit(served_seven)
    page.get_by_label("Choose a picture").set_input_files(tmp_path / name)
    expect_answer(page, "Accepted")
    expect(page.get_by_role("link", name="download")).to_be_hidden()

    assert run_as_shown(page, tmp_path) == values(page)


@in_chromium
def test_the_command_sends_the_drawing_that_is_downloaded(
    served_seven: str, visit: Callable[..., Page], tmp_path: Path
) -> None:
    page = visit(served_seven)
    draw(page, SEVEN)
    with page.expect_download() as download:
        page.get_by_role("link", name="download digit.png").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)

    assert run_as_shown(page, tmp_path) == values(page)


@in_chromium
def test_the_command_is_copied(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven, permissions=["clipboard-read", "clipboard-write"])

    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"curl -F file=@digit.png {served_seven}predict"


# What is not accepted, and what goes wrong


@in_chromium
@pytest.mark.parametrize(
    ("data", "headline", "code"),
    [
        (b"seven", "Not a picture", "415 unsupported_media_type"),
        (PICTURE[:100], "Broken picture", "422 undecodable_image"),
        (encoded(np.full((60, 60), 255, np.uint8)), "Blank", "422 no_ink"),
        (encoded(np.zeros((400, 400), np.uint8)), "Too large", "413 too_large"),
        (bytes(100_001), "Too large", "413 too_large"),
        (b"", "Refused", "400 bad_request"),
    ],
    ids=["no picture", "broken", "blank", "too many pixels", "too many bytes", "empty"],
)
def test_a_refused_file_is_told_in_plain_words(
    seven: KerasEngine, visit: Callable[..., Page], data: bytes, headline: str, code: str
) -> None:
    with serving(seven, max_body_bytes=100_000, max_pixels=100_000) as served:
        page = visit(served.url)
        choose(page, PICTURE)
        expect_answer(page, "Accepted")
        choose(page, data, "other.png")

        expect_answer(page, headline)
        expect(page.get_by_text(code, exact=True)).to_be_visible()
        expect(page.get_by_role("status")).to_have_text(re.compile(f"^{headline}: "))
        assert values(page) == ["–"] * 10  # nothing of the answer before
        expect(page.locator("#seen")).to_be_hidden()


@in_chromium
def test_a_folder_that_is_dropped_is_no_picture(served_seven: str, visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit(served_seven)
    mouse = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        mouse.send("Input.dispatchDragEvent", {"type": kind, "x": 20, "y": 20, "data": data})

    expect_answer(page, "Not a picture")


@in_chromium
def test_a_dot_is_no_error(served_seven: str, visit: Callable[..., Page]) -> None:
    """The service may find it too small to read; who draws is only beginning."""
    page = visit(served_seven)
    page.route("**/predict", lambda route: route.fulfill(status=422, json={"status": 422, "code": "no_ink"}))

    draw(page, [(0.5, 0.5)])

    expect_answer(page, "Too little to read")


@in_chromium
@pytest.mark.parametrize(
    ("logits", "picture", "words"),
    [
        ([0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 20], PICTURE, "does not look like a digit. The nearest is a 3."),
        ([0, 0, 0, 0, 1.1, 0, 0, 0, 0, 1], PICTURE, re.compile(r"may be a 4 or a 9: 2\d.*% sure, and 25 % is")),
        (
            [0, 0, 0, 9, 0, 0, 0, 0, 0, 0],
            encoded(on_paper(side_by_side([digit_drawn(3), digit_drawn(5)]))),
            "There are 2 digits side by side",
        ),
    ],
    ids=["no digit", "unsure", "two digits"],
)
def test_a_rejection_says_why(
    engine_of: Callable[[Run], KerasEngine],
    visit: Callable[..., Page],
    logits: list[float],
    picture: bytes,
    words: str | re.Pattern[str],
) -> None:
    engine = engine_of(lambda given: np.tile(np.array(logits, np.float32), (len(given), 1)))
    with serving(engine) as served:
        page = visit(served.url)
        choose(page, picture)

        expect_answer(page, "Not accepted", words)
        assert "–" not in values(page)  # the probabilities are given all the same


@in_chromium
def test_a_picture_waits_for_the_model(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    with serving(None) as served:
        page = visit(served.url)
        draw(page, SEVEN)
        expect_answer(page, "Not ready yet", "sent again in a moment")

        served.load(seven)

        expect_answer(page, "Accepted")


@in_chromium
def test_a_drawing_is_sent_once_there_is_a_network(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    page.context.set_offline(True)
    draw(page, SEVEN)
    expect_answer(page, "Offline")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()

    page.context.set_offline(False)

    expect_answer(page, "Accepted")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


@in_chromium
def test_a_service_that_is_gone_can_be_tried_again(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    page.route("**/predict", lambda route: route.abort("connectionrefused"))
    choose(page, PICTURE)
    expect_answer(page, "No answer", "cannot be reached")

    page.unroute("**/predict")
    page.get_by_role("button", name="Try again").click()

    expect_answer(page, "Accepted")


@in_chromium
@pytest.mark.parametrize("answer", ["<h1>Bad gateway</h1>", '{"code": "internal_error", "request_id": "4b1c"}'])
def test_a_failure_offers_another_try(served_seven: str, visit: Callable[..., Page], answer: str) -> None:
    page = visit(served_seven)
    page.route("**/predict", lambda route: route.fulfill(status=502, body=answer))

    draw(page, SEVEN)

    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#detail")).to_contain_text("4b1c" if "4b1c" in answer else "sent no answer")


# Everyone


@in_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing_wrong(served_seven: str, visit: Callable[..., Page], scheme: str, width: int) -> None:
    page = visit(served_seven, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))

    def violations() -> list[str]:
        found: list[dict[str, Any]] = page.evaluate("axe.run().then(({ violations }) => violations)")
        return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]

    assert violations() == []
    draw(page, SEVEN)
    expect(page.locator("#seen")).to_be_visible()
    assert violations() == []
    choose(page, b"seven")
    expect_answer(page, "Not a picture")
    assert violations() == []


@in_chromium
@pytest.mark.parametrize("width", [320, 360])
def test_a_narrow_phone_shows_everything_without_scrolling_sideways(
    served_seven: str, visit: Callable[..., Page], width: int
) -> None:
    page = visit(served_seven, viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)
    choose(page, PICTURE, "a-very-long-name-of-a-picture-of-a-seven-that-somebody-took-with-a-phone.png")
    expect_answer(page, "Accepted")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    rights = page.locator("body *:visible").evaluate_all("all => all.map(each => each.getBoundingClientRect().right)")
    assert max(rights) <= width


# Keys and quotas

KEY = "0f" * 32
HASHED = f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"


@pytest.mark.parametrize(("keys", "shown"), [((), True), (HASHED, False)], ids=["no keys", "keys"])
def test_there_is_a_link_to_the_model_card_unless_it_would_need_a_key(
    seven: KerasEngine, keys: object, *, shown: bool
) -> None:
    with serving(seven, api_keys=keys) as served:
        page = httpx2.get(served.url).text

    assert ('href="model"' in page) == shown
    assert 'href="docs"' in page


@in_chromium
def test_a_key_is_asked_for_and_sent_from_then_on(
    seven: KerasEngine, visit: Callable[..., Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(seven, api_keys=HASHED) as served:
        page = visit(served.url)
        expect(page.get_by_label("API key")).to_be_hidden()
        draw(page, SEVEN)
        expect_answer(page, "Key needed")

        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect_answer(page, "Key refused")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Use it").click()

        expect_answer(page, "Accepted")
        expect(page.locator("#seen")).to_be_visible()
        expect(page.get_by_label("API key")).to_be_hidden()
        with page.expect_download() as download:
            page.get_by_role("link", name="download digit.png").click()
        download.value.save_as(tmp_path / "digit.png")
        assert KEY not in page.locator("#curl").inner_text()
        monkeypatch.setenv("DIGITS_KEY", KEY)
        assert run_as_shown(page, tmp_path) == values(page)
        assert KEY not in page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")


@in_chromium
def test_a_key_is_pasted_and_taken_back(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    """Neither is meant for the sheet."""
    with serving(seven, api_keys=HASHED) as served:
        page = visit(served.url, permissions=["clipboard-read", "clipboard-write"])
        draw(page, SEVEN)
        expect_answer(page, "Key needed")
        page.evaluate("key => navigator.clipboard.writeText(key)", KEY)
        field = page.get_by_label("API key")

        field.press("Control+v")
        expect(field).to_have_value(KEY)
        field.press("Control+z")
        expect(field).to_have_value("")
        field.press("Control+v")
        field.press("Enter")

        expect_answer(page, "Accepted")


@in_chromium
def test_the_form_for_a_key_is_accessible(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    with serving(seven, api_keys=HASHED) as served:
        page = visit(served.url, viewport={"width": 360, "height": 740}, reduced_motion="reduce")
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        draw(page, SEVEN)
        expect(page.get_by_label("API key")).to_be_visible()

        assert page.evaluate("axe.run().then(({ violations }) => violations.map(({ id }) => id))") == []
        assert page.evaluate("document.documentElement.scrollWidth") == 360


@in_chromium
def test_a_picture_waits_for_the_quota(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    with serving(seven, rate_limit="1/second") as served:
        page = visit(served.url)
        httpx2.post(served.url + "predict", content=PICTURE)
        choose(page, PICTURE)

        expect_answer(page, "Accepted")
        expect(page.locator("#seen")).to_be_visible()  # which is asked for within the second, and again


@in_chromium
def test_a_used_up_quota_is_told(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    with serving(seven, rate_limit="1/hour") as served:
        page = visit(served.url)
        httpx2.post(served.url + "predict", content=PICTURE)
        choose(page, PICTURE)

        expect_answer(page, "Quota used up", re.compile(r"sent again in \d+ s"))
        expect(page.get_by_text("429 rate_limited", exact=True)).to_be_visible()


# The description


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_description_needs_no_other_server_and_no_script(
    served_seven: str, visit: Callable[..., Page], scheme: str
) -> None:
    page = visit(served_seven + "docs", color_scheme=scheme)  # which fails where another server is asked

    page.locator("summary", has_text="Read a handwritten digit").click()
    expect(page.get_by_text('"several_digits"').first).to_be_attached()
    expect(page.get_by_text("Rate limited.").first).to_be_visible()
    assert page.locator("script").count() == 0
    assert page.evaluate("getComputedStyle(document.querySelector('details')).borderRadius") == "8px"  # not blocked
