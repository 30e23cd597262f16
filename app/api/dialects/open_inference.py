"""The Open Inference Protocol, version 2, over HTTP, with Triton's extension for binary tensors.

Source: KServe's "Predict Protocol - Version 2" and Triton's "Binary Tensor Data Extension"; where they leave a status
or a message open, it is Triton's. The OpenAPI document leaves out the addresses with `/versions/1`.
"""

import re
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_json
from starlette.routing import Match
from starlette.types import Scope

from app import VERSION as PACKAGE_VERSION
from app.api.bodies import parsed
from app.api.dialects.common import (
    EXAMPLE_PROBABILITIES,
    INPUT,
    MODEL,
    OUTPUT,
    VERSION,
    DialectRoute,
    answer,
    check_count,
    documented,
    encoded_image,
    errors_documented,
    ink,
    numbers,
    parse,
    read,
)
from app.api.schemas import EXAMPLE_PNG
from app.errors import BadRequest, InvalidParameter, NotFound
from app.imaging.preprocess import SIDE_PX, Ink
from app.inference.service import Service
from app.settings import Settings


class _Route(DialectRoute):
    """A wrong method is told by the address's own route, not by the one for all other addresses."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child_scope


router = APIRouter(
    tags=["Open Inference Protocol"],
    route_class=_Route,
    generate_unique_id_function=lambda route: f"open_inference_{route.name}",
)

_JSON_LENGTH = "Inference-Header-Content-Length"
_IMAGE_BYTES = SIDE_PX * SIDE_PX * 4
_ADDRESS = re.compile(r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/ready|/infer)?")
_PATH, _VERSION_PATH = f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/{VERSION}"

_SERVER = {"name": MODEL, "version": PACKAGE_VERSION, "extensions": ["binary_tensor_data"]}
_METADATA = {
    "name": MODEL,
    "versions": [VERSION],
    "platform": "keras",
    "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, SIDE_PX, SIDE_PX, 1]}],
    "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 10]}],
}
_ANSWER = {
    "model_name": MODEL,
    "model_version": VERSION,
    "id": "42",
    "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [1, 10], "data": EXAMPLE_PROBABILITIES}],
}
_METADATA_SCHEMA = {"required": ["name", "versions", "platform", "inputs", "outputs"]}
_ANSWER_SCHEMA = {
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"const": MODEL},
        "model_version": {"const": VERSION},
        "outputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
    },
}
# Triton's clients look at the status alone, KServe's at these.
_LIVE, _READY = {"live": True}, {"ready": True}
_LIVE_SCHEMA, _READY_SCHEMA = (
    {"type": "object", "required": [name], "properties": {name: {"const": True}}} for name in ("live", "ready")
)
_ANSWERS = documented(_ANSWER, _ANSWER_SCHEMA)
_ANSWERS[200]["content"]["application/octet-stream"] = {
    "schema": {"type": "string", "contentMediaType": "application/octet-stream"},
    "example": "(JSON without `data`, and FP32 [n, 10] after it, if `binary_data` asks for it)",
}
_EXAMPLE = {"id": "42", "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_PNG]}]}


# MLServer's requests say null of what they leave out
_Parameters = Annotated[dict[str, object], BeforeValidator(lambda given: {} if given is None else given)]


class _Input(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    datatype: str
    shape: list[int] = Field(max_length=4)
    parameters: _Parameters = {}
    data: object = None


class _Output(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    parameters: _Parameters = {}


class _InferRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    id: str | None = None
    parameters: _Parameters = {}
    inputs: list[_Input] = Field(min_length=1, max_length=1)
    outputs: Annotated[list[_Output], BeforeValidator(lambda given: [] if given is None else given)] = []


_REQUEST_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"], "properties": {"binary_data_output": {"type": "boolean"}}},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"const": INPUT},
                    "datatype": {"enum": ["FP32", "BYTES"]},
                    "shape": {"type": "array", "minItems": 1, "maxItems": 4, "items": {"type": "integer"}},
                    "parameters": {"type": ["object", "null"]},
                    "data": {"description": "Numbers or base64, nested or flat; left out where it is binary."},
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"const": OUTPUT},
                    "parameters": {"type": ["object", "null"], "properties": {"binary_data": {"type": "boolean"}}},
                },
            },
        },
    },
}
_BODY = {
    "required": True,
    "description": f"One input, `{INPUT}`: `FP32` [n, 28, 28, 1] in [0, 1], light ink on dark, fed to the model as it "
    "is, or `BYTES` [n], encoded images, found wherever and however they were drawn (in JSON: as base64). "
    f"`data` may be nested or flat, or binary after the JSON, whose length `{_JSON_LENGTH}` then tells.",
    "content": {
        "application/json": {
            "schema": _REQUEST_SCHEMA,
            "example": _EXAMPLE,
        },
        "application/octet-stream": {
            "schema": {"type": "string", "contentMediaType": "application/octet-stream"},
            "example": "(JSON with `binary_data_size`, and the tensor after it)",
        },
    },
}


@router.get("/v2", summary="The server", responses=documented(_SERVER, {"required": ["name", "version", "extensions"]}))
async def server(request: Request) -> Response:
    return Response(to_json(_SERVER | {"version": request.app.version}), media_type="application/json")


@router.get(
    "/v2/health/live",
    summary="The server lives",
    response_class=Response,
    responses=documented(_LIVE, _LIVE_SCHEMA),
)
async def live(_: Request) -> Response:
    return Response(to_json(_LIVE), media_type="application/json")


@router.get(f"{_VERSION_PATH}/ready", include_in_schema=False)
@router.get(
    f"{_PATH}/ready",
    name="model_ready",
    summary="The model is ready",
    response_class=Response,
    responses=documented(_READY, _READY_SCHEMA) | errors_documented(503),
)
@router.get(
    "/v2/health/ready",
    summary="The server is ready",
    response_class=Response,
    responses=documented(_READY, _READY_SCHEMA) | errors_documented(503),
)
async def ready(request: Request) -> Response:
    service: Service = request.app.state.service
    service.check_ready()
    return Response(to_json(_READY), media_type="application/json")


@router.get(_VERSION_PATH, include_in_schema=False)
@router.get(
    _PATH,
    summary="What the model takes and gives",
    responses=documented(_METADATA, _METADATA_SCHEMA) | errors_documented(503),
)
async def metadata(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_loaded()
    settings: Settings = request.app.state.settings
    return Response(to_json(_METADATA | {"platform": settings.engine}), media_type="application/json")


@router.post(f"{_VERSION_PATH}/infer", include_in_schema=False)
@router.post(
    f"{_PATH}/infer",
    summary="Read handwritten digits",
    responses=_ANSWERS | errors_documented(400, 413, 503, 504),
    openapi_extra={"requestBody": _BODY},
)
async def infer(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    json_length = request.headers.get(_JSON_LENGTH)
    async with read(request) as body:
        asked, as_binary, images = await parsed(
            body, partial(_asked, json_length=json_length, max_images=settings.max_images)
        )
        rows = await answer(request, images)
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [len(rows), 10]}
    content = {"model_name": MODEL, "model_version": VERSION, "outputs": [output]}
    if asked.id is not None:
        content["id"] = asked.id
    if not as_binary:
        output["data"] = [probability for row in rows for probability in row]
        return Response(to_json(content), media_type="application/json")
    tensor = np.array(rows, "<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(tensor)}
    header = to_json(content)
    return Response(header + tensor, headers={_JSON_LENGTH: str(len(header))}, media_type="application/octet-stream")


@router.api_route("/v2/{address:path}", methods=["GET", "POST"], include_in_schema=False)
async def elsewhere(request: Request) -> Response:
    """What Triton says of a model or version that it does not have."""
    found = _ADDRESS.fullmatch(request.scope["path"])
    if found is None or (found["model"] == MODEL and found["version"] in (None, VERSION)):
        raise NotFound("There is nothing at this address: a picture goes to /predict.")
    version = f" version {found['version']}" if found["version"] else ""
    raise NotFound(f"Request for unknown model: '{found['model']}'{version} is not found")


def _asked(body: bytes, json_length: str | None, max_images: int) -> tuple[_InferRequest, bool, list[bytes | Ink]]:
    """The request, whether its answer shall be binary, and its images.

    Raises BadRequest, InvalidParameter, TooLarge.
    """
    asked, binary = _split(body, json_length, max_images)
    return asked, _wants_binary(asked), _images(asked.inputs[0], binary, max_images)


def _split(body: bytes, json_length: str | None, max_images: int) -> tuple[_InferRequest, bytes]:
    """The request, and the binary tensor after its JSON. Raises BadRequest, InvalidParameter, TooLarge."""
    if json_length is None:
        return parse(body, _InferRequest, max_images), b""
    length = int(json_length) if json_length.isdecimal() and len(json_length) <= 20 else -1
    if not 0 <= length <= len(body):
        raise BadRequest(f"{_JSON_LENGTH} is not the length of the JSON at the body's start.")
    if length > 0:
        return parse(body[:length], _InferRequest, max_images), body[length:]
    # no JSON at all: Triton's raw binary request
    sent = _Input(
        name=INPUT,
        datatype="FP32",
        shape=[len(body) // _IMAGE_BYTES, SIDE_PX, SIDE_PX, 1],
        parameters={"binary_data_size": len(body)},
    )
    return _InferRequest(inputs=[sent], parameters={"binary_data_output": True}), body


def _wants_binary(asked: _InferRequest) -> bool:
    """Whether the output shall come as binary data. Raises InvalidParameter for an output that there is not."""
    wanted = asked.parameters.get("binary_data_output", False)
    for output in asked.outputs:
        if output.name != OUTPUT:
            raise InvalidParameter(f"There is one output, '{OUTPUT}'.")
        _refuse_extensions(output.parameters)
        wanted = output.parameters.get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise InvalidParameter("'binary_data' and 'binary_data_output' are true or false.")
    return wanted


def _refuse_extensions(parameters: dict[str, object]) -> None:
    for extension in ("classification", "shared_memory_region"):
        if extension in parameters:
            raise InvalidParameter(f"The extension '{extension}' is not supported: see /v2 for those that are.")


def _images(sent: _Input, binary: bytes, max_images: int) -> list[bytes | Ink]:
    """The images of the input. Raises BadRequest, InvalidParameter, TooLarge."""
    if sent.name != INPUT:
        raise InvalidParameter(f"There is one input, '{INPUT}'.")
    _refuse_extensions(sent.parameters)
    tails = {"FP32": [[SIDE_PX, SIDE_PX, 1]], "BYTES": [[], [1]]}.get(sent.datatype)  # [1] is of MLServer's codecs
    if tails is None:
        raise InvalidParameter(f"'{INPUT}' has datatype FP32 or BYTES.")
    if not sent.shape or sent.shape[1:] not in tails:
        raise InvalidParameter(f"'{INPUT}' has shape {[-1, *tails[0]]} for {sent.datatype}.")
    count = sent.shape[0]
    check_count(count, max_images)
    size = sent.parameters.get("binary_data_size")
    if size is None and not binary:
        return _from_json(sent, count)
    if type(size) is not int or size != len(binary) or sent.data is not None:
        raise InvalidParameter(
            f"{len(binary)} bytes follow the JSON: 'binary_data_size' has to say so, without 'data'."
        )
    return _inks(binary, count) if sent.datatype == "FP32" else _elements(binary, count)


def _from_json(sent: _Input, count: int) -> list[bytes | Ink]:
    if sent.datatype == "BYTES":
        texts = sent.data
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) != count:
            raise InvalidParameter(f"'data' is not a list of base64 strings, {count} as 'shape' says.")
        return [encoded_image(text, index) for index, text in enumerate(texts)]
    array = numbers(sent.data)
    if array is None or array.size != count * SIDE_PX * SIDE_PX:
        raise InvalidParameter(f"'data' is not a list of numbers, {count} * 28 * 28 * 1 as 'shape' says.")
    return [ink(image, index) for index, image in enumerate(array.reshape(count, -1))]


def _inks(binary: bytes, count: int) -> list[bytes | Ink]:
    if len(binary) != count * _IMAGE_BYTES:
        raise InvalidParameter(f"'shape' needs {count * _IMAGE_BYTES} bytes, but {len(binary)} came.")
    return [ink(image, index) for index, image in enumerate(np.frombuffer(binary, "<f4").reshape(count, -1))]


def _elements(binary: bytes, count: int) -> list[bytes | Ink]:
    """The elements of a BYTES tensor, each after its length, four bytes, little-endian."""
    found: list[bytes | Ink] = []
    start = 0
    for _ in range(count):
        begin = start + 4
        start = begin + int.from_bytes(binary[start:begin], "little")
        found.append(binary[begin:start])
    if start != len(binary):
        raise InvalidParameter(f"The {len(binary)} bytes are not {count} elements, each after its length.")
    return found
