"""The steps of one image: decode, find the ink, run the model, try again, explain. `app.model.reader` decides."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.imaging.decode import decode
from app.imaging.headers import Encoded
from app.imaging.preprocess import SIDE_PX, Ink, Mode, Preprocessed, alternative_inks, ink_from_decoded
from app.inference.batching import Answer
from app.inference.scheduling import Model, Scheduler
from app.model.explain import occlusions, saliency
from app.model.manifest import Manifest
from app.model.reader import Reading
from app.telemetry.tracing import record_stages

OCCLUSIONS_AT_ONCE = 16


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
    """Calibrated probabilities of the ten digits, which sum to 1, and the reading, which may be rejected."""

    probabilities: tuple[float, ...]
    reading: Reading
    explanation: Explanation | None
    stages: Stages
    manifest: Manifest


async def read(
    scheduler: Scheduler, model: Model, data: bytes, mode: Mode, *, explain: bool, admitted: bool = True
) -> Result:
    """Read an encoded image. Raises Overloaded when the queue is full, unless the request was ``admitted``."""
    found, decode_ms, preprocess_ms = await scheduler.prepare(data, partial(_find, mode=mode), inline=True)
    answer = await scheduler.run(model, found.ink, admitted=admitted)
    inference_ms = answer.inference_ms
    reading = model.reader.judge(found, answer.row)
    if model.reader.needs_retry(reading):
        inks = await scheduler.in_thread(partial(alternative_inks, found))
        answers = await _run_all(scheduler, model, [each.ink for each in inks])
        reading = model.reader.settle(reading, inks, [each.row for each in answers])
        inference_ms += sum(each.inference_ms for each in answers)
    stages = Stages(decode_ms, preprocess_ms, answer.queue_ms, inference_ms)
    record_stages(**stages._asdict())
    probable = _rounded(reading.probabilities)
    reason = reading.rejection.reason if reading.rejection else None
    model.metrics.count_answer(reading.found.ink, probable, reason, stages, inverted=reading.found.inverted)
    explanation = await _explain(scheduler, model, reading) if explain else None
    return Result(probable, reading, explanation, stages, model.engine.manifest)


async def read_ink(scheduler: Scheduler, model: Model, ink: Ink) -> tuple[float, ...]:
    """The ten probabilities of an ink (28, 28, 1), which is neither preprocessed nor looked at again."""
    answer = await scheduler.run(model, ink, admitted=True)
    record_stages(queue=answer.queue_ms, inference=answer.inference_ms)
    found = Preprocessed(ink, inverted=False, ink_box=(0, 0, SIDE_PX, SIDE_PX))
    probable = _rounded(model.reader.judge(found, answer.row).probabilities)
    model.metrics.count_answer(ink, probable, None, (answer.queue_ms, answer.inference_ms), inverted=False)
    return probable


def _find(image: Encoded, mode: Mode) -> tuple[Preprocessed, float, float]:
    """The ink of the image, and the milliseconds for decoding and finding."""
    started = time.perf_counter()
    decoded = decode(image)
    between = time.perf_counter()
    found = ink_from_decoded(decoded, mode)
    return found, (between - started) * 1000, (time.perf_counter() - between) * 1000


async def _run_all(scheduler: Scheduler, model: Model, inks: Iterable[Ink]) -> list[Answer]:
    return await asyncio.gather(*(scheduler.run(model, ink, admitted=True) for ink in inks))


async def _explain(scheduler: Scheduler, model: Model, reading: Reading) -> Explanation:
    found = reading.found
    inks = occlusions(found.ink)
    answers: list[Answer] = []
    for start in range(0, len(inks), OCCLUSIONS_AT_ONCE):  # leaves room in the queue for others
        answers += await _run_all(scheduler, model, inks[start : start + OCCLUSIONS_AT_ONCE])
    occluded = [model.reader.judge(found, answer.row).probabilities for answer in answers]
    shown = saliency(found.ink, reading.probabilities, occluded)
    return Explanation(found.ink[..., 0], shown, found.inverted, found.ink_box)


def _rounded(probabilities: list[float]) -> tuple[float, ...]:
    """To eight places, so that their sum stays within 1e-7 of 1."""
    return tuple([round(probability * 1e8) / 1e8 for probability in probabilities])
