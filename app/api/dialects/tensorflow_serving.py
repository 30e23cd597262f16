"""TensorFlow Serving's REST dialect: one model, one version, one signature, `predict`.

Source: TensorFlow Serving's RESTful API page; messages as in its http_rest_api_handler and json_tensor. Unknown
addresses are 400 there, not 404.
"""

import re
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from app.api import openapi
from app.api.bodies import parse_off_loop
from app.api.dialects.common import batch_body, check_count, encoded_image, ink, numbers, parse, predict_all
from app.api.dialects.schemas import (
    INPUT,
    MODEL,
    MODEL_VERSION,
    OUTPUT,
    SIGNATURE,
    ModelStatus,
    PredictAnswer,
    PredictRequest,
    VersionStatus,
)
from app.api.state import service_of, settings_of
from app.errors import BadRequest, InvalidParameter, NotFound, NotReady
from app.imaging.preprocess import SIDE_PX, Ink

router = APIRouter(
    tags=["TensorFlow Serving"],
    generate_unique_id_function=lambda route: f"tensorflow_serving_{route.name}",
)

_PATH, _VERSION_PATH = f"/v1/models/{MODEL}", f"/v1/models/{MODEL}/versions/{MODEL_VERSION}"
_ADDRESS = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(:(?P<verb>classify|regress|predict)|/(?P<metadata>metadata))?"
)


def _tensor(name: str, *sizes: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": name}


_METADATA = {
    "model_spec": {"name": MODEL, "signature_name": "", "version": MODEL_VERSION},
    "metadata": {
        "signature_def": {
            "signature_def": {
                SIGNATURE: {
                    "inputs": {INPUT: _tensor(INPUT, -1, SIDE_PX, SIDE_PX, 1)},
                    "outputs": {OUTPUT: _tensor(OUTPUT, -1, 10)},
                    "method_name": "tensorflow/serving/predict",
                    "defaults": {},
                }
            }
        }
    },
}


@router.get(_VERSION_PATH, include_in_schema=False)
@router.get(_PATH, summary="The state of the model")
async def status(request: Request) -> ModelStatus:
    try:
        service_of(request).require_loaded()
    except NotReady:
        return ModelStatus(model_version_status=(VersionStatus(state="LOADING"),))
    return ModelStatus()


@router.get(f"{_VERSION_PATH}/metadata", include_in_schema=False)
@router.get(
    f"{_PATH}/metadata",
    summary="Input and output of the model",
    responses=openapi.example_answer(_METADATA),
)
async def metadata(request: Request) -> dict[str, Any]:
    service_of(request).require_loaded()
    return _METADATA


@router.post(f"{_VERSION_PATH}:predict", include_in_schema=False)
@router.post(
    f"{_PATH}:predict",
    summary="Read handwritten digits",
    response_model=PredictAnswer,
    openapi_extra=openapi.TENSORFLOW_BODY,
)
async def predict(request: Request) -> Response:
    read = partial(read_request, max_images=settings_of(request).max_images)
    async with batch_body(request) as body:
        name, images = await parse_off_loop(body, read)
        rows = await predict_all(request, images)
    return Response(to_json({name: rows}), media_type="application/json")


@router.api_route("/v1/{address:path}", methods=["GET", "POST"], include_in_schema=False)
async def elsewhere(request: Request) -> Response:
    """TensorFlow Serving's errors for a model, version, label or method that it does not have."""
    path: str = request.scope["path"]
    found = _ADDRESS.fullmatch(path)
    if found is None or (found["verb"] is None) != (request.method == "GET"):
        raise BadRequest(f"Malformed request: {request.method} {path}")
    model, version = found["model"], found["version"]
    if model == MODEL and found["label"]:
        raise BadRequest(f"Unrecognized servable version label: {found['label']}")
    if model == MODEL and version in (None, MODEL_VERSION):
        raise BadRequest(f"Expected {found['verb']} signature method_name, was: tensorflow/serving/predict")
    if found["verb"] or found["metadata"]:
        servable = f"Latest({model})" if version is None else f"Specific({model}, {version})"
        raise NotFound(f"Servable not found for request: {servable}")
    versions = "any versions" if version is None else f"version {version}"
    raise NotFound(f"Could not find {versions} of model {model}")


def read_request(body: bytes, max_images: int) -> tuple[str, list[bytes | Ink]]:
    """The name of the answer, and the images. Raises BadRequest, InvalidParameter, TooLarge."""
    sent = parse(body, PredictRequest, max_images)
    values = _values(sent)
    check_count(len(values), max_images)
    images = [_image(value, index) for index, value in enumerate(values)]
    return "outputs" if sent.instances is None else "predictions", images


def _values(sent: PredictRequest) -> list[object]:
    """The images of a request, without their name. Raises InvalidParameter."""
    if (sent.instances is None) == (sent.inputs is None):
        raise InvalidParameter("Send either 'instances' or 'inputs'.")
    if sent.instances is not None:
        return [_without_name(value) for value in sent.instances]
    values = _without_name(sent.inputs)
    if not isinstance(values, list):
        raise InvalidParameter(f"inputs: send a list of images, or an object with one under '{INPUT}'.")
    return values


def _without_name(value: object) -> object:
    """The value under the input's name, or the value itself if it has none."""
    return value[INPUT] if isinstance(value, dict) and set(value) == {INPUT} else value


def _image(value: object, index: int) -> bytes | Ink:
    """An array as ink, base64 as the encoded image. Raises BadRequest, InvalidParameter."""
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return encoded_image(value["b64"], index)
    array = numbers(value)
    if array is None or array.shape not in ((SIDE_PX, SIDE_PX), (SIDE_PX, SIDE_PX, 1)):
        raise InvalidParameter(f'{INPUT}[{index}]: send a 28x28 or 28x28x1 array of numbers, or {{"b64": ...}}.')
    return ink(array, index)
