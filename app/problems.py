"""An error -> an RFC 9457 problem document, in one place."""

from starlette.responses import Response
from starlette.types import Scope

from app.errors import DigitsError
from app.schemas import Problem


def problem_response(error: DigitsError, scope: Scope) -> Response:
    problem = Problem(
        type="about:blank",
        title=error.title,
        status=error.status,
        detail=str(error),
        instance=f"urn:request:{scope['state']['request_id']}",
        code=error.code,
        request_id=scope["state"]["request_id"],
    )
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else None
    return Response(problem.model_dump_json(), error.status, headers, media_type="application/problem+json")
