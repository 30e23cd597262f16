"""Micro-batching: inks that wait together run together, on one worker thread, off the event loop.

Knows nothing of HTTP or of the model: ``run`` takes (n, 28, 28, 1) and gives n rows. A free engine never waits for
company unless ``max_wait_ms`` says so, and with a full batch not even then; a caller who has gone costs its neighbours
nothing. Where nobody else is there to be kept waiting, a single ink runs on the loop itself, which saves the hand-over
to the thread and back.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    alone: bool


class MicroBatcher:
    """Owned by one event loop; every method but ``run`` is called there, so that no lock is needed."""

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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._busy = False
        self._waiting_for_company: asyncio.TimerHandle | None = None

    async def submit(self, ink: Ink, *, alone: bool = False) -> Answer:
        """The answer to one ink (28, 28, 1). ``alone``: no other request is there, and the engine answers at once.

        Raises Overloaded at once when the queue is full, or what ``run`` raised.
        """
        if len(self._queue) >= self._max_queue:
            raise Overloaded("More requests wait than the service can answer in time: send it again later.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue[future] = _Waiting(ink, time.monotonic(), alone)
        if not self._busy:
            self._busy = True
            if self._max_wait_s:
                self._waiting_for_company = loop.call_later(self._max_wait_s, self._next)
            else:
                loop.call_soon(self._next)  # after this turn of the loop: what arrived with it comes along
        if self._waiting_for_company is not None and len(self._queue) >= self._max_batch:
            self._waiting_for_company.cancel()
            self._waiting_for_company = None
            loop.call_soon(self._next)
        try:
            return await future
        finally:
            self._queue.pop(future, None)  # a caller who has gone makes room at once

    def close(self) -> None:
        """Finish the running batch; whoever still waits is cancelled."""
        for future in self._queue:
            future.cancel()
        self._queue.clear()
        self._thread.shutdown()

    def _next(self) -> None:
        self._waiting_for_company = None
        batch: list[tuple[asyncio.Future[Answer], _Waiting]] = []
        while self._queue and len(batch) < self._max_batch:
            future, waiting = self._queue.popitem(last=False)
            if not future.done():  # its caller has not gone
                batch.append((future, waiting))
        if not batch:
            self._busy = False
            return
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        ink = np.stack([waiting.ink for _, waiting in batch])
        if len(batch) == 1 and batch[0][1].alone:
            self._answer(batch, started, *self._attempt(ink))
        else:  # not run_in_executor: its two futures a batch cost more than a small network
            self._thread.submit(lambda: loop.call_soon_threadsafe(self._answer, batch, started, *self._attempt(ink)))

    def _attempt(self, ink: Ink) -> tuple[Rows, BaseException | None]:
        """What ``run`` gives, or raises."""
        try:
            rows = self._run(ink)
            if len(rows) != len(ink):
                raise RuntimeError(f"the engine gave {len(rows)} rows for {len(ink)} inks")
        except BaseException as error:  # noqa: BLE001 - every caller of the batch is told, whatever it is
            return np.empty(0), error
        return rows, None

    def _answer(
        self,
        batch: list[tuple[asyncio.Future[Answer], _Waiting]],
        started: float,
        rows: Rows,
        error: BaseException | None,
    ) -> None:
        inference_ms = (time.monotonic() - started) * 1000
        for index, (future, waiting) in enumerate(batch):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(Answer(rows[index], (started - waiting.since) * 1000, inference_ms))
        if self._queue:
            self._next()
        else:
            self._busy = False
