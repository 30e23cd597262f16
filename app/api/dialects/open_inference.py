"""The routes of the Open Inference Protocol, version 2, as KServe and Triton have them.

Where their documents leave a status or a message open, it is Triton's.
"""

import re
from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from app.api import openapi
from app.api.bodies import parse_off_loop
from app.api.dialects.common import batch_body, predict_all
from app.api.dialects.schemas import (
    MODEL,
    MODEL_VERSION,
    InferAnswer,
    IsReady,
    Live,
    ModelMetadata,
    ServerMetadata,
)
from app.api.dialects.tensors import JSON_LENGTH, read_request, write_answer
from app.api.state import service_of, settings_of
from app.errors import MethodNotAllowed, NotFound

router = APIRouter(
    tags=["Open Inference Protocol"],
    generate_unique_id_function=lambda route: f"open_inference_{route.name}",
)

_PATH, _VERSION_PATH = f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/{MODEL_VERSION}"
_ADDRESS = re.compile(
    r"/v2/(health/(live|ready)|models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/ready|(?P<infer>/infer))?)"
)


@router.get("/v2", summary="The server")
async def server() -> ServerMetadata:
    return ServerMetadata()


@router.get("/v2/health/live", summary="Liveness")
async def live() -> Live:
    return Live()


@router.get(f"{_VERSION_PATH}/ready", include_in_schema=False)
@router.get(f"{_PATH}/ready", name="model_ready", summary="Readiness of the model")
@router.get("/v2/health/ready", summary="Readiness of the server")
async def ready(request: Request) -> IsReady:
    service_of(request).check_ready()
    return IsReady()


@router.get(_VERSION_PATH, include_in_schema=False)
@router.get(_PATH, summary="Input and output of the model")
async def metadata(request: Request) -> ModelMetadata:
    service_of(request).require_loaded()
    return ModelMetadata(platform=settings_of(request).engine)


@router.post(f"{_VERSION_PATH}/infer", include_in_schema=False)
@router.post(
    f"{_PATH}/infer",
    summary="Read handwritten digits",
    response_model=InferAnswer,
    responses=openapi.INFER,
    openapi_extra=openapi.INFER_BODY,
)
async def infer(request: Request) -> Response:
    read = partial(
        read_request, json_length=request.headers.get(JSON_LENGTH), max_images=settings_of(request).max_images
    )
    async with batch_body(request) as body:
        sent, as_binary, images = await parse_off_loop(body, read)
        rows = await predict_all(request, images)
    content, json_length = write_answer(sent, rows, as_binary=as_binary)
    if json_length is None:
        return Response(content, media_type="application/json")
    return Response(content, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")


@router.api_route("/v2/{address:path}", methods=["GET", "POST"], include_in_schema=False)
async def elsewhere(request: Request) -> Response:
    """Triton's errors for a model, version or method that it does not have."""
    found = _ADDRESS.fullmatch(request.scope["path"])
    if found is None:
        raise HTTPException(NotFound.status)
    model, version = found["model"], found["version"]
    if model in (None, MODEL) and version in (None, MODEL_VERSION):
        raise HTTPException(MethodNotAllowed.status, headers={"Allow": "POST" if found["infer"] else "GET"})
    what = f"'{model}'" if version is None else f"'{model}' version {version}"
    raise NotFound(f"Request for unknown model: {what} is not found")
