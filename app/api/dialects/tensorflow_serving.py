"""TensorFlow Serving's REST dialect: one model, one version, one signature, `predict`.

Source: TensorFlow Serving's RESTful API page; the forms of its messages are those of its http_rest_api_handler and
json_tensor. Of an address that it does not know it says 400, not 404. The OpenAPI document leaves out the addresses
with `/versions/1`.
"""

import re
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

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
from app.errors import BadRequest, InvalidParameter, NotFound, NotReady
from app.imaging.preprocess import SIDE_PX, Ink
from app.inference.service import Service
from app.settings import Settings

router = APIRouter(
    tags=["TensorFlow Serving"],
    route_class=DialectRoute,
    generate_unique_id_function=lambda route: f"tensorflow_serving_{route.name}",
)

_SIGNATURE = "serving_default"
_ADDRESS = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(:(?P<verb>classify|regress|predict)|/(?P<metadata>metadata))?"
)
_PATH, _VERSION_PATH = f"/v1/models/{MODEL}", f"/v1/models/{MODEL}/versions/{VERSION}"


def _array(items: dict[str, Any], count: int) -> dict[str, Any]:
    return {"type": "array", "minItems": count, "maxItems": count, "items": items}


def _status(state: str) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": state, "status": status}]}


def _tensor(name: str, *sizes: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": name}


_METADATA = {
    "model_spec": {"name": MODEL, "signature_name": "", "version": VERSION},
    "metadata": {
        "signature_def": {
            "signature_def": {
                _SIGNATURE: {
                    "inputs": {INPUT: _tensor(INPUT, -1, SIDE_PX, SIDE_PX, 1)},
                    "outputs": {OUTPUT: _tensor(OUTPUT, -1, 10)},
                    "method_name": "tensorflow/serving/predict",
                    "defaults": {},
                }
            }
        }
    },
}
_EXAMPLES = {
    "row": {"summary": "Row format", "value": {"instances": [{"b64": EXAMPLE_PNG}]}},
    "column": {"summary": "Column format", "value": {"inputs": {INPUT: [{"b64": EXAMPLE_PNG}]}}},
}
_LEVEL_SCHEMA: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_IMAGES_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            _array(_array(_LEVEL_SCHEMA, SIDE_PX), SIDE_PX),
            _array(_array(_array(_LEVEL_SCHEMA, 1), SIDE_PX), SIDE_PX),
            {
                "type": "object",
                "required": ["b64"],
                "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
                "additionalProperties": False,
            },
        ]
    },
}
_NAMED_SCHEMA = {
    "type": "object",
    "required": [INPUT],
    "properties": {INPUT: _IMAGES_SCHEMA},
    "additionalProperties": False,
}
_REQUEST_SCHEMA = {
    "type": "object",
    "properties": {"signature_name": {"type": "string", "enum": ["", _SIGNATURE]}},
    "oneOf": [
        {
            "required": ["instances"],
            "properties": {"instances": {"type": "array", "minItems": 1, "items": {}}, "inputs": {"type": "null"}},
        },
        {
            "required": ["inputs"],
            "properties": {"inputs": {"anyOf": [_IMAGES_SCHEMA, _NAMED_SCHEMA]}, "instances": {"type": "null"}},
        },
    ],
}
_BODY = {
    "required": True,
    "description": f"`instances` or `inputs`: a list of images, or with their name, `{INPUT}`. An image is a 28x28 or "
    '28x28x1 array in [0, 1], light ink on dark, fed to the model as it is, or `{"b64": ...}`, an encoded image, found '
    "wherever and however it was drawn. JSON whatever the Content-Type says.",
    "content": {
        "application/json": {
            "schema": _REQUEST_SCHEMA,
            "examples": _EXAMPLES,
        }
    },
}


_ROWS_SCHEMA = {"type": "array", "items": _array({"type": "number"}, 10)}
_ANSWER_SCHEMA = {
    "description": "`predictions` for `instances`, `outputs` for `inputs`.",
    "properties": {"predictions": _ROWS_SCHEMA, "outputs": _ROWS_SCHEMA},
    "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
}
_STATUS_SCHEMA = {
    "required": ["model_version_status"],
    "properties": {
        "model_version_status": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["version", "state", "status"],
                "properties": {"version": {"const": VERSION}, "state": {"enum": ["LOADING", "AVAILABLE"]}},
            },
        }
    },
}


class _PredictRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    signature_name: str = _SIGNATURE
    instances: list[object] | None = None
    inputs: object = None


@router.get(_VERSION_PATH, include_in_schema=False)
@router.get(_PATH, summary="The state of the model", responses=documented(_status("AVAILABLE"), _STATUS_SCHEMA))
async def status(request: Request) -> Response:
    service: Service = request.app.state.service
    try:
        service.require_loaded()
        state = "AVAILABLE"
    except NotReady:
        state = "LOADING"
    return Response(to_json(_status(state)), media_type="application/json")


@router.get(f"{_VERSION_PATH}/metadata", include_in_schema=False)
@router.get(
    f"{_PATH}/metadata",
    summary="What the model takes and gives",
    responses=documented(_METADATA, {"required": ["model_spec", "metadata"]}) | errors_documented(503),
)
async def metadata(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_loaded()
    return Response(to_json(_METADATA), media_type="application/json")


@router.post(f"{_VERSION_PATH}:predict", include_in_schema=False)
@router.post(
    f"{_PATH}:predict",
    summary="Read handwritten digits",
    responses=documented({"predictions": [EXAMPLE_PROBABILITIES]}, _ANSWER_SCHEMA)
    | errors_documented(400, 413, 503, 504),
    openapi_extra={"requestBody": _BODY},
)
async def predict(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    async with read(request) as body:
        name, images = await parsed(body, partial(_asked, max_images=settings.max_images))
        rows = await answer(request, images)
    return Response(to_json({name: rows}), media_type="application/json")


@router.api_route("/v1/{address:path}", methods=["GET", "POST"], include_in_schema=False)
async def elsewhere(request: Request) -> Response:
    """What TensorFlow Serving says of a model, version, label or method that it does not have."""
    path: str = request.scope["path"]
    found = _ADDRESS.fullmatch(path)
    if found is None or (found["verb"] is None) != (request.method == "GET"):
        raise BadRequest(f"Malformed request: {request.method} {path}")
    model, version = found["model"], found["version"]
    if model == MODEL and found["label"]:
        raise BadRequest(f"Unrecognized servable version label: {found['label']}")
    if model == MODEL and version in (None, VERSION):
        raise BadRequest(f"Expected {found['verb']} signature method_name, was: tensorflow/serving/predict")
    if found["verb"] or found["metadata"]:
        servable = f"Latest({model})" if version is None else f"Specific({model}, {version})"
        raise NotFound(f"Servable not found for request: {servable}")
    versions = "any versions" if version is None else f"version {version}"
    raise NotFound(f"Could not find {versions} of model {model}")


def _asked(body: bytes, max_images: int) -> tuple[str, list[bytes | Ink]]:
    """What the answer is called, and the images. Raises BadRequest, InvalidParameter, TooLarge."""
    asked = parse(body, _PredictRequest, max_images)
    if asked.signature_name not in ("", _SIGNATURE):
        raise InvalidParameter(f'There is one serving signature: "{_SIGNATURE}".')
    values = _values(asked)
    check_count(len(values), max_images)
    return "outputs" if asked.instances is None else "predictions", [
        _image(value, index) for index, value in enumerate(values)
    ]


def _values(asked: _PredictRequest) -> list[object]:
    """The images of a request, each with its name taken off. Raises InvalidParameter."""
    if (asked.instances is None) == (asked.inputs is None):
        raise InvalidParameter("Send either 'instances' or 'inputs'.")
    if asked.instances is not None:
        return [_named(value) for value in asked.instances]
    values = _named(asked.inputs)
    if not isinstance(values, list):
        raise InvalidParameter(f"inputs: send a list of images, or an object with one under '{INPUT}'.")
    return values


def _named(value: object) -> object:
    """What stands under the input's name, or the value itself where it has none."""
    return value[INPUT] if isinstance(value, dict) and set(value) == {INPUT} else value


def _image(value: object, index: int) -> bytes | Ink:
    """An array as ink, base64 as the encoded image. Raises BadRequest, InvalidParameter."""
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return encoded_image(value["b64"], index)
    array = numbers(value)
    if array is None or array.shape not in ((SIDE_PX, SIDE_PX), (SIDE_PX, SIDE_PX, 1)):
        raise InvalidParameter(f'{INPUT}[{index}]: send a 28x28 or 28x28x1 array of numbers, or {{"b64": ...}}.')
    return ink(array, index)
