"""Micro-batching: inks that wait at the same time run in one batch, on one worker thread. Knows nothing of HTTP.

A ``run`` takes (n, 28, 28, 1) and returns n rows. An idle engine starts at once, unless ``max_wait_ms`` lets it wait
for more inks. Each ink comes with its run, so that a model can be replaced: no batch mixes two.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import NotReady, Overloaded
from app.imaging.preprocess import Ink

Rows = NDArray[np.float32]
Run = Callable[[Ink], Rows]

_LAST_BATCH_S = 2  # that closing waits for the running batch, which may hang


class Answer(NamedTuple):
    """One row of a batch's result, how long its ink waited for the batch, and how long the batch ran."""

    row: Rows
    queue_ms: float
    inference_ms: float


@dataclass(frozen=True)
class _Waiting:
    run: Run
    ink: Ink
    since: float
    loop: asyncio.AbstractEventLoop


class MicroBatcher:
    """Its methods are called on one event loop. Its thread takes batches from the queue itself.

    So the engine never waits for the event loop, which other requests may keep busy for milliseconds.
    """

    def __init__(self, *, max_batch: int, max_wait_ms: float = 0, max_queue: int = 1024) -> None:
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._max_queue = max_queue
        self._queue: OrderedDict[asyncio.Future[Answer], _Waiting] = OrderedDict()
        self._changed = threading.Condition()  # guards the queue and `_closed`
        self._closed = False
        self._rate = math.inf  # inks per second in the last batch
        self.busy_since: float | None = None  # when the running batch started
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Raises Overloaded when the queue is full. Inks of an admitted request may still be submitted."""
        if len(self._queue) >= self._max_queue:
            raise Overloaded(self.wait_s(len(self._queue)))

    async def submit(self, run: Run, ink: Ink) -> Answer:
        """The answer to one ink (28, 28, 1). Raises NotReady when closed, or what ``run`` raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._changed:
            if self._closed:
                raise NotReady("The service is stopping: retry in a second.")
            self._queue[future] = _Waiting(run, ink, time.monotonic(), loop)
            self._changed.notify()
        try:
            return await future
        finally:
            with self._changed:
                self._queue.pop(future, None)  # at once if the caller has disconnected

    @property
    def depth(self) -> int:
        """How many inks wait for a batch."""
        return len(self._queue)

    def wait_s(self, inks: int) -> float:
        """Until this many inks are answered at the rate of the last batch."""
        return inks / self._rate

    def close(self) -> None:
        """Finish the running batch, cancel what waits."""
        with self._changed:
            self._closed = True
            for future in self._queue:
                future.cancel()
            self._queue.clear()
            self._changed.notify()
        self._thread.join(_LAST_BATCH_S)

    def _work(self) -> None:
        while batch := self._next():
            answered = self._attempt(batch)
            with suppress(RuntimeError):  # the loop is closed
                batch[0][1].loop.call_soon_threadsafe(self._answer, batch, *answered)
            del batch, answered  # they hold the model, which may have been replaced

    def _next(self) -> "Batch":
        """The next batch, once there is one; empty when closed."""
        batch: Batch = []
        with self._changed:
            while not batch and not self._closed:  # every caller may disconnect during the wait
                self._changed.wait_for(lambda: self._closed or self._queue)
                if self._max_wait_s:
                    self._changed.wait_for(
                        lambda: self._closed or len(self._queue) >= self._max_batch, timeout=self._max_wait_s
                    )
                while self._queue and len(batch) < self._max_batch:
                    if batch and next(iter(self._queue.values())).run is not batch[0][1].run:
                        break  # the rest is for another model
                    batch.append(self._queue.popitem(last=False))
        return batch

    def _attempt(self, batch: "Batch") -> tuple[Rows, float, float, BaseException | None]:
        """What ``run`` returned, when it started and ended, and what it raised instead."""
        started = self.busy_since = time.monotonic()
        error: BaseException | None = None
        rows: Rows = np.empty(0, np.float32)
        try:
            rows = batch[0][1].run(np.stack([waiting.ink for _, waiting in batch]))
        except BaseException as raised:  # noqa: BLE001 - raised again for every caller of the batch
            error = raised
        ended = time.monotonic()
        self.busy_since = None
        self._rate = len(batch) / max(ended - started, 1e-6)
        return rows, started, ended, error

    def _answer(self, batch: "Batch", rows: Rows, started: float, ended: float, error: BaseException | None) -> None:
        for index, (future, waiting) in enumerate(batch):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                queue_ms, inference_ms = (started - waiting.since) * 1000, (ended - started) * 1000
                future.set_result(Answer(rows[index], queue_ms, inference_ms))


Batch = list[tuple[asyncio.Future[Answer], _Waiting]]
