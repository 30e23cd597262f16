"""Micro-batching: inks that wait together run together, on one worker thread, off the event loop.

Knows nothing of HTTP or of the model: ``run`` takes (n, 28, 28, 1) and gives n rows. A free engine never waits for
company unless ``max_wait_ms`` says so, and with a full batch not even then; a caller who has gone costs its neighbours
nothing.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import Overloaded
from app.preprocessing import Ink

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Answer:
    """One row of the batch's result, and how long it waited for its batch and how long the batch ran."""

    row: Rows
    queue_ms: float
    inference_ms: float


@dataclass(frozen=True)
class _Waiting:
    ink: Ink
    since: float
    loop: asyncio.AbstractEventLoop


class MicroBatcher:
    """Owned by one event loop, where its methods are called; its thread takes batches from the queue itself.

    So the engine never waits for the loop, which may be busy with other requests for milliseconds.
    """

    def __init__(
        self,
        run: Callable[[Ink], Rows],
        *,
        max_batch: int,
        max_wait_ms: float = 0,
        max_queue: int = 1024,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._max_queue = max_queue
        self._queue: OrderedDict[asyncio.Future[Answer], _Waiting] = OrderedDict()
        self._changed = threading.Condition()  # guards the queue, and whether it is closed
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    async def submit(self, ink: Ink) -> Answer:
        """The answer to one ink (28, 28, 1).

        Raises Overloaded at once when the queue is full, or what ``run`` raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._changed:
            if len(self._queue) >= self._max_queue:
                raise Overloaded("More requests wait than the service can answer in time: send it again later.")
            self._queue[future] = _Waiting(ink, time.monotonic(), loop)
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

    def close(self) -> None:
        """Finish the running batch; whoever still waits is cancelled."""
        with self._changed:
            self._closed = True
            for future in self._queue:
                future.cancel()
            self._queue.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            answered = self._attempt(batch)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                batch[0][1].loop.call_soon_threadsafe(self._answer, batch, *answered)

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
                batch = [self._queue.popitem(last=False) for _ in range(min(len(self._queue), self._max_batch))]
        return batch

    def _attempt(self, batch: "Batch") -> tuple[Rows, float, float, BaseException | None]:
        """What ``run`` gives, when it started and when it ended, and what it raised instead."""
        started = time.monotonic()
        error: BaseException | None = None
        rows: Rows = np.empty(0)
        try:
            rows = self._run(np.stack([waiting.ink for _, waiting in batch]))
            if len(rows) != len(batch):
                raise RuntimeError(f"the engine gave {len(rows)} rows for {len(batch)} inks")
        except BaseException as raised:  # noqa: BLE001 - every caller of the batch is told, whatever it is
            error = raised
        return rows, started, time.monotonic(), error

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
