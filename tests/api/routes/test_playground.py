"""The playground and the API docs: their files over HTTP, and the pages in a real Chromium.

Without Chromium the tests of the pages are skipped; on Debian and Ubuntu it is the package `chromium`.
"""

import asyncio
import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.model.engine import KerasEngine
from app.settings import Settings
from tests.asking import WAIT_S, Run
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import number_drawn, on_paper
from tests.server import ROOT

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu"]  # a container's root has no sandbox


def in_chromium(test: Any) -> Any:  # noqa: ANN401 - any test
    """Mark a slow test that needs Chromium."""
    return pytest.mark.slow(pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")(test))


Load = Callable[[], object]
Place = tuple[float, float]  # shares of the sheet's side, from its upper left corner

SEVEN: list[Place] = [(0.27, 0.25), (0.5, 0.24), (0.72, 0.23), (0.62, 0.45), (0.53, 0.62), (0.47, 0.8)]
DASH: list[Place] = [(0.4, 0.5), (0.6, 0.5)]
PICTURE = encoded(on_paper(enlarged(digit_drawn(7))))


@contextmanager
def serving(engine: KerasEngine, strip: str = "", loaded: bool = True, **changed: Any) -> Iterator[tuple[str, Load]]:  # noqa: ANN401 - settings
    """The URL of the app on a free port, with a stand-in for the model, and what loads it if it is not ``loaded``."""
    app = create_app(Settings(**changed))

    async def stripping(scope: Scope, receive: Receive, send: Send) -> None:
        """A proxy that serves the app under the path prefix ``strip``."""
        await app(dict(scope, path=scope["path"].replace(strip, "", 1)) if strip else scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(stripping, lifespan="off", log_config=None, access_log=False))
    started = threading.Event()
    loops = []

    async def serve(listener: socket.socket) -> None:
        loops.append(asyncio.get_running_loop())
        if loaded:
            app.state.digits.service.start(engine)
        started.set()
        await server.serve([listener])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        assert started.wait(WAIT_S)
        load = partial(loops[0].call_soon_threadsafe, app.state.digits.service.start, engine)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", load
        finally:
            server.should_exit = True
            thread.join()
            app.state.digits.service.close()


@pytest.fixture(scope="module")
def served_seven(seven: KerasEngine) -> Iterator[str]:
    """The URL of a service that reads everything as a seven."""
    with serving(seven) as (url, _):
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page. It must log no error except HTTP errors, and send requests to its own server only."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    hosts: set[str | None] = set()

    def note(message: ConsoleMessage) -> None:
        refusal = message.text.startswith("Failed to load resource")  # an HTTP status of 400 or more
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
    """The number of pixels with ink on the sheet."""
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
    """The texts beside the bars."""
    return page.get_by_role("table").get_by_role("cell").all_inner_texts()


# Its files


@pytest.mark.parametrize("path", ["", "playground/main.js"])
def test_its_files_have_a_strict_policy_and_are_not_sent_again_unchanged(served_seven: str, path: str) -> None:
    answer = httpx2.get(served_seven + path)
    again = httpx2.get(served_seven + path, headers={"If-None-Match": answer.headers["etag"]})

    assert (answer.status_code, again.status_code) == (200, 304)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert again.headers["cache-control"] == "no-cache"


def test_the_playground_is_small() -> None:
    assert sum(file.stat().st_size for file in (ROOT / "app" / "static").iterdir()) <= 50_000


# Drawing


@in_chromium
def test_a_drawn_seven_is_read_as_a_seven(url: str, visit: Callable[..., Page]) -> None:
    page = visit(url)
    assert values(page) == ["–"] * 10
    draw(page, SEVEN, lift=False)

    expect_answer(page, "Accepted", "sure that it is a 7.")
    expect(page.locator("#digit")).to_have_text("7")
    expect(page.get_by_role("row", name="7 9")).to_be_visible()  # 9…%
    expect(page.get_by_alt_text("Your digit, centred on 28 by 28 pixels")).to_be_visible()
    expect(page.get_by_alt_text("The parts that make it a 7")).to_be_visible()
    assert page.locator("#seen").evaluate("picture => picture.naturalWidth") == 28
    expect(page.locator("#timing")).to_have_text(re.compile(r"^[\d.]+ ms round trip$"))
    expect(page.get_by_role("status")).to_have_text(re.compile("^Accepted: .* sure that it is a 7"))


@in_chromium
def test_one_request_is_sent_at_a_time_and_the_newest_wins(
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

    with serving(engine_of(run)) as (url, _):
        page = visit(url)
        questions: list[str] = []
        page.on("request", lambda request: questions.append(request.url) if request.method == "POST" else None)
        with page.expect_request("**/predict"):
            draw(page, SEVEN)
        for _ in range(5):
            draw(page, DASH)
        page.wait_for_timeout(300)  # time for more requests
        assert len(questions) == 1
        let_go.set()

        expect_answer(page, "Accepted", "it is a 2.")
        with page.expect_request("**/predict?explain=true"):
            pass
        assert [urlsplit(url).query for url in questions] == ["", "", "explain=true"]


@in_chromium
def test_undo_reverts_a_stroke_a_picture_and_a_clear(served_seven: str, visit: Callable[..., Page]) -> None:
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
    choose(page, PICTURE)
    expect(page.locator("#preview")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(page.locator("#preview")).to_be_hidden()
    undo.click()
    assert ink(page) == two
    expect_answer(page, "Accepted")


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
    touch("touchCancel")  # a system gesture
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
def test_a_chosen_picture_is_shown_with_the_digit_framed_and_its_command(
    served_seven: str, visit: Callable[..., Page], tmp_path: Path
) -> None:
    name = """it's a "seven"; 7, \\$HOME.png"""
    (tmp_path / name).write_bytes(PICTURE)
    page = visit(served_seven)

    page.get_by_label("Choose a picture").set_input_files(tmp_path / name)

    expect_answer(page, "Accepted")
    expect(page.get_by_alt_text(name, exact=True)).to_be_visible()
    assert run_as_shown(page, tmp_path) == values(page)
    expect(page.locator("#found")).to_have_attribute("viewBox", "0 0 280 280")
    x, width = (float(page.locator("#found rect").get_attribute(name) or 0) for name in ("x", "width"))
    assert 0 < x < x + width < 280

    draw(page, SEVEN)  # on a new sheet
    expect(page.locator("#preview")).to_be_hidden()
    assert ink(page)


def run_as_shown(page: Page, folder: Path) -> list[str]:
    """The probabilities that the page's curl line prints, run in ``folder``, as the bars show them."""
    return [f"{100 * probability:.1f} %" for probability in json.loads(shown_command(page, folder))["probabilities"]]


def shown_command(page: Page, folder: Path) -> bytes:
    """What the page's curl line prints, run in ``folder``."""
    command = page.locator("#curl").inner_text()
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True).stdout


# Numbers


@in_chromium
def test_a_chosen_number_is_shown_with_its_digits_framed_and_its_command(
    url: str, visit: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "27.png").write_bytes(encoded(on_paper(number_drawn("27"))))
    page = visit(url)
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "27.png")
    expect_answer(page, "Not accepted", "There are 2 digits")

    page.get_by_role("radio", name="Number").check()

    expect(page.get_by_role("list", name="Numbers").get_by_role("listitem")).to_have_text(
        re.compile(r"^27 ?\d+\.\d %, (not )?accepted.*Digit by digit: 2 \(.* %\), 7 \(.*Or: ")
    )
    expect(page.locator("#found rect")).to_have_count(2)
    expect(page.locator("#found text").first).to_have_text(re.compile(r"^\d+ %$"))
    [number] = json.loads(shown_command(page, tmp_path))["numbers"]
    assert number["text"] == "27"


@in_chromium
def test_a_number_is_drawn_on_a_wide_sheet(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven, viewport={"width": 390, "height": 800})
    page.get_by_role("radio", name="Number").check()
    draw(page, *([(left + 0.3 * x, y) for x, y in SEVEN] for left in (0.1, 0.6)))

    expect(page.locator("#detail")).to_contain_text("77")
    expect(page.get_by_role("status")).to_have_text(re.compile("77"))
    page.get_by_role("button", name="Clear").click()
    expect_answer(page, "Nothing drawn yet", "Draw a number")
    expect(page.get_by_role("listitem")).to_have_count(0)


# What goes wrong


@in_chromium
def test_an_error_is_shown_in_plain_words(served_seven: str, visit: Callable[..., Page]) -> None:
    page = visit(served_seven)
    choose(page, PICTURE)
    expect_answer(page, "Accepted")
    for data, headline, code in (
        (b"seven", "Not a picture", "415 unsupported_media_type"),
        (encoded(np.full((60, 60), 255, np.uint8)), "Blank", "422 no_ink"),
    ):
        choose(page, data, "other.png")

        expect_answer(page, headline)
        expect(page.get_by_text(code, exact=True)).to_be_visible()
        expect(page.get_by_role("status")).to_have_text(re.compile(f"^{headline}: "))
        assert values(page) == ["–"] * 10  # nothing is left of the first answer
        expect(page.locator("#seen")).to_be_hidden()


@in_chromium
def test_a_picture_is_sent_again_when_model_or_network_are_back(seven: KerasEngine, visit: Callable[..., Page]) -> None:
    with serving(seven, loaded=False) as (url, load):
        page = visit(url)
        draw(page, SEVEN)
        expect_answer(page, "Not ready yet", "sent again in a moment")

        load()

        expect_answer(page, "Accepted")
        page.context.set_offline(True)
        draw(page, DASH)
        expect_answer(page, "Offline")

        page.context.set_offline(False)

        expect_answer(page, "Accepted")


# Everyone


@in_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing_wrong(served_seven: str, visit: Callable[..., Page], scheme: str, width: int) -> None:
    page = visit(served_seven, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    assert page.evaluate("document.documentElement.scrollWidth") == width  # no sideways scrolling

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
    page.get_by_role("radio", name="Number").check()
    choose(page, PICTURE)
    expect(page.get_by_role("listitem")).to_have_count(1)
    assert violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


# Keys and quotas

KEY = "0f" * 32
HASHED = f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"


@in_chromium
def test_a_key_is_asked_for_and_sent_with_every_request_after(
    seven: KerasEngine, visit: Callable[..., Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(seven, api_keys=HASHED) as (url, _):
        page = visit(url)
        expect(page.get_by_label("API key")).to_be_hidden()
        draw(page, SEVEN)
        expect_answer(page, "Key needed")

        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect_answer(page, "Wrong key")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Use key").click()

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


# The API docs


def test_the_docs_allow_only_their_own_files_and_their_start_script(served_seven: str) -> None:
    page = httpx2.get(served_seven + "docs")

    [script] = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; script-src 'self' 'sha256-{digest}'; ")
    assert "http" not in policy
    links = re.findall(r"(?:src|href)=\"(.*?)\"", page.text)
    assert sorted(links) == ["docs/favicon.png", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"]
    for link in links:
        assert httpx2.get(served_seven + link).status_code == httpx2.codes.OK


@in_chromium
@pytest.mark.parametrize("prefix", ["", "behind/a/proxy/"])
def test_try_it_out_in_the_docs_without_another_server(
    seven: KerasEngine, visit: Callable[..., Page], prefix: str
) -> None:
    with serving(seven, strip=prefix) as (url, _):
        page = visit(f"{url}{prefix}docs")  # fails if another server is contacted
        page.locator(".opblock-summary-path", has_text="/predict").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.locator(".opblock input[type=file]").set_input_files(
            {"name": "seven.png", "mimeType": "image/png", "buffer": PICTURE}
        )
        page.get_by_role("button", name="Execute").click()

        expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
        expect(page.locator(".live-responses-table")).to_contain_text('"digit"')
