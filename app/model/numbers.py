"""The pieces of lines -> numbers, each with the probability that all of it is right. Pure and synchronous."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from app.errors import TooLarge
from app.imaging.lines import Lines
from app.imaging.pieces import Arc, Box, Line
from app.imaging.preprocess import SIDE_PX, Ink
from app.model.engine import Logits
from app.model.lattice import (
    BEAM,
    CONSTRAINED_BEAM,
    SLANT,
    TEMPERATURE,
    Path,
    Scores,
    Step,
    best_path,
    fit_candidates,
    large_gap,
    log_sum,
    score_arcs,
    search,
    spans_of,
)
from app.model.posterior import LEAST_DOUBT, MOST_READINGS, calibrated, posterior

MAX_DIGITS = 400  # of a picture

_LEAST = -1.6  # score of a digit, and half the log-probability of its number: with less it is none
_BESIDE = 4.0  # heights of the line: so near is unread ink beside a number
_ACCEPTED = 0.9  # probability: of the numbers for choosing that are surer, none is wrong
_LISTED_ACCEPTED = 0.98  # posterior of a candidate
_MOST_FITS = 10_000_000  # arcs times digits of candidates that are tried on a whole line
_LONG, _LONG_BEAM = 100, 4  # pieces of a long number, for which fewer readings are kept

Reason = Literal["low_confidence", "not_a_number", "touching"]


class Wanted(NamedTuple):
    """What a number can be: from ``least`` to ``most`` digits, or one of the ``candidates``."""

    least: int = 1
    most: int = MAX_DIGITS
    candidates: tuple[str, ...] = ()

    def has(self, text: str) -> bool:
        """Whether it has as many digits."""
        return self.least <= len(text) <= self.most


ANY = Wanted()


class Digit(NamedTuple):
    digit: int
    confidence: float
    box: Box


class Mark(NamedTuple):
    """A mark after that many digits."""

    after: int
    mark: str
    confidence: float


class Number(NamedTuple):
    """``alternatives``: other readings, the most probable first. ``none_of_these``: of its candidates, how probable."""

    text: str
    probability: float
    box: Box
    row: int
    digits: list[Digit]
    marks: list[Mark]
    alternatives: list[tuple[str, float]]
    none_of_these: float | None = None
    is_whole: bool = True  # False: beside it is ink, in its field or cells, that is not read
    beside: Reason | None = None  # what is beside it on its line and is not read: letters, or digits that touch

    @property
    def rejection(self) -> tuple[Reason, float, float] | None:
        """Why it is not accepted, its score and the threshold; None if it is accepted."""
        return self.rejection_at(1 - (_ACCEPTED if self.none_of_these is None else _LISTED_ACCEPTED))

    def rejection_at(self, accept_risk: float) -> tuple[Reason, float, float] | None:
        """The same where numbers are accepted that are wrong with at most this probability."""
        threshold = round(1 - accept_risk, 6)
        if not self.is_whole:
            return "not_a_number", self.probability, threshold
        if self.probability >= threshold:
            return None
        return self.beside or "low_confidence", self.probability, threshold


def read_lines(found: Lines, logits: Logits, temperature: float, wanted: Wanted = ANY) -> list[Number]:
    """The numbers of a picture in reading order, boxes in pixels of it. ``logits``: of `inks_of` its lines.

    Raises TooLarge beyond 400 digits, RuntimeError if the model gives a NaN.
    """
    if np.isnan(logits).any():
        raise RuntimeError("the engine gave a NaN")
    numbers: list[Number] = []
    start = 0
    for line in found.lines:
        end = start + len(line.arcs)
        read = [_placed(number, found) for number in _read_line(line, logits[start:end], temperature, wanted)]
        if not line.is_whole:
            numbers += read
        elif read and _is_surer(read[0], numbers):
            numbers = read
        start = end
    if sum(len(number.text) for number in numbers) > MAX_DIGITS:
        raise TooLarge(f"The image has more than {MAX_DIGITS} digits: send parts of it.")
    return numbers


def read_field(found: Lines, logits: Logits, temperature: float, wanted: Wanted = ANY) -> Number | None:
    """The best number of a field; None if nothing is read. Not accepted if there is another."""
    numbers = read_lines(found, logits, temperature, wanted)
    best = max(numbers, key=lambda number: len(number.text) * number.probability, default=None)
    return best and best._replace(is_whole=len(numbers) == 1)


def _is_surer(whole: Number, numbers: Sequence[Number]) -> bool:
    """Whether a picture shows one digit rather than these numbers."""
    if not numbers:
        return True
    return len(numbers) == len(numbers[0].text) == 1 and whole.probability > numbers[0].probability


def read_cells(found: Lines, logits: Logits, temperature: float, wanted: Wanted = ANY) -> Number | None:
    """The number in cells whose digits are the arcs of one line; None without. Not accepted if one has no digit."""
    if np.isnan(logits).any():
        raise RuntimeError("the engine gave a NaN")
    number = None
    for line in found.lines:
        most = min(wanted.most, line.pieces)
        limits = wanted._replace(least=min(wanted.least, most), most=most)
        number = _number(line, score_arcs(line, logits, temperature), (0, line.pieces), limits, None)
        if number:
            number = _placed(number, found)._replace(is_whole=len(number.digits) == line.pieces)
    return number


def inks_of(found: Lines) -> Ink:
    """(n, 28, 28, 1): all that the model has to look at."""
    inks = [arc.ink for line in found.lines for arc in line.arcs]
    return np.stack(inks) if inks else np.zeros((0, SIDE_PX, SIDE_PX, 1), np.float32)


def _placed(number: Number, found: Lines) -> Number:
    across, down = found.scale
    x, y = found.origin

    def placed(box: Box) -> Box:
        left, top, right, bottom = box
        return x + round(left * across), y + round(top * down), x + round(right * across), y + round(bottom * down)

    digits = [digit._replace(box=placed(digit.box)) for digit in number.digits]
    return number._replace(box=placed(number.box), digits=digits)


def _read_line(line: Line, logits: Logits, temperature: float, wanted: Wanted) -> list[Number]:
    """The numbers of a line, from left to right. ``logits``: (n, 10 or 11), of its arcs."""
    if not line.arcs:
        return []
    scores = score_arcs(line, logits, temperature)
    if line.is_whole and wanted == ANY:
        beside: Reason | None = None if scores.digits.max() > scores.other[0] else "not_a_number"
        number = _number(line, scores._replace(other=np.full(1, -math.inf)), (0, 1), wanted, beside)
        return [number] if number else []
    path = best_path(line, scores)
    numbers: list[Number] = []
    for large in (large_gap(line, path), math.inf):
        spans = spans_of(line, path, scores, large)
        found = [_number(line, scores, span, wanted, _beside(line, path, scores, span)) for span in spans]
        numbers = [number for number in found if number]
        if wanted == ANY or len(numbers) == len(spans):
            break
    fits = len(line.arcs) * sum(map(len, wanted.candidates))
    if 0 < fits < _MOST_FITS and not (numbers and all(map(_is_listed, numbers))):
        number = _number(line, scores, (0, line.pieces), wanted, None)  # touching digits look like none
        if number and _is_listed(number):
            return [number]
    return numbers


def _is_listed(number: Number) -> bool:
    return number.none_of_these is not None and number.none_of_these < 0.5


def _beside(line: Line, path: Path, scores: Scores, span: tuple[int, int]) -> Reason | None:
    """What the path leaves unread next to a number; nothing beyond a gap as high as the line."""
    boxes = [line.arcs[index].box for index, digit in path if digit is not None and _is_in(line.arcs[index], span)]
    left, right = (
        min(box[0] for box in boxes) - _BESIDE * line.height,
        max(box[2] for box in boxes) + _BESIDE * line.height,
    )
    beside = [
        line.arcs[index]
        for index, digit in path
        if digit is None
        and not scores.is_mark[index]
        and line.arcs[index].box[2] > left
        and line.arcs[index].box[0] < right
    ]
    if not beside:
        return None
    return "touching" if any(arc.end > arc.first + 1 for arc in beside) else "not_a_number"


def _is_in(arc: Arc, span: tuple[int, int]) -> bool:
    return span[0] <= arc.first and arc.end <= span[1]


def _number(line: Line, scores: Scores, span: tuple[int, int], wanted: Wanted, beside: Reason | None) -> Number | None:
    """The number on some pieces of a line; None if nothing there looks like one, or fits."""
    first, end = span
    is_free = wanted.least == 1 and wanted.most >= min(end - first, MAX_DIGITS)
    beam = CONSTRAINED_BEAM
    if is_free or wanted.candidates:
        beam = BEAM if end - first <= _LONG else _LONG_BEAM
    states = search(line, scores, first, end, lambda text: len(text) <= wanted.most, beam)
    masses = {text: mass / TEMPERATURE for text, (mass, _, _) in states.items()}
    none = None
    if wanted.candidates:
        probable, none = posterior(*fit_candidates(line, scores, first, end, wanted.candidates), masses)
    else:
        fitting = {text: mass for text, mass in masses.items() if wanted == ANY or wanted.has(text)}
        total = log_sum(list(fitting.values()))
        probable = {text: math.exp(mass - total) for text, mass in fitting.items()}
    ranked = sorted(probable, key=probable.__getitem__, reverse=True)
    if not ranked or not ranked[0]:
        return None
    text = ranked[0]
    if text not in states:
        states = search(line, scores, first, end, text.startswith, max(CONSTRAINED_BEAM, len(text) + 1))
    steps = []
    step = states[text][2] if text in states else None
    while step:
        steps.append(step)
        step = step.before
    steps.reverse()
    shown = [one for one in steps if one.digit is not None]
    score = sum(float(scores.digits[one.arc, one.digit]) for one in shown) / max(1, len(shown))
    doubt = math.log(probable[text]) / max(2, len(text) / 10)
    if wanted == ANY and not line.is_whole and score + doubt < _LEAST:
        return None
    arcs = [line.arcs[one.arc] for one in shown]
    boxes = np.array([arc.box for arc in arcs])
    box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    digits = [
        Digit(int(char), float(scores.confidence[one.arc, int(char)]), arc.box)
        for char, one, arc in zip(text, shown, arcs, strict=True)
    ]
    share = right = probable[text]
    scale = 1.0
    if not wanted.candidates:
        read = [scores.other[one.arc] if one.digit is None else scores.digits[one.arc, one.digit] for one in steps]
        worst = float(min(read))  # with what is skipped; a mark costs little
        right = calibrated(share, worst, len(text), is_beside=beside is not None)
        right = min(right, math.exp(worst)) if line.is_whole else right
        scale = min(right / share, (1 - right) / max(1 - share, LEAST_DOUBT))
    others = [(other, probable[other] * scale) for other in ranked[1:MOST_READINGS] if other]
    marks = _marks(line, steps)
    return Number(text, right, box, line.row, digits, marks, others, none, beside=beside)


def _marks(line: Line, steps: Sequence[Step]) -> list[Mark]:
    """The marks between the digits of a number, named by their shape and place."""
    marks: list[Mark] = []
    after = 0
    last = max((place for place, step in enumerate(steps) if step.digit is not None), default=0)
    for step in steps[:last]:
        arc = line.arcs[step.arc]
        after += step.digit is not None
        if step.digit is None and after:
            left, top, right, bottom = arc.box
            width, height = right - left, bottom - top
            if arc.slant > SLANT and height > line.height:
                mark = "/"
            else:
                mark = "-" if width > 1.6 * height else "," if height > 1.6 * width else "."
            if marks and marks[-1].after == after and mark == marks[-1].mark == ".":
                marks[-1] = marks[-1]._replace(mark=":")
            else:
                marks.append(Mark(after, mark, 0.9))
    return marks
