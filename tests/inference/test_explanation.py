"""`explain=true`: what the model saw, which pixels carried the answer, where the ink lay in the caller's image."""

import asyncio
import base64
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.imaging.preprocess import SIDE_PX, preprocess
from app.model.engine import KerasEngine
from tests.asking import WAIT_S, Run, assert_is_problem, service
from tests.drawings import Grey, digit_drawn, encoded, enlarged, placed, turned
from tests.pictures import box_of, on_paper

SEVEN = encoded(digit_drawn(7))

pytestmark = pytest.mark.anyio


@pytest.fixture
def top_half(engine_of: Callable[[Run], KerasEngine]) -> KerasEngine:
    """Sees a three, the more surely the more ink is in the upper half."""

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.zeros((len(ink), 11), np.float32)
        logits[:, 3] = ink[:, : SIDE_PX // 2].sum(axis=(1, 2, 3)) / 10
        return logits

    return engine_of(run)


def explanation_in(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == httpx2.codes.OK, answer.text
    explanation: dict[str, Any] = answer.json()["explanation"]
    return explanation


def pixels(png: str) -> Grey:
    data = base64.b64decode(png, validate=True)
    assert data.startswith(b"\x89PNG")
    image = Image.open(BytesIO(data))
    assert (image.size, image.mode) == ((SIDE_PX, SIDE_PX), "L")
    return np.array(image)


async def explained(engine: KerasEngine, data: bytes, **params: str) -> dict[str, Any]:
    async with service(engine) as client:
        return explanation_in(await client.post("/predict", params={"explain": "true"} | params, content=data))


@pytest.mark.parametrize("params", [{}, {"explain": "false"}, {"explain": "0"}], ids=str)
async def test_unasked_nothing_is_explained(seven: KerasEngine, params: dict[str, str]) -> None:
    async with service(seven) as client:
        answer = await client.post("/predict", params=params, content=SEVEN)

    assert "explanation" not in answer.json()


async def test_an_explanation_changes_nothing_else_in_the_answer(top_half: KerasEngine) -> None:
    async with service(top_half) as client:
        plain = (await client.post("/predict", content=SEVEN)).json()
        explained = (await client.post("/predict", params={"explain": "true"}, content=SEVEN)).json()

    assert list(explained) == [*plain, "explanation"]
    assert list(explained["explanation"]) == ["input_png", "saliency_png", "inverted", "ink_box"]
    assert {name: explained[name] for name in plain} == plain


@pytest.mark.parametrize("mode", ["auto", "plain"])
async def test_the_input_is_what_the_model_saw(top_half: KerasEngine, mode: Any) -> None:  # noqa: ANN401 - a Mode
    data = encoded(255 - enlarged(digit_drawn(5)))

    explanation = await explained(top_half, data, preprocess=mode)

    ink = preprocess(data, mode).ink[:, :, 0]
    assert np.array_equal(pixels(explanation["input_png"]), np.round(ink * 255).astype(np.uint8))


async def test_the_saliency_is_bright_where_ink_carries_the_answer_and_nowhere_else(top_half: KerasEngine) -> None:
    """The stand-in looks at the upper half alone; a patch that is wiped out is four pixels wide."""
    explanation = await explained(top_half, encoded(digit_drawn(8)))

    saliency, ink = pixels(explanation["saliency_png"]), pixels(explanation["input_png"])
    assert saliency.max() == 255
    assert not saliency[SIDE_PX // 2 + 3 :].any()
    for row, column in zip(*np.nonzero(saliency), strict=True):
        assert ink[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4].any()


async def test_an_answer_that_depends_on_nothing_has_a_dark_saliency(seven: KerasEngine) -> None:
    assert not pixels((await explained(seven, SEVEN))["saliency_png"]).any()


@pytest.mark.parametrize("inverted", [True, False], ids=["dark on light", "light on dark"])
async def test_the_polarity_is_told(seven: KerasEngine, inverted: bool) -> None:
    drawing = enlarged(digit_drawn(2))

    assert (await explained(seven, encoded(255 - drawing if inverted else drawing)))["inverted"] is inverted


def drawn() -> Grey:
    """A seven right of the middle and above it, taller than wide: no two orientations of it look alike."""
    return placed(enlarged(digit_drawn(7), 100), (240, 180), 20, 70)


def box_in(explanation: dict[str, Any]) -> list[int]:
    assert list(explanation["ink_box"]) == ["x", "y", "width", "height"]
    return list(explanation["ink_box"].values())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
async def test_the_box_is_in_pixels_of_the_image_as_it_is_seen(seven: KerasEngine, kind: str, orientation: int) -> None:
    explanation = await explained(seven, turned(on_paper(drawn()), orientation, kind))

    assert np.abs(np.subtract(box_in(explanation), box_of(drawn()))).max() <= 4


@pytest.mark.parametrize("scale", [7, 14, 27], ids=["decoded at 1/2", "decoded at 1/4", "decoded at 1/8"])
@pytest.mark.parametrize("orientation", [1, 6])
async def test_the_box_is_in_pixels_of_a_photograph_that_was_decoded_small(
    seven: KerasEngine, orientation: int, scale: int
) -> None:
    large = on_paper(drawn()).repeat(scale, axis=0).repeat(scale, axis=1)

    explanation = await explained(seven, turned(large, orientation, "JPEG"))

    assert np.abs(np.divide(box_in(explanation), scale) - box_of(drawn())).max() <= 4


async def test_the_box_of_the_textbook_way_is_the_whole_image(seven: KerasEngine) -> None:
    explanation = await explained(seven, encoded(drawn()), preprocess="plain")

    assert box_in(explanation) == [0, 0, 180, 240]
    assert explanation["inverted"] is False


async def test_an_image_without_ink_is_refused_with_or_without_an_explanation(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/predict?explain=true", content=encoded(np.full((40, 40), 250, np.uint8)))

    assert_is_problem(answer, 422, "no_ink")


async def test_an_explanation_that_comes_too_late_is_a_missed_deadline(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    """The answer itself comes; what is asked for the explanation stands still."""
    let_go = threading.Event()

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(ink) == 1 or let_go.wait(WAIT_S)
        return np.zeros((len(ink), 11), np.float32)

    async with service(engine_of(run), request_timeout_ms=100) as client:
        answer = await asyncio.wait_for(client.post("/predict?explain=true", content=SEVEN), WAIT_S)
        let_go.set()

    assert_is_problem(answer, 504, "deadline_exceeded")
