"""The app assembled in one place.

The model is loaded in a thread while the server already answers: `/healthz` lives and `/readyz` says 503 meanwhile.
One of several processes accepts nothing before. Whenever ``app.state.reload`` is set, the model is loaded anew beside
the old one and takes its place.
"""

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
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
from app.api.problems import problem_response
from app.api.request_log import RequestLog
from app.api.routes import docs, operations, playground, predict
from app.api.schemas import ImageBody
from app.errors import BadRequest, DigitsError, InvalidParameter, MethodNotAllowed, ModelError, NotFound
from app.imaging.codecs import configure_codecs
from app.inference.service import Service
from app.inference.watchdog import Watchdog
from app.model.engine import ENGINES, Engine
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import start_tracing, stop_tracing

log = logging.getLogger("digits")


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI app. A model that cannot be served is put into ``app.state.failure``, and stops it."""
    configure_codecs(settings.max_pixels)
    tracer_provider = start_tracing(VERSION)
    app = _App(
        title="Digits",
        version=VERSION,
        summary="An image of a handwritten digit in, ten calibrated probabilities out.",
        lifespan=_lifespan,
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
    app.state.failure = None
    app.state.reload = asyncio.Event()
    app.state.started = time.monotonic()
    app.add_exception_handler(DigitsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    guard(app, settings)
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


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    service: Service = app.state.service
    loading = asyncio.create_task(_load(app))
    if settings.workers > 1:  # another answers, or soon will
        await loading
    reloading = asyncio.create_task(_reload(app, loading))
    watchdog = Watchdog(asyncio.get_running_loop(), lambda: service.busy_since, settings.request_timeout_ms / 1000)
    yield
    watchdog.stop()
    loading.cancel()
    reloading.cancel()
    service.close()
    stop_tracing(app.state.tracer_provider)


async def _load(app: FastAPI) -> None:
    settings: Settings = app.state.settings
    try:
        engine = await _warm_engine(app)
    except Exception as error:  # noqa: BLE001 - without a model there is no service, whatever is wrong
        app.state.failure = _what_is_wrong(error)
        os.kill(os.getpid(), signal.SIGTERM)  # the server stops as it does for anyone who asks
        return
    # A collection that goes through TensorFlow's 600,000 objects takes 0.3 s. Nearly all of them stay; of this engine,
    # when another takes its place, a megabyte stays as well.
    gc.freeze()
    app.state.service.start(engine)
    fields = {
        "model": f"{engine.manifest.name} {engine.manifest.version}",
        "engine": settings.engine,
        "parameters": engine.manifest.parameters,
        "address": settings.address,
        "worker": os.getpid(),
        "seconds": round(time.monotonic() - app.state.started, 2),
    }
    log.info("ready", extra={"fields": fields})


async def _reload(app: FastAPI, loading: asyncio.Task[None]) -> None:
    """Again and again. A model that cannot be served is one line in the log: the old one goes on."""
    await loading
    while await app.state.reload.wait():
        app.state.reload.clear()  # whoever asks from here on may mean files that come later: once more, then
        started = time.monotonic()
        try:
            engine = await _warm_engine(app)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, there is a model that answers
            log.error("reload failed", extra={"fields": {"reason": _what_is_wrong(error), "worker": os.getpid()}})
            continue
        app.state.service.start(engine)
        fields = {
            "model": f"{engine.manifest.name} {engine.manifest.version}",
            "worker": os.getpid(),
            "seconds": round(time.monotonic() - started, 2),
        }
        log.info("reloaded", extra={"fields": fields})
        del engine  # the service alone holds it: the next takes its place


async def _warm_engine(app: FastAPI) -> Engine:
    """Raises ModelError, and whatever else a model may be good for."""
    settings: Settings = app.state.settings
    loader = ThreadPoolExecutor(1, thread_name_prefix="load")  # its own: at its end the loop waits for the shared ones
    try:
        load = ENGINES[settings.engine].load
        engine = await asyncio.get_running_loop().run_in_executor(loader, load, settings.model_dir)
    finally:
        loader.shutdown(wait=False)
    await app.state.service.warm(engine)
    return engine


def _what_is_wrong(error: Exception) -> str:
    return str(error) if isinstance(error, ModelError) else f"the model cannot be loaded: {error!r}"


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
