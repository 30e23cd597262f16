"""The service: starts, replaces and stops the model, admits requests, and gives each a deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.errors import DeadlineExceeded, NotReady, Overloaded
from app.imaging.decode import encode_png
from app.imaging.preprocess import SIDE_PX, Ink, Mode, preprocess
from app.inference.pipeline import Result, read, read_ink
from app.inference.reading import FormField, Numbers, read_numbers
from app.inference.scheduling import Model, Scheduler
from app.model.engine import Engine
from app.model.manifest import Manifest
from app.model.numbers import Wanted
from app.model.reader import Reader
from app.settings import Settings
from app.telemetry.metrics import Metrics

_MAX_LARGE = 4  # images of batches that are explained, or read as numbers, at the same time
_SLOWEST_BATCH_S = 1  # longer than any batch of the engine, however short `request_timeout_ms` is


@dataclass(frozen=True)
class Batch:
    """The images of one admitted request. Batches share a limit on the images that are read at the same time."""

    manifest: Manifest
    _scheduler: Scheduler
    _model: Model
    _places: asyncio.Semaphore

    async def predict(self, data: bytes, mode: Mode = "auto", *, explain: bool = False) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing."""
        async with self._places:
            return await read(self._scheduler, self._model, data, mode, explain=explain)

    async def read_numbers(self, data: bytes, wanted: Wanted, fields: Sequence[FormField]) -> Numbers:
        """Read the numbers of an encoded image. Raises the errors of decoding, NoInk, TooLarge."""
        async with self._places:
            return await read_numbers(self._scheduler, self._model, data, wanted, fields)

    async def predict_ink(self, ink: Ink) -> tuple[float, ...]:
        """The ten probabilities of an ink (28, 28, 1), which is not preprocessed."""
        async with self._places:
            return await read_ink(self._scheduler, self._model, ink)


class Service:
    """Answers after `start` was called with an engine. Before that, and after `close`, it raises NotReady."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._scheduler = Scheduler(settings, self._metrics)
        self._timeout_ms = settings.request_timeout_ms
        self._max_queue = settings.max_queue
        self._model: Model | None = None
        self._why_not = "The model is still loading"
        self._draining = False
        self._in_batches = 0  # images of admitted batches, counted as the places in the queue that they may need
        self._places = asyncio.Semaphore(min(settings.max_batch, settings.max_queue))
        self._places_large = asyncio.Semaphore(_MAX_LARGE)

    async def warm(self, engine: Engine) -> None:
        """Read one image with an engine that is not started yet."""
        bar = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        bar[4:24, 12:16] = 255
        found = await self._scheduler.in_thread(partial(preprocess, encode_png(bar)))
        reader = Reader(engine.manifest.temperature, engine.manifest.thresholds)
        await self._scheduler.in_thread(partial(reader.read, found, engine.logits))

    def start(self, engine: Engine) -> None:
        """Answer with ``engine`` from now on. Requests that have begun keep the previous engine."""
        reader = Reader(engine.manifest.temperature, engine.manifest.thresholds)
        self._model = Model(engine, reader, self._metrics)
        self._scheduler.memory.rest()
        weights = engine.manifest.sha256.get(engine.file_name, "")
        self._metrics.set_model(engine.manifest.version, weights, engine.manifest.reference)

    def drain(self) -> bool:
        """Report not ready from now on, but keep answering. Returns whether there is a model to answer with."""
        self._draining = True
        return self._model is not None

    def close(self) -> None:
        """Finish what runs, start nothing more."""
        self._model, self._why_not = None, "The service is stopping"
        self._scheduler.close()

    @property
    def busy_since(self) -> float | None:
        """When the engine started the batch that it runs, in monotonic seconds; None if it is idle."""
        return self._scheduler.batcher.busy_since

    def require_loaded(self) -> Manifest:
        """The manifest of the model that answers. Raises NotReady without one."""
        return self._require_model().engine.manifest

    def check_ready(self) -> None:
        """Raises NotReady when load balancers should send new requests elsewhere."""
        self._require_model()
        if self._draining:
            raise NotReady("The service is stopping: retry in a second, or elsewhere.")
        since = self.busy_since
        if since is not None and time.monotonic() - since > max(self._timeout_ms / 1000, _SLOWEST_BATCH_S):
            raise NotReady("The model does not answer: retry in a second, or elsewhere.")

    async def predict(self, data: bytes, mode: Mode = "auto", *, explain: bool = False) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing, Overloaded, DeadlineExceeded."""
        model = self._require_model()
        async with self._deadline("a smaller image"):
            return await read(self._scheduler, model, data, mode, explain=explain, admitted=False)

    async def read_numbers(self, data: bytes, wanted: Wanted, fields: Sequence[FormField] = ()) -> Numbers:
        """Read the numbers of an encoded image. Raises what `predict` raises, and TooLarge beyond 400 digits."""
        model = self._require_model()
        async with self._deadline("a smaller image"):
            return await read_numbers(self._scheduler, model, data, wanted, fields, admitted=False)

    @asynccontextmanager
    async def batch(self, images: int, *, inks_each: int = 1) -> AsyncIterator[Batch]:
        """Admit all images of one request, which share a deadline and a model.

        ``inks_each``: how many inks an image counts for. Raises Overloaded at once when other batches leave no room,
        DeadlineExceeded, NotReady.
        """
        needed = images * inks_each
        self.check_batch_capacity(needed)
        model = self._require_model()
        places = self._places if inks_each == 1 else self._places_large
        batch = Batch(model.engine.manifest, self._scheduler, model, places)
        self._in_batches += needed
        try:
            async with self._deadline("fewer images"):
                yield batch
        finally:
            self._in_batches -= needed

    def check_batch_capacity(self, needed: int = 1) -> None:
        """Raises Overloaded when this many images do not fit next to other batches. A batch alone always fits."""
        if self._in_batches and self._in_batches + needed > self._max_queue:
            raise Overloaded(self._scheduler.batcher.wait_s(self._in_batches))

    def _require_model(self) -> Model:
        if self._model is None:
            raise NotReady(f"{self._why_not}: retry in a second.")
        return self._model

    @asynccontextmanager
    async def _deadline(self, instead: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                yield
        except TimeoutError as error:
            late = f"No answer within {self._timeout_ms} ms: retry later, or send {instead}."
            raise DeadlineExceeded(late) from error
