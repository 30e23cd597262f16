"""The micro-batcher: every caller gets the row of its own ink, whatever else happens."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.errors import NotReady, Overloaded
from app.inference.batching import Answer, MicroBatcher

Rows = NDArray[np.float32]

WAIT_S = 10  # for something immediate


def ink(number: int) -> Rows:
    return np.full((28, 28, 1), number, np.float32)


def numbers(batch: Rows) -> Rows:
    """For each ink its number, ten times."""
    return np.repeat(batch[:, 0, 0, 0][:, None], 10, axis=1)


class Gate:
    """An engine that blocks until `let_go`, and records the numbers of each batch."""

    def __init__(self, answer: Callable[[Rows], Rows] = numbers) -> None:
        self.batches: list[list[int]] = []
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._open = threading.Event()

    def __call__(self, batch: Rows) -> Rows:
        self.batches.append(batch[:, 0, 0, 0].astype(int).tolist())
        self._loop.call_soon_threadsafe(self._entered.set)
        assert self._open.wait(WAIT_S)
        return self._answer(batch)

    async def entered(self) -> None:
        await asyncio.wait_for(self._entered.wait(), WAIT_S)

    def let_go(self) -> None:
        self._open.set()


class Client:
    """A batcher whose callers all use the same run."""

    def __init__(self, batcher: MicroBatcher, run: Callable[[Rows], Rows]) -> None:
        self.batcher = batcher
        self._run = run

    async def submit(self, *numbers: int) -> list[Answer]:
        """One ink of each number, submitted at the same time."""
        asking = (self.batcher.submit(self._run, ink(number)) for number in numbers)
        return await asyncio.wait_for(asyncio.gather(*asking), WAIT_S)

    async def start(self, *numbers: int) -> "asyncio.Task[list[Answer]]":
        """The same as a task, once the inks wait in the queue."""
        task = asyncio.create_task(self.submit(*numbers))
        for _ in range(4):
            await asyncio.sleep(0)
        return task


@asynccontextmanager
async def batching(
    run: Callable[[Rows], Rows], *, max_batch: int = 64, max_wait_ms: float = 0, max_queue: int = 1024
) -> AsyncIterator[Client]:
    batcher = MicroBatcher(max_batch=max_batch, max_wait_ms=max_wait_ms, max_queue=max_queue)
    try:
        yield Client(batcher, run)
    finally:
        if isinstance(run, Gate):
            run.let_go()
        batcher.close()


async def test_an_idle_engine_starts_at_once_and_what_waits_meanwhile_runs_together_in_order() -> None:
    gate = Gate()
    async with batching(gate) as client:
        tasks = [await client.start(0)]
        await gate.entered()
        tasks += [await client.start(number) for number in (1, 2, 3)]
        gate.let_go()
        await asyncio.gather(*tasks)

    assert gate.batches == [[0], [1, 2, 3]]


async def test_with_a_wait_an_idle_engine_takes_later_inks_along_every_time() -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_batch=2, max_wait_ms=200) as client:
        for numbers in ((0, 1), (2, 3)):
            await asyncio.gather(*[await client.start(number) for number in numbers])

    assert gate.batches == [[0, 1], [2, 3]]


@pytest.mark.parametrize("max_batch", [1, 3])
async def test_a_full_batch_does_not_wait(max_batch: int) -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_batch=max_batch, max_wait_ms=10 * WAIT_S * 1000) as client:
        await client.submit(*range(max_batch))

    assert gate.batches == [list(range(max_batch))]


async def test_a_full_queue_has_no_room_until_callers_leave() -> None:
    gate = Gate()
    async with batching(gate, max_queue=2) as client:
        running = await client.start(0)
        await gate.entered()
        waiting = [await client.start(number) for number in (1, 2)]

        with pytest.raises(Overloaded):
            client.batcher.check_room()

        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        client.batcher.check_room()
        late = await client.start(3)
        gate.let_go()
        await asyncio.gather(running, late)

    assert gate.batches == [[0], [3]]


async def test_closing_finishes_the_running_batch_and_cancels_what_waits() -> None:
    gate = Gate()
    async with batching(gate) as client:
        running = await client.start(1)
        await gate.entered()
        waiting = await client.start(2)
        gate.let_go()
        client.batcher.close()
        answers = await asyncio.gather(running, waiting, return_exceptions=True)

        with pytest.raises(NotReady):
            await client.submit(3)

    assert isinstance(answers[0], list)
    assert isinstance(answers[1], asyncio.CancelledError)


@settings(max_examples=60, deadline=None)
@given(
    callers=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["stays", "goes at once", "goes later"])), min_size=1, max_size=25
    ),
    max_batch=st.integers(1, 8),
    max_wait_ms=st.sampled_from([0.0, 1.0]),
)
def test_every_caller_that_stays_gets_its_own_row_whatever_the_others_do(
    callers: list[tuple[int, str]], max_batch: int, max_wait_ms: float
) -> None:
    """``callers``: turns of the loop before each one arrives, and what it does then."""
    sizes = []

    def breaks_on_every_fifth(batch: Rows) -> Rows:
        sizes.append(len(batch))
        if int(batch[0, 0, 0, 0]) % 5 == 4:
            raise ArithmeticError("stand-in")
        return numbers(batch)

    async def scenario() -> list[list[Answer] | BaseException]:
        async with batching(breaks_on_every_fifth, max_batch=max_batch, max_wait_ms=max_wait_ms) as client:
            tasks = []
            for number, (turns, _) in enumerate(callers):
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks.append(asyncio.create_task(client.submit(number)))
                if callers[number][1] == "goes at once":
                    tasks[-1].cancel()
            await asyncio.sleep(0)
            for task, (_, conduct) in zip(tasks, callers, strict=True):
                if conduct == "goes later":
                    task.cancel()
            return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)

    answers = asyncio.run(scenario())

    assert max(sizes, default=0) <= max_batch
    for number, (answer, (_, conduct)) in enumerate(zip(answers, callers, strict=True)):
        if isinstance(answer, list):
            assert answer[0].row.tolist() == [number] * 10
        elif conduct == "stays":
            assert isinstance(answer, ArithmeticError)
