"""TensorFlow Serving's dialect: what its requests mean, and its documented curl lines against the real server."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping

import httpx2
import numpy as np
import pytest

from app.api.dialects.tensorflow_serving import read_request
from app.errors import DigitsError, TooLarge
from app.model.engine import KerasEngine
from tests.asking import Run, service
from tests.dialects import BASE64, INK, SEVEN, TENSORFLOW, assert_is_error

B64 = {"b64": BASE64}
ARRAY = INK.tolist()


def body_of(document: object) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def digits(rows: list[list[float]]) -> list[int]:
    return [int(np.argmax(row)) for row in rows]


# Metadata


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


@pytest.mark.parametrize("path", ["/v1/models/digits/metadata", "/v1/models/digits/versions/1/metadata"])
async def test_the_metadata_name_input_and_output_with_dtype_and_shape(client: httpx2.AsyncClient, path: str) -> None:
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


# Requests


TWO = {
    "rows of b64": ({"instances": [B64, B64]}, "predictions"),
    "named rows of b64": ({"instances": [{"images": B64}, {"images": B64}]}, "predictions"),
    "a column of b64": ({"inputs": [B64, B64]}, "outputs"),
    "a named column of b64": ({"inputs": {"images": [B64, B64]}}, "outputs"),
    "rows of arrays": ({"instances": [ARRAY, ARRAY]}, "predictions"),
    "rows of 28x28x1": ({"instances": [INK.reshape(28, 28, 1).tolist()] * 2}, "predictions"),
    "a column of arrays": ({"inputs": [ARRAY, ARRAY]}, "outputs"),
    "a signature": ({"signature_name": "serving_default", "instances": [ARRAY, ARRAY]}, "predictions"),
    "an empty signature": ({"signature_name": "", "instances": [ARRAY, B64]}, "predictions"),
}


@pytest.mark.parametrize("how", TWO)
def test_rows_become_predictions_and_columns_outputs(how: str) -> None:
    body, key = TWO[how]

    name, images = read_request(body_of(body), 256)

    assert name == key
    for image in images:
        assert image == SEVEN if isinstance(image, bytes) else np.array_equal(image, INK.reshape(28, 28, 1))


WRONG: Mapping[str, tuple[object, str]] = {
    "nothing": (b"", "JSON Parse error"),
    "no UTF-8": (b"\xff\xfe", "JSON Parse error"),
    "lists nested deep": (b'{"instances": [' + b"[" * 100_000, "JSON Parse error"),
    "an endless number": (b'{"instances": [' + b"9" * 10_000 + b"]}", "JSON Parse error"),
    "a list": (b"[]", "object"),
    "an empty object": ({}, "'instances' or 'inputs'"),
    "rows and columns": ({"instances": [B64], "inputs": [B64]}, "'instances' or 'inputs'"),
    "no rows": ({"instances": []}, "no image"),
    "an input without its list": ({"inputs": B64}, "inputs"),
    "a column of another name": ({"inputs": {"pictures": [B64]}}, "inputs"),
    "another signature": ({"signature_name": "classify", "instances": [B64]}, "signature"),
    "a number": ({"instances": [7]}, "images[0]"),
    "a string": ({"instances": [B64, B64["b64"]]}, "images[1]"),
    "b64 and more": ({"instances": [B64 | {"more": 1}]}, "images[0]"),
    "a named array and more": ({"instances": [{"images": ARRAY, "more": 1}]}, "images[0]"),
    "b64 that is none": ({"instances": [B64, {"b64": "?"}]}, "images[1]"),
    "27x28": ({"instances": [ARRAY, ARRAY[1:]]}, "images[1]"),
    "a short row": ({"instances": [ARRAY, [*ARRAY[1:], [0.5]]]}, "images[1]"),
    "1x1x28x28": ({"instances": [[[ARRAY]]]}, "images[0]"),
    "more dimensions than an array can have": (b'{"instances": ' + b"[" * 190 + b"1" + b"]" * 190 + b"}", "images[0]"),
} | {
    f"a pixel of {value[:9]}": (json.dumps({"instances": [ARRAY]}).replace("0.0", value, 1).encode(), word)
    for value, word in {
        "NaN": "finite",
        "-Infinity": "finite",
        "1e300": "finite",
        "-0.01": "0 to 1",
        "1.01": "0 to 1",
        "1" + "0" * 400: "images[0]",
        '"0.5"': "images[0]",
        "true": "images[0]",
    }.items()
}


@pytest.mark.parametrize("how", WRONG)
def test_an_invalid_request_says_what_is_wrong(how: str) -> None:
    body, word = WRONG[how]

    with pytest.raises(DigitsError) as raised:
        read_request(body_of(body), 256)
    assert raised.value.status in (400, 422)
    assert word in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [ARRAY] * 4},
        {"inputs": [B64] * 4},
        b'{"instances": [' + b"[]," * 1_000_000 + b"[]]}",
        b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
    ],
    ids=["arrays", "images", "lists", "objects"],
)
def test_more_images_or_values_than_allowed_are_too_large(body: object) -> None:
    with pytest.raises(TooLarge):
        read_request(body_of(body), 3)


# Answers


@pytest.mark.parametrize("path", [TENSORFLOW, "/v1/models/digits/versions/1:predict"], ids=["latest", "version"])
async def test_predictions_come_in_the_order_sent(engine_of: Callable[[Run], KerasEngine], path: str) -> None:
    order = [3, 1, 4, 1, 5, 9, 2, 6] * 9
    marked = np.zeros((len(order), 28, 28))
    marked[range(len(order)), order, 0] = 1  # the row of the mark is the digit
    engine = engine_of(lambda ink: np.eye(10, dtype=np.float32)[ink[:, :10, 0, 0].argmax(axis=1)] * np.float32(9))
    async with service(engine, max_batch=8) as client:
        answer = await client.post(path, json={"instances": marked.tolist()})

    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["predictions"]
    assert digits(answer.json()["predictions"]) == order
    assert sum(answer.json()["predictions"][0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/models/half", 404, "Could not find any versions of model half"),
        ("GET", "/v1/models/half/versions/1", 404, "Could not find version 1 of model half"),
        ("GET", "/v1/models/half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("GET", "/v1/models/digits/versions/2/metadata", 404, "Servable not found for request: Specific(digits, 2)"),
        ("POST", "/v1/models/half:predict", 404, "Servable not found for request: Latest(half)"),
        ("POST", "/v1/models/digits/versions/2:predict", 404, "Servable not found for request: Specific(digits, 2)"),
        ("POST", "/v1/models/digits/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        ("POST", "/v1/models/digits:classify", 400, "Expected classify signature"),
        ("GET", TENSORFLOW, 400, f"Malformed request: GET {TENSORFLOW}"),
        ("POST", "/v1/models/digits", 400, "Malformed request: POST /v1/models/digits"),
        ("POST", "/v1/models/digits/versions/one:predict", 400, "Malformed request"),
        ("DELETE", "/v1/models/digits", 405, "Wrong method"),
    ],
)
async def test_another_model_version_or_method_is_answered_in_their_words(
    client: httpx2.AsyncClient, method: str, path: str, status: int, message: str
) -> None:
    assert_is_error(await client.request(method, path), status, message)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documented_curl_lines(url: str) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    status = json.loads(curl(f"{url}/v1/models/digits"))
    read = json.loads(curl("-d", json.dumps({"instances": [ARRAY, B64]}), "-X", "POST", f"{url}{TENSORFLOW}"))
    unknown = curl("-i", "-d", '{"instances": [1.0,5.0]}', "-X", "POST", f"{url}/v1/models/half:predict")

    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    assert digits(read["predictions"]) == [7, 7]
    assert unknown.splitlines()[0] == "HTTP/1.1 404 Not Found"
    assert json.loads(unknown.splitlines()[-1]) == {"error": "Servable not found for request: Latest(half)"}
