"""`POST /predict`: one image in, ten probabilities out. `POST /predict/batch`: many."""

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.authentication import charge
from app.api.bodies import Body, Part, image_in, multipart, parsed
from app.api.predictions import as_json
from app.api.problems import answer_documented, documented, problem
from app.api.schemas import EXAMPLE_PNG, EXAMPLE_PREDICTION, BatchPrediction, Prediction
from app.errors import (
    BadRequest,
    DeadlineExceeded,
    DigitsError,
    InvalidParameter,
    NoInk,
    NotReady,
    Overloaded,
    TooLarge,
    UndecodableImage,
    UnsupportedMediaType,
)
from app.imaging.preprocess import Mode
from app.inference.pipeline import Stages
from app.inference.service import Batch, Service
from app.settings import Settings

router = APIRouter(tags=["predict"], generate_unique_id_function=lambda route: route.name)

# `format`, which OpenAPI 3.1 no longer asks for, is what makers of clients know a file by
_BINARY = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
_AS_FILE = {"examples": {"file": {"summary": "curl --data-binary @seven.png", "value": "(the bytes of seven.png)"}}}
_REQUEST_BODY = {
    "required": True,
    "description": "The same image in any of these ways: PNG, JPEG, WebP, BMP, TIFF or GIF, known by its content.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
            "examples": {"file": {"summary": "curl -F file=@seven.png", "value": {"file": "(the bytes of seven.png)"}}},
        },
        "application/json": {
            "schema": {"$ref": "#/components/schemas/ImageBody"},
            "example": {"image": EXAMPLE_PNG},
        },
        "application/octet-stream": {"schema": _BINARY} | _AS_FILE,
        "image/*": {"schema": _BINARY} | _AS_FILE,
    },
}
_BATCH_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": {"type": "array", "items": _BINARY}},
            },
            "examples": {
                "files": {
                    "summary": "curl -F files=@one.png -F files=@two.png",
                    "value": {"files": ["(the bytes of one.png)", "(the bytes of two.png)"]},
                }
            },
        },
    },
}


_ANSWER = answer_documented(EXAMPLE_PREDICTION)
_ANSWER[200]["headers"]["Server-Timing"] = {
    "description": "Milliseconds of each stage.",
    "schema": {"type": "string"},
    "example": "decode;dur=0.041, preprocess;dur=0.163, queue;dur=0.052, inference;dur=0.601",
}
_BATCH_EXAMPLE = {
    "predictions": [
        {"filename": "one.png", "prediction": EXAMPLE_PREDICTION, "error": None},
        {
            "filename": "two.png",
            "prediction": None,
            "error": {
                "type": "about:blank",
                "title": "No ink",
                "status": 422,
                "detail": "Nothing on the image stands out from its ground: draw a digit on it.",
                "instance": "urn:request:4b1c6e9f2a7d8053",
                "code": "no_ink",
                "request_id": "4b1c6e9f2a7d8053",
            },
        },
    ],
    "model": {"name": "digits", "version": "1.1.0"},
}
_LATER: tuple[DigitsError, ...] = (
    DigitsError("The service failed to answer: report it with the request id."),
    NotReady("The model is being loaded: send it again in a second."),
    Overloaded(),
)
_PROBLEMS = documented(
    BadRequest("The form has no field `file`: curl -F file=@seven.png sends one."),
    TooLarge("The image has more than 50000000 pixels: scale it down and resend it."),
    UnsupportedMediaType("The content is no image of a known format: send PNG, JPEG, WebP, BMP, TIFF or GIF."),
    UndecodableImage("The PNG data is broken: save the image again and resend it."),
    NoInk("Nothing on the image stands out from its ground: draw a digit on it."),
    InvalidParameter("top_k: Input should be less than or equal to 10"),
    *_LATER,
    DeadlineExceeded("No answer within 10000 ms: send it again later, or a smaller image."),
)
_BATCH_PROBLEMS = documented(
    BadRequest("The form has no field `files`: curl -F files=@one.png -F files=@two.png sends two."),
    TooLarge("The request has more than 256 images: send them in several requests."),
    UnsupportedMediaType("The body is compressed: send it as it is."),
    InvalidParameter("top_k: Input should be less than or equal to 10"),
    *_LATER,
    DeadlineExceeded("No answer within 10000 ms: send it again later, or fewer images."),
)

TopK = Annotated[int, Query(ge=1, le=10, description="How many entries `top` has.")]
Preprocess = Annotated[
    Mode,
    Query(
        description="`auto` finds the ink wherever and however it was drawn; `plain` resizes to 28x28 and "
        "divides by 255, light ink on dark taken as given."
    ),
]
Explain = Annotated[bool, Query(description="Add what the model saw and which pixels carried the answer.")]


@router.post(
    "/predict",
    summary="Read a handwritten digit",
    response_model=Prediction,
    response_model_exclude_unset=True,
    responses=_ANSWER | _PROBLEMS,
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(
    request: Request, top_k: TopK = 3, explain: Explain = False, preprocess: Preprocess = "auto"
) -> Response:
    service: Service = request.app.state.service
    service.require_loaded()
    async with Body(request) as body:
        data = await parsed(body, partial(image_in, request.headers.get("content-type", "")))
        result = await service.predict(data, preprocess, explain=explain)
    prediction = as_json(result, top_k)
    request.scope["state"]["log"] |= {"digit": prediction["digit"], "confidence": round(prediction["confidence"], 6)}
    return _Answer(to_json(prediction), _server_timing(result.stages))


class Direct:
    """ASGI middleware around the router: without a query there is nothing for FastAPI to solve or to match.

    So such a POST goes straight to its endpoint, whose parameters are those of the query, each with a default.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        [self._route] = [route for route in router.routes if isinstance(route, Route) and route.path == "/predict"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["query_string"] or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"], scope["endpoint"] = self._route, predict
        response = await predict(Request(scope, receive))
        await response(scope, receive, send)


class _Answer(Response):
    """A JSON answer whose headers need no composing."""

    def __init__(self, body: bytes, server_timing: str) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            (b"server-timing", server_timing.encode()),
        ]


@router.post(
    "/predict/batch",
    summary="Read many handwritten digits",
    response_model=BatchPrediction,
    responses=answer_documented(_BATCH_EXAMPLE) | _BATCH_PROBLEMS,
    openapi_extra={"requestBody": _BATCH_BODY},
)
async def predict_batch(
    request: Request, top_k: TopK = 3, explain: Explain = False, preprocess: Preprocess = "auto"
) -> Response:
    service: Service = request.app.state.service
    settings: Settings = request.app.state.settings
    service.require_loaded()
    service.check_batch_capacity()

    async def answer(batch: Batch, file: Part) -> dict[str, Any]:
        name = file.filename.decode("utf-8", "replace")
        try:
            if not file.data:
                raise BadRequest("The file is empty.")
            result = await batch.predict(file.data, preprocess, explain=explain)
        except DigitsError as error:
            return {"filename": name, "prediction": None, "error": problem(error, request.scope)}
        return {"filename": name, "prediction": as_json(result, top_k), "error": None}

    async with Body(request) as body:
        files = [part for part in multipart(request.headers.get("content-type", ""), body) if part.field == b"files"]
        if not files:
            raise BadRequest("The form has no field `files`: curl -F files=@one.png -F files=@two.png sends two.")
        if len(files) > settings.max_images:
            raise TooLarge(f"The request has more than {settings.max_images} images: send them in several requests.")
        await charge(request.scope, len(files))
        async with service.batch(len(files), explain=explain) as batch, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(batch, file)) for file in files]
    entries = [task.result() for task in tasks]
    request.scope["state"]["log"] |= {"images": len(entries)}
    model = {"name": batch.manifest.name, "version": batch.manifest.version}
    return Response(to_json({"predictions": entries, "model": model}), media_type="application/json")


def _server_timing(stages: Stages) -> str:
    return (
        f"decode;dur={stages.decode:.3f}, preprocess;dur={stages.preprocess:.3f}, "
        f"queue;dur={stages.queue:.3f}, inference;dur={stages.inference:.3f}"
    )
