"""An error -> an RFC 9457 problem document, in one place."""

from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from app.api.schemas import Problem
from app.errors import DigitsError, Unauthorized

_EXAMPLE_ID = "4b1c6e9f2a7d8053"


def problem(error: DigitsError, scope: Scope) -> Problem:
    """The document of an error met while answering the request of ``scope``."""
    request_id = scope["state"]["request_id"]
    return Problem(
        type="about:blank",
        title=error.title,
        status=error.status,
        detail=str(error),
        instance=f"urn:request:{request_id}",
        code=error.code,
        request_id=request_id,
    )


def problem_response(error: DigitsError, scope: Scope) -> Response:
    content = problem(error, scope).model_dump_json()
    return Response(content, error.status, error_headers(error), media_type="application/problem+json")


def documented(*errors: DigitsError) -> dict[int | str, dict[str, Any]]:
    """How the OpenAPI document shows the problems that an operation may answer with, each with an example."""
    described: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        example = problem(error, {"state": {"request_id": _EXAMPLE_ID}}).model_dump()
        response = described.setdefault(
            error.status,
            {
                "description": "",
                "headers": headers_documented(error),
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
                },
            },
        )
        response["description"] += f"`{error.code}`. {error.title}. "
        response["content"]["application/problem+json"]["examples"][error.code] = {"value": example}
    return described


def answer_documented(example: object) -> dict[int | str, dict[str, Any]]:
    """How it shows the answer of an operation, whose schema FastAPI knows."""
    return {200: {"headers": headers_documented(), "content": {"application/json": {"example": example}}}}


def headers_documented(error: DigitsError | None = None) -> dict[str, Any]:
    """How it shows the headers of an answer: of every one, and of an ``error``."""
    sent = {"X-Request-ID": _EXAMPLE_ID} | (error_headers(error) if error else {})
    return {name: {"schema": {"type": "string"}, "example": value} for name, value in sent.items()}


def error_headers(error: DigitsError) -> dict[str, str]:
    """What a client is told outside the body, whatever the body's form."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.closes_connection:
        headers["Connection"] = "close"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="digits"'
    return headers
