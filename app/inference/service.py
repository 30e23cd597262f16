"""The one path of an answer: image -> ink -> logits -> prediction. Every route only translates to and from this.

Small pictures are decoded on the event loop (30 µs, less than a thread's hand-over), large ones in threads. An engine
that is `quick` runs there too, for single pictures: two threads would hand Python's interpreter lock to and fro at
every step of either. What comes in numbers (a batch, an explanation) is worth its thread, but for the quickest.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceeded, NotReady, Overloaded, TooLarge
from app.imaging.decode import Encoded, decode, encode_png, inspect, memory_needed
from app.imaging.preprocess import SIDE_PX, Ink, Mode, Preprocessed, ink_from_decoded, other_readings
from app.inference.batching import Answer, MicroBatcher
from app.inference.memory import Memory, cores, memory_limit
from app.model.decision import DIGITS, Rejection, best_reading, decide, rejection
from app.model.engine import Engine, Logits
from app.model.manifest import Manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import record_stages

T = TypeVar("T")

_INLINE_PIXELS = 64 * 64  # decoded and searched for ink in 0.3 ms, and 3 ms if they are noise
_PATCH_PX, _PATCH_STEP_PX = 4, 2  # of the occlusions: about 80 of them touch ink
_PATCHES_AT_ONCE = 16
_PLACES_EXPLAINED = 4  # pictures of batches that are explained at once
_LARGE_SHARE = 0.25  # of the largest size: larger pictures take turns, for they take seconds
_INLINE_BYTES = 8 * 1024  # a header of so many bytes takes Pillow 19 ms at most, whatever it holds
_SLICE_S = 0.004  # of each turn of the event loop, for small pictures; a new connection takes three turns
_FIRST_GUESS_S = 0.01  # in a thread: what a drawing takes
_GUESSES = 16  # the last so many pictures, about, say what the next will take; but one
_RARE_S = 0.1  # that takes longer says no more than this: the next is of another kind
_SLOWEST_BATCH_S = 1  # a batch of the engine's never takes as long, whatever `request_timeout_ms` is


class Stages(NamedTuple):
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


class Result(NamedTuple):
    """Calibrated probabilities of the ten digits, summing to 1, and whether to act on them: all by one model."""

    probabilities: tuple[float, ...]
    rejection: Rejection | None
    explanation: Explanation | None
    stages: Stages
    manifest: Manifest


class _Reading(NamedTuple):
    """What was seen on a picture, and what the model says of it."""

    found: Preprocessed
    answer: Answer
    probabilities: tuple[float, ...]
    outlier_score: float


@dataclass(frozen=True, eq=False)
class _Model:
    """An engine whose logits are checked and counted: what the batcher runs. ``metrics``: None while it warms up."""

    engine: Engine
    metrics: Metrics | None

    def __call__(self, ink: Ink) -> Logits:
        """Of n at once, float32 (n, 10 or 11)."""
        if self.metrics:
            self.metrics.count_batch(len(ink))
        logits = self.engine.logits(ink)
        if logits.ndim != 2 or len(logits) != len(ink) or logits.shape[1] not in {DIGITS, DIGITS + 1}:
            raise RuntimeError(f"the engine gave logits of shape {logits.shape} for {len(ink)} inks")
        return logits

    def read(self, found: Preprocessed, answer: Answer) -> _Reading:
        return _Reading(found, answer, *self.decide(answer))

    def doubts(self, first: _Reading) -> bool:
        """Whether to look for other readings of the same picture."""
        single = first.found.picture is not None and first.found.digits == 1
        return single and first.outlier_score > self.engine.manifest.thresholds.not_a_digit

    def decide(self, answer: Answer) -> tuple[tuple[float, ...], float]:
        """The ten probabilities, to eight places, so that their sum stays within 1e-7 of 1; and the outlier score.

        Raises RuntimeError for a NaN: its caller is told so, the others of the same batch of the engine's are answered.
        """
        found, outlier_score = decide(answer.row.tolist(), self.engine.manifest.temperature)
        if math.isnan(sum(found)) or math.isnan(outlier_score):
            raise RuntimeError("the engine gave a NaN")
        return tuple([round(probability * 1e8) / 1e8 for probability in found]), outlier_score


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


class _Slice:
    """`async with` it around work on the event loop: after a slice of it, what is left waits for the loop's next turn.

    So probes and new connections are answered however many pictures there are. Nothing is awaited inside. The next
    slice is begun before those who wait look again, in the order in which they came: else some would wait for ever.
    """

    def __init__(self) -> None:
        self._used_s = 0.0
        self._started = 0.0

    async def __aenter__(self) -> None:
        while self._used_s > _SLICE_S:  # noqa: ASYNC110 - the next turn is what is waited for
            await asyncio.sleep(0)
        self._started = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._used_s += time.perf_counter() - self._started
        if self._used_s > _SLICE_S:
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._used_s = 0


class Service:
    """Answers once an engine is `start`-ed; raises NotReady before and after `close`."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._cores = cores()
        self._decoders = ThreadPoolExecutor(self._cores, thread_name_prefix="decode")
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
        self._room = True  # for another: the last found some, or one has ended since
        self._places = asyncio.Semaphore(min(settings.max_batch, settings.max_queue))  # of all batches together
        self._places_explained = asyncio.Semaphore(_PLACES_EXPLAINED)
        self._slice = _Slice()
        self._decoding = 0  # single pictures that are not small: waiting for memory or a thread, or in one
        self._decoding_s = _FIRST_GUESS_S  # what one takes in its thread

    async def warm(self, engine: Engine) -> None:
        """One picture by this engine, all the way from its bytes, before any caller's."""
        bar = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        bar[4:24, 12:16] = 255
        await self._read(_Model(engine, None), encode_png(bar), "auto")

    def start(self, engine: Engine) -> None:
        """Answer with an engine that is warm: what was asked before is answered by the one before."""
        self._model = _Model(engine, self._metrics)
        self._memory.rest()
        weights = engine.manifest.sha256.get(engine.file_name, "")
        self._metrics.set_model(engine.manifest.version, weights, engine.manifest.reference)

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
        image = None
        if model.engine.quick and len(data) <= _INLINE_BYTES and not explain:
            async with self._slice:
                image = inspect(data, max_pixels=self._settings.max_pixels)
                if _is_small(image):
                    return self._read_now(model, image, mode)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(model, data, mode, image, explain=explain)
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
            self._room = True

    def check_room(self, needed: int = 1) -> None:
        """Raises Overloaded when a batch of so many images would have to wait for too many; alone it never has to."""
        if self._in_batches and self._in_batches + needed > self._settings.max_queue:
            self._room = False
            raise Overloaded(self.batches_take_s)

    @property
    def has_room(self) -> bool:
        """For another batch, whatever its size: False from one that found none until one has ended."""
        return self._room

    @property
    def decoding_takes_s(self) -> float:
        """Seconds until the single pictures that are not small have been decoded and searched, about."""
        return self._decoding * self._decoding_s / self._cores

    @property
    def batches_take_s(self) -> int:
        """Whole seconds until those that are admitted are answered."""
        return self._batcher.retry_after_s(self._in_batches)

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

    def _read_now(self, model: _Model, image: Encoded, mode: Mode) -> Result:
        """What `_read` does, of a small picture and by a quick engine: nothing is waited for."""
        found, decode_ms, preprocess_ms = _find(image, mode)
        reading = model.read(found, _run_now(model, found.ink))
        if model.doubts(reading):
            others = [model.read(other, _run_now(model, other.ink)) for other in other_readings(found)]
            reading = _best(reading, others)
        return self._answer(model, reading, decode_ms, preprocess_ms)

    async def _read(
        self,
        model: _Model,
        data: bytes,
        mode: Mode,
        image: Encoded | None = None,
        *,
        explain: bool = False,
        admitted: bool = False,
    ) -> Result:
        """``image``: ``data`` inspected, where that is done and it is not small."""
        found, decode_ms, preprocess_ms = await self._search(data, mode, image, admitted=admitted)
        reading = model.read(found, await self._submit(model, found.ink, admitted=admitted))
        if model.doubts(reading):
            others = await self._in_thread(self._decoders, other_readings, found)
            answers = await asyncio.gather(*(self._submit(model, other.ink, admitted=True) for other in others))
            reading = _best(reading, list(map(model.read, others, answers)))
        result = self._answer(model, reading, decode_ms, preprocess_ms)
        return result._replace(explanation=await self._explain(model, reading)) if explain else result

    def _answer(self, model: _Model, reading: _Reading, decode_ms: float, preprocess_ms: float) -> Result:
        found, answer, probable, outlier_score = reading
        stages = Stages(decode_ms, preprocess_ms, answer.queue_ms, answer.inference_ms)
        record_stages(**stages._asdict())
        manifest = model.engine.manifest
        rejected = rejection(manifest, outlier_score, max(probable), found.digits)
        if model.metrics:
            reason = rejected.reason if rejected else None
            model.metrics.count_answer(found.ink, probable, reason, stages, inverted=found.inverted)
        return Result(probable, rejected, None, stages, manifest)

    async def _read_ink(self, model: _Model, ink: Ink) -> tuple[float, ...]:
        """The ten probabilities of an ink (28, 28, 1) of a batch, fed as it is."""
        answer = await self._submit(model, ink, admitted=True)
        record_stages(queue=answer.queue_ms, inference=answer.inference_ms)
        probable, _ = model.decide(answer)
        if model.metrics:
            model.metrics.count_answer(ink, probable, None, (answer.queue_ms, answer.inference_ms), inverted=False)
        return probable

    async def _search(self, data: bytes, mode: Mode, image: Encoded | None, *, admitted: bool) -> "_Search":
        if image is None and len(data) <= _INLINE_BYTES:
            async with self._slice:
                image = inspect(data, max_pixels=self._settings.max_pixels)
                if _is_small(image):
                    return _find(image, mode)
        if admitted:
            return await self._find_in_thread(data, mode, image)
        self._decoding += 1
        try:
            found, decode_ms, preprocess_ms = await self._find_in_thread(data, mode, image)
        finally:
            self._decoding -= 1
        took_s = min((decode_ms + preprocess_ms) / 1000, _RARE_S)
        self._decoding_s += (took_s - self._decoding_s) / _GUESSES
        return found, decode_ms, preprocess_ms

    async def _find_in_thread(self, data: bytes, mode: Mode, image: Encoded | None) -> "_Search":
        """`_find` once there is memory for it. Raises TooLarge when there never will be."""
        if image is None:
            inspected, found = await self._in_thread(self._decoders, _begin, data, mode, self._settings.max_pixels)
            if found:
                return found
            image = inspected
        needed = memory_needed(image)
        if needed > self._memory.size:
            raise TooLarge("The image takes more memory than the service has: scale it down and resend it.")
        await self._memory.take(needed)
        large = image.width * image.height > self._settings.max_pixels * _LARGE_SHARE
        end = partial(self._memory.give_back, needed)
        return await self._in_thread(self._large if large else self._decoders, _find, image, mode, at_its_end=end)

    async def _in_thread(
        self,
        threads: ThreadPoolExecutor,
        function: Callable[..., T],
        *given: object,
        at_its_end: Callable[[], None] = lambda: None,
        **named: object,
    ) -> T:
        """``at_its_end`` is called on the loop when the thread is done with it, whether or not its caller has gone."""
        loop = asyncio.get_running_loop()

        def end(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(at_its_end)

        try:
            future = threads.submit(partial(function, *given, **named))
        except RuntimeError as error:  # closed
            at_its_end()
            raise NotReady("The service is stopping: send it again in a second.") from error
        future.add_done_callback(end)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # it holds the error, whose traceback holds this frame, and with it the image

    async def _submit(self, model: _Model, ink: Ink, *, admitted: bool = False) -> Answer:
        if model.engine.quick and not admitted:
            return _run_now(model, ink)
        if model.engine.quick_in_numbers:
            async with self._slice:
                return _run_now(model, ink)
        try:
            return await self._batcher.submit(model, ink, admitted=admitted)
        finally:
            self._metrics.set_queue_depth(self._batcher.depth)

    async def _explain(self, model: _Model, reading: _Reading) -> Explanation:
        """Saliency by occlusion: how much of the answer's probability is lost when a patch is wiped out.

        Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks.
        """
        found, probable = reading.found, reading.probabilities
        digit = probable.index(max(probable))
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
        saliency = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        for patch, without in zip(patches, answers, strict=True):
            saliency[patch] += max(probable[digit] - model.decide(without)[0][digit], 0)
        return Explanation(found.ink[..., 0], saliency / max(saliency.max(), 1e-6), found.inverted, found.ink_box)


def _best(first: _Reading, others: list[_Reading]) -> _Reading:
    """The reading to answer with. It is accepted or not as the first is: what had to be guessed at is no sure thing."""
    best = [first, *others][best_reading([first.outlier_score, *(other.outlier_score for other in others)])]
    all_ms = sum(reading.answer.inference_ms for reading in [first, *others])
    return best._replace(
        found=best.found._replace(digits=first.found.digits),
        answer=best.answer._replace(inference_ms=all_ms),
        outlier_score=first.outlier_score,
    )


def _is_small(image: Encoded) -> bool:
    """So small that the event loop decodes it, whatever it holds."""
    return image.width * image.height <= _INLINE_PIXELS and len(image.data) <= _INLINE_BYTES


def _run_now(model: _Model, ink: Ink) -> Answer:
    started = time.perf_counter()
    rows = model(ink[None])
    return Answer(rows[0], 0, (time.perf_counter() - started) * 1000)


_Search = tuple[Preprocessed, float, float]


def _begin(data: bytes, mode: Mode, max_pixels: int) -> tuple[Encoded, _Search | None]:
    """`inspect`, and `_find` at once where it takes no memory to speak of."""
    image = inspect(data, max_pixels=max_pixels)
    return image, None if memory_needed(image) else _find(image, mode)


def _find(image: Encoded, mode: Mode) -> _Search:
    """What the model shall see, and the milliseconds of decoding and of finding it."""
    started = time.perf_counter()
    decoded = decode(image)
    between = time.perf_counter()
    found = ink_from_decoded(decoded, mode)
    return found, (between - started) * 1000, (time.perf_counter() - between) * 1000
