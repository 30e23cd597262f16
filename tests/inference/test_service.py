"""The shipped model over HTTP reads digits and rejects other pictures.

How pictures are decoded and found is in tests/imaging, how they are sent in tests/api.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.drawings import (
    Grey,
    coloured,
    digit_drawn,
    encoded,
    enlarged,
    mnist_test,
    placed,
)
from tests.pictures import cut_out, on_paper
from tests.server import running

DIGITS = range(10)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def large(digit: int) -> Grey:
    """Dark on light, larger than 28x28, taller than wide."""
    return 255 - placed(enlarged(digit_drawn(digit), 160), (240, 200), 30, 25)


DRAWN: dict[str, Callable[[int], bytes]] = {
    "as MNIST has it": lambda digit: encoded(digit_drawn(digit)),
    "chalk on a board": lambda digit: encoded(coloured(255 - large(digit), (250, 250, 250), (25, 80, 45))),
    "poor JPEG": lambda digit: encoded(large(digit), "JPEG", quality=20),
    "photograph's size": lambda digit: encoded(large(digit).repeat(12, axis=0).repeat(12, axis=1), "JPEG"),
    "cut out to its last pixel": lambda digit: encoded(on_paper(cut_out(255 - large(digit)))),
}


def predicted(client: httpx2.Client, data: bytes, **params: str | int) -> dict[str, Any]:
    answer = client.post("/predict", params=params, content=data)
    assert answer.status_code == httpx2.codes.OK, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("how", DRAWN)
def test_a_digit_is_read_however_it_is_drawn_and_encoded(client: httpx2.Client, how: str) -> None:
    assert [predicted(client, DRAWN[how](digit))["digit"] for digit in DIGITS] == list(DIGITS)


def test_clear_digits_are_accepted(client: httpx2.Client) -> None:
    answers = [predicted(client, encoded(image)) for image in mnist_test()[0]]

    assert sum(answer["accepted"] for answer in answers) >= 194  # of 200


def test_other_pictures_are_not_accepted(client: httpx2.Client) -> None:
    """A grid, grain, a star of strokes."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    pictures = {
        "a grid": (np.minimum(np.abs(x * 4 % 1 - 0.5), np.abs(y * 4 % 1 - 0.5)) < 0.08) & (np.hypot(x, y) < 0.9),
        "grain": (np.random.default_rng(0).random(x.shape) < 0.5) & (np.maximum(abs(x), abs(y)) < 0.7),
        "a star": (np.abs(np.sin(4 * np.arctan2(y, x))) * np.hypot(x, y) < 0.06) & (np.hypot(x, y) < 0.8),
    }

    rejected = {
        name: predicted(client, encoded(np.where(ink, 20, 240).astype(np.uint8))) for name, ink in pictures.items()
    }

    assert [name for name, answer in rejected.items() if answer["accepted"]] == []


def test_keras_gives_the_same_answers(client: httpx2.Client, model_dir: Path) -> None:
    with (
        running(model_dir=model_dir, engine="keras") as process,
        httpx2.Client(base_url=process.ready(), timeout=30) as keras,
    ):
        for digit in DIGITS:
            one, other = (predicted(each, encoded(large(digit)), explain="true") for each in (client, keras))
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)
            assert other["explanation"]["input_png"] == one["explanation"]["input_png"]
            assert [other[same] for same in ("digit", "accepted", "model")] == [digit, True, one["model"]]


@pytest.mark.parametrize("side_px", [28, 300], ids=["on the event loop", "in threads"])
@pytest.mark.parametrize("digit", [2, 4, 7])
def test_a_digit_on_its_side_is_read_and_not_accepted(client: httpx2.Client, digit: int, side_px: int) -> None:
    image = encoded(np.ascontiguousarray(np.rot90(enlarged(digit_drawn(digit), side_px), 3)))

    [entry] = client.post("/predict/batch", files={"files": image}).json()["predictions"]

    for answer in (predicted(client, image), entry["prediction"]):
        assert (answer["digit"], answer["accepted"]) == (digit, False)
        assert answer["rejection"]["reason"] == "not_a_digit"
        assert answer["rejection"]["score"] > answer["rejection"]["threshold"]
