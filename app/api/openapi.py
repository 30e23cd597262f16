"""The OpenAPI document: what FastAPI cannot know from the types of the handlers. Examples of JSON are in `schemas`."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from app import errors
from app.api.authentication import is_open
from app.api.dialects.schemas import Error, InferRequest, PredictRequest
from app.api.problems import is_dialect_path, problem, problem_response
from app.api.query import query_parameters
from app.api.read_schemas import EXAMPLE_READ, ReadParameters
from app.api.schemas import EXAMPLE_PREDICTION, ImageBody, PredictQuery, Problem
from app.api.state import state_of
from app.imaging.formats import FORMATS

Responses = dict[int | str, dict[str, Any]]

_ERRORS = [
    errors.BadRequest("The body is incomplete: send all of it."),
    errors.Unauthorized("An API key is needed: send yours as X-API-Key or as Authorization: Bearer."),
    errors.TooLarge("The request has more than 10485760 bytes: send a smaller image."),
    errors.UnsupportedMediaType(f"This is not a supported image format: send {FORMATS}."),
    errors.UndecodableImage("The PNG data is broken: save the image again and resend it."),
    errors.NoInk("The image is blank: send one with a digit on it."),
    errors.InvalidParameter("top_k: Input should be less than or equal to 10"),
    errors.RateLimited("The quota is 100/minute: retry in 7 s.", 7),
    errors.DigitsError("Internal error: report it with the request id."),
    errors.NotReady("The model is still loading: retry in a second."),
    errors.Overloaded(),
    errors.DeadlineExceeded("No answer within 10000 ms: retry later, or send a smaller image."),
]
_WITHOUT_MODEL = {
    "/healthz",
    "/metrics",
    "/v1/models/digits",
    "/v2",
    "/v2/health/live",
}  # before it is loaded, too
_STATE = {"request_id": "4b1c6e9f2a7d8053"}
_READ_BY_HANDLERS: list[type[BaseModel]] = [ImageBody, PredictRequest, InferRequest, Problem, Error]
_KEYS = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
# OpenAPI 3.1 does not need `format`, but client generators recognise a file by it
_FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
_TENSOR = {"type": "string", "contentMediaType": "application/octet-stream"}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _headers(sent: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}, "example": value} for name, value in sent.items()}


def _body(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "description": description, "content": content}}


def example_answer(example: object, media_type: str = "application/json", **described: object) -> Responses:
    return {200: {"content": {media_type: {"example": example, **described}}}}


def _form(
    field: str, schema: dict[str, Any], example: str | list[str], others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    form = {"type": "object", "required": [field], "properties": {field: schema, **(others or {})}}
    return {"multipart/form-data": {"schema": form, "example": {field: example}}}


_STAGES_MS = "decode;dur=0.041, preprocess;dur=0.163, queue;dur=0.052, inference;dur=0.601"
PREDICT: Responses = {200: {"headers": _headers({"Server-Timing": _STAGES_MS})}}
_RAW = {"schema": _FILE, "example": "(the bytes of seven.png)"}
PREDICT_INPUT = {"parameters": query_parameters(PredictQuery)} | _body(
    f"The image in any of these ways: {FORMATS}, recognised by its content.",
    _form("file", _FILE, "(the bytes of seven.png)")
    | {"application/json": {"schema": _ref(ImageBody)}, "application/octet-stream": _RAW, "image/*": _RAW},
)
_NO_INK = problem(errors.NoInk("The image is blank: send one with a digit on it."), {"state": _STATE})
_ENTRIES: list[dict[str, object]] = [
    {"filename": "seven.png", "prediction": EXAMPLE_PREDICTION, "error": None},
    {"filename": "blank.png", "prediction": None, "error": _NO_INK},
]
BATCH = example_answer({"predictions": _ENTRIES, "model": EXAMPLE_PREDICTION["model"]})
BATCH_INPUT = {"parameters": query_parameters(PredictQuery)} | _body(
    "Several images, in the form's field `files`, repeated.",
    _form("files", {"type": "array", "items": _FILE}, ["(the bytes of seven.png)", "(the bytes of blank.png)"]),
)
READ = PREDICT
_READ_PARAMETERS = query_parameters(ReadParameters)
_READ_FIELDS = {each["name"]: each["schema"] | {"description": each["description"]} for each in _READ_PARAMETERS}
_ENTRIES_READ: list[dict[str, object]] = [
    {"filename": "number.png", "reading": EXAMPLE_READ, "error": None},
    {"filename": "blank.png", "reading": None, "error": _NO_INK},
]
READ_BATCH = example_answer({"readings": _ENTRIES_READ, "model": EXAMPLE_READ["model"]})
READ_BATCH_INPUT = {"parameters": _READ_PARAMETERS} | _body(
    "Several images, in the form's field `files`, repeated. Other fields may hold the parameters.",
    _form("files", {"type": "array", "items": _FILE}, ["(the bytes of number.png)"], _READ_FIELDS),
)
READ_INPUT = {"parameters": _READ_PARAMETERS} | _body(
    f"The image in any of these ways: {FORMATS}, recognised by its content. Fields of a form may hold the parameters.",
    PREDICT_INPUT["requestBody"]["content"]
    | _form(
        "file",
        _FILE,
        "(the bytes of number.png)",
        _READ_FIELDS,
    ),
)
CARD = example_answer(
    {
        "name": "digits",
        "version": "2.0.0",
        "sha256": {"digits.keras": "c7359a13449edb6fded9e25ba3d54c3dce265028d943e70ddedbdf86cb445c14"},
        "preprocessing": "3",
        "classes": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        "architecture": "compact",
        "parameters": 244523,
        "multiply_adds": 7925304,
        "recipe": {"name": "compact", "augmentation": "hands"},
        "data": {"x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"},
        "temperature": 0.8369,
        "thresholds": {"not_a_digit": 2.2946, "low_confidence": 0.8},
        "metrics": {"test_accuracy": 0.9948},
        "trained": {"date": "2026-11-30", "keras": "3.15.1"},
    }
)
METRICS = example_answer("digits_queue_depth 0.0", "text/plain", schema={"type": "string"})
TENSORFLOW_BODY = _body(
    "`instances` or `inputs`: a list of images, named `images` or not. An image is a 28x28 or 28x28x1 array in [0, 1], "
    'light ink on dark, which the model reads as it is, or `{"b64": ...}`, an encoded image, in which the service '
    "finds the digit. The body is parsed as JSON regardless of its Content-Type.",
    {"application/json": {"schema": _ref(PredictRequest)}},
)
INFER = example_answer(
    "(JSON without `data`, then FP32 [n, 10], if `binary_data` asks for it)",
    "application/octet-stream",
    schema=_TENSOR,
)
INFER_BODY = _body(
    "One input, `images`: `FP32` [n, 28, 28, 1] in [0, 1], light ink on dark, which the model reads as it is, or "
    "`BYTES` [n], encoded images (base64 in JSON), in which the service finds the digit. `data` may be nested or flat, "
    "or binary after the JSON; `Inference-Header-Content-Length` is then the length of the JSON.",
    {
        "application/json": {"schema": _ref(InferRequest)},
        "application/octet-stream": {"schema": _TENSOR, "example": "(JSON with `binary_data_size`, then the tensor)"},
    },
)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once: FastAPI's, the models of bodies that handlers read themselves, errors and keys."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, servers=app.servers
        )
        _, definitions = models_json_schema(
            [(model, "validation") for model in _READ_BY_HANDLERS], ref_template="#/components/schemas/{model}"
        )
        document["components"]["schemas"] |= definitions["$defs"]
        keys = state_of(app).settings.keys
        if keys:
            document["components"]["securitySchemes"] = _KEYS
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["responses"] |= _error_responses(path, method)
                for response in operation["responses"].values():
                    response["headers"] = response.get("headers", {}) | _headers({"X-Request-ID": _STATE["request_id"]})
                if keys and not is_open(path):
                    operation["security"] = [{name: []} for name in _KEYS]
        app.openapi_schema = document
    return app.openapi_schema


def _error_responses(path: str, method: str) -> dict[str, Any]:
    """The errors of an operation, each as the service answers it."""
    responses: dict[str, Any] = {}
    for error in _ERRORS:
        if _may_raise(type(error), path, method):
            answer = problem_response(error, {"path": path, "state": _STATE})
            schema = _ref(Error if is_dialect_path(path) else Problem)
            response = responses.setdefault(
                str(answer.status_code),
                {
                    "description": "",
                    "headers": _headers(error.headers),
                    "content": {answer.media_type: {"schema": schema, "examples": {}}},
                },
            )
            response["description"] += f"`{error.code}`. {error.title}. "
            response["content"][answer.media_type]["examples"][error.code] = {"value": from_json(bytes(answer.body))}
    return responses


def _may_raise(kind: type[errors.DigitsError], path: str, method: str) -> bool:
    if kind is errors.Unauthorized:
        return not is_open(path)
    if kind in (errors.UndecodableImage, errors.NoInk) and path.endswith("/batch"):
        return False  # its entries hold these
    if kind is errors.NotReady and path not in _WITHOUT_MODEL:
        return True
    return kind is errors.DigitsError or method == "post"
