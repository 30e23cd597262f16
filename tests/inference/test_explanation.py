"""`explain=true` over HTTP: what the model saw, which pixels decided, where the ink lies in the image."""

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

from app.imaging.preprocess import SIDE_PX, Mode, preprocess
from app.model.engine import KerasEngine
from tests.asking import WAIT_S, Run, assert_is_problem, service
from tests.dialects import SEVEN
from tests.drawings import Grey, digit_drawn, encoded, enlarged


@pytest.fixture
def top_half(engine_of: Callable[[Run], KerasEngine]) -> KerasEngine:
    """Sees a three, the more surely the more ink is in the upper half."""

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.zeros((len(ink), 11), np.float32)
        logits[:, 3] = ink[:, : SIDE_PX // 2].sum(axis=(1, 2, 3)) / 10
        return logits

    return engine_of(run)


def pixels(png: str) -> Grey:
    image = Image.open(BytesIO(base64.b64decode(png, validate=True)))
    assert (image.format, image.size, image.mode) == ("PNG", (SIDE_PX, SIDE_PX), "L")
    return np.array(image)


async def answered(engine: KerasEngine, data: bytes, **params: str) -> dict[str, Any]:
    async with service(engine) as client:
        answer = await client.post("/predict", params=params, content=data)
    assert answer.status_code == httpx2.codes.OK, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(("mode", "inverted"), [("auto", True), ("auto", False), ("plain", False)])
async def test_the_explanation_shows_what_the_model_saw(top_half: KerasEngine, mode: Mode, *, inverted: bool) -> None:
    drawing = enlarged(digit_drawn(5))
    data = encoded(255 - drawing if inverted else drawing)

    explanation = (await answered(top_half, data, preprocess=mode, explain="true"))["explanation"]

    found = preprocess(data, mode)
    assert np.array_equal(pixels(explanation["input_png"]), np.round(found.ink[:, :, 0] * 255).astype(np.uint8))
    assert pixels(explanation["saliency_png"]).max() == 255
    assert explanation["inverted"] is inverted
    assert explanation["ink_box"] == dict(zip(("x", "y", "width", "height"), found.ink_box, strict=True))


async def test_a_late_explanation_is_a_missed_deadline(engine_of: Callable[[Run], KerasEngine]) -> None:
    """The answer itself comes in time, its explanation does not."""
    let_go = threading.Event()

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(ink) == 1 or let_go.wait(WAIT_S)
        return np.zeros((len(ink), 11), np.float32)

    async with service(engine_of(run), request_timeout_ms=100) as client:
        answer = await asyncio.wait_for(client.post("/predict?explain=true", content=SEVEN), WAIT_S)
        let_go.set()

    assert_is_problem(answer, 504, "deadline_exceeded")


async def test_an_explanation_changes_nothing_else_in_the_answer(top_half: KerasEngine) -> None:
    plain = await answered(top_half, SEVEN, explain="false")
    explained = await answered(top_half, SEVEN, explain="true")

    assert list(explained) == [*plain, "explanation"]
    assert list(explained["explanation"]) == ["input_png", "saliency_png", "inverted", "ink_box"]
    assert {name: explained[name] for name in plain} == plain
