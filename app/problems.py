"""An error -> an RFC 9457 problem document, in one place."""

from starlette.responses import Response
from starlette.types import Scope

from app.errors import DigitsError, Unauthorized
from app.schemas import Problem


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
