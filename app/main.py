"""The app assembled in one place. The model is loaded by the lifespan that `app.server` passes in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import VERSION
from app.api.authentication import Authentication, add_cors, make_quota
from app.api.bodies import max_held_body_bytes
from app.api.dialects import open_inference, tensorflow_serving
from app.api.draining import DrainBody
from app.api.openapi import describe
from app.api.overload import Overload
from app.api.problems import problem_response
from app.api.request_log import RequestLog
from app.api.routes import operations, predict, read
from app.api.routes.docs import docs_router
from app.api.routes.playground import playground_router
from app.api.state import AppState
from app.errors import DigitsError
from app.imaging.codecs import configure_codecs
from app.inference.memory import cores
from app.inference.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import start_tracing

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_MIN_IN_FLIGHT_PER_CORE = 16
_MAX_DRAINED_BODIES = 10  # of the largest size: how much of a refused body is read and dropped


def create_app(settings: Settings, lifespan: Lifespan | None = None) -> FastAPI:
    """The service as an ASGI app. ``lifespan`` loads the model: without it no model answers."""
    configure_codecs(settings.max_pixels)
    tracer_provider = start_tracing()
    routers = [predict.router, read.router, operations.router, tensorflow_serving.router, open_inference.router]
    if settings.playground:
        routers.append(playground_router())
    if settings.docs:
        routers.append(docs_router())
    app = FastAPI(
        title="Digits",
        version=VERSION,
        summary="Send an image of a handwritten digit, get ten calibrated probabilities.",
        lifespan=lifespan,
        servers=[{"url": ".", "description": "this service, wherever it runs"}],  # relative: works behind a path prefix
        openapi_url=None,  # `docs_router` serves the document, and a page that needs no other server
        telemetry={
            "tracing": tracer_provider is not None,
            "tracer_provider": tracer_provider,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
        },
        redirect_slashes=False,  # 404 for an extra slash: a redirect would lose the body
    )
    metrics, quota = Metrics(), make_quota(settings)
    app.state.digits = AppState(
        settings=settings,
        metrics=metrics,
        service=Service(settings, metrics),
        quota=quota,
        tracer_provider=tracer_provider,
        max_held_body_bytes=max_held_body_bytes(settings),
    )
    for router in routers:
        app.include_router(router)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    for kind in (DigitsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer_error)
    if settings.keys or quota is not None:
        app.add_middleware(Authentication, keys=settings.keys, quota=quota)
    app.add_middleware(
        Overload,
        max_delay_s=settings.max_delay_ms / 1000,
        lowest=_MIN_IN_FLIGHT_PER_CORE * cores(),
        highest=settings.max_queue,
    )
    add_cors(app, settings)  # around keys and limit: a preflight has no key, and a page may read 401 and 503
    app.add_middleware(RequestLog, count=metrics.count_request)
    app.add_middleware(DrainBody, max_bytes=_MAX_DRAINED_BODIES * settings.max_body_bytes)  # the last is the outermost
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    return problem_response(error, request.scope)
