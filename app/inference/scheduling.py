"""Where each step of a reading runs: on the event loop, in a decoder thread, or in the batcher's thread.

Small images are decoded on the event loop: that takes 30 µs, less than handing them to a thread. A single image also
runs there on an engine that `runs_inline`, as two threads would keep passing Python's interpreter lock to each other.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from app.errors import NotReady, TooLarge
from app.imaging.formats import inspect, memory_needed
from app.imaging.headers import Encoded
from app.imaging.preprocess import Ink
from app.inference.batching import Answer, MicroBatcher
from app.inference.memory import Memory, cores, memory_limit
from app.model.decision import DIGITS
from app.model.engine import Engine, Logits
from app.model.reader import Reader
from app.settings import Settings
from app.telemetry.metrics import Metrics

T = TypeVar("T")

_INLINE_PIXELS = 64 * 64  # decoded and searched in 0.3 ms, or 3 ms for pure noise
_INLINE_BYTES = 8 * 1024  # Pillow takes at most 19 ms for a header of this size
_LOOP_BUDGET_S = 0.004  # of each iteration of the event loop. Accepting a connection takes three
_MANY = 64  # inks of one image in the queue at a time
_LARGE_SHARE = 0.25  # of `max_pixels`: larger images take turns, as they take seconds


@dataclass(frozen=True, eq=False)
class Model:
    """An engine whose batches are counted and checked, with the reader of its logits."""

    engine: Engine
    reader: Reader
    metrics: Metrics

    def __call__(self, ink: Ink) -> Logits:
        """Float32 (n, 28, 28, 1) -> (n, 10 or 11)."""
        self.metrics.count_batch(len(ink))
        logits = self.engine.logits(ink)
        if logits.ndim != 2 or len(logits) != len(ink) or logits.shape[1] not in {DIGITS, DIGITS + 1}:
            raise RuntimeError(f"the engine gave logits of shape {logits.shape} for {len(ink)} inks")
        return logits


class LoopTimeBudget:
    """``async with`` around work on the event loop: once the budget is used, more work waits for the next iteration.

    Probes and new connections are then answered under any load. Nothing may be awaited inside. Waiting
    tasks check the renewed budget in the order of their arrival, so each gets its turn.
    """

    def __init__(self) -> None:
        self._used_s = 0.0
        self._started = 0.0

    async def __aenter__(self) -> None:
        while self._used_s > _LOOP_BUDGET_S:  # noqa: ASYNC110 - there is no event for the next iteration
            await asyncio.sleep(0)
        self._started = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._used_s += time.perf_counter() - self._started
        if self._used_s > _LOOP_BUDGET_S:
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._used_s = 0


class Scheduler:
    """Owns the decoder threads, their memory, and the batcher."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._max_pixels = settings.max_pixels
        self._metrics = metrics
        self._decoders = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        self._large_decoder = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        limit = memory_limit()
        self.memory = Memory(limit and limit // settings.workers)
        self.batcher = MicroBatcher(
            max_batch=settings.max_batch, max_wait_ms=settings.max_wait_ms, max_queue=settings.max_queue
        )
        self.budget = LoopTimeBudget()

    def close(self) -> None:
        """Finish what runs, start nothing more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._large_decoder.shutdown(wait=False, cancel_futures=True)
        self.batcher.close()

    async def prepare(self, data: bytes, work: Callable[[Encoded], T], *, inline: bool = False) -> T:
        """What ``work`` makes of an image whose header is read; on the event loop if it is small and ``inline``."""
        if len(data) <= _INLINE_BYTES:
            async with self.budget:
                image = inspect(data, max_pixels=self._max_pixels)
                if inline and image.pixels <= _INLINE_PIXELS:
                    return work(image)
        else:
            image = await self.in_thread(partial(inspect, data, max_pixels=self._max_pixels))
        needed = memory_needed(image)
        if needed > self.memory.size:
            raise TooLarge("The image takes more memory than the service has: scale it down and resend it.")
        large = image.pixels > self._max_pixels * _LARGE_SHARE
        return await self.in_thread(partial(work, image), large=large, needed=needed)

    async def run(self, model: Model, ink: Ink, *, admitted: bool) -> Answer:
        """The logits of one ink. Raises Overloaded when the queue is full, unless the request was ``admitted``."""
        if model.engine.runs_batches_inline or (model.engine.runs_inline and not admitted):
            async with self.budget:
                started = time.perf_counter()
                rows = model(ink[None])
                return Answer(rows[0], 0, (time.perf_counter() - started) * 1000)
        if not admitted:
            self.batcher.check_room()
        self._metrics.set_queue_depth(self.batcher.depth + 1)
        try:
            return await self.batcher.submit(model, ink)
        finally:
            self._metrics.set_queue_depth(self.batcher.depth)

    async def run_many(self, model: Model, inks: Ink, *, admitted: bool) -> tuple[Logits, float, float]:
        """The logits of the inks of one image, and the milliseconds that they waited and that the model ran.

        In the batcher's thread, a part at a time, to leave room in the queue. Raises Overloaded when that is full,
        unless the request was ``admitted``.
        """
        if not admitted:
            self.batcher.check_room()
        answers: list[Answer] = []
        for start in range(0, len(inks), _MANY):
            part = inks[start : start + _MANY]
            answers += await asyncio.gather(*(self.batcher.submit(model, ink) for ink in part))
        waited, ran = answers[0].queue_ms, sum(answer.inference_ms for answer in answers[::_MANY])
        return np.stack([answer.row for answer in answers]), waited, ran

    async def in_thread(self, function: Callable[[], T], *, large: bool = False, needed: int = 0) -> T:
        """What ``function`` returns. Raises NotReady when closed.

        Waits for ``needed`` bytes of memory, and holds them until the thread ends, even if the caller disconnects.
        """
        await self.memory.take(needed)
        loop = asyncio.get_running_loop()

        def give_back(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self.memory.give_back, needed)

        try:
            future = (self._large_decoder if large else self._decoders).submit(function)
        except RuntimeError as error:  # the threads are shut down
            self.memory.give_back(needed)
            raise NotReady("The service is stopping: retry in a second.") from error
        if needed:
            future.add_done_callback(give_back)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # it holds the error, whose traceback holds this frame, which holds the image
