"""Evaluation on pictures of numbers: how many are read without a mistake, and whether their probability is right."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.errors import DigitsError
from app.imaging.decode import decode
from app.imaging.formats import inspect
from app.imaging.lines import REDUCED_PX, find_lines
from app.model.engine import Engine, Int8Engine
from app.model.numbers import Number, inks_of, read_lines
from training.data.folders import NumberFile
from training.evaluation.measures import ece, reliability


@dataclass
class NumberScores:
    """Of one kind of pictures. ``exact``: all digits right and in order. ``edits``: to get them right."""

    pictures: int = 0
    exact: int = 0
    accepted: int = 0  # every number of the picture
    accepted_wrong: int = 0
    edits: int = 0
    digits: int = 0
    milliseconds: list[float] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class NumberFigures:
    """``wrong``: file, label and reading. ``ece``: of the probability that all numbers of a picture are right."""

    kinds: dict[str, NumberScores]
    ece: float
    wrong: list[tuple[str, str, str]]


def read_number_files(models: Path, files: Sequence[NumberFile]) -> NumberFigures:
    """Read every picture with the 8-bit engine of an exported model. Times are of the processor."""
    loaded = Int8Engine.load(models)
    kinds: dict[str, NumberScores] = {}
    wrong, probabilities, right = [], [], []
    for file in files:
        started = time.process_time()
        try:
            numbers = read_picture(loaded, file.path.read_bytes())
        except DigitsError:
            numbers = []
        milliseconds = (time.process_time() - started) * 1000
        text = "".join(number.text for number in numbers)
        is_exact = text == file.text
        is_accepted = bool(numbers) and all(number.rejection is None for number in numbers)
        if numbers:
            probabilities.append(float(np.prod([number.probability for number in numbers])))
            right.append(is_exact)
        if not is_exact:
            wrong.append((file.path.name, file.text, " ".join(number.text for number in numbers)))
        for kind in file.kinds:
            scores = kinds.setdefault(kind, NumberScores())
            scores.pictures += 1
            scores.exact += is_exact
            scores.accepted += is_accepted
            scores.accepted_wrong += is_accepted and not is_exact
            scores.edits += edit_distance(text, file.text)
            scores.digits += len(file.text)
            scores.milliseconds.append(milliseconds)
    return NumberFigures(kinds, ece(reliability(np.array(probabilities), np.array(right, np.bool_))), wrong)


def read_picture(engine: Engine, data: bytes) -> list[Number]:
    """The numbers of an encoded picture. Raises the errors of decoding, NoInk, TooLarge."""
    found = find_lines(decode(inspect(data), REDUCED_PX))
    return read_lines(found, engine.logits(inks_of(found)), engine.manifest.temperature)


def edit_distance(one: str, other: str) -> int:
    """How many digits to change, insert or delete (Levenshtein)."""
    row = list(range(len(other) + 1))
    for place, digit in enumerate(one, start=1):
        last, row[0] = row[0], place
        for column, expected in enumerate(other, start=1):
            last, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, last + (digit != expected))
    return row[-1]
