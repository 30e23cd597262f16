"""The one path of an answer: image -> ink -> logits -> prediction. Every route only translates to and from this.

Small pictures are decoded on the event loop (30 µs, less than a thread's hand-over), large ones in threads.
"""

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.batching import Answer, MicroBatcher, Rows
from app.decision import DIGITS, Rejection, outlier_scores, probabilities, rejection
from app.decoding import Encoded, decode, inspect, memory_needed
from app.engine import Engine
from app.errors import DeadlineExceeded, NotReady, Overloaded, TooLarge
from app.machine import Memory, cores, memory_limit
from app.manifest import Manifest
from app.metrics import Metrics
from app.preprocessing import SIDE_PX, Ink, Mode, Preprocessed, ink_from_decoded
from app.schemas import EXAMPLE_PNG
from app.settings import Settings
from app.tracing import record_stages

P = ParamSpec("P")
T = TypeVar("T")

_INLINE_PIXELS = 64 * 64  # decoded and searched for ink in less than 0.3 ms
_PATCH_PX, _PATCH_STEP_PX = 4, 2  # of the occlusions: about 80 of them touch ink
_PATCHES_AT_ONCE = 16
_PLACES_EXPLAINED = 4  # pictures of batches that are explained at once
_LARGE_SHARE = 0.25  # of the largest size: larger pictures take turns, for they take seconds
_INLINE_BYTES = 64 * 1024  # more than such a picture needs, less than metadata that would hold the loop up
_SLOWEST_BATCH_S = 1  # a batch of the engine's never takes as long, whatever `request_timeout_ms` is


@dataclass(frozen=True)
class Stages:
    """Milliseconds that an answer spent in each stage."""

    decode: float
    preprocess: float
    queue: float
    inference: float


@dataclass(frozen=True)
class Explanation:
    """What the model saw, and how much its answer depends on each place; both float32 (28, 28) in [0, 1]."""

    ink: NDArray[np.float32]
    saliency: NDArray[np.float32]
    inverted: bool
    ink_box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Result:
    """Calibrated probabilities of the ten digits, summing to 1, and whether to act on them: all by one model."""

    probabilities: tuple[float, ...]
    rejection: Rejection | None
    explanation: Explanation | None
    stages: Stages
    manifest: Manifest


@dataclass(frozen=True, eq=False)
class _Model:
    """An engine with its decision: what the batcher runs."""

    engine: Engine
    metrics: Metrics

    def __call__(self, ink: Ink) -> NDArray[np.float64]:
        """Of n at once, float64 (n, 11): the calibrated probabilities, and the log odds that it is no digit."""
        self.metrics.count_batch(len(ink))
        logits = self.engine.logits(ink)
        if logits.ndim != 2 or len(logits) != len(ink) or logits.shape[1] not in {DIGITS, DIGITS + 1}:
            raise RuntimeError(f"the engine gave logits of shape {logits.shape} for {len(ink)} inks")
        scores = outlier_scores(logits)[:, np.newaxis]
        return np.concatenate([probabilities(logits, self.engine.manifest.temperature), scores], axis=1)


@dataclass(frozen=True)
class Batch:
    """The images of one admitted request. They share their places in the queue with those of all other batches."""

    manifest: Manifest
    _places: asyncio.Semaphore
    _read: Callable[..., Awaitable[Result]]
    _read_ink: Callable[[Ink], Awaitable[tuple[float, ...]]]

    async def predict(self, data: bytes, mode: Mode = "auto", *, explain: bool = False) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing."""
        async with self._places:
            return await self._read(data, mode, explain=explain)

    async def predict_ink(self, ink: Ink) -> tuple[float, ...]:
        """The ten probabilities of an ink (28, 28, 1), fed as it is."""
        async with self._places:
            return await self._read_ink(ink)


class Service:
    """Answers once an engine is `start`-ed; raises NotReady before and after `close`."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._decoders = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        limit = memory_limit()
        self._memory = Memory(limit and limit // settings.workers)
        self._batcher = MicroBatcher(
            max_batch=settings.max_batch, max_wait_ms=settings.max_wait_ms, max_queue=settings.max_queue
        )
        self._model: _Model | None = None
        self._why_not = "The model is being loaded"
        self._draining = False
        self._in_batches = 0  # places in the queue that admitted batches may come to need
        self._places = asyncio.Semaphore(min(settings.max_batch, settings.max_queue))  # of all batches together
        self._places_explained = asyncio.Semaphore(_PLACES_EXPLAINED)

    async def warm(self, engine: Engine) -> None:
        """One picture by this engine, all the way from its bytes, before any caller's."""
        await self._read(_Model(engine, Metrics()), base64.b64decode(EXAMPLE_PNG), "auto")

    def start(self, engine: Engine) -> None:
        """Answer with an engine that is warm: what was asked before is answered by the one before."""
        self._model = _Model(engine, self._metrics)
        self._memory.rest()
        weights = engine.manifest.sha256.get(engine.file_name, "")
        self._metrics.serve(engine.manifest.version, weights, engine.manifest.reference)

    def drain(self) -> bool:
        """Tell balancers that the end is near, and go on answering. Whether there is a model that does."""
        self._draining = True
        return self._model is not None

    def close(self) -> None:
        """Finish what runs, take nothing more."""
        self._model, self._why_not = None, "The service is stopping"
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._large.shutdown(wait=False, cancel_futures=True)
        self._batcher.close()

    @property
    def manifest(self) -> Manifest:
        """Raises NotReady."""
        return self._serving().engine.manifest

    @property
    def busy_since(self) -> float | None:
        """When the batch that the engine runs was started, in monotonic seconds."""
        return self._batcher.busy_since

    def check_ready(self) -> None:
        """Raises NotReady when new callers should go elsewhere, though they would be answered."""
        self._serving()
        if self._draining:
            raise NotReady("The service is stopping: send it elsewhere, or again in a second.")
        since = self.busy_since
        if since is not None and time.monotonic() - since > max(self._timeout_s, _SLOWEST_BATCH_S):
            raise NotReady("The model does not answer: send it elsewhere, or again in a second.")

    async def predict(self, data: bytes, mode: Mode = "auto", *, explain: bool = False) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing, Overloaded, DeadlineExceeded."""
        model = self._serving()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(model, data, mode, explain=explain)
        except TimeoutError as error:
            raise self._too_late("a smaller image") from error

    @asynccontextmanager
    async def batch(self, images: int, *, explain: bool = False) -> AsyncIterator["Batch"]:
        """Room for so many images of one request, all of them or none, and one deadline for all. One model reads them.

        Raises Overloaded at once when the images of other batches leave no room, DeadlineExceeded, NotReady.
        """
        needed = images * (_PATCHES_AT_ONCE if explain else 1)
        self.check_room(needed)
        model = self._serving()
        batch = Batch(
            model.engine.manifest,
            self._places_explained if explain else self._places,
            partial(self._read, model, admitted=True),
            partial(self._read_ink, model),
        )
        self._in_batches += needed
        try:
            async with asyncio.timeout(self._timeout_s):
                yield batch
        except TimeoutError as error:
            raise self._too_late("fewer images") from error
        finally:
            self._in_batches -= needed

    def check_room(self, needed: int = 1) -> None:
        """Raises Overloaded when a batch of so many images would have to wait for too many; alone it never has to."""
        if self._in_batches and self._in_batches + needed > self._settings.max_queue:
            raise Overloaded(self._batcher.retry_after_s(self._in_batches))

    @property
    def _timeout_s(self) -> float:
        return self._settings.request_timeout_ms / 1000

    def _too_late(self, instead: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"No answer within {self._settings.request_timeout_ms} ms: send it again later, or {instead}."
        )

    def _serving(self) -> _Model:
        if self._model is None:
            raise NotReady(f"{self._why_not}: send it again in a second.")
        return self._model

    async def _read(
        self, model: _Model, data: bytes, mode: Mode, *, explain: bool = False, admitted: bool = False
    ) -> Result:
        max_pixels = self._settings.max_pixels
        if len(data) <= _INLINE_BYTES:
            image = inspect(data, max_pixels=max_pixels)
        else:  # whose header may be a list of a million parts
            image = await self._in_thread(self._decoders, inspect, data, max_pixels=max_pixels)
        pixels = image.width * image.height
        if pixels <= _INLINE_PIXELS and len(data) <= _INLINE_BYTES:
            found, decode_ms, preprocess_ms = _find(image, mode)
        else:
            threads = self._large if pixels > max_pixels * _LARGE_SHARE else self._decoders
            found, decode_ms, preprocess_ms = await self._in_thread(threads, self._find_within, image, mode)
        found_ns = time.time_ns()
        answer = await self._submit(model, found.ink, admitted=admitted)
        explanation = await self._explain(model, found, answer.row) if explain else None
        stages = Stages(decode_ms, preprocess_ms, answer.queue_ms, answer.inference_ms)
        record_stages(
            found_ns, decode=decode_ms, preprocess=preprocess_ms, queue=answer.queue_ms, inference=answer.inference_ms
        )
        *rounded, outlier_score = _rounded(answer)
        manifest = model.engine.manifest
        rejected = rejection(manifest, outlier_score, max(rounded), found.digits)
        model.metrics.count_answer(
            found.ink,
            rounded,
            rejected.reason if rejected else None,
            (decode_ms, preprocess_ms, answer.queue_ms, answer.inference_ms),
            inverted=found.inverted,
        )
        return Result(tuple(rounded), rejected, explanation, stages, manifest)

    async def _read_ink(self, model: _Model, ink: Ink) -> tuple[float, ...]:
        """The ten probabilities of an ink (28, 28, 1) of a batch, fed as it is."""
        submitted_ns = time.time_ns()
        answer = await self._submit(model, ink, admitted=True)
        record_stages(submitted_ns, queue=answer.queue_ms, inference=answer.inference_ms)
        rounded = _rounded(answer)[:DIGITS]
        model.metrics.count_answer(ink, rounded, None, (answer.queue_ms, answer.inference_ms), inverted=False)
        return tuple(rounded)

    async def _in_thread(
        self, threads: ThreadPoolExecutor, function: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, partial(function, *given, **named))
        except RuntimeError as error:  # closed
            raise NotReady("The service is stopping: send it again in a second.") from error
        return await future

    def _find_within(self, image: Encoded, mode: Mode) -> tuple[Preprocessed, float, float]:
        """`_find` once there is memory for it. Raises TooLarge when there never will be."""
        needed = memory_needed(image)
        if needed > self._memory.size:
            raise TooLarge("The image takes more memory than the service has: scale it down and resend it.")
        with self._memory.take(needed):
            return _find(image, mode)

    async def _submit(self, model: _Model, ink: Ink, *, admitted: bool = False) -> Answer:
        try:
            return await self._batcher.submit(model, ink, admitted=admitted)
        finally:
            self._metrics.set_queue_depth(self._batcher.depth)

    async def _explain(self, model: _Model, found: Preprocessed, row: Rows) -> Explanation:
        """Saliency by occlusion: how much of the answer's probability is lost when a patch is wiped out.

        Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks.
        """
        digit = int(row[:DIGITS].argmax())
        patches = [
            np.s_[top : top + _PATCH_PX, left : left + _PATCH_PX]
            for top in range(0, SIDE_PX - _PATCH_PX + 1, _PATCH_STEP_PX)
            for left in range(0, SIDE_PX - _PATCH_PX + 1, _PATCH_STEP_PX)
            if found.ink[top : top + _PATCH_PX, left : left + _PATCH_PX].any()
        ]
        occluded = np.repeat(found.ink[None], len(patches), axis=0)
        for place, patch in enumerate(patches):
            occluded[place][patch] = 0
        answers: list[Answer] = []
        for start in range(0, len(occluded), _PATCHES_AT_ONCE):  # leave room in the queue for others
            some = occluded[start : start + _PATCHES_AT_ONCE]
            answers += await asyncio.gather(*(self._submit(model, ink, admitted=True) for ink in some))
        rows = np.stack([answer.row for answer in answers])
        saliency = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        for patch, lost in zip(patches, np.maximum(row[digit] - rows[:, digit], 0), strict=True):
            saliency[patch] += lost
        return Explanation(found.ink[..., 0], saliency / max(saliency.max(), 1e-6), found.inverted, found.ink_box)


def _rounded(answer: Answer) -> list[float]:
    """The ten probabilities and the outlier score, to eight places: the ten's sum stays within 1e-7 of 1.

    Raises RuntimeError for a NaN: its caller is told so, the others of the same batch of the engine's are answered.
    """
    rounded: list[float] = answer.row.round(8).tolist()
    if math.isnan(sum(rounded)):  # minus infinity is the score of a network without an eleventh output
        raise RuntimeError("the engine gave a NaN")
    return rounded


def _find(image: Encoded, mode: Mode) -> tuple[Preprocessed, float, float]:
    """What the model shall see, and the milliseconds of decoding and of finding it."""
    started = time.perf_counter()
    decoded = decode(image)
    between = time.perf_counter()
    found = ink_from_decoded(decoded, mode)
    return found, (between - started) * 1000, (time.perf_counter() - between) * 1000
