"""`POST /predict`: one image in, ten probabilities out."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.preprocessing import Mode
from app.schemas import Candidate, ImageBody, ModelName, Prediction, Problem
from app.service import Service, Stages
from app.uploads import image_in, read_body

router = APIRouter(tags=["predict"])

_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
_REQUEST_BODY = {
    "required": True,
    "description": "The same image in any of these ways: PNG, JPEG, WebP, BMP, TIFF or GIF, known by its content.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
        },
        "application/json": {"schema": ImageBody.model_json_schema()},
        "application/octet-stream": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "`bad_request`: no image in the request, or a malformed body."},
    413: {"model": Problem, "description": "`too_large`: too many bytes or pixels."},
    415: {"model": Problem, "description": "`unsupported_media_type`: no image of a known format."},
    422: {"model": Problem, "description": "`undecodable_image`, `no_ink` or `invalid_parameter`."},
    503: {"model": Problem, "description": "`not_ready` or `overloaded`: send it again after `Retry-After` seconds."},
    504: {"model": Problem, "description": "`deadline_exceeded`: no answer in time."},
}


@router.post(
    "/predict",
    summary="Read a handwritten digit",
    response_model=Prediction,
    responses=_ERRORS,
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(
    request: Request,
    top_k: Annotated[int, Query(ge=1, le=10, description="How many entries `top` has.")] = 3,
    preprocess: Annotated[
        Mode,
        Query(
            description="`auto` finds the ink wherever and however it was drawn; `plain` resizes to 28x28 and "
            "divides by 255, light ink on dark taken as given."
        ),
    ] = "auto",
) -> Response:
    service: Service = request.app.state.service
    manifest = service.manifest
    body = await read_body(request, request.app.state.settings.max_body_bytes)
    data = image_in(request.headers.get("content-type", ""), body)
    result = await service.predict(data, preprocess)
    order = sorted(range(10), key=result.probabilities.__getitem__, reverse=True)
    digit = order[0]
    confidence = result.probabilities[digit]
    request.scope["state"]["log"] |= {"digit": digit, "confidence": round(confidence, 4)}
    prediction = Prediction.model_construct(  # our own numbers: nothing to validate
        digit=digit,
        confidence=confidence,
        probabilities=list(result.probabilities),
        top=[
            Candidate.model_construct(digit=candidate, probability=result.probabilities[candidate])
            for candidate in order[:top_k]
        ],
        accepted=True,
        rejection=None,
        model=ModelName.model_construct(name=manifest.name, version=manifest.version),
    )
    return Response(
        prediction.model_dump_json(),
        headers={"Server-Timing": _server_timing(result.stages)},
        media_type="application/json",
    )


def _server_timing(stages: Stages) -> str:
    return (
        f"decode;dur={stages.decode:.3f}, preprocess;dur={stages.preprocess:.3f}, "
        f"queue;dur={stages.queue:.3f}, inference;dur={stages.inference:.3f}"
    )
