"""Micro-batching: inks that wait together run together, on one worker thread, off the event loop.

Knows nothing of HTTP or of the model: a ``run`` takes (n, 28, 28, 1) and gives n rows. A free engine never waits for
company unless ``max_wait_ms`` says so, and with a full batch not even then; a caller who has gone costs its neighbours
nothing. Each ink comes with its run, so that another model may take over: no batch mixes two.
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

Rows = NDArray[np.floating]
Run = Callable[[Ink], Rows]

_LAST_BATCH_S = 2  # that closing waits for a batch that runs: one that hangs never ends
_LONGEST_RETRY_S = 60


class Answer(NamedTuple):
    """One row of the batch's result, and how long it waited for its batch and how long the batch ran."""

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
    """Owned by one event loop, where its methods are called; its thread takes batches from the queue itself.

    So the engine never waits for the loop, which may be busy with other requests for milliseconds.
    """

    def __init__(self, *, max_batch: int, max_wait_ms: float = 0, max_queue: int = 1024) -> None:
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._max_queue = max_queue
        self._queue: OrderedDict[asyncio.Future[Answer], _Waiting] = OrderedDict()
        self._changed = threading.Condition()  # guards the queue, and whether it is closed
        self._closed = False
        self._rate = math.inf  # inks a second of the last batch
        self.busy_since: float | None = None  # when the batch that runs was started
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    async def submit(self, run: Run, ink: Ink, *, admitted: bool = False) -> Answer:
        """The answer to one ink (28, 28, 1), by ``run`` on the engine's thread.

        Raises Overloaded at once when the queue is full, but for what was ``admitted`` before; NotReady when closed; or
        what ``run`` raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._changed:
            if self._closed:
                raise NotReady("The service is stopping: send it again in a second.")
            if len(self._queue) >= self._max_queue and not admitted:
                raise Overloaded(self.retry_after_s(len(self._queue)))
            self._queue[future] = _Waiting(run, ink, time.monotonic(), loop)
            self._changed.notify()
        try:
            return await future
        finally:
            with self._changed:
                self._queue.pop(future, None)  # a caller who has gone makes room at once

    @property
    def depth(self) -> int:
        """How many wait for their batch."""
        return len(self._queue)

    def retry_after_s(self, inks: int) -> int:
        """Whole seconds, at least 1, until so many are answered at the rate of the last batch."""
        return min(_LONGEST_RETRY_S, max(1, math.ceil(inks / self._rate)))

    def close(self) -> None:
        """Finish the running batch; whoever still waits is cancelled."""
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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                batch[0][1].loop.call_soon_threadsafe(self._answer, batch, *answered)
            del batch, answered  # which would keep a model that was replaced until the next caller comes

    def _next(self) -> "Batch":
        """The next batch, once there is one; none when there will be none."""
        batch: Batch = []
        with self._changed:
            while not batch and not self._closed:  # everyone may go while company is waited for
                self._changed.wait_for(lambda: self._closed or self._queue)
                if self._max_wait_s:
                    self._changed.wait_for(
                        lambda: self._closed or len(self._queue) >= self._max_batch, timeout=self._max_wait_s
                    )
                while self._queue and len(batch) < self._max_batch:
                    if batch and next(iter(self._queue.values())).run is not batch[0][1].run:
                        break  # another model's turn is next
                    batch.append(self._queue.popitem(last=False))
        return batch

    def _attempt(self, batch: "Batch") -> tuple[Rows, float, float, BaseException | None]:
        """What ``run`` gives, when it started and when it ended, and what it raised instead."""
        started = self.busy_since = time.monotonic()
        error: BaseException | None = None
        rows: Rows = np.empty(0)
        try:
            rows = batch[0][1].run(np.stack([waiting.ink for _, waiting in batch]))
            if len(rows) != len(batch):
                raise RuntimeError(f"the engine gave {len(rows)} rows for {len(batch)} inks")
        except BaseException as raised:  # noqa: BLE001 - every caller of the batch is told, whatever it is
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
