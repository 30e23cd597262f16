"""Loads the model while the service runs: in a thread, checked, warmed up by one image, then put into use."""

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.errors import ModelError
from app.inference.service import Service
from app.model.engine import ENGINES
from app.model.manifest import Manifest
from app.settings import Settings

log = logging.getLogger("digits")


async def load(service: Service, settings: Settings, fail: Callable[[str], None]) -> None:
    """Load the first model. Calls ``fail`` with the reason if it cannot be used."""
    started = time.monotonic()
    try:
        manifest = await _put_into_use(service, settings)
    except ModelError as error:
        fail(str(error))
        return
    # A garbage collection would spend 0.3 s on TensorFlow's 600,000 objects. Nearly all of them are never freed; a
    # model that is replaced leaks one megabyte.
    gc.freeze()
    _log("ready", manifest, started, engine=settings.engine, parameters=manifest.parameters, address=settings.address)


async def keep_reloading(service: Service, settings: Settings, requested: asyncio.Event) -> None:
    """Load the model again whenever ``requested`` is set. If the new one cannot be used, the old one stays."""
    while await requested.wait():
        requested.clear()  # before loading: a later request may be about newer files
        started = time.monotonic()
        try:
            manifest = await _put_into_use(service, settings)
        except ModelError as error:
            log.error("reload failed", extra={"fields": {"reason": str(error), "worker": os.getpid()}})
        else:
            _log("reloaded", manifest, started)


async def _put_into_use(service: Service, settings: Settings) -> Manifest:
    loader = ThreadPoolExecutor(1, thread_name_prefix="load")  # not the loop's own: the loop would wait for it to end
    try:
        load_engine = ENGINES[settings.engine].load
        engine = await asyncio.get_running_loop().run_in_executor(loader, load_engine, settings.model_dir)
        await service.warm(engine)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the model cannot be loaded: {error!r}") from error
    finally:
        loader.shutdown(wait=False)
    service.start(engine)
    return engine.manifest


def _log(message: str, manifest: Manifest, started: float, **fields: object) -> None:
    fields = {"model": f"{manifest.name} {manifest.version}", **fields, "worker": os.getpid()}
    log.info(message, extra={"fields": fields | {"seconds": round(time.monotonic() - started, 2)}})
