"""The app assembled in one place. Knows no process: the model is loaded by the lifespan, which `app.server` gives."""

The model is loaded in a thread while the server already answers: `/healthz` lives and `/readyz` says 503 meanwhile.
One of several processes accepts nothing before. Whenever ``AppState.reload`` is set, the model is loaded anew beside
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
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app import VERSION
from app.api.authentication import add_authentication, make_quota
from app.api.bodies import max_held_body_bytes
from app.api.dialects import open_inference, tensorflow_serving
from app.api.openapi import describe
from app.api.problems import problem_response
from app.api.request_log import RequestLog
from app.api.routes import operations, predict
from app.api.routes.docs import docs_router
from app.api.routes.playground import playground_router
from app.api.state import AppState, state_of
from app.errors import DigitsError, ModelError
from app.inference.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import start_tracing

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_MIN_IN_FLIGHT_PER_CORE = 16


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI app."""
    routers = [predict.router, operations.router, tensorflow_serving.router, open_inference.router]
    if settings.playground:
        routers.append(playground_router())
    if settings.docs:
        routers.append(docs_router())
    tracer_provider = start_tracing(VERSION)
    app = FastAPI(
        title="Digits",
        version=VERSION,
        summary="An image of a handwritten digit in, ten calibrated probabilities out.",
        lifespan=_lifespan,
        servers=[{"url": ".", "description": "this service"}],  # relative: works behind a path prefix
        openapi_url=None,  # `docs_router` has the document and a page without other servers
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
    metrics = Metrics([route.path for router in routers for route in router.routes if isinstance(route, Route)])
    app.state.digits = AppState(
        settings,
        metrics,
        Service(settings, metrics),
        make_quota(settings),
        max_held_body_bytes(settings),
        tracer_provider,
    )
    for router in routers:
        app.include_router(router)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    for kind in (DigitsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer_error)
    add_authentication(app, settings)
    app.add_middleware(RequestLog, count=metrics.count_request)  # the last is the outermost
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    return problem_response(error, request.scope)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = state_of(app)
    settings, service = state.settings, state.service
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
    stop_tracing(state.tracer_provider)


async def _load(app: FastAPI) -> None:
    state = state_of(app)
    try:
        engine = await _warm_engine(app)
    except Exception as error:  # noqa: BLE001 - without a model there is no service, whatever is wrong
        state.failure = _what_is_wrong(error)
        os.kill(os.getpid(), signal.SIGTERM)  # the server stops as it does for anyone who asks
        return
    # A collection that goes through TensorFlow's 600,000 objects takes 0.3 s. Nearly all of them stay; of this engine,
    # when another takes its place, a megabyte stays as well.
    gc.freeze()
    state.service.start(engine)
    fields = {
        "model": f"{engine.manifest.name} {engine.manifest.version}",
        "engine": state.settings.engine,
        "parameters": engine.manifest.parameters,
        "address": state.settings.address,
        "worker": os.getpid(),
        "seconds": round(time.monotonic() - state.started, 2),
    }
    log.info("ready", extra={"fields": fields})


async def _reload(app: FastAPI, loading: asyncio.Task[None]) -> None:
    """Again and again. A model that cannot be served is one line in the log: the old one goes on."""
    state = state_of(app)
    await loading
    while await state.reload.wait():
        state.reload.clear()  # whoever asks from here on may mean files that come later: once more, then
        started = time.monotonic()
        try:
            engine = await _warm_engine(app)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, there is a model that answers
            log.error("reload failed", extra={"fields": {"reason": _what_is_wrong(error), "worker": os.getpid()}})
            continue
        state.service.start(engine)
        fields = {
            "model": f"{engine.manifest.name} {engine.manifest.version}",
            "worker": os.getpid(),
            "seconds": round(time.monotonic() - started, 2),
        }
        log.info("reloaded", extra={"fields": fields})
        del engine  # the service alone holds it: the next takes its place


async def _warm_engine(app: FastAPI) -> Engine:
    """Raises ModelError, and whatever else a model may be good for."""
    state = state_of(app)
    loader = ThreadPoolExecutor(1, thread_name_prefix="load")  # its own: at its end the loop waits for the shared ones
    try:
        load = ENGINES[state.settings.engine].load
        engine = await asyncio.get_running_loop().run_in_executor(loader, load, state.settings.model_dir)
    finally:
        loader.shutdown(wait=False)
    await state.service.warm(engine)
    return engine


def _what_is_wrong(error: Exception) -> str:
    return str(error) if isinstance(error, ModelError) else f"the model cannot be loaded: {error!r}"
