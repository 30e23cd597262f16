"""The one path of an answer: image -> ink -> logits -> prediction. Every route only translates to and from this.

Small pictures are decoded on the event loop (30 µs, less than a thread's hand-over), large ones in threads.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.batching import Answer, MicroBatcher, Rows
from app.decision import DIGITS, Rejection, outlier_scores, probabilities, rejection
from app.decoding import Encoded, decode, inspect
from app.engine import Engine
from app.errors import DeadlineExceeded, NotReady
from app.machine import cores
from app.manifest import Manifest
from app.preprocessing import SIDE_PX, Ink, Mode, Preprocessed, ink_from_decoded
from app.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

_INLINE_PIXELS = 64 * 64  # decoded and searched for ink in less than 0.3 ms
_PATCH_PX, _PATCH_STEP_PX = 4, 2  # of the occlusions: about 80 of them touch ink
_PATCHES_AT_ONCE = 16
_LARGE_SHARE = 0.25  # of the largest size: larger pictures take turns, for they take seconds and 16 bytes a pixel
_INLINE_BYTES = 64 * 1024  # more than such a picture needs, less than metadata that would hold the loop up


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
    """Calibrated probabilities of the ten digits, summing to 1, and whether to act on them."""

    probabilities: tuple[float, ...]
    rejection: Rejection | None
    explanation: Explanation | None
    stages: Stages


class Service:
    """Answers once an engine is `start`-ed; raises NotReady before and after `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decoders = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._batcher: MicroBatcher | None = None
        self._manifest: Manifest | None = None

    def start(self, engine: Engine) -> None:
        """Take an engine that is warm. Called on the event loop."""
        self._batcher = MicroBatcher(
            partial(_decide, engine),
            max_batch=self._settings.max_batch,
            max_wait_ms=self._settings.max_wait_ms,
            max_queue=self._settings.max_queue,
        )
        self._manifest = engine.manifest

    def close(self) -> None:
        """Finish what runs, take nothing more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._large.shutdown(wait=False, cancel_futures=True)
        if self._batcher is not None:
            self._batcher.close()
            self._batcher = None

    @property
    def manifest(self) -> Manifest:
        """Raises NotReady."""
        if self._manifest is None or self._batcher is None:
            raise NotReady("The model is being loaded: send it again in a second.")
        return self._manifest

    async def predict(self, data: bytes, mode: Mode = "auto", *, explain: bool = False) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing, Overloaded, DeadlineExceeded."""
        manifest = self.manifest
        max_pixels = self._settings.max_pixels
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                if len(data) <= _INLINE_BYTES:
                    image = inspect(data, max_pixels=max_pixels)
                else:  # whose header may be a list of a million parts
                    image = await self._in_thread(self._decoders, inspect, data, max_pixels=max_pixels)
                pixels = image.width * image.height
                if pixels <= _INLINE_PIXELS and len(data) <= _INLINE_BYTES:
                    found, decode_ms, preprocess_ms = _find(image, mode)
                else:
                    threads = self._large if pixels > max_pixels * _LARGE_SHARE else self._decoders
                    found, decode_ms, preprocess_ms = await self._in_thread(threads, _find, image, mode)
                answer = await self._submit(found.ink)
                explanation = await self._explain(found, answer.row) if explain else None
        except TimeoutError as error:
            raise _too_late(self._settings) from error
        *rounded, outlier_score = answer.row.round(8).tolist()  # eight places: the sum stays within 1e-7 of 1
        return Result(
            tuple(rounded),
            rejection(manifest, outlier_score, max(rounded), found.digits),
            explanation,
            Stages(decode_ms, preprocess_ms, answer.queue_ms, answer.inference_ms),
        )

    async def predict_ink(self, ink: Ink) -> tuple[float, ...]:
        """The ten probabilities of an ink (28, 28, 1), fed as it is. Raises Overloaded, DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                answer = await self._submit(ink)
        except TimeoutError as error:
            raise _too_late(self._settings) from error
        return tuple(answer.row[:DIGITS].round(8).tolist())

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """For several images as for one: what is not done in time raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                yield
        except TimeoutError as error:
            raise _too_late(self._settings) from error

    async def _in_thread(
        self, threads: ThreadPoolExecutor, function: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        if self._batcher is None:
            raise NotReady("The service is stopping: send it again in a second.")
        return await asyncio.get_running_loop().run_in_executor(threads, partial(function, *given, **named))

    async def _submit(self, ink: Ink) -> Answer:
        if self._batcher is None:
            raise NotReady("The service is stopping: send it again in a second.")
        return await self._batcher.submit(ink)

    async def _explain(self, found: Preprocessed, row: Rows) -> Explanation:
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
            answers += await asyncio.gather(*(self._submit(ink) for ink in some))
        rows = np.stack([answer.row for answer in answers])
        saliency = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        for patch, lost in zip(patches, np.maximum(row[digit] - rows[:, digit], 0), strict=True):
            saliency[patch] += lost
        return Explanation(found.ink[..., 0], saliency / max(saliency.max(), 1e-6), found.inverted, found.ink_box)


def _too_late(settings: Settings) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"No answer within {settings.request_timeout_ms} ms: send it again later, fewer images or a smaller one."
    )


def _decide(engine: Engine, ink: Ink) -> NDArray[np.float64]:
    """Of a batch of n at once, float64 (n, 11): the calibrated probabilities and the log odds that it is no digit."""
    logits = engine.logits(ink)
    scores = outlier_scores(logits)[:, np.newaxis]
    return np.concatenate([probabilities(logits, engine.manifest.temperature), scores], axis=1)


def _find(image: Encoded, mode: Mode) -> tuple[Preprocessed, float, float]:
    """What the model shall see, and the milliseconds of decoding and of finding it."""
    started = time.perf_counter()
    decoded = decode(image)
    between = time.perf_counter()
    found = ink_from_decoded(decoded, mode)
    return found, (between - started) * 1000, (time.perf_counter() - between) * 1000
