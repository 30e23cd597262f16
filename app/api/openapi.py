"""The OpenAPI document: what FastAPI cannot know from the types of the handlers. Examples of JSON are in `schemas`."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.authentication import is_open
from app.api.dialects.schemas import ColumnRequest, Error, InferRequest, RowRequest
from app.api.problems import error_headers, is_dialect_path, problem
from app.api.query import query_parameters
from app.api.schemas import EXAMPLE_REQUEST_ID, ImageBody, PredictQuery, Problem
from app.api.state import state_of
from app.errors import (
    BadRequest,
    DeadlineExceeded,
    DigitsError,
    InvalidParameter,
    NoInk,
    NotReady,
    Overloaded,
    RateLimited,
    TooLarge,
    Unauthorized,
    UndecodableImage,
    UnsupportedMediaType,
)

Responses = dict[int | str, dict[str, Any]]

_EXAMPLES = {
    type(error): error
    for error in (
        BadRequest("The form has no field `file`: curl -F file=@seven.png sends one."),
        Unauthorized("An API key is needed: send yours as X-API-Key or as Authorization: Bearer."),
        TooLarge("The request has more than 10485760 bytes: send a smaller image."),
        UnsupportedMediaType("The content is no image of a known format: send PNG, JPEG, WebP, BMP, TIFF or GIF."),
        UndecodableImage("The PNG data is broken: save the image again and resend it."),
        NoInk("Nothing on the image stands out from its ground: draw a digit on it."),
        InvalidParameter("top_k: Input should be less than or equal to 10"),
        RateLimited("The quota is 100/minute: send it again in 7 s.", 7),
        DigitsError("The service failed to answer: report it with the request id."),
        NotReady("The model is being loaded: send it again in a second."),
        Overloaded(),
        DeadlineExceeded("No answer within 10000 ms: send it again later, or a smaller image."),
    )
}
_READ_BY_HANDLERS: list[type[BaseModel]] = [ImageBody, RowRequest, ColumnRequest, InferRequest, Problem, Error]
_KEYS = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
# OpenAPI 3.1 does not need `format`, but client generators know a file by it
_BINARY = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
_RAW = {
    "schema": _BINARY,
    "examples": {"file": {"summary": "curl --data-binary @seven.png", "value": "(the bytes of seven.png)"}},
}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _headers(error: DigitsError | None = None) -> dict[str, Any]:
    sent = {"X-Request-ID": EXAMPLE_REQUEST_ID} | (error_headers(error) if error else {})
    return {name: {"schema": {"type": "string"}, "example": value} for name, value in sent.items()}


def problems(*kinds: type[DigitsError]) -> Responses:
    """The problem documents that an operation may answer with, each with an example."""
    responses: Responses = {}
    for error in (_EXAMPLES[kind] for kind in kinds):
        content = {"application/problem+json": {"schema": _ref(Problem), "examples": {}}}
        response = responses.setdefault(
            error.status, {"description": "", "headers": _headers(error), "content": content}
        )
        response["description"] += f"`{error.code}`. {error.title}. "
        value = problem(error, {"state": {"request_id": EXAMPLE_REQUEST_ID}}).model_dump()
        response["content"]["application/problem+json"]["examples"][error.code] = {"value": value}
    return responses


def dialect_errors(*kinds: type[DigitsError]) -> Responses:
    """The same for the dialects' `{"error": …}`."""
    return {
        error.status: {
            "description": f"{error.title}.",
            "headers": _headers(error),
            "content": {"application/json": {"schema": _ref(Error), "example": {"error": str(error)}}},
        }
        for error in (_EXAMPLES[kind] for kind in kinds)
    }


ANSWER: Responses = {200: {"headers": _headers()}}
NOT_READY = ANSWER | problems(NotReady)

_ANY_INPUT = (BadRequest, TooLarge, UnsupportedMediaType, InvalidParameter)
_ANY_TIME = (DigitsError, NotReady, Overloaded, DeadlineExceeded)
_SERVER_TIMING = {
    "description": "Milliseconds of each stage.",
    "schema": {"type": "string"},
    "example": "decode;dur=0.041, preprocess;dur=0.163, queue;dur=0.052, inference;dur=0.601",
}
PREDICT = problems(UndecodableImage, NoInk, *_ANY_INPUT, *_ANY_TIME) | {
    200: {"headers": _headers() | {"Server-Timing": _SERVER_TIMING}}
}
PREDICT_INPUT = {
    "parameters": query_parameters(PredictQuery),
    "requestBody": {
        "required": True,
        "description": "The image in any of these ways: PNG, JPEG, WebP, BMP, TIFF or GIF, recognised by its content.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
                "examples": {
                    "file": {"summary": "curl -F file=@seven.png", "value": {"file": "(the bytes of seven.png)"}}
                },
            },
            "application/json": {"schema": _ref(ImageBody)},
            "application/octet-stream": _RAW,
            "image/*": _RAW,
        },
    },
}
BATCH = ANSWER | problems(*_ANY_INPUT, *_ANY_TIME)
_FILES = {"type": "array", "items": _BINARY}
BATCH_INPUT = {
    "parameters": query_parameters(PredictQuery),
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["files"], "properties": {"files": _FILES}},
                "examples": {
                    "files": {
                        "summary": "curl -F files=@one.png -F files=@two.png",
                        "value": {"files": ["(the bytes of one.png)", "(the bytes of two.png)"]},
                    }
                },
            },
        },
    },
}
CARD = NOT_READY | {
    200: {
        "headers": _headers(),
        "content": {
            "application/json": {
                "example": {
                    "name": "digits",
                    "version": "1.1.0",
                    "sha256": {"digits.keras": "4e8097aa7525e3feb9c0c3ae93367bf2531584639a9e8f1c8b8da3050eb0d18d"},
                    "preprocessing": "2",
                    "classes": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
                    "architecture": "compact",
                    "parameters": 244523,
                    "multiply_adds": 7925304,
                    "recipe": {"name": "compact", "augmentation": "drawings"},
                    "data": {"x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"},
                    "temperature": 0.8688,
                    "thresholds": {"not_a_digit": -1.188, "low_confidence": 0.8},
                    "metrics": {"test_accuracy": 0.9956},
                    "trained": {"date": "2026-11-21", "keras": "3.15.1"},
                }
            }
        },
    }
}
METRICS: Responses = {
    200: {
        "description": "Prometheus's text format.",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "digits_queue_depth 0.0"}},
    }
}

DIALECT = ANSWER | dialect_errors(DigitsError)
DIALECT_NOT_READY = DIALECT | dialect_errors(NotReady)
DIALECT_PREDICT = DIALECT | dialect_errors(BadRequest, TooLarge, NotReady, DeadlineExceeded)
TENSORFLOW_BODY = {
    "requestBody": {
        "required": True,
        "description": "`instances` or `inputs`: a list of images, named `images` or not. An image is a 28x28 or "
        '28x28x1 array in [0, 1], light ink on dark, which the model reads as it is, or `{"b64": ...}`, an encoded '
        "image, in which the digit is searched for. The body is read as JSON whatever its Content-Type.",
        "content": {"application/json": {"schema": {"anyOf": [_ref(RowRequest), _ref(ColumnRequest)]}}},
    }
}
_TENSOR = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
INFER = DIALECT_PREDICT | {
    200: {
        "headers": _headers(),
        "content": {
            "application/octet-stream": _TENSOR
            | {"example": "(JSON without `data`, then FP32 [n, 10], if `binary_data` asks for it)"}
        },
    }
}
INFER_BODY = {
    "requestBody": {
        "required": True,
        "description": "One input, `images`: `FP32` [n, 28, 28, 1] in [0, 1], light ink on dark, which the model reads "
        "as it is, or `BYTES` [n], encoded images (base64 in JSON), in which the digit is searched for. `data` may be "
        "nested, flat, or binary after the JSON; `Inference-Header-Content-Length` is then the length of the JSON.",
        "content": {
            "application/json": {"schema": _ref(InferRequest)},
            "application/octet-stream": _TENSOR | {"example": "(JSON with `binary_data_size`, then the tensor)"},
        },
    }
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once: FastAPI's, the models of bodies that handlers read themselves, keys and quotas."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, servers=app.servers
        )
        schemas = document["components"]["schemas"]
        _, definitions = models_json_schema(
            [(model, "validation") for model in _READ_BY_HANDLERS], ref_template="#/components/schemas/{model}"
        )
        schemas |= definitions["$defs"]
        keys = state_of(app).settings.keys
        if keys:
            document["components"]["securitySchemes"] = _KEYS
        for path, operations in document["paths"].items():
            if not is_open(path):
                for method, operation in operations.items():
                    _protect(operation, path, method)
                    if keys:
                        operation["security"] = [{name: []} for name in _KEYS]
        app.openapi_schema = document
    return app.openapi_schema


def _protect(operation: dict[str, Any], path: str, method: str) -> None:
    """Add the answers 401 and, for a POST, 429."""
    kinds = (Unauthorized, RateLimited) if method == "post" else (Unauthorized,)
    errors = dialect_errors(*kinds) if is_dialect_path(path) else problems(*kinds)
    responses = operation["responses"] | {str(status): response for status, response in errors.items()}
    operation["responses"] = dict(sorted(responses.items()))
