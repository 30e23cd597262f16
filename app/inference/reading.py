"""The steps of one image of numbers: decode, find the lines, run the model, read. `app.model.numbers` decides."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from app.errors import NoInk
from app.imaging.decode import Decoded, decode
from app.imaging.headers import Encoded
from app.imaging.lines import REDUCED_PX, Lines, find_lines
from app.inference.pipeline import Stages
from app.inference.scheduling import Model, Scheduler
from app.model.engine import Logits
from app.model.manifest import Manifest
from app.model.numbers import ANY, Number, Wanted, inks_of, joined, read_lines
from app.telemetry.tracing import record_stages

_FORM_PX = 1600  # longest side: a JPEG of a form may be decoded as small


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
    inks = np.concatenate([inks_of(lines) for cells in parts for lines in cells])
    logits, queue_ms, inference_ms = np.zeros((0, 1), np.float32), 0.0, 0.0
    if len(inks):
        logits, queue_ms, inference_ms = await scheduler.run_many(model, inks, admitted=admitted)
    started = time.perf_counter()
    each = [field.wanted for field in fields] or [wanted]
    read = await scheduler.in_thread(partial(_read, parts, logits, model.reader.temperature, each))
    preprocess_ms += (time.perf_counter() - started) * 1000
    stages = Stages(decode_ms, preprocess_ms, queue_ms, inference_ms)
    record_stages(**stages._asdict())
    numbers = [] if fields else [number for cells in read for found in cells for number in found]
    inked = [[bool(lines.lines) for lines in cells] for cells in parts]
    filled = [joined(cells, ink) for cells, ink in zip(read, inked, strict=True)] if fields else []
    model.metrics.count_numbers([number.rejection is None for number in [*numbers, *filled] if number], stages)
    return Numbers(numbers, filled, stages, model.engine.manifest)


def _find(image: Encoded, fields: Sequence[FormField]) -> tuple[list[list[Lines]], float, float]:
    """The lines of the image, or of every cell of every field, and the milliseconds for decoding and finding."""
    started = time.perf_counter()
    decoded = decode(image, _FORM_PX if fields else REDUCED_PX)
    between = time.perf_counter()
    parts = [_cells(decoded, field) for field in fields] if fields else [[find_lines(decoded)]]
    return parts, (between - started) * 1000, (time.perf_counter() - between) * 1000


def _cells(decoded: Decoded, field: FormField) -> list[Lines]:
    rows, columns = decoded.grey.shape
    x, y, width, height = field.box
    if max(field.box) > 1:
        x, width, y, height = x / decoded.width, width / decoded.width, y / decoded.height, height / decoded.height
    top, bottom = (min(max(round(edge * rows), 0), rows) for edge in (y, y + height))
    count = max(1, field.cells)
    edges = [min(max(round((x + width * cell / count) * columns), 0), columns) for cell in range(count + 1)]
    scale = decoded.width / columns, decoded.height / rows
    found = []
    for left, right in pairwise(edges):
        lines = Lines([])
        cut = np.ascontiguousarray(decoded.grey[top:bottom, left:right])
        if min(cut.shape) > 2:
            with suppress(NoInk):
                lines = find_lines(Decoded(cut, round((right - left) * scale[0]), round((bottom - top) * scale[1])))
        found.append(lines._replace(origin=(round(left * scale[0]), round(top * scale[1]))))
    return found


def _read(
    parts: list[list[Lines]], logits: Logits, temperature: float, wanted: Sequence[Wanted]
) -> list[list[list[Number]]]:
    read: list[list[list[Number]]] = []
    start = 0
    for cells, each in zip(parts, wanted, strict=True):
        read.append([])
        for lines in cells:
            end = start + sum(len(line.arcs) for line in lines.lines)
            limits = Wanted(1, 1) if len(cells) > 1 else each
            read[-1].append(read_lines(lines, logits[start:end], temperature, limits))
            start = end
    return read
