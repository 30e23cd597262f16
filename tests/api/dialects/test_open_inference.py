"""The Open Inference Protocol: what its requests mean, and tritonclient against the real server."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from app import VERSION
from app.api.dialects.tensors import JSON_LENGTH, read_request
from app.errors import DigitsError, TooLarge
from app.model.engine import KerasEngine
from tests.asking import service
from tests.dialects import BASE64, INK, OPEN_INFERENCE, SEVEN, assert_is_error
from tests.drawings import digit_drawn, encoded, enlarged

ONE = INK.reshape(1, 28, 28, 1)
TWO = np.concatenate([ONE, ONE])
FLAT = INK.ravel().tolist()
READY = ["/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"]


def fp32(data: object = FLAT, shape: object = (1, 28, 28, 1), **changed: object) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": "FP32", "shape": shape, "data": data} | changed]}


def texts(*data: object, shape: object = None, **changed: object) -> dict[str, Any]:
    shape = [len(data)] if shape is None else shape
    return {"inputs": [{"name": "images", "datatype": "BYTES", "shape": shape, "data": data} | changed]}


def binary(datatype: str, shape: list[int], tensor: bytes, **changed: object) -> tuple[bytes, bytes]:
    """The JSON of a request, and the tensor to follow it."""
    sent = {"name": "images", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(tensor)}}
    return json.dumps({"inputs": [sent]} | changed).encode(), tensor


def elements(*contents: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def read(body: object, max_images: int = 256) -> tuple[bool, list[Any]]:
    """Whether the answer is to be binary, and the images. ``body``: JSON, its bytes, or these and a binary tensor."""
    if isinstance(body, tuple):
        content, json_length = b"".join(body), str(len(body[0]))
    else:
        content, json_length = body if isinstance(body, bytes) else json.dumps(body).encode(), None
    _, as_binary, images = read_request(content, json_length, max_images)
    return as_binary, images


# Metadata and health


async def test_the_server_is_live_at_once_and_ready_with_its_model(seven: KerasEngine) -> None:
    async with service(None) as client:
        live = await client.get("/v2/health/live")
        for path in (*READY, "/v2/models/digits"):
            assert_is_error(await client.get(path), 503)
    async with service(seven) as client:
        ready = [(await client.get(path)).json() for path in READY]

    assert (live.status_code, live.json()) == (200, {"live": True})  # KServe's client reads the JSON
    assert ready == [{"ready": True}] * 3


# Requests


SENT: dict[str, object] = {
    "flat": fp32(TWO.ravel().tolist(), [2, 28, 28, 1]),
    "nested": fp32(TWO.tolist(), [2, 28, 28, 1]),
    "base64": texts(BASE64, BASE64),
    "binary FP32": binary("FP32", [2, 28, 28, 1], TWO.tobytes()),
    "base64 by MLServer's codecs": texts(BASE64, BASE64, shape=[2, 1], parameters={"content_type": "base64"}),
    "binary BYTES": binary("BYTES", [2], elements(SEVEN, SEVEN)),
    "an output": fp32(TWO.tolist(), [2, 28, 28, 1]) | {"outputs": [{"name": "probabilities"}]},
    "null for what is left out": fp32(TWO.tolist(), [2, 28, 28, 1], parameters=None)
    | {"id": None, "outputs": None, "parameters": None},
    "JSON asked for": fp32(TWO.tolist(), [2, 28, 28, 1])
    | {
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True},
    },
}


@pytest.mark.parametrize("how", SENT)
def test_a_tensor_may_be_sent_in_many_ways(how: str) -> None:
    as_binary, images = read(SENT[how])

    assert not as_binary
    assert len(images) == 2
    for image in images:
        assert image == SEVEN if isinstance(image, bytes) else np.array_equal(image, ONE[0])


WRONG: dict[str, tuple[object, str]] = {
    "nothing": (b"", "JSON Parse error"),
    "a list": (b"[]", "object"),
    "no inputs": ({}, "inputs"),
    "an empty list of inputs": ({"inputs": []}, "inputs"),
    "another input": (fp32(name="pictures"), "'images'"),
    "another output": (fp32() | {"outputs": [{"name": "logits"}]}, "'probabilities'"),
    "another datatype": (fp32(datatype="FP64"), "datatype"),
    "another shape": (fp32(shape=[1, 784]), "shape"),
    "a shape of floats": (fp32(shape=[1.5, 28, 28, 1]), "shape"),
    "a negative shape": (fp32(shape=[-1, 28, 28, 1]), "no image"),
    "BYTES in two dimensions": (texts(BASE64, BASE64, shape=[1, 2]), "shape"),
    "no data": (fp32(None), "'data'"),
    "too little data": (fp32(FLAT[1:]), "'data'"),
    "ragged data": (fp32([FLAT[:10], FLAT[10:]]), "'data'"),
    "base64 of too few": (texts(BASE64, shape=[2]), "'data'"),
    "base64 that is none": (texts(BASE64, "?"), "images[1]"),
    "classification": (
        fp32() | {"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
        "classification",
    ),
    "shared memory": (fp32(parameters={"shared_memory_region": "r"}), "shared_memory_region"),
    "binary NaN": (binary("FP32", [1, 28, 28, 1], np.full(784, np.nan, "<f4").tobytes()), "finite"),
    "binary that is too short": (binary("FP32", [1, 28, 28, 1], ONE.tobytes()[:-1]), "3136 bytes"),
    "binary that is not said": ((json.dumps(fp32()).encode(), b"more"), "4 bytes"),
    "binary and data": (
        binary("FP32", [1, 28, 28, 1], ONE.tobytes(), **fp32(parameters={"binary_data_size": 3136})),
        "",
    ),
    "binary that did not come": (fp32(parameters={"binary_data_size": 3136}), "0 bytes"),
    "a size that is wrong": (
        (json.dumps(texts(data=None, shape=[1], parameters={"binary_data_size": 9})).encode(), b"12345678"),
        "8 bytes",
    ),
    "elements that are too short": (binary("BYTES", [1], elements(SEVEN)[:-1]), "elements"),
    "too few elements": (binary("BYTES", [2], elements(SEVEN)), "elements"),
    "an element that lies": (binary("BYTES", [1], b"\xff\xff\xff\xff" + SEVEN), "elements"),
}


@pytest.mark.parametrize("how", WRONG)
def test_an_invalid_request_says_what_is_wrong(how: str) -> None:
    body, word = WRONG[how]

    with pytest.raises(DigitsError) as raised:
        read(body)
    assert raised.value.status in (400, 422)
    assert word in str(raised.value)


@pytest.mark.parametrize("length", ["", "-1", "1000000", "9" * 5000])
def test_a_wrong_length_of_the_json_is_an_error(length: str) -> None:
    with pytest.raises(DigitsError, match=JSON_LENGTH):
        read_request(json.dumps(fp32()).encode(), length, 256)


def test_a_raw_tensor_of_incomplete_images_is_an_error() -> None:
    for body in (b"", ONE.tobytes()[:-4]):
        with pytest.raises(DigitsError):
            read_request(body, "0", 256)


@pytest.mark.parametrize(
    "body",
    [
        fp32(TWO.tolist(), [2, 28, 28, 1]),
        texts(BASE64, BASE64),
        fp32(shape=[10**30, 28, 28, 1]),
        binary("BYTES", [2**31], elements(SEVEN)),
        binary("FP32", [2**40, 28, 28, 1], ONE.tobytes()),
    ],
    ids=["arrays", "images", "shape", "binary elements", "binary shape"],
)
def test_more_images_than_allowed_are_too_large(body: object) -> None:
    with pytest.raises(TooLarge):
        read(body, max_images=1)


# Answers


@pytest.mark.parametrize("path", [OPEN_INFERENCE, "/v2/models/digits/versions/1/infer"])
@pytest.mark.parametrize("id_", ["42", None])
async def test_the_answer_is_as_the_protocol_says(client: httpx2.AsyncClient, path: str, id_: str | None) -> None:
    answer = await client.post(path, json=fp32() | {"id": id_})

    assert answer.headers["content-type"] == "application/json"
    [output] = answer.json().pop("outputs")
    assert answer.json() == {"model_name": "digits", "model_version": "1", "outputs": [output]} | (
        {"id": id_} if id_ else {}
    )
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 10])
    assert sum(output["data"]) == pytest.approx(1, abs=1e-6)
    assert np.argmax(output["data"]) == 7


async def test_a_raw_tensor_has_a_binary_output_after_the_json(client: httpx2.AsyncClient) -> None:
    as_json = await client.post(OPEN_INFERENCE, json=fp32())
    answer = await client.post(OPEN_INFERENCE, content=ONE.tobytes(), headers={JSON_LENGTH: "0"})

    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[JSON_LENGTH])
    [output] = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 40}
    assert "data" not in output
    tensor = np.frombuffer(answer.content[length:], "<f4")
    assert tensor.tolist() == np.array(as_json.json()["outputs"][0]["data"], np.float32).tolist()


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/foo", 404, "Request for unknown model: 'foo' is not found"),
        ("POST", "/v2/models/foo/infer", 404, "Request for unknown model: 'foo' is not found"),
        ("POST", "/v2/models/digits/versions/2/infer", 404, "unknown model: 'digits' version 2 is not found"),
        ("GET", "/v2/models/digits/config", 404, "Unknown path"),
        ("GET", OPEN_INFERENCE, 405, "Wrong method"),
        ("POST", "/v2/health/live", 405, "Wrong method"),
    ],
)
async def test_another_model_version_or_method_is_an_error(
    client: httpx2.AsyncClient, method: str, path: str, status: int, message: str
) -> None:
    answer = await client.request(method, path)

    assert_is_error(answer, status, message)
    assert ("allow" in answer.headers) == (status == 405)


# Triton's own client


@pytest.fixture(scope="module")
def theirs(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4) as client:
        yield client


def tensor_of(array: NDArray[Any], as_binary: bool = True) -> triton.InferInput:
    datatype = "BYTES" if array.dtype == object else "FP32"
    images = triton.InferInput("images", list(array.shape), datatype)
    images.set_data_from_numpy(array, binary_data=as_binary)
    return images


def test_tritonclient_reads_health_and_metadata(theirs: triton.InferenceServerClient) -> None:
    assert theirs.is_server_live()
    assert theirs.is_server_ready()
    assert theirs.is_model_ready("digits", "1")
    assert not theirs.is_model_ready("digits", "2")
    assert not theirs.is_model_ready("foo")
    extensions = ["binary_tensor_data"]
    assert theirs.get_server_metadata() == {"name": "digits", "version": VERSION, "extensions": extensions}
    assert theirs.get_model_metadata("digits", "1") == {
        "name": "digits",
        "versions": ["1"],
        "platform": "litert",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }


@pytest.mark.parametrize("as_binary", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("out_binary", [True, False, None], ids=["binary out", "JSON out", "nothing asked for"])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_tritonclient_infers(
    theirs: triton.InferenceServerClient, datatype: str, as_binary: bool, out_binary: bool | None
) -> None:
    images = np.array([SEVEN if as_binary else BASE64.encode()] * 2, object) if datatype == "BYTES" else TWO
    outputs = [] if out_binary is None else [triton.InferRequestedOutput("probabilities", binary_data=out_binary)]

    result = theirs.infer("digits", [tensor_of(images, as_binary)], request_id="mine", outputs=outputs)

    probabilities = result.as_numpy("probabilities")
    assert result.get_response()["id"] == "mine"
    assert (probabilities.shape, probabilities.dtype) == ((2, 10), np.float32)
    assert probabilities.argmax(axis=1).tolist() == [7, 7]
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_every_dialect_gives_the_same_answer(url: str, theirs: triton.InferenceServerClient) -> None:
    digit = 3
    drawing = encoded(255 - enlarged(digit_drawn(digit), 200), "JPEG")
    ink = (digit_drawn(digit) / np.float32(255)).astype(np.float32).reshape(1, 28, 28, 1)
    text = base64.b64encode(drawing).decode()
    with httpx2.Client(base_url=url) as http:
        found = http.post("/predict", content=drawing).json()["probabilities"]
        plain = http.post("/predict?preprocess=plain", content=encoded(digit_drawn(digit))).json()["probabilities"]
        pairs = [(texts(text), {"b64": text}, found), (fp32(ink.ravel().tolist()), ink[0].tolist(), plain)]
        for body, instance, expected in pairs:
            rows = http.post("/v1/models/digits:predict", json={"instances": [instance]}).json()["predictions"]
            columns = http.post("/v1/models/digits:predict", json={"inputs": [instance]}).json()["outputs"]
            assert rows == columns == [expected]
            assert http.post(OPEN_INFERENCE, json=body).json()["outputs"][0]["data"] == expected
    for tensor, expected in [(np.array([drawing], object), found), (ink, plain)]:
        probabilities = theirs.infer("digits", [tensor_of(tensor)]).as_numpy("probabilities")
        assert probabilities.tolist() == [np.array(expected, np.float32).tolist()]
