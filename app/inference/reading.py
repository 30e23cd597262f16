"""The steps of one image of numbers: decode, find the lines, run the model, read. `app.model.numbers` decides."""

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from app.imaging.decode import decode
from app.imaging.forms import FORM_PX, Place, find_fields
from app.imaging.headers import Encoded
from app.imaging.lines import REDUCED_PX, Lines, find_lines, longest_px
from app.inference.pipeline import Stages
from app.inference.scheduling import Model, Scheduler
from app.model.engine import Logits
from app.model.manifest import Manifest
from app.model.numbers import ANY, Number, Wanted, inks_of, read_cells, read_field, read_lines
from app.telemetry.tracing import record_stages


class FormField(NamedTuple):
    """``box``: (x, y, width, height) in pixels of the upright image, or in [0, 1] of its sides.

    ``cells``: that many boxes of equal width, with a digit or nothing in each; 0 for no boxes.
    """

    box: tuple[float, float, float, float]
    cells: int = 0
    wanted: Wanted = ANY


class Numbers(NamedTuple):
    """``fields``: what each field of a form holds, None for an empty one."""

    numbers: list[Number]
    fields: list[Number | None]
    stages: Stages
    manifest: Manifest


async def read_numbers(
    scheduler: Scheduler,
    model: Model,
    data: bytes,
    wanted: Wanted,
    fields: Sequence[FormField],
    *,
    admitted: bool = True,
) -> Numbers:
    """Read an encoded image. Raises the errors of decoding, NoInk, TooLarge, and Overloaded as `run_many`."""
    parts, decode_ms, preprocess_ms = await scheduler.prepare(data, partial(_find, fields=fields))
    inks = np.concatenate([inks_of(lines) for lines in parts])
    logits, queue_ms, inference_ms = np.zeros((0, 1), np.float32), 0.0, 0.0
    if len(inks):
        logits, queue_ms, inference_ms = await scheduler.run_many(model, inks, admitted=admitted)
    started = time.perf_counter()
    read = partial(_read, parts, logits, model.reader.temperature, wanted, fields)
    numbers, filled = await scheduler.in_thread(read)
    preprocess_ms += (time.perf_counter() - started) * 1000
    stages = Stages(decode_ms, preprocess_ms, queue_ms, inference_ms)
    record_stages(**stages._asdict())
    model.metrics.count_numbers([number.rejection is None for number in [*numbers, *filled] if number], stages)
    return Numbers(numbers, filled, stages, model.engine.manifest)


def _find(image: Encoded, fields: Sequence[FormField]) -> tuple[list[Lines], float, float]:
    """The lines of the image, or of every field, and the milliseconds for decoding and finding."""
    started = time.perf_counter()
    decoded = decode(image, FORM_PX if fields else longest_px((image.height, image.width), REDUCED_PX))
    between = time.perf_counter()
    places = [Place(field.box, field.cells) for field in fields]
    parts = find_fields(decoded, places) if fields else [find_lines(decoded)]
    return parts, (between - started) * 1000, (time.perf_counter() - between) * 1000


def _read(
    parts: list[Lines], logits: Logits, temperature: float, wanted: Wanted, fields: Sequence[FormField]
) -> tuple[list[Number], list[Number | None]]:
    if not fields:
        return read_lines(parts[0], logits, temperature, wanted), []
    filled = []
    for lines, field in zip(parts, fields, strict=True):
        count = sum(len(line.arcs) for line in lines.lines)
        reader = read_cells if field.cells else read_field
        filled.append(reader(lines, logits[:count], temperature, field.wanted))
        logits = logits[count:]
    return [], filled
