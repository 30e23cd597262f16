"""The shipped model over HTTP: every way to draw, encode and send a digit. The rest of the contract is in tests/api."""

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.imaging.decode import decode
from app.imaging.formats import inspect
from app.imaging.preprocess import find_ink
from tests.drawings import (
    FORMATS,
    Grey,
    coloured,
    difference,
    digit_drawn,
    encoded,
    enlarged,
    mnist_test,
    placed,
    transparent,
    turned,
)
from tests.pictures import cut_out, framed, on_nothing, on_paper, ruled, side_by_side, speckled, vignetted
from tests.server import running

DIGITS = range(10)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def large(digit: int) -> Grey:
    """Dark on light, larger than 28x28, taller than wide."""
    return 255 - placed(enlarged(digit_drawn(digit), 160), (240, 200), 30, 25)


def twentieth(digit: int) -> Grey:
    """Light on dark, in a box that is a twentieth of the sheet."""
    return placed(enlarged(digit_drawn(digit), 100), (320, 320), 170, 120)


def image(digit: int) -> Image.Image:
    return Image.fromarray(large(digit))


DRAWN: dict[str, Callable[[int], bytes]] = {
    "as MNIST has it": lambda digit: encoded(digit_drawn(digit)),
    "another hand": lambda digit: encoded(digit_drawn(digit, 1)),
    "dark on light": lambda digit: encoded(255 - digit_drawn(digit)),
    "large": lambda digit: encoded(enlarged(digit_drawn(digit), 400)),
    "large, dark on light": lambda digit: encoded(large(digit)),
    "in a corner": lambda digit: encoded(placed(enlarged(digit_drawn(digit), 100), (400, 500), 290, 6)),
    "blue on white": lambda digit: encoded(coloured(255 - large(digit), (30, 40, 170), (252, 252, 248))),
    "chalk on a board": lambda digit: encoded(coloured(255 - large(digit), (250, 250, 250), (25, 80, 45))),
    "pale pencil": lambda digit: encoded(255 - (255 - large(digit)) // 4),
    "black on nothing": lambda digit: encoded(transparent(255 - large(digit), (0, 0, 0))),
    "white on nothing": lambda digit: encoded(transparent(255 - large(digit), (255, 255, 255))),
    "red on nothing, WebP": lambda digit: encoded(transparent(255 - large(digit), (200, 0, 0)), "WEBP"),
    "grey and alpha": lambda digit: encoded(transparent(255 - large(digit), (0, 0, 0)).convert("LA")),
    "16-bit PNG": lambda digit: encoded(large(digit).astype(np.uint16) * 257),
    "fax": lambda digit: encoded(image(digit).convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4"),
    "CMYK JPEG": lambda digit: encoded(image(digit).convert("RGB").convert("CMYK"), "JPEG"),
    "poor JPEG": lambda digit: encoded(large(digit), "JPEG", quality=20),
    "photograph's size": lambda digit: encoded(large(digit).repeat(12, axis=0).repeat(12, axis=1), "JPEG"),
    "animation": lambda digit: encoded(large(digit), "GIF", save_all=True, append_images=[image((digit + 1) % 10)]),
    "framed": lambda digit: encoded(framed(255 - large(digit), 0, 4)),
    "in a box": lambda digit: encoded(framed(255 - large(digit), 8, 3)),
    "on squared paper": lambda digit: encoded(ruled(255 - large(digit), 36, 2, 150, squared=True)),
    "in a vignette": lambda digit: encoded(vignetted(255 - large(digit), 0.7), "JPEG"),
    "among specks": lambda digit: encoded(speckled(255 - large(digit), 15, 3)),
    "cut out to its last pixel": lambda digit: encoded(on_paper(cut_out(255 - large(digit)))),
    "a twentieth of the sheet": lambda digit: encoded(on_paper(twentieth(digit))),
    "black on a transparency that hides black": lambda digit: encoded(on_nothing(255 - large(digit), 0, 0)),
    "white on a transparency that hides white": lambda digit: encoded(on_nothing(255 - large(digit), 255, 255)),
} | {f"large {kind}": lambda digit, kind=kind: encoded(large(digit), kind) for kind in FORMATS}


def predicted(client: httpx2.Client, data: bytes, **params: str | int) -> dict[str, Any]:
    answer = client.post("/predict", params=params, content=data)
    assert answer.status_code == httpx2.codes.OK, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("how", DRAWN)
def test_a_digit_is_read_however_it_is_drawn_and_encoded(client: httpx2.Client, how: str) -> None:
    assert [predicted(client, DRAWN[how](digit))["digit"] for digit in DIGITS] == list(DIGITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_digit_is_read_upright(client: httpx2.Client, kind: str) -> None:
    """Turned the wrong way, a six is a nine."""
    assert [predicted(client, turned(large(digit), 3, kind))["digit"] for digit in (6, 9)] == [6, 9]


def test_the_textbook_way_reads_mnist_as_it_is(client: httpx2.Client) -> None:
    digits = [predicted(client, encoded(digit_drawn(digit)), preprocess="plain")["digit"] for digit in DIGITS]

    assert digits == list(DIGITS)


def test_clear_digits_are_accepted(client: httpx2.Client) -> None:
    answers = [predicted(client, encoded(image)) for image in mnist_test()[0]]

    assert sum(answer["accepted"] for answer in answers) >= 194  # of 200


@pytest.mark.parametrize(("first", "second"), [(1, 2), (4, 7), (0, 8)])
def test_several_digits_are_not_accepted(client: httpx2.Client, first: int, second: int) -> None:
    both = side_by_side([digit_drawn(first), digit_drawn(second)])

    answer = predicted(client, encoded(on_paper(both)))

    assert answer["digit"] in {first, second}
    assert answer["rejection"]["reason"] == "several_digits"


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


def test_a_batch_is_answered_as_its_images_are_alone(client: httpx2.Client) -> None:
    contents = [encoded(large(digit)) for digit in DIGITS] + [b"no image"]
    files = [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]

    entries = client.post("/predict/batch", files=files).json()["predictions"]

    assert [entry["filename"] for entry in entries] == [f"{number}.png" for number in range(11)]
    assert [entry["prediction"]["digit"] for entry in entries[:10]] == list(DIGITS)
    assert entries[10]["error"]["code"] == "unsupported_media_type"


def multipart(data: bytes) -> dict[str, Any]:
    return {"files": {"file": ("drawing.png", data, "image/png")}}


def raw(data: bytes) -> dict[str, Any]:
    return {"content": data, "headers": {"Content-Type": "image/png"}}


def octets(data: bytes) -> dict[str, Any]:
    return {"content": data, "headers": {"Content-Type": "application/octet-stream"}}


def base64_in_json(data: bytes) -> dict[str, Any]:
    return {"json": {"image": base64.b64encode(data).decode()}}


def data_url_in_json(data: bytes) -> dict[str, Any]:
    return {"json": {"image": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def chunked(data: bytes) -> dict[str, Any]:
    return {"content": (data[start : start + 100] for start in range(0, len(data), 100))}


@pytest.mark.parametrize("params", [{}, {"top_k": 10}, {"preprocess": "plain", "top_k": 1}], ids=str)
def test_the_answer_is_the_same_in_every_way_of_sending(client: httpx2.Client, params: dict[str, str | int]) -> None:
    data = encoded(digit_drawn(4))
    ways = (multipart, raw, octets, base64_in_json, data_url_in_json, chunked)

    answers = [client.post("/predict", params=params, **way(data)) for way in ways]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(answers[0].json()["top"]) == params.get("top_k", 3)


def test_the_format_is_recognised_by_content_not_by_name_or_type(client: httpx2.Client) -> None:
    data = encoded(large(3), "WEBP")

    answer = client.post("/predict", files={"file": ("three.gif", data, "image/bmp")})

    assert answer.json() == predicted(client, data)


def test_concurrent_requests_get_their_own_answers(client: httpx2.Client) -> None:
    files = [encoded(each) for each in mnist_test()[0][:60]]
    alone = [predicted(client, data) for data in files]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda data: predicted(client, data), files))

    assert [each["digit"] for each in together] == [each["digit"] for each in alone]
    assert np.allclose(
        [each["probabilities"] for each in together], [each["probabilities"] for each in alone], atol=1e-4
    )


def test_keras_gives_the_same_answers(client: httpx2.Client, model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="keras") as process:
        address = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=address, timeout=30) as keras:
            for digit in DIGITS:
                one, other = (predicted(each, encoded(large(digit)), explain="true") for each in (client, keras))
                assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)
                assert other["explanation"]["input_png"] == one["explanation"]["input_png"]
                assert [other[same] for same in ("digit", "accepted", "model")] == [digit, True, one["model"]]


@pytest.mark.parametrize("side_px", [28, 300], ids=["on the event loop", "in threads"])
@pytest.mark.parametrize("digit", [2, 3, 4, 7])
def test_a_digit_on_its_side_is_read_and_not_accepted(client: httpx2.Client, digit: int, side_px: int) -> None:
    upright = enlarged(digit_drawn(digit), side_px)
    image = encoded(np.ascontiguousarray(np.rot90(upright, 3)))

    explained = predicted(client, image, explain="true")
    [entry] = client.post("/predict/batch", files={"files": image}).json()["predictions"]

    for answer in (explained, predicted(client, image), entry["prediction"]):
        assert (answer["digit"], answer["accepted"]) == (digit, False)
        assert answer["rejection"]["reason"] == "not_a_digit"
        assert answer["rejection"]["score"] > answer["rejection"]["threshold"]
    seen = decode(inspect(base64.b64decode(explained["explanation"]["input_png"]))).grey
    assert difference((seen[..., None] / 255).astype(np.float32), find_ink(upright).ink) < 0.1
