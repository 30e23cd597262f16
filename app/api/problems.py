"""Errors -> HTTP answers: problem documents (RFC 9457), or `{"error": …}` in a dialect. The one renderer."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app.api.schemas import Problem
from app.errors import BadRequest, DigitsError, InvalidParameter, MethodNotAllowed, NotFound

_DIALECTS = ("/v1/", "/v2/")
_DIALECT_STATUSES = {415: 400, 422: 400}  # these protocols have one status for all invalid input


def is_dialect_path(path: str) -> bool:
    """Whether the address belongs to TensorFlow Serving's dialect or to the Open Inference Protocol."""
    return f"{path}/".startswith(_DIALECTS)


def problem_response(error: Exception, scope: Scope) -> Response:
    """The answer to the request of ``scope``, in the form that its address uses for errors."""
    known = _known(error)
    headers = (error.headers if isinstance(error, HTTPException) else None) or known.headers  # Allow, with 405
    if is_dialect_path(scope["path"]):
        status = _DIALECT_STATUSES.get(known.status, known.status)
        return Response(to_json({"error": str(known)}), status, headers, media_type="application/json")
    content = problem(known, scope).model_dump_json()
    return Response(content, known.status, headers, media_type="application/problem+json")


def problem(error: DigitsError, scope: Scope) -> Problem:
    """The problem document of an error in the request of ``scope``."""
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


def _sentence(wrong: dict[str, Any]) -> str:
    """Where, and what is wrong there; a rule about several parameters names them itself."""
    return ": ".join(filter(None, [str(wrong["loc"][-1]), wrong["msg"].removeprefix("Value error, ")]))


def _known(error: Exception) -> DigitsError:
    """The same error in our own tree, whether FastAPI, Starlette or no code expected it."""
    if isinstance(error, DigitsError):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidParameter("; ".join(map(_sentence, error.errors())))
    status = error.status_code if isinstance(error, HTTPException) else DigitsError.status
    if status == NotFound.status:
        return NotFound("Unknown path: send images to POST /predict.")
    if status == MethodNotAllowed.status:
        return MethodNotAllowed("Wrong method for this path: see the Allow header.")
    if status < DigitsError.status:
        return BadRequest("The request is malformed.")
    return DigitsError("Internal error: report it with the request id.")
