"""The app assembled in one place.

The model is loaded in a thread while the server already answers: `/healthz` lives and `/readyz` says 503 meanwhile.
One of several processes accepts nothing before.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.engine import ENGINES
from app.errors import BadRequest, DigitsError, InvalidParameter, MethodNotAllowed, ModelError, NotFound
from app.observability import RequestLog
from app.problems import problem_response
from app.routes import open_inference, operations, playground, predict, tensorflow_serving
from app.service import Service
from app.settings import Settings

VERSION = "0.1.0"

log = logging.getLogger("digits")


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI app. A model that cannot be served is put into ``app.state.failure``, and stops it."""
    app = FastAPI(
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
            *playground.routes(),
        ],
        redoc_url=None,
        redirect_slashes=False,  # an address with one more slash is another: 404, not a redirect that loses the body
    )
    app.state.settings = settings
    app.state.service = Service(settings)
    app.state.body_bytes = 0  # held for all requests, as app.uploads counts them
    app.state.failure = None
    app.state.started = time.monotonic()
    app.add_exception_handler(DigitsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_middleware(RequestLog)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    loading = asyncio.create_task(_load(app))
    if app.state.settings.workers > 1:  # another answers, or soon will
        await loading
    yield
    loading.cancel()
    app.state.service.close()


async def _load(app: FastAPI) -> None:
    settings: Settings = app.state.settings
    loader = ThreadPoolExecutor(1, thread_name_prefix="load")  # its own: at its end the loop waits for the shared ones
    try:
        engine = await asyncio.get_running_loop().run_in_executor(
            loader, ENGINES[settings.engine].load, settings.model_dir
        )
    except Exception as error:  # noqa: BLE001 - without a model there is no service, whatever is wrong
        app.state.failure = str(error) if isinstance(error, ModelError) else f"the model cannot be loaded: {error!r}"
        os.kill(os.getpid(), signal.SIGTERM)  # the server stops as it does for anyone who asks
        return
    finally:
        loader.shutdown(wait=False)
    app.state.service.start(engine)
    log.info(
        "ready",
        extra={
            "fields": {
                "model": f"{engine.manifest.name} {engine.manifest.version}",
                "engine": settings.engine,
                "parameters": engine.manifest.parameters,
                "address": settings.address,
                "worker": os.getpid(),
                "seconds": round(time.monotonic() - app.state.started, 2),
            }
        },
    )


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
        return NotFound("There is nothing at this address: see /docs.")
    if status == MethodNotAllowed.status:
        return MethodNotAllowed("This address takes another method: see /docs.")
    return BadRequest("The request is malformed: see /docs.")
