"""The Open Inference Protocol: tritonclient against the real server, the rest around a stand-in."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from app import VERSION
from app.main import create_app
from app.model.engine import KerasEngine
from app.settings import Settings
from tests.asking import Run, service
from tests.dialects import BASE64, BROKEN, INK, SEVEN, assert_is_error
from tests.drawings import digit_drawn, encoded, enlarged
from tests.server import running

INFER = "/v2/models/digits/infer"
LENGTH = "Inference-Header-Content-Length"
ONE = INK.reshape(1, 28, 28, 1)
TWO = np.concatenate([ONE, ONE])
FLAT = INK.ravel().tolist()


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


async def posted(
    engine: KerasEngine | None,
    body: object,
    path: str = INFER,
    headers: dict[str, str] | None = None,
    changed: dict[str, int] | None = None,
) -> httpx2.Response:
    """``body``: JSON, its bytes, or these and a binary tensor."""
    headers = headers or {}
    if isinstance(body, tuple):
        headers = {LENGTH: str(len(body[0]))} | headers
        content = b"".join(body)
    else:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with service(engine, **changed or {}) as client:
        return await client.post(path, content=content, headers=headers)


def digits(answer: httpx2.Response) -> list[int]:
    [output] = answer.json()["outputs"]
    rows: NDArray[np.float64] = np.reshape(output["data"], output["shape"])
    return [int(digit) for digit in rows.argmax(axis=1)]


@pytest.mark.anyio
async def test_the_server_tells_its_name_version_and_extensions(seven: KerasEngine) -> None:
    async with service(seven) as client:
        document = (await client.get("/v2")).json()

    assert document == {"name": "digits", "version": VERSION, "extensions": ["binary_tensor_data"]}


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/1"])
async def test_the_metadata_name_input_and_output_with_datatype_and_shape(seven: KerasEngine, path: str) -> None:
    async with service(seven) as client:
        document = (await client.get(path)).json()

    assert document == {
        "name": "digits",
        "versions": ["1"],
        "platform": "keras",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }


READY = ["/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v2/health/live", *READY])
async def test_health_is_told_by_the_status_and_for_kserves_client_in_json(seven: KerasEngine, path: str) -> None:
    async with service(seven) as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()) == (200, {path.rpartition("/")[2]: True})


@pytest.mark.anyio
async def test_before_the_model_is_loaded_the_server_lives_and_is_not_ready() -> None:
    async with service(None) as client:
        live = await client.get("/v2/health/live")
        others = [await client.get(path) for path in [*READY, "/v2/models/digits"]]
        others.append(await client.post(INFER, json=fp32()))

    assert live.status_code == httpx2.codes.OK
    for answer in others:
        assert_is_error(answer, 503)
        assert answer.headers["retry-after"] == "1"


@pytest.mark.anyio
@pytest.mark.parametrize("path", [INFER, "/v2/models/digits/versions/1/infer"])
async def test_the_answer_is_as_the_protocol_says(seven: KerasEngine, path: str) -> None:
    answer = await posted(seven, fp32() | {"id": "42"}, path)

    assert answer.status_code == httpx2.codes.OK
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("digits", "1", "42")
    [output] = body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 10])
    assert sum(output["data"]) == pytest.approx(1, abs=1e-6)
    assert digits(answer) == [7]


@pytest.mark.anyio
async def test_no_id_is_given_where_none_was_sent(seven: KerasEngine) -> None:
    assert "id" not in (await posted(seven, fp32())).json()


SENT: dict[str, object] = {
    "flat": fp32(TWO.ravel().tolist(), [2, 28, 28, 1]),
    "nested": fp32(TWO.tolist(), [2, 28, 28, 1]),
    "nested by image": fp32(TWO.reshape(2, 784).tolist(), [2, 28, 28, 1]),
    "base64": texts(BASE64, BASE64),
    "binary FP32": binary("FP32", [2, 28, 28, 1], TWO.tobytes()),
    "base64 by MLServer's codecs": texts(BASE64, BASE64, shape=[2, 1], parameters={"content_type": "base64"}),
    "binary BYTES": binary("BYTES", [2], elements(SEVEN, SEVEN)),
    "an output": fp32(TWO.tolist(), [2, 28, 28, 1]) | {"outputs": [{"name": "probabilities"}]},
    "no outputs": fp32(TWO.tolist(), [2, 28, 28, 1]) | {"outputs": []},
    "null for what is left out": fp32(TWO.tolist(), [2, 28, 28, 1], parameters=None)
    | {"id": None, "outputs": None, "parameters": None},
    "JSON asked for": fp32(TWO.tolist(), [2, 28, 28, 1])
    | {
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True},
    },
    "other parameters": fp32(TWO.tolist(), [2, 28, 28, 1]) | {"parameters": {"priority": 1, "mine": "x"}},
}


@pytest.mark.anyio
@pytest.mark.parametrize("how", SENT)
async def test_a_tensor_is_read_however_it_is_sent(seven: KerasEngine, how: str) -> None:
    answer = await posted(seven, SENT[how])

    assert answer.status_code == httpx2.codes.OK, answer.text
    assert digits(answer) == [7, 7]


@pytest.mark.anyio
@pytest.mark.parametrize("as_binary", [False, True], ids=["JSON", "binary"])
async def test_an_fp32_tensor_is_fed_as_it_is(engine_of: Callable[[Run], KerasEngine], as_binary: bool) -> None:
    seen = []

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(ink)
        return np.zeros((len(ink), 10), np.float32)

    sent = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    shape = list(sent.shape)

    await posted(engine_of(run), binary("FP32", shape, sent.tobytes()) if as_binary else fp32(sent.tolist(), shape))

    assert np.array_equal(np.concatenate(seen)[:2], sent)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]},
    ],
    ids=["of all", "of one"],
)
async def test_a_binary_output_follows_the_json(seven: KerasEngine, changed: dict[str, Any]) -> None:
    as_json = await posted(seven, fp32(TWO.tolist(), [2, 28, 28, 1]))
    answer = await posted(seven, fp32(TWO.tolist(), [2, 28, 28, 1]) | changed)

    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    [output] = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 80}
    assert "data" not in output
    tensor = np.frombuffer(answer.content[length:], "<f4")
    assert tensor.tolist() == np.array(as_json.json()["outputs"][0]["data"], np.float32).tolist()


@pytest.mark.anyio
async def test_a_raw_tensor_without_any_json_is_answered_in_binary(seven: KerasEngine) -> None:
    answer = await posted(seven, TWO.tobytes(), headers={LENGTH: "0"})

    length = int(answer.headers[LENGTH])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [2, 10]
    assert len(answer.content) - length == 80


WRONG: dict[str, tuple[object, str]] = {
    "nothing": (b"", "JSON Parse error"),
    "lists nested deep": (b'{"inputs": ' + b"[" * 100_000, "JSON Parse error"),
    "a list": (b"[]", "object"),
    "no inputs": ({}, "inputs"),
    "an empty list of inputs": ({"inputs": []}, "inputs"),
    "two inputs": ({"inputs": fp32()["inputs"] * 2}, "inputs"),
    "an id that is a number": (fp32() | {"id": 42}, "id"),
    "parameters that are a list": (fp32() | {"parameters": []}, "parameters"),
    "another input": (fp32(name="pictures"), "'images'"),
    "another output": (fp32() | {"outputs": [{"name": "logits"}]}, "'probabilities'"),
    "another datatype": (fp32(datatype="FP64"), "datatype"),
    "a datatype that is null": (fp32(datatype=None), "datatype"),
    "no shape": (fp32(shape=[]), "shape"),
    "another shape": (fp32(shape=[1, 784]), "shape"),
    "a shape of five": (fp32(shape=[1, 1, 28, 28, 1]), "shape"),
    "a shape of floats": (fp32(shape=[1.5, 28, 28, 1]), "shape"),
    "a shape of true": (fp32(shape=[True, 28, 28, 1]), "shape"),
    "a negative shape": (fp32(shape=[-1, 28, 28, 1]), "no image"),
    "a shape of none": (fp32([], [0, 28, 28, 1]), "no image"),
    "BYTES in two dimensions": (texts(BASE64, BASE64, shape=[1, 2]), "shape"),
    "no data": (fp32(None), "'data'"),
    "too little data": (fp32(FLAT[1:]), "'data'"),
    "too much data": (fp32([*FLAT, 0.0]), "'data'"),
    "ragged data": (fp32([FLAT[:10], FLAT[10:]]), "'data'"),
    "data of strings": (fp32([*FLAT[1:], "0"]), "'data'"),
    "data of true": (fp32([*FLAT[1:], True]), "'data'"),
    "data of a huge integer": (fp32([*FLAT[1:], 10**400]), "'data'"),
    "NaN": (fp32([*FLAT[1:], float("nan")]), "finite"),
    "Infinity": (fp32([*FLAT[1:], float("inf")]), "finite"),
    "grey levels": (fp32([*FLAT[1:], 255]), "0 to 1"),
    "base64 of too few": (texts(BASE64, shape=[2]), "'data'"),
    "base64 that is none": (texts(BASE64, "?"), "images[1]"),
    "base64 that is a number": (texts(7), "'data'"),
    "base64 that is an object": (texts({"b64": BASE64}), "'data'"),
    "no list of base64": (texts(data=BASE64, shape=[1]), "'data'"),
    "classification": (
        fp32() | {"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
        "classification",
    ),
    "shared memory": (fp32(parameters={"shared_memory_region": "r"}), "shared_memory_region"),
    "binary of a string": (fp32() | {"parameters": {"binary_data_output": "yes"}}, "binary_data"),
    "binary NaN": (binary("FP32", [1, 28, 28, 1], np.full(784, np.nan, "<f4").tobytes()), "finite"),
    "binary that is too short": (binary("FP32", [1, 28, 28, 1], ONE.tobytes()[:-1]), "3136 bytes"),
    "binary that is too long": (binary("FP32", [1, 28, 28, 1], ONE.tobytes() + b"1"), "3136 bytes"),
    "binary of a huge shape": (binary("FP32", [256, 28, 28, 1], ONE.tobytes()), "bytes"),
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
    "a size that is a string": (
        (json.dumps(texts(data=None, shape=[1], parameters={"binary_data_size": "8"})).encode(), b"12345678"),
        "8 bytes",
    ),
    "elements that are too short": (binary("BYTES", [1], elements(SEVEN)[:-1]), "elements"),
    "elements that are too long": (binary("BYTES", [1], elements(SEVEN) + b"\0"), "elements"),
    "too few elements": (binary("BYTES", [2], elements(SEVEN)), "elements"),
    "too many elements": (binary("BYTES", [1], elements(SEVEN, SEVEN)), "elements"),
    "an element that lies": (binary("BYTES", [1], b"\xff\xff\xff\xff" + SEVEN), "elements"),
    "elements of nothing": (binary("BYTES", [2], elements(SEVEN, b"")), "images[1]"),
    "half a length": (binary("BYTES", [1], b"\0\0"), "elements"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("how", WRONG)
async def test_whatever_is_wrong_with_a_request_is_told(seven: KerasEngine, how: str) -> None:
    body, word = WRONG[how]

    assert_is_error(await posted(seven, body), 400, word)


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["", "-1", "one", "1000000", "9" * 5000, "1.5"])
async def test_a_length_that_is_none_of_the_json_is_told(seven: KerasEngine, length: str) -> None:
    assert_is_error(await posted(seven, fp32(), headers={LENGTH: length}), 400, LENGTH)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"", b"123", ONE.tobytes()[:-4]], ids=["nothing", "three bytes", "cut"])
async def test_a_raw_tensor_of_no_whole_images_is_told(seven: KerasEngine, body: bytes) -> None:
    assert_is_error(await posted(seven, body, headers={LENGTH: "0"}), 400)


@pytest.mark.anyio
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_one_broken_image_is_an_error_of_the_request_and_names_its_index(
    seven: KerasEngine, broken: bytes
) -> None:
    answer = await posted(seven, binary("BYTES", [4], elements(SEVEN, SEVEN, broken, SEVEN)))

    assert_is_error(answer, 400, "images[2]: ")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (fp32(TWO.tolist(), [2, 28, 28, 1]), {"max_images": 1}),
        (texts(BASE64, BASE64), {"max_images": 1}),
        (fp32(), {"max_body_bytes": 1000}),
        (texts(BASE64), {"max_pixels": 700}),
        (fp32(shape=[2**62, 28, 28, 1]), {}),
        (fp32(shape=[10**30, 28, 28, 1]), {}),
        (binary("BYTES", [2**31], elements(SEVEN)), {}),
        (binary("FP32", [2**40, 28, 28, 1], ONE.tobytes()), {}),
    ],
    ids=["arrays", "images", "bytes", "pixels", "shape", "huge shape", "binary elements", "binary shape"],
)
async def test_more_than_the_bounds_is_too_large(seven: KerasEngine, body: object, changed: dict[str, int]) -> None:
    assert_is_error(await posted(seven, body, changed=changed), 413)


@pytest.mark.anyio
async def test_a_request_leaves_room_in_the_queue_for_others(seven: KerasEngine) -> None:
    body = fp32(np.repeat(ONE, 20, axis=0).tolist(), [20, 28, 28, 1])

    assert digits(await posted(seven, body, changed={"max_queue": 8, "max_batch": 4})) == [7] * 20


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/foo", 404, "Request for unknown model: 'foo' is not found"),
        ("GET", "/v2/models/foo/ready", 404, "Request for unknown model: 'foo' is not found"),
        ("POST", "/v2/models/foo/infer", 404, "Request for unknown model: 'foo' is not found"),
        (
            "POST",
            "/v2/models/digits/versions/2/infer",
            404,
            "Request for unknown model: 'digits' version 2 is not found",
        ),
        ("GET", "/v2/models/digits/config", 404, "nothing at this address"),
        ("POST", "/v2/repository/index", 404, "nothing at this address"),
        ("GET", INFER, 405, "another method"),
        ("DELETE", "/v2/models/digits", 405, "another method"),
        ("POST", "/v2", 405, "another method"),
    ],
)
async def test_another_model_version_or_method_is_told(
    seven: KerasEngine, method: str, path: str, status: int, message: str
) -> None:
    async with service(seven) as client:
        answer = await client.request(method, path)

    assert_is_error(answer, status, message)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.anyio
async def test_openapi_shows_an_example_that_is_answered(seven: KerasEngine) -> None:
    document = create_app(Settings()).openapi()
    operation = document["paths"][INFER]["post"]

    assert set(operation["responses"]) == {"200", "400", "401", "413", "429", "500", "503", "504"}
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits"} <= set(document["paths"])
    answer = await posted(seven, operation["requestBody"]["content"]["application/json"]["example"])
    assert digits(answer) == [7]


@pytest.fixture(scope="module")
def url(model_dir: Path) -> Iterator[str]:
    with running(model_dir=model_dir, engine="litert") as process:
        url = process.url()
        process.line_with('"ready"')
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4) as client:
        yield client


def sent(tensor: NDArray[Any], as_binary: bool = True) -> triton.InferInput:
    datatype = "BYTES" if tensor.dtype == object else "FP32"
    images = triton.InferInput("images", list(tensor.shape), datatype)
    images.set_data_from_numpy(tensor, binary_data=as_binary)
    return images


def test_tritonclient_finds_the_server_live_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("foo")


def test_tritonclient_reads_the_metadata(client: triton.InferenceServerClient) -> None:
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("digits")["inputs"][0]["shape"] == [-1, 28, 28, 1]
    assert client.get_model_metadata("digits", "1")["outputs"][0]["name"] == "probabilities"


@pytest.mark.parametrize("as_binary", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("out_binary", [True, False, None], ids=["binary out", "JSON out", "nothing asked for"])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_tritonclient_infers(
    client: triton.InferenceServerClient, datatype: str, as_binary: bool, out_binary: bool | None
) -> None:
    images = np.array([SEVEN if as_binary else BASE64.encode()] * 2, object) if datatype == "BYTES" else TWO
    outputs = [] if out_binary is None else [triton.InferRequestedOutput("probabilities", binary_data=out_binary)]

    result = client.infer("digits", [sent(images, as_binary)], request_id="mine", outputs=outputs)

    probabilities = result.as_numpy("probabilities")
    assert result.get_response()["id"] == "mine"
    assert (probabilities.shape, probabilities.dtype) == ((2, 10), np.float32)
    assert probabilities.argmax(axis=1).tolist() == [7, 7]
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_tritonclient_infers_many_at_once(client: triton.InferenceServerClient) -> None:
    drawn = [digit_drawn(digit) / np.float32(255) for digit in range(10)]

    requests = [client.async_infer("digits", [sent(ink.reshape(1, 28, 28, 1))]) for ink in drawn]

    answers = [request.get_result().as_numpy("probabilities") for request in requests]
    assert [answer.argmax() for answer in answers] == list(range(10))


def test_tritonclient_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    for model, tensor, status, message in [
        ("foo", ONE, "404", "Request for unknown model: 'foo' is not found"),
        ("digits", ONE * 255, "400", "images[0]"),
        ("digits", np.array([SEVEN, b"a text"], object), "400", "images[1]"),
    ]:
        with pytest.raises(triton.InferenceServerException, match=r"\[") as raised:
            client.infer(model, [sent(tensor)])

        assert raised.value.status() == status
        assert message in raised.value.message()


@pytest.mark.parametrize("digit", range(10))
def test_every_dialect_gives_the_same_answer(url: str, client: triton.InferenceServerClient, digit: int) -> None:
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
            assert http.post(INFER, json=body).json()["outputs"][0]["data"] == expected
    for tensor, expected in [(np.array([drawing], object), found), (ink, plain)]:
        probabilities = client.infer("digits", [sent(tensor)]).as_numpy("probabilities")
        assert probabilities.tolist() == [np.array(expected, np.float32).tolist()]


def test_an_image_among_many_is_answered_as_alone(client: triton.InferenceServerClient) -> None:
    drawn = np.stack([digit_drawn(digit) for digit in range(10)]).reshape(10, 28, 28, 1) / np.float32(255)

    together = client.infer("digits", [sent(drawn)]).as_numpy("probabilities")

    alone = [client.infer("digits", [sent(ink[None])]).as_numpy("probabilities")[0] for ink in drawn]
    assert together == pytest.approx(np.stack(alone), abs=1e-6)
