"""The app assembled in one place, and the process around it.

The model is loaded in a thread while the server already answers: `/healthz` lives and `/readyz` says 503 meanwhile.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from app.engine import ENGINES
from app.errors import BadRequest, DigitsError, InvalidParameter, MethodNotAllowed, ModelError, NotFound
from app.observability import RequestLog, start_logging
from app.problems import problem_response
from app.routes import operations, predict
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
        redoc_url=None,
        redirect_slashes=False,  # an address with one more slash is another: 404, not a redirect that loses the body
    )
    app.state.settings = settings
    app.state.service = Service(settings)
    app.state.failure = None
    app.state.still_loading = False
    app.include_router(predict.router)
    app.include_router(operations.router)
    app.add_exception_handler(DigitsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_middleware(RequestLog)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    loading = asyncio.create_task(_load(app))
    yield
    app.state.still_loading = not loading.done()
    loading.cancel()
    app.state.service.close()


async def _load(app: FastAPI) -> None:
    settings: Settings = app.state.settings
    started = time.monotonic()
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
                "seconds": round(time.monotonic() - started, 2),
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


def main() -> None:
    """Serve until told to stop. Exit status 1, after one clear line, for a wrong setting or a wrong model."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        sys.exit(f"digits: DIGITS_{str(wrong['loc'][0]).upper()}: {wrong['msg']}")
    listener = start_logging(settings.log_level)
    logging.captureWarnings(True)  # of libraries, about a caller's picture: nothing that an operator could mend
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    app = create_app(settings)
    # uvicorn stops gracefully, then raises the signal once more: as an interrupt, which ends nothing before its time.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.run(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
    finally:
        listener.stop()
    if app.state.failure:
        sys.exit(f"digits: {app.state.failure}")
    if app.state.still_loading:
        sys.stdout.flush()
        os._exit(0)  # nobody waits for the loading thread, and nothing can interrupt it
