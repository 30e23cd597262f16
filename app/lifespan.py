"""What starts and stops with the app: loading the model, signal handlers, the watchdog."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from app.api.state import state_of
from app.inference.loading import keep_reloading, load
from app.inference.memory import configure_malloc
from app.inference.service import Service
from app.inference.watchdog import Watchdog
from app.settings import Settings
from app.telemetry.tracing import stop_tracing

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Lifespan:
    """The lifespan of an app that `app.server` runs.

    A single process accepts requests from the start, but `/readyz` answers 503 until the model is loaded. A worker
    accepts none before that. ``fail`` is called with the reason if the model cannot be loaded, ``on_ready`` when a
    worker is about to accept connections.
    """

    settings: Settings
    fail: Callable[[str], None]
    on_ready: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def __call__(self, app: FastAPI) -> AsyncIterator[None]:
        configure_malloc()
        loop = asyncio.get_running_loop()
        state = state_of(app)
        service = state.service
        watchdog = Watchdog(loop, lambda: service.busy_since, self.settings.request_timeout_ms / 1000)
        loading = asyncio.create_task(load(service, self.settings, self.fail))
        tasks = [loading]
        _drain_at_sigterm(service, self.settings.drain_seconds, loading)
        if self.settings.workers > 1:
            _stop_without_parent()
            await asyncio.wait(tasks)
            self.on_ready()
        else:
            tasks.append(asyncio.create_task(self._reload_at_sighup(service, loading)))
        yield
        watchdog.stop()
        for task in tasks:
            task.cancel()
        service.close()
        stop_tracing(state.tracer_provider)
        log.info("stopped", extra={"fields": {"worker": os.getpid()}})

    async def _reload_at_sighup(self, service: Service, loading: asyncio.Task[None]) -> None:
        requested = asyncio.Event()

        def hang_up() -> None:
            if sys.stdout.isatty():  # the terminal was closed
                signal.raise_signal(signal.SIGINT)
            requested.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
        await asyncio.wait([loading])
        await keep_reloading(service, self.settings, requested)


def _drain_at_sigterm(service: Service, drain_s: float, loading: asyncio.Task[None]) -> None:
    """On SIGTERM make `/readyz` fail, and stop the server ``drain_s`` later. A second SIGTERM stops it at once."""
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)  # the server's

    def drain() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, stop)
        if service.drain():
            log.info("stopping", extra={"fields": {"drain_s": drain_s}})
            loop.call_later(drain_s, signal.raise_signal, signal.SIGTERM)
        else:  # no caller has been answered yet
            loading.cancel()
            signal.raise_signal(signal.SIGTERM)

    loop.add_signal_handler(signal.SIGTERM, drain)


def _stop_without_parent() -> None:
    """Stop this worker when the process that started it has ended: otherwise it would keep the port."""
    loop, parent = asyncio.get_running_loop(), multiprocessing.parent_process()

    def stop(parent_end: int) -> None:
        loop.remove_reader(parent_end)
        signal.raise_signal(signal.SIGTERM)

    if parent is not None:
        loop.add_reader(parent.sentinel, stop, parent.sentinel)
