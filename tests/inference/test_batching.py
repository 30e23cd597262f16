"""The micro-batcher: everyone gets their own row, whatever else happens."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.errors import Overloaded
from app.inference.batching import Answer, MicroBatcher

Rows = NDArray[np.float32]

WAIT_S = 10  # for what comes at once unless something is broken

pytestmark = pytest.mark.anyio


def ink(number: int) -> Rows:
    return np.full((28, 28, 1), number, np.float32)


def numbers(batch: Rows) -> Rows:
    """One row of ten an ink: its number, ten times."""
    return np.repeat(batch[:, 0, 0, 0][:, None], 10, axis=1)


class Gate:
    """An engine that stands still until it is let go, and notes the numbers of each batch."""

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


class OneModel:
    """A batcher whose callers all want the same run."""

    def __init__(self, batcher: MicroBatcher, run: Callable[[Rows], Rows]) -> None:
        self.batcher = batcher
        self._run = run

    async def submit(self, ink: Rows) -> Answer:
        return await self.batcher.submit(self._run, ink)


@asynccontextmanager
async def batching(
    run: Callable[[Rows], Rows], *, max_batch: int = 64, max_wait_ms: float = 0, max_queue: int = 1024
) -> AsyncIterator[OneModel]:
    batcher = MicroBatcher(max_batch=max_batch, max_wait_ms=max_wait_ms, max_queue=max_queue)
    try:
        yield OneModel(batcher, run)
    finally:
        if isinstance(run, Gate):
            run.let_go()
        batcher.close()


async def turn_of_the_loop() -> None:
    """Long enough for every task that was just made to reach its first wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_caller_gets_their_row_and_how_long_it_took() -> None:
    async with batching(numbers) as batcher:
        answer = await batcher.submit(ink(3))

    assert answer.row.tolist() == [3] * 10
    assert answer.queue_ms >= 0
    assert answer.inference_ms > 0


async def test_a_free_engine_does_not_wait_for_company() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        first = asyncio.create_task(batcher.submit(ink(1)))
        await gate.entered()
        second = asyncio.create_task(batcher.submit(ink(2)))
        await turn_of_the_loop()
        gate.let_go()
        await asyncio.wait_for(asyncio.gather(first, second), WAIT_S)

    assert gate.batches == [[1], [2]]


async def test_what_waited_for_a_busy_engine_runs_together_in_order() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        tasks = [asyncio.create_task(batcher.submit(ink(0)))]
        await gate.entered()
        for number in range(1, 4):
            tasks.append(asyncio.create_task(batcher.submit(ink(number))))
            await turn_of_the_loop()
        gate.let_go()
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)

    assert gate.batches == [[0], [1, 2, 3]]


async def test_with_a_wait_a_free_engine_lets_later_ones_come_along() -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_wait_ms=200) as batcher:
        first = asyncio.create_task(batcher.submit(ink(1)))
        await turn_of_the_loop()
        second = asyncio.create_task(batcher.submit(ink(2)))
        await asyncio.wait_for(asyncio.gather(first, second), WAIT_S)

    assert gate.batches == [[1, 2]]


@pytest.mark.parametrize("max_batch", [1, 3])
async def test_a_full_batch_waits_for_no_one(max_batch: int) -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_batch=max_batch, max_wait_ms=10 * WAIT_S * 1000) as batcher:
        asking = (batcher.submit(ink(number)) for number in range(max_batch))
        await asyncio.wait_for(asyncio.gather(*asking), WAIT_S)

    assert gate.batches == [list(range(max_batch))]


async def test_after_a_full_batch_the_next_ones_wait_for_company_again() -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_batch=2, max_wait_ms=200) as batcher:
        await asyncio.wait_for(asyncio.gather(*(batcher.submit(ink(number)) for number in range(2))), WAIT_S)
        first = asyncio.create_task(batcher.submit(ink(2)))
        await turn_of_the_loop()
        second = asyncio.create_task(batcher.submit(ink(3)))
        await asyncio.wait_for(asyncio.gather(first, second), WAIT_S)

    assert gate.batches == [[0, 1], [2, 3]]


@pytest.mark.parametrize("rows", [0, 2, 4], ids=["none", "too few", "too many"])
async def test_an_engine_that_gives_another_number_of_rows_answers_everyone_of_that_batch(rows: int) -> None:
    async with batching(lambda _: np.zeros((rows, 10), np.float32), max_batch=3, max_wait_ms=WAIT_S * 1000) as batcher:
        answers = await asyncio.wait_for(
            asyncio.gather(*(batcher.submit(ink(number)) for number in range(3)), return_exceptions=True), WAIT_S
        )

    assert [str(answer) for answer in answers] == [f"the engine gave {rows} rows for 3 inks"] * 3


@pytest.mark.parametrize("max_batch", [1, 3, 64])
async def test_no_batch_is_larger_than_its_bound(max_batch: int) -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate, max_batch=max_batch) as batcher:
        answers = await asyncio.gather(*(batcher.submit(ink(number)) for number in range(10)))

    assert [int(answer.row[0]) for answer in answers] == list(range(10))
    assert max(map(len, gate.batches)) <= max_batch


async def test_an_engine_that_raises_answers_everyone_of_that_batch_and_runs_the_next() -> None:
    def broken_once(batch: Rows) -> Rows:
        if batch[0, 0, 0, 0] == 0:
            raise ArithmeticError("stand-in")
        return numbers(batch)

    async with batching(broken_once, max_batch=3, max_wait_ms=WAIT_S * 1000) as batcher:
        answers = await asyncio.wait_for(
            asyncio.gather(*(batcher.submit(ink(number)) for number in range(6)), return_exceptions=True), WAIT_S
        )

    assert [type(answer) for answer in answers] == [ArithmeticError] * 3 + [Answer] * 3


async def test_a_full_queue_refuses_at_once() -> None:
    gate = Gate()
    async with batching(gate, max_queue=2) as batcher:
        running = asyncio.create_task(batcher.submit(ink(0)))
        await gate.entered()
        waiting = [asyncio.create_task(batcher.submit(ink(number))) for number in (1, 2)]
        await turn_of_the_loop()

        with pytest.raises(Overloaded):
            await batcher.submit(ink(3))

        gate.let_go()
        answers = await asyncio.wait_for(asyncio.gather(running, *waiting), WAIT_S)
    assert [int(answer.row[0]) for answer in answers] == [0, 1, 2]


async def test_callers_who_have_gone_leave_their_place_in_a_full_queue() -> None:
    gate = Gate()
    async with batching(gate, max_queue=2) as batcher:
        running = asyncio.create_task(batcher.submit(ink(0)))
        await gate.entered()
        gone = [asyncio.create_task(batcher.submit(ink(number))) for number in (1, 2)]
        await turn_of_the_loop()
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

        late = asyncio.create_task(batcher.submit(ink(3)))
        await turn_of_the_loop()
        gate.let_go()
        answers = await asyncio.wait_for(asyncio.gather(running, late), WAIT_S)

    assert [int(answer.row[0]) for answer in answers] == [0, 3]
    assert gate.batches == [[0], [3]]


async def test_a_caller_who_goes_while_the_engine_runs_costs_the_others_nothing() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        tasks = [asyncio.create_task(batcher.submit(ink(number))) for number in range(3)]
        await gate.entered()
        tasks[1].cancel()
        gate.let_go()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)

    assert gate.batches == [[0, 1, 2]]
    assert [isinstance(answer, Answer) for answer in answers] == [True, False, True]


async def test_when_every_caller_has_gone_the_engine_is_free_again() -> None:
    gate = Gate()
    gate.let_go()
    async with batching(gate) as batcher:
        task = asyncio.create_task(batcher.submit(ink(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        answer = await asyncio.wait_for(batcher.submit(ink(2)), WAIT_S)

    assert int(answer.row[0]) == 2
    assert gate.batches[-1] == [2]


async def test_closing_answers_the_running_batch_and_cancels_who_waits() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        running = asyncio.create_task(batcher.submit(ink(1)))
        await gate.entered()
        waiting = asyncio.create_task(batcher.submit(ink(2)))
        await turn_of_the_loop()
        gate.let_go()
        batcher.batcher.close()
        answers = await asyncio.wait_for(asyncio.gather(running, waiting, return_exceptions=True), WAIT_S)

    assert isinstance(answers[0], Answer)
    assert isinstance(answers[1], asyncio.CancelledError)


@settings(max_examples=60, deadline=None)
@given(
    callers=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["stays", "goes at once", "goes later"])), min_size=1, max_size=25
    ),
    max_batch=st.integers(1, 8),
    max_wait_ms=st.sampled_from([0.0, 1.0]),
)
def test_everyone_who_stays_gets_their_own_row_whatever_the_others_do(
    callers: list[tuple[int, str]], max_batch: int, max_wait_ms: float
) -> None:
    """``callers``: turns of the loop before each arrives, and what they do then. An odd first number breaks a batch."""
    sizes = []

    def breaks_on_every_fifth(batch: Rows) -> Rows:
        sizes.append(len(batch))
        if int(batch[0, 0, 0, 0]) % 5 == 4:
            raise ArithmeticError("stand-in")
        return numbers(batch)

    async def scenario() -> list[Answer | BaseException]:
        async with batching(breaks_on_every_fifth, max_batch=max_batch, max_wait_ms=max_wait_ms) as batcher:
            tasks = []
            for number, (turns, _) in enumerate(callers):
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks.append(asyncio.create_task(batcher.submit(ink(number))))
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
        if isinstance(answer, Answer):
            assert answer.row.tolist() == [number] * 10
        elif conduct == "stays":
            assert isinstance(answer, ArithmeticError)
