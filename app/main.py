"""The app assembled in one place. Knows no process: the model is loaded by the lifespan, which `app.server` gives."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from app import VERSION
from app.api.authentication import guard
from app.api.bodies import most_body_bytes
from app.api.dialects import open_inference, tensorflow_serving
from app.api.overload import Overload
from app.api.problems import problem_response
from app.api.request_log import RequestLog
from app.api.routes import docs, operations, playground, predict
from app.api.schemas import ImageBody
from app.errors import BadRequest, DigitsError, InvalidParameter, MethodNotAllowed, NotFound
from app.imaging.codecs import configure_codecs
from app.inference.memory import cores
from app.inference.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import start_tracing

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_MIN_IN_FLIGHT_PER_CORE = 16


def create_app(settings: Settings, lifespan: Lifespan | None = None) -> FastAPI:
    """The service as an ASGI app. ``lifespan`` loads the model: without it no model answers."""
    configure_codecs(settings.max_pixels)
    tracer_provider = start_tracing(VERSION)
    app = _App(
        title="Digits",
        version=VERSION,
        summary="An image of a handwritten digit in, ten calibrated probabilities out.",
        lifespan=lifespan,
        # not include_router: a request would be matched twice, past the route's own class
        routes=[
            *predict.router.routes,
            *operations.router.routes,
            *tensorflow_serving.router.routes,
            *open_inference.router.routes,
            *(playground.routes(open_to_all=not settings.keys) if settings.playground else ()),
            *(docs.routes() if settings.docs else ()),
        ],
        openapi_url=None,  # `docs` has it, and shows it without a page of others
        telemetry={
            "tracing": tracer_provider is not None,
            "tracer_provider": tracer_provider,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
        },
        redirect_slashes=False,  # an address with one more slash is another: 404, not a redirect that loses the body
    )
    app.state.settings = settings
    routes = [route for route in app.routes if isinstance(route, Route)]
    app.state.metrics = Metrics([route.path for route in routes])
    app.state.service = Service(settings, app.state.metrics)
    app.state.body_bytes = 0  # held for all requests, as app.api.bodies counts them
    app.state.most_body_bytes = most_body_bytes(settings)
    app.state.tracer_provider = tracer_provider
    app.add_exception_handler(DigitsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    guard(app, settings)
    app.add_middleware(
        Overload,
        max_delay_s=settings.max_delay_ms / 1000,
        lowest=_MIN_IN_FLIGHT_PER_CORE * cores(),
        highest=settings.max_queue,
    )
    app.add_middleware(  # the last is the outermost
        RequestLog,
        paths={route.endpoint: route.path for route in routes},
        count=app.state.metrics.count_request,
    )
    return app


class _App(FastAPI):
    """FastAPI with fewer layers around its router: `RequestLog` answers what no handler does."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = AsyncExitStackMiddleware(self.router)
        app = ExceptionMiddleware(predict.Direct(app), handlers=self.exception_handlers)
        for layer, given, named in reversed(self.user_middleware):
            app = layer(app, *given, **named)
        return app

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        # what no endpoint takes as a parameter, and `POST /predict` names
        document["components"]["schemas"]["ImageBody"] = ImageBody.model_json_schema()
        return document


async def _answer_error(request: Request, error: Exception) -> Response:
    response = problem_response(_as_digits_error(error), request.scope)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)  # Allow, with 405
    return response


def _as_digits_error(error: Exception) -> DigitsError:
    """What FastAPI and Starlette raise on their own, as one of ours."""
    if isinstance(error, DigitsError):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidParameter("; ".join(f"{wrong['loc'][-1]}: {wrong['msg']}" for wrong in error.errors()))
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status == NotFound.status:
        return NotFound("There is nothing at this address: a picture goes to /predict.")
    if status == MethodNotAllowed.status:
        return MethodNotAllowed("This address takes another method: the header Allow names it.")
    return BadRequest("The request is malformed.")
