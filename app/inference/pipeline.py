"""One image on its way: decode, find the ink, run the model, look again, explain. What is decided is the reader's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import SIDE_PX, Ink, Mode, Preprocessed, alternative_inks
from app.inference.batching import Answer
from app.inference.scheduling import Found, Model, Picture, Scheduler
from app.model.decision import Rejection
from app.model.explain import occlusions, saliency
from app.model.manifest import Manifest
from app.model.reader import Reading
from app.telemetry.tracing import record_stages

OCCLUSIONS_AT_ONCE = 16

Run = Callable[[Model, Ink], Awaitable[Answer]]


class Stages(NamedTuple):
    """Milliseconds that an answer spent in each stage."""

    decode: float
    preprocess: float
    queue: float
    inference: float


@dataclass(frozen=True)
class Explanation:
    """What the model saw, and how much its answer depends on each pixel; both float32 (28, 28) in [0, 1]."""

    ink: NDArray[np.float32]
    saliency: NDArray[np.float32]
    inverted: bool
    ink_box: tuple[int, int, int, int]


class Result(NamedTuple):
    """Calibrated probabilities of the ten digits, which sum to 1, and whether the answer is accepted."""

    probabilities: tuple[float, ...]
    rejection: Rejection | None
    explanation: Explanation | None
    stages: Stages
    manifest: Manifest


async def read_inline(scheduler: Scheduler, model: Model, picture: Found) -> Result:
    """Read a small image on the event loop, with an engine that `runs_inline`."""
    async with scheduler.budget:
        started = time.perf_counter()
        reading = model.reader.read(picture.ink, model)
        inference_ms = (time.perf_counter() - started) * 1000
        return _result(model, reading, Stages(picture.decode_ms, picture.preprocess_ms, 0, inference_ms))


async def read(
    scheduler: Scheduler, model: Model, run_first: Run, picture: Picture, mode: Mode = "auto", *, explain: bool = False
) -> Result:
    """Read any image. ``run_first`` runs its first ink, and may refuse it."""
    ink, decode_ms, preprocess_ms = await scheduler.find(picture, mode)
    answer = await run_first(model, ink.ink)
    inference_ms = answer.inference_ms
    reading = model.reader.judge(ink, answer.row)
    if model.reader.needs_retry(reading):
        inks = await scheduler.in_thread(alternative_inks, ink)
        answers = await asyncio.gather(*(scheduler.run_admitted(model, each.ink) for each in inks))
        reading = model.reader.settle(reading, inks, [each.row for each in answers])
        inference_ms += sum(each.inference_ms for each in answers)
    result = _result(model, reading, Stages(decode_ms, preprocess_ms, answer.queue_ms, inference_ms))
    return result._replace(explanation=await _explain(scheduler, model, reading)) if explain else result


async def read_ink(scheduler: Scheduler, model: Model, ink: Ink) -> tuple[float, ...]:
    """The ten probabilities of an ink (28, 28, 1), which is neither preprocessed nor looked at again."""
    answer = await scheduler.run_admitted(model, ink)
    record_stages(queue=answer.queue_ms, inference=answer.inference_ms)
    probable = _rounded(
        model.reader.judge(Preprocessed(ink, False, (0, 0, SIDE_PX, SIDE_PX)), answer.row).probabilities
    )
    if model.metrics:
        model.metrics.count_answer(ink, probable, None, (answer.queue_ms, answer.inference_ms), inverted=False)
    return probable


def _result(model: Model, reading: Reading, stages: Stages) -> Result:
    record_stages(**stages._asdict())
    probable = _rounded(reading.probabilities)
    if model.metrics:
        reason = reading.rejection.reason if reading.rejection else None
        model.metrics.count_answer(reading.found.ink, probable, reason, stages, inverted=reading.found.inverted)
    return Result(probable, reading.rejection, None, stages, model.engine.manifest)


async def _explain(scheduler: Scheduler, model: Model, reading: Reading) -> Explanation:
    found = reading.found
    inks = occlusions(found.ink)
    answers: list[Answer] = []
    for start in range(0, len(inks), OCCLUSIONS_AT_ONCE):  # leaves room in the queue for others
        some = inks[start : start + OCCLUSIONS_AT_ONCE]
        answers += await asyncio.gather(*(scheduler.run_admitted(model, ink) for ink in some))
    occluded = [model.reader.judge(found, answer.row).probabilities for answer in answers]
    shown = saliency(found.ink, reading.probabilities, occluded)
    return Explanation(found.ink[..., 0], shown, found.inverted, found.ink_box)


def _rounded(probabilities: list[float]) -> tuple[float, ...]:
    """To eight places, so that their sum stays within 1e-7 of 1."""
    return tuple([round(probability * 1e8) / 1e8 for probability in probabilities])
