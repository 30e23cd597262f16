"""TensorFlow Serving's dialect: its documented curl lines against the real server, the rest around a stand-in."""

import asyncio
import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.main import create_app
from app.model.engine import KerasEngine
from app.settings import Settings
from tests.asking import WAIT_S, Run, service
from tests.dialects import BASE64, BROKEN, INK, assert_is_error
from tests.server import ROOT, running

PREDICT = "/v1/models/digits:predict"
B64 = {"b64": BASE64}
ARRAY = INK.tolist()


@pytest.fixture
def seen() -> list[NDArray[np.float32]]:
    """What the model was given, batch by batch."""
    return []


@pytest.fixture
def rows(engine_of: Callable[[Run], KerasEngine], seen: list[NDArray[np.float32]]) -> KerasEngine:
    """Sees the digit that the brightest row of the first column tells."""

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(ink)
        logits: NDArray[np.float32] = np.eye(10, dtype=np.float32)[ink[:, :10, 0, 0].argmax(axis=1)] * np.float32(9)
        return logits

    return engine_of(run)


def marked(digit: int) -> list[list[float]]:
    """An array of which `rows` sees ``digit``."""
    ink = np.zeros((28, 28))
    ink[digit, 0] = 1
    array: list[list[float]] = ink.tolist()
    return array


async def posted(
    engine: KerasEngine | None,
    body: object,
    path: str = PREDICT,
    headers: dict[str, str] | None = None,
    changed: dict[str, int] | None = None,
) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with service(engine, **changed or {}) as client:
        return await client.post(path, content=content, headers=headers)


def digits(rows: list[list[float]]) -> list[int]:
    return [int(np.argmax(row)) for row in rows]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models/digits", "/v1/models/digits/versions/1"])
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "being loaded"])
async def test_the_status_is_of_one_version(seven: KerasEngine, path: str, loaded: bool) -> None:
    async with service(seven if loaded else None) as client:
        answer = await client.get(path)

    state = "AVAILABLE" if loaded else "LOADING"
    assert answer.status_code == httpx2.codes.OK
    assert answer.json() == {
        "model_version_status": [
            {"version": "1", "state": state, "status": {"error_code": "OK", "error_message": ""}},
        ]
    }


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models/digits/metadata", "/v1/models/digits/versions/1/metadata"])
async def test_the_metadata_name_input_and_output_with_dtype_and_shape(seven: KerasEngine, path: str) -> None:
    async with service(seven) as client:
        document = (await client.get(path)).json()

    assert document["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    tensors = {**signature["inputs"], **signature["outputs"]}
    assert {name: tensor["dtype"] for name, tensor in tensors.items()} == {
        "images": "DT_FLOAT",
        "probabilities": "DT_FLOAT",
    }
    sizes = {name: [dim["size"] for dim in tensor["tensor_shape"]["dim"]] for name, tensor in tensors.items()}
    assert sizes == {"images": ["-1", "28", "28", "1"], "probabilities": ["-1", "10"]}


TWO = {
    "rows of b64": ({"instances": [B64, B64]}, "predictions"),
    "named rows of b64": ({"instances": [{"images": B64}, {"images": B64}]}, "predictions"),
    "a column of b64": ({"inputs": [B64, B64]}, "outputs"),
    "a named column of b64": ({"inputs": {"images": [B64, B64]}}, "outputs"),
    "rows of arrays": ({"instances": [ARRAY, ARRAY]}, "predictions"),
    "named rows of arrays": ({"instances": [{"images": ARRAY}, {"images": ARRAY}]}, "predictions"),
    "a column of arrays": ({"inputs": [ARRAY, ARRAY]}, "outputs"),
    "a named column of arrays": ({"inputs": {"images": [ARRAY, ARRAY]}}, "outputs"),
    "a signature": ({"signature_name": "serving_default", "instances": [ARRAY, ARRAY]}, "predictions"),
    "an empty signature": ({"signature_name": "", "instances": [ARRAY, B64]}, "predictions"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("how", TWO)
@pytest.mark.parametrize("path", [PREDICT, "/v1/models/digits/versions/1:predict"], ids=["latest", "version"])
async def test_rows_are_answered_as_predictions_and_columns_as_outputs(seven: KerasEngine, how: str, path: str) -> None:
    body, key = TWO[how]
    answer = await posted(seven, body, path)

    assert answer.status_code == httpx2.codes.OK, answer.text
    assert list(answer.json()) == [key]
    assert digits(answer.json()[key]) == [7, 7]
    assert sum(answer.json()[key][0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.anyio
async def test_arrays_are_fed_as_they_are(rows: KerasEngine, seen: list[NDArray[np.float32]]) -> None:
    flat, deep = np.random.default_rng(0).random((2, 28, 28)), INK.reshape(28, 28, 1)

    await posted(rows, {"instances": [flat[0].tolist(), deep.tolist(), np.zeros((28, 28), int).tolist()]})

    fed = np.concatenate(seen)
    assert fed.dtype == np.float32
    assert [each.tolist() for each in fed[:3]] == [
        flat[0].astype(np.float32).reshape(28, 28, 1).tolist(),
        deep.tolist(),
        np.zeros((28, 28, 1)).tolist(),
    ]


@pytest.mark.anyio
async def test_predictions_come_in_the_order_sent(rows: KerasEngine) -> None:
    order = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5] * 9

    answer = await posted(rows, {"instances": [marked(digit) for digit in order]}, changed={"max_batch": 8})

    assert digits(answer.json()["predictions"]) == order


@pytest.mark.anyio
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json", ""])
async def test_the_body_is_json_whatever_its_content_type_says(seven: KerasEngine, content_type: str) -> None:
    answer = await posted(seven, {"instances": [B64]}, headers={"Content-Type": content_type})

    assert digits(answer.json()["predictions"]) == [7]


def with_pixel(value: str) -> bytes:
    """A request whose image has ``value`` in one place."""
    return json.dumps({"instances": [ARRAY]}).replace("0.0", value, 1).encode()


WRONG: Mapping[str, tuple[object, str]] = {
    "nothing": (b"", "JSON Parse error"),
    "no JSON": (b"instances = [1, 2]", "JSON Parse error"),
    "no UTF-8": (b"\xff\xfe", "JSON Parse error"),
    "lists nested deep": (b'{"instances": [' + b"[" * 100_000, "JSON Parse error"),
    "objects nested deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "JSON Parse error"),
    "an endless number": (b'{"instances": [' + b"9" * 10_000 + b"]}", "JSON Parse error"),
    "half a character": (b'{"instances": ["\\ud800"]}', "JSON Parse error"),
    "a list": (b"[]", "object"),
    "null": (b"null", "object"),
    "an empty object": ({}, "'instances' or 'inputs'"),
    "null instances": ({"instances": None}, "'instances' or 'inputs'"),
    "rows and columns": ({"instances": [B64], "inputs": [B64]}, "'instances' or 'inputs'"),
    "an instance without its list": ({"instances": B64}, "instances"),
    "no rows": ({"instances": []}, "no image"),
    "no columns": ({"inputs": []}, "no image"),
    "an input without its list": ({"inputs": B64}, "inputs"),
    "a column of another name": ({"inputs": {"pictures": [B64]}}, "inputs"),
    "a column that is a number": ({"inputs": {"images": 7}}, "inputs"),
    "another signature": ({"signature_name": "classify", "instances": [B64]}, "signature"),
    "a signature that is a number": ({"signature_name": 7, "instances": [B64]}, "signature_name"),
    "a number": ({"instances": [7]}, "images[0]"),
    "a string": ({"instances": [B64, B64["b64"]]}, "images[1]"),
    "a null": ({"instances": [None]}, "images[0]"),
    "an object without a key": ({"instances": [{}]}, "images[0]"),
    "b64 of a number": ({"instances": [{"b64": 7}]}, "images[0]"),
    "b64 and more": ({"instances": [B64 | {"more": 1}]}, "images[0]"),
    "a named array and more": ({"instances": [{"images": ARRAY, "more": 1}]}, "images[0]"),
    "b64 that is none": ({"instances": [B64, {"b64": "?"}]}, "images[1]"),
    "b64 that is no ASCII": ({"instances": [B64, {"b64": "ü"}]}, "images[1]"),
    "b64 of nothing": ({"instances": [B64, {"b64": ""}]}, "images[1]"),
    "27x28": ({"instances": [ARRAY, ARRAY[1:]]}, "images[1]"),
    "a short row": ({"instances": [ARRAY, [*ARRAY[1:], [0.5]]]}, "images[1]"),
    "1x1x28x28": ({"instances": [[[ARRAY]]]}, "images[0]"),
    "an empty array": ({"instances": [[]]}, "images[0]"),
    "an array without its list": ({"inputs": ARRAY}, "images[0]"),
} | {
    f"a pixel of {value[:9]}": (json.dumps({"instances": [ARRAY]}).replace("0.0", value, 1).encode(), word)
    for value, word in {
        "NaN": "finite",
        "Infinity": "finite",
        "-Infinity": "finite",
        "1e999": "finite",
        "1e300": "finite",
        "-0.01": "0 to 1",
        "1.01": "0 to 1",
        "255": "0 to 1",
        "1" + "0" * 400: "images[0]",
        '"0.5"': "images[0]",
        "true": "images[0]",
        "null": "images[0]",
        "[]": "images[0]",
    }.items()
}


@pytest.mark.anyio
@pytest.mark.parametrize("how", WRONG)
async def test_whatever_is_wrong_with_a_request_is_told(seven: KerasEngine, how: str) -> None:
    body, word = WRONG[how]

    assert_is_error(await posted(seven, body), 400, word)


@pytest.mark.anyio
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_one_broken_image_is_an_error_of_the_request_and_names_its_index(
    seven: KerasEngine, broken: bytes
) -> None:
    instances = [B64] * 5 + [{"b64": base64.b64encode(broken).decode()}] + [B64] * 5
    async with service(seven, max_batch=2) as client:
        answer = await client.post(PREDICT, json={"instances": instances})
        again = await client.post(PREDICT, json={"instances": [B64]})

    assert_is_error(answer, 400, "images[5]: ")
    assert digits(again.json()["predictions"]) == [7]


@pytest.mark.anyio
async def test_nobody_waits_for_the_images_beside_a_broken_one(engine_of: Callable[[Run], KerasEngine]) -> None:
    go_on = threading.Event()

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        go_on.wait(WAIT_S)
        return np.zeros((len(ink), 10), np.float32)

    text = {"b64": base64.b64encode(b"a text").decode()}
    async with service(engine_of(run)) as client:
        try:
            answer = await asyncio.wait_for(client.post(PREDICT, json={"instances": [B64, ARRAY, text]}), WAIT_S / 2)
        finally:
            go_on.set()

    assert_is_error(answer, 400, "images[2]: ")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ({"instances": [ARRAY] * 4}, {"max_images": 3}),
        ({"instances": [B64] * 4}, {"max_images": 3}),
        ({"instances": [ARRAY]}, {"max_body_bytes": 1000}),
        ({"instances": [B64]}, {"max_pixels": 700}),
        (b'{"instances": [' + b"[]," * 1_000_000 + b"[]]}", {}),
        (b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}", {}),
    ],
    ids=["arrays", "images", "bytes", "pixels", "lists", "objects"],
)
async def test_more_than_the_bounds_is_too_large(seven: KerasEngine, body: object, changed: dict[str, int]) -> None:
    assert_is_error(await posted(seven, body, changed=changed), 413)


@pytest.mark.anyio
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
async def test_as_many_images_as_the_bound_allows_are_answered(rows: KerasEngine, shape: tuple[int, ...]) -> None:
    instance = np.zeros(shape).tolist()

    answer = await posted(rows, {"instances": [{"images": instance}] * 256})

    assert len(answer.json()["predictions"]) == 256


@pytest.mark.anyio
async def test_before_the_model_is_loaded_the_service_is_not_ready() -> None:
    async with service(None) as client:
        answers = [
            await client.get("/v1/models/digits/metadata"),
            await client.post(PREDICT, json={"instances": [B64]}),
        ]

    for answer in answers:
        assert_is_error(answer, 503)
        assert answer.headers["retry-after"] == "1"


@pytest.mark.anyio
async def test_a_request_leaves_room_in_the_queue_for_others(seven: KerasEngine) -> None:
    answer = await posted(seven, {"instances": [ARRAY] * 20}, changed={"max_queue": 8, "max_batch": 4})

    assert digits(answer.json()["predictions"]) == [7] * 20


@pytest.mark.anyio
async def test_without_an_answer_in_time_the_deadline_is_exceeded(seven: KerasEngine) -> None:
    changed = {"max_wait_ms": 1000, "request_timeout_ms": 20}

    assert_is_error(await posted(seven, {"instances": [ARRAY]}, changed=changed), 504, "20 ms")
    assert_is_error(await posted(seven, {"instances": [B64]}, changed=changed), 504, "20 ms")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/models/half", 404, "Could not find any versions of model half"),
        ("GET", "/v1/models/half/versions/1", 404, "Could not find version 1 of model half"),
        ("GET", "/v1/models/digits/versions/2", 404, "Could not find version 2 of model digits"),
        ("GET", "/v1/models/half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("GET", "/v1/models/digits/versions/2/metadata", 404, "Servable not found for request: Specific(digits, 2)"),
        ("POST", "/v1/models/half:predict", 404, "Servable not found for request: Latest(half)"),
        ("POST", "/v1/models/digits/versions/2:predict", 404, "Servable not found for request: Specific(digits, 2)"),
        ("POST", "/v1/models/digits/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        ("POST", "/v1/models/digits:classify", 400, "Expected classify signature"),
        ("POST", "/v1/models/digits:regress", 400, "Expected regress signature"),
        ("GET", PREDICT, 400, f"Malformed request: GET {PREDICT}"),
        ("POST", "/v1/models/digits", 400, "Malformed request: POST /v1/models/digits"),
        ("POST", "/v1/models/digits/versions/one:predict", 400, "Malformed request"),
        ("GET", "/v1/models", 400, "Malformed request: GET /v1/models"),
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("DELETE", "/v1/models/digits", 405, "another method"),
    ],
)
async def test_another_model_version_or_method_is_told_in_their_words(
    seven: KerasEngine, method: str, path: str, status: int, message: str
) -> None:
    async with service(seven) as client:
        answer = await client.request(method, path)

    assert_is_error(answer, status, message)


@pytest.mark.anyio
async def test_a_compressed_body_is_told_apart_from_broken_json(seven: KerasEngine) -> None:
    answer = await posted(seven, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    assert_is_error(answer, 400, "compressed")


@pytest.mark.anyio
async def test_an_engine_that_fails_is_an_internal_error(engine_of: Callable[[Run], KerasEngine]) -> None:
    def run(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("out of memory")

    answer = await posted(engine_of(run), {"instances": [ARRAY] * 3})

    assert answer.status_code == httpx2.codes.INTERNAL_SERVER_ERROR
    assert "memory" not in answer.text


@pytest.mark.anyio
async def test_openapi_shows_examples_that_are_answered(seven: KerasEngine) -> None:
    document = create_app(Settings()).openapi()
    operation = document["paths"][PREDICT]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]

    assert set(operation["responses"]) == {"200", "400", "401", "413", "429", "500", "503", "504"}
    assert {"/v1/models/digits", "/v1/models/digits/metadata"} <= set(document["paths"])
    for example in examples.values():
        assert (await posted(seven, example["value"])).status_code == httpx2.codes.OK


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def url(model_dir: Path) -> Iterator[str]:
    with running(model_dir=model_dir, engine="litert") as process:
        url = process.url()
        process.line_with('"ready"')
        yield url


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments], capture_output=True, text=True, check=True
    ).stdout


@needs_curl
def test_the_documented_status_line(url: str) -> None:
    document = json.loads(curl(f"{url}/v1/models/digits"))

    assert document["model_version_status"][0]["state"] == "AVAILABLE"


@needs_curl
@pytest.mark.parametrize("instance", [ARRAY, B64], ids=["array", "b64"])
def test_the_documented_predict_line(url: str, instance: object) -> None:
    document = json.loads(curl("-d", json.dumps({"instances": [instance]}), "-X", "POST", f"{url}{PREDICT}"))

    assert digits(document["predictions"]) == [7]


@needs_curl
def test_the_documented_line_with_a_wrong_model(url: str) -> None:
    answer = curl("-i", "-d", '{"instances": [1.0,5.0]}', "-X", "POST", f"{url}/v1/models/half:predict")

    head, _, body = answer.partition("\n\n")
    assert head.splitlines()[0] == "HTTP/1.1 404 Not Found"
    assert "content-type: application/json" in head.lower()
    assert json.loads(body) == {"error": "Servable not found for request: Latest(half)"}


@needs_curl
def test_a_file_of_many_rows(url: str, tmp_path: Path) -> None:
    seven = base64.b64encode((ROOT / "examples" / "seven-drawn.png").read_bytes()).decode()
    (tmp_path / "rows.json").write_text(json.dumps({"instances": [{"b64": seven}] * 20}))

    document = json.loads(curl("-d", f"@{tmp_path / 'rows.json'}", "-X", "POST", f"{url}{PREDICT}"))

    assert digits(document["predictions"]) == [7] * 20
