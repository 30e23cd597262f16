"""The real server with the shipped model, over HTTP: every way to draw, encode and send a digit; everything broken."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.imaging.decode import decode, inspect
from app.imaging.preprocess import ink_from_grey
from tests.drawings import (
    EXACT,
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
from tests.pictures import cut_out, framed, on_nothing, on_paper, ruled, shadowed, side_by_side, speckled, vignetted
from tests.server import Process, running

DIGITS = range(10)


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[Process]:
    with running(model_dir=model_dir) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Process) -> Iterator[httpx2.Client]:
    url = server.url()
    server.line_with('"ready"')
    with httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def large(digit: int) -> Grey:
    """Dark on light, larger than the model sees, taller than wide."""
    return 255 - placed(enlarged(digit_drawn(digit), 160), (240, 200), 30, 25)


def twentieth(digit: int) -> Grey:
    """Light on dark, in a box that is a twentieth of the sheet."""
    return placed(enlarged(digit_drawn(digit), 100), (320, 320), 170, 120)


def image(digit: int) -> Image.Image:
    return Image.fromarray(large(digit))


DRAWN: dict[str, Callable[[int], bytes]] = {
    "as MNIST has it": lambda digit: encoded(digit_drawn(digit)),
    "another hand": lambda digit: encoded(digit_drawn(digit, 1)),
    "a third hand": lambda digit: encoded(digit_drawn(digit, 2)),
    "dark on light": lambda digit: encoded(255 - digit_drawn(digit)),
    "large": lambda digit: encoded(enlarged(digit_drawn(digit), 400)),
    "large, dark on light": lambda digit: encoded(large(digit)),
    "in a corner": lambda digit: encoded(placed(enlarged(digit_drawn(digit), 100), (400, 500), 290, 6)),
    "on a wide sheet": lambda digit: encoded(255 - placed(enlarged(digit_drawn(digit), 100), (120, 800), 10, 600)),
    "blue on white": lambda digit: encoded(coloured(255 - large(digit), (30, 40, 170), (252, 252, 248))),
    "chalk on a board": lambda digit: encoded(coloured(255 - large(digit), (250, 250, 250), (25, 80, 45))),
    "red on yellow": lambda digit: encoded(coloured(255 - large(digit), (190, 20, 30), (250, 230, 120))),
    "pale pencil": lambda digit: encoded(255 - (255 - large(digit)) // 4),
    "black on nothing": lambda digit: encoded(transparent(255 - large(digit), (0, 0, 0))),
    "white on nothing": lambda digit: encoded(transparent(255 - large(digit), (255, 255, 255))),
    "red on nothing, WebP": lambda digit: encoded(transparent(255 - large(digit), (200, 0, 0)), "WEBP"),
    "grey and alpha": lambda digit: encoded(transparent(255 - large(digit), (0, 0, 0)).convert("LA")),
    "grey and alpha, TIFF": lambda digit: encoded(transparent(255 - large(digit), (0, 0, 0)).convert("LA"), "TIFF"),
    "16-bit PNG": lambda digit: encoded(large(digit).astype(np.uint16) * 257),
    "16-bit TIFF": lambda digit: encoded(large(digit).astype(np.uint16) * 257, "TIFF"),
    "palette": lambda digit: encoded(image(digit).convert("P")),
    "1-bit": lambda digit: encoded(image(digit).convert("1", dither=Image.Dither.NONE)),
    "fax": lambda digit: encoded(image(digit).convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4"),
    "CMYK JPEG": lambda digit: encoded(image(digit).convert("RGB").convert("CMYK"), "JPEG"),
    "poor JPEG": lambda digit: encoded(large(digit), "JPEG", quality=20),
    "photograph's size": lambda digit: encoded(large(digit).repeat(12, axis=0).repeat(12, axis=1), "JPEG"),
    "animation": lambda digit: encoded(large(digit), "GIF", save_all=True, append_images=[image((digit + 1) % 10)]),
    "framed": lambda digit: encoded(framed(255 - large(digit), 0, 4)),
    "in a box": lambda digit: encoded(framed(255 - large(digit), 8, 3)),
    "on squared paper": lambda digit: encoded(ruled(255 - large(digit), 36, 2, 150, squared=True)),
    "half in shadow": lambda digit: encoded(shadowed(255 - large(digit), 0.5), "JPEG"),
    "in a vignette": lambda digit: encoded(vignetted(255 - large(digit), 0.7), "JPEG"),
    "among specks": lambda digit: encoded(speckled(255 - large(digit), 15, 3)),
    "cut out to its last pixel": lambda digit: encoded(on_paper(cut_out(255 - large(digit)))),
    "a twentieth of the sheet": lambda digit: encoded(on_paper(twentieth(digit))),
    "black on a transparency that hides black": lambda digit: encoded(on_nothing(255 - large(digit), 0, 0)),
    "white on a transparency that hides white": lambda digit: encoded(on_nothing(255 - large(digit), 255, 255)),
} | {f"large {kind}": lambda digit, kind=kind: encoded(large(digit), kind) for kind in FORMATS}

TURNED = {
    f"{kind} with orientation {orientation}": (kind, orientation)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF")
    for orientation in range(1, 9)
}


def predicted(client: httpx2.Client, data: bytes, **params: str | int) -> dict[str, Any]:
    answer = client.post("/predict", params=params, content=data)
    assert answer.status_code == httpx2.codes.OK, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("how", DRAWN)
def test_a_digit_is_read_however_it_is_drawn_and_encoded(client: httpx2.Client, how: str) -> None:
    assert [predicted(client, DRAWN[how](digit))["digit"] for digit in DIGITS] == list(DIGITS)


@pytest.mark.parametrize("how", TURNED)
def test_a_digit_is_read_upright(client: httpx2.Client, how: str) -> None:
    """Six and nine, two and five: turned the wrong way they are another digit, or none."""
    kind, orientation = TURNED[how]

    assert [predicted(client, turned(large(digit), orientation, kind))["digit"] for digit in (2, 4, 5, 6, 7, 9)] == [
        2,
        4,
        5,
        6,
        7,
        9,
    ]


def test_the_textbook_way_reads_mnist_as_it_is(client: httpx2.Client) -> None:
    digits = [predicted(client, encoded(digit_drawn(digit)), preprocess="plain")["digit"] for digit in DIGITS]

    assert digits == list(DIGITS)


def test_digits_that_are_clear_are_accepted(client: httpx2.Client) -> None:
    answers = [predicted(client, encoded(image)) for image in mnist_test()[0]]

    assert sum(answer["accepted"] for answer in answers) >= 194  # of 200


@pytest.mark.parametrize(("first", "second"), [(1, 2), (4, 7), (0, 8)])
def test_several_digits_are_answered_and_not_accepted(client: httpx2.Client, first: int, second: int) -> None:
    both = side_by_side([digit_drawn(first), digit_drawn(second)])

    answer = predicted(client, encoded(on_paper(both)))

    assert answer["digit"] in {first, second}
    assert answer["rejection"]["reason"] == "several_digits"


def test_what_is_no_digit_is_not_accepted(client: httpx2.Client) -> None:
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


def test_the_explanation_of_the_shipped_model_lies_on_the_ink(client: httpx2.Client) -> None:
    answer = predicted(client, encoded(large(4)), explain="true")

    shown = {
        name: np.array(Image.open(BytesIO(base64.b64decode(answer["explanation"][name]))))
        for name in ("input_png", "saliency_png")
    }
    assert answer["digit"] == 4
    assert shown["input_png"].shape == shown["saliency_png"].shape == (28, 28)
    assert shown["saliency_png"].max() == 255
    assert shown["saliency_png"][shown["input_png"] > 0].mean() > shown["saliency_png"].mean()


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


def test_the_content_tells_the_format_whatever_the_name_and_type_say(client: httpx2.Client) -> None:
    data = encoded(large(3), "WEBP")

    answer = client.post("/predict", files={"file": ("three.gif", data, "image/bmp")})

    assert answer.json() == predicted(client, data)


def test_many_at_once_each_get_their_own_answer(client: httpx2.Client) -> None:
    files = [encoded(each) for each in mnist_test()[0][:60]]
    alone = [predicted(client, data) for data in files]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda data: predicted(client, data), files))

    assert [each["digit"] for each in together] == [each["digit"] for each in alone]
    assert np.allclose(
        [each["probabilities"] for each in together], [each["probabilities"] for each in alone], atol=1e-4
    )


# What cannot be read


def assert_is_problem(answer: httpx2.Response, statuses: set[int]) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert not [word for word in ("Traceback", ".py", "/", "cv2") if word in answer.json()["detail"]]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_never_read_and_never_an_internal_error(client: httpx2.Client, kind: str) -> None:
    whole = encoded(large(8), kind, **EXACT.get(kind, {}))
    for length in np.unique(np.geomspace(1, len(whole) - 2, 20).astype(int)):
        answer = client.post("/predict", content=whole[:length])

        assert_is_problem(answer, {415, 422})
    assert_is_problem(client.post("/predict", content=b""), {400})


@pytest.mark.parametrize("kind", FORMATS)
def test_garbage_behind_a_valid_start_is_never_an_internal_error(client: httpx2.Client, kind: str) -> None:
    whole = encoded(large(8), kind, **EXACT.get(kind, {}))
    noise = np.random.default_rng(0)
    for kept in (12, 30, len(whole) // 2):
        answer = client.post("/predict", content=whole[:kept] + noise.bytes(len(whole) - kept))

        assert answer.status_code in {200, 413, 422}, answer.text


@pytest.mark.parametrize("kind", FORMATS)
def test_single_wrong_bits_are_never_an_internal_error(client: httpx2.Client, kind: str) -> None:
    whole = encoded(large(8), kind, **EXACT.get(kind, {}))
    random = np.random.default_rng(1)
    for place in random.integers(0, min(len(whole), 400), 25):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        answer = client.post("/predict", content=bytes(damaged))

        assert answer.status_code in {200, 413, 415, 422}, answer.text


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"files": {"image": b"1"}}, 400, "bad_request"),
        ({"files": {"file": ("seven.png", b"")}}, 400, "bad_request"),
        ({"json": {}}, 400, "bad_request"),
        ({"json": {"image": "***"}}, 400, "bad_request"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_request"),
        ({}, 400, "bad_request"),
        ({"files": {"file": ("seven.png", b"A text that is called a picture.")}}, 415, "unsupported_media_type"),
        ({"content": encoded(np.full((90, 90), 255, np.uint8))}, 422, "no_ink"),
        ({"content": encoded(Image.new("RGBA", (90, 90), (0, 0, 0, 0)))}, 422, "no_ink"),
        ({"content": encoded(digit_drawn(1)), "params": {"top_k": 99}}, 422, "invalid_parameter"),
    ],
    ids=[
        "no field file",
        "empty file",
        "JSON without image",
        "no base64",
        "no JSON",
        "no body",
        "text",
        "white",
        "transparent",
        "top_k",
    ],
)
def test_what_cannot_be_answered_is_named(client: httpx2.Client, sent: dict[str, Any], status: int, code: str) -> None:
    answer = client.post("/predict", **sent)

    assert_is_problem(answer, {status})
    assert answer.json()["code"] == code


@pytest.mark.parametrize("way", ["declared", "chunked"])
def test_a_body_of_more_than_ten_mebibytes_is_too_large(client: httpx2.Client, way: str) -> None:
    body = encoded(large(1)) + bytes(10 * 2**20)
    chunks = (body[start : start + 2**16] for start in range(0, len(body), 2**16))

    answer = client.post("/predict", content=body if way == "declared" else chunks)

    assert_is_problem(answer, {413})
    assert predicted(client, encoded(large(1)))["digit"] == 1


def test_more_than_fifty_million_pixels_are_too_large(client: httpx2.Client) -> None:
    answer = client.post("/predict", content=encoded(Image.new("1", (10_000, 5_001), 1)))

    assert_is_problem(answer, {413})


# Around it


def test_the_request_id_is_echoed_with_answers_and_errors(client: httpx2.Client) -> None:
    headers = {"X-Request-ID": "from-a-caller.1"}
    answers = [
        client.post("/predict", content=encoded(large(2)), headers=headers),
        client.post("/predict", content=b"?", headers=headers),
        client.get("/nowhere", headers=headers),
    ]

    assert [answer.headers["x-request-id"] for answer in answers] == ["from-a-caller.1"] * 3


def test_a_request_is_one_json_line_in_the_log(server: Process, client: httpx2.Client) -> None:
    predicted(client, encoded(large(6)))
    client.post("/predict", content=encoded(large(6)), headers={"X-Request-ID": "look-for-me"})

    line = json.loads(server.line_with("look-for-me").string)

    assert (line["route"], line["status"], line["digit"]) == ("/predict", 200, 6)
    assert 0 < line["confidence"] <= 1


def test_a_serving_process_lives_is_ready_and_tells_its_model(client: httpx2.Client, model_dir: Path) -> None:
    assert client.get("/healthz").status_code == httpx2.codes.OK
    assert client.get("/readyz").status_code == httpx2.codes.OK
    assert client.get("/model").json() == json.loads((model_dir / "digits.json").read_text())


def test_the_engine_without_tensorflow_gives_the_same_answers(client: httpx2.Client, model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert") as process:
        url = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=url, timeout=30) as without:
            for digit in DIGITS:
                one, other = (predicted(each, encoded(large(digit)), explain="true") for each in (client, without))
                assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)
                for same in ("digit", "accepted", "model"):
                    assert other[same] == one[same]
                assert other["explanation"]["input_png"] == one["explanation"]["input_png"]


@pytest.mark.parametrize("side_px", [28, 300], ids=["on the event loop", "in threads"])
@pytest.mark.parametrize("digit", [2, 3, 4, 7])
def test_a_digit_on_its_side_is_read_and_not_accepted(
    client: httpx2.Client, url: str, digit: int, side_px: int
) -> None:
    upright = enlarged(digit_drawn(digit), side_px)
    image = encoded(np.ascontiguousarray(np.rot90(upright, 3)))
    with httpx2.Client(base_url=url, timeout=30) as quick:
        answers = [predicted(each, image, explain="true") for each in (client, quick)]
        answers += [predicted(quick, image)]
        [entry] = quick.post("/predict/batch", files={"files": image}).json()["predictions"]

    for answer in [*answers, entry["prediction"]]:
        assert (answer["digit"], answer["accepted"]) == (digit, False)
        assert answer["rejection"]["reason"] == "not_a_digit"
        assert answer["rejection"]["score"] > answer["rejection"]["threshold"]
    seen = [decode(inspect(base64.b64decode(answer["explanation"]["input_png"]))).grey for answer in answers[:2]]
    assert np.array_equal(seen[0], seen[1])
    assert difference((seen[0][..., None] / 255).astype(np.float32), ink_from_grey(upright)) < 0.1
