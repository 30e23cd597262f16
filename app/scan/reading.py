"""The pictures of a shard -> rows. `read_shard` is a pure function; `ReadDigits` does the same in others' pipelines."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from app.errors import DigitsError
from app.imaging.codecs import configure_codecs
from app.imaging.decode import decode, encode_png
from app.imaging.formats import MAX_PIXELS, inspect
from app.imaging.lines import REDUCED_PX, Lines, find_lines
from app.imaging.pixels import as_uint8, shrink
from app.imaging.preprocess import Preprocessed, preprocess
from app.model.engine import Int8Engine, Logits
from app.model.numbers import Number, inks_of, read_lines
from app.model.reader import Reader
from app.scan.shards import UNREADABLE, Picture
from app.settings import Settings

_WHERE = [("source", pa.string()), ("key", pa.string())]
_ANSWER = [
    ("accepted", pa.bool_()),
    ("reason", pa.string()),  # why it was not accepted
    ("error", pa.string()),  # why it could not be read
    ("model", pa.string()),
    ("sha256", pa.string()),  # of the weights
    ("crop", pa.binary()),  # PNG of what is worth a look: not accepted, or below `SURE`
]
_BOX = pa.struct([(name, pa.int32()) for name in ("x", "y", "width", "height")])
_NUMBER = pa.struct(
    [
        ("text", pa.string()),
        ("probability", pa.float32()),
        ("accepted", pa.bool_()),
        ("reason", pa.string()),
        ("box", _BOX),
        ("line", pa.int32()),
    ]
)

READING = pa.schema(
    [("digit", pa.int8()), ("confidence", pa.float32()), ("probabilities", pa.list_(pa.float32(), 10)), *_ANSWER]
)
NUMBERS = pa.schema([("text", pa.string()), ("confidence", pa.float32()), ("numbers", pa.list_(_NUMBER)), *_ANSWER])
ROW = pa.schema([*_WHERE, *READING])
NUMBERS_ROW = pa.schema([*_WHERE, *NUMBERS])

SURE = 0.9  # confidence

_BATCH = 64  # pictures for the network
_CROP_PX, _PAGE_PX = 96, 384  # longest side; of a picture of numbers
_MARGIN = 0.25  # around the ink, of its longer side


class Model(NamedTuple):
    """The 8-bit network, as every process has it for itself."""

    engine: Int8Engine
    reader: Reader
    version: str
    sha256: str


@cache
def load_model(model_dir: str) -> Model:
    """Raises ModelError."""
    configure_codecs(MAX_PIXELS)
    engine = Int8Engine.load(Path(model_dir))
    manifest = engine.manifest
    reader = Reader(manifest.temperature, manifest.thresholds)
    return Model(engine, reader, manifest.version, manifest.sha256[engine.file_name])


def read_shard(pictures: Iterable[Picture], model: Model, *, numbers: bool = False) -> Iterator[pa.RecordBatch]:
    """Rows of the pictures, in their order: as in `ROW`, or in `NUMBERS_ROW`."""
    pictures = iter(pictures)
    while batch := list(islice(pictures, _BATCH)):
        sources, keys, contents = zip(*batch, strict=True)
        names = [pa.array(map(_valid, names), pa.string()) for names in (sources, keys)]
        if numbers:
            columns = _arrays([_numbers_row(data, model) for data in contents], NUMBERS)
        else:
            columns = _columns([_find(data) for data in contents], model)
        yield pa.RecordBatch.from_arrays([*names, *columns], schema=NUMBERS_ROW if numbers else ROW)


class ReadDigits:
    """For pipelines of Arrow tables, such as Ray Data's `map_batches`.

    A table with a column of encoded images -> the same with the columns of `READING`.
    """

    def __init__(self, column: str = "bytes", model_dir: str | None = None) -> None:
        self._column = column
        self._model = load_model(model_dir or str(Settings().model_dir))

    def __call__(self, table: pa.Table) -> pa.Table:
        found = [_find(UNREADABLE if image is None else image) for image in table.column(self._column).to_pylist()]
        for field, values in zip(READING, _columns(found, self._model), strict=True):
            table = table.append_column(field, values)
        return table


def _find(data: bytes | str) -> Preprocessed | str:
    try:
        return data if isinstance(data, str) else preprocess(data)
    except DigitsError as error:
        return error.code


def _columns(found: Sequence[Preprocessed | str], model: Model) -> list[pa.Array]:
    """What was found in each picture, or the code of an error -> as in `READING`."""
    inks = [each.ink for each in found if isinstance(each, Preprocessed)]
    logits = iter(model.engine.logits(np.stack(inks)) if inks else ())
    return _arrays([_row(each, logits, model) for each in found], READING)


def _arrays(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> list[pa.Array]:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]


def _row(found: Preprocessed | str, logits: Iterator[Logits], model: Model) -> tuple[Any, ...]:
    names = (model.version, model.sha256)
    if isinstance(found, str):
        return None, None, None, None, None, found, *names, None
    reading = model.reader.look_again(model.reader.judge(found, next(logits)), model.engine.logits)
    confidence = max(reading.probabilities)
    digit = reading.probabilities.index(confidence)
    reason = reading.rejection and reading.rejection.reason
    crop = _crop(reading.found) if reason or confidence < SURE else None
    return digit, confidence, reading.probabilities, reason is None, reason, None, *names, crop


def _numbers_row(data: bytes | str, model: Model) -> tuple[Any, ...]:
    """As `POST /read` answers. A picture is as certain as the least certain of its numbers."""
    names = (model.version, model.sha256)
    try:
        if isinstance(data, str):
            return None, None, None, None, None, data, *names, None
        decoded = decode(inspect(data), REDUCED_PX)
        found = find_lines(decoded)
        numbers = _read(found, model)
    except DigitsError as error:
        return None, None, None, None, None, error.code, *names, None
    confidence = min((number.probability for number in numbers), default=0.0)
    reason = next((number.rejection[0] for number in numbers if number.rejection), None if numbers else "not_a_number")
    crop = encode_png(shrink(decoded.grey, _PAGE_PX)[0]) if reason or confidence < SURE else None
    text = " ".join(number.text for number in numbers)
    return text, confidence, [_number(each) for each in numbers], reason is None, reason, None, *names, crop


def _read(found: Lines, model: Model) -> list[Number]:
    return read_lines(found, model.engine.logits(inks_of(found)), model.reader.temperature)


def _number(number: Number) -> dict[str, Any]:
    left, top, right, bottom = number.box
    return {
        "text": number.text,
        "probability": number.probability,
        "accepted": number.rejection is None,
        "reason": number.rejection and number.rejection[0],
        "box": {"x": left, "y": top, "width": right - left, "height": bottom - top},
        "line": number.row,
    }


def _crop(found: Preprocessed) -> bytes | None:
    """The ink and what is around it, as PNG of at most 96 pixels a side."""
    if found.picture is None:
        return None
    grey = found.picture.grey
    scale_x, scale_y = grey.shape[1] / found.picture.width, grey.shape[0] / found.picture.height
    x, y, width, height = found.ink_box
    margin = _MARGIN * max(width, height)
    left, right = (max(0, round(edge * scale_x)) for edge in (x - margin, x + width + margin))
    top, bottom = (max(0, round(edge * scale_y)) for edge in (y - margin, y + height + margin))
    part = grey[top : max(bottom, top + 1), left : max(right, left + 1)]
    shrink = min(1, _CROP_PX / max(part.shape))
    size = [max(1, round(side * shrink)) for side in reversed(part.shape)]
    return encode_png(as_uint8(cv2.resize(part, size, interpolation=cv2.INTER_AREA)))


def _valid(name: str) -> str:
    """As valid UTF-8: a file's name need not be."""
    return name.encode("utf-8", "replace").decode()
