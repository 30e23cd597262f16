"""The pieces of lines -> numbers, each with the probability that all of it is right. Pure and synchronous.

A line is a lattice: its arcs are neighbouring pieces that may be one digit, and a path through it is a reading. Scores
are log-probabilities; what a path costs besides, for cuts and joins and unusual sizes, was chosen on real pictures.
"""

import math
from collections.abc import Callable, Sequence
from heapq import nlargest
from itertools import pairwise, zip_longest
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import TooLarge
from app.imaging.lines import Lines
from app.imaging.pieces import Box, Line
from app.imaging.preprocess import SIDE_PX, Ink
from app.model.decision import DIGITS
from app.model.engine import Logits

MAX_DIGITS = 400  # of a picture

_FLOOR = 1e-3  # the network is wrong at least this often
_CUT, _JOIN, _SPACE = -0.5, -0.7, -4.0  # per width of a stroke that is cut, part that is joined, space in between
_LOW, _TALL, _WIDE = (-6.0, 0.75), (-4.0, 1.4), (-3.0, 1.1)  # per log-height below and above, height beyond
_SIGN = -6.0  # a parenthesis or slash as a digit
_MARK, _OTHER, _WORD, _WIDTH = 0.0, -3.2, -0.6, -1.1  # a mark, no digit, another in a row, per height of its width
_DOT, _NONE, _OTHER_CUT = 0.0, 1.0, -0.5
_MARK_SIZE, _FLAT = 0.51, 0.25  # in heights of the line: smaller or flatter parts are marks
_BEND, _SLANT = 0.045, 0.3  # of a parenthesis; of a slash
_GAP, _GAPS = 1.3, 3.0  # heights of a line, and times its usual gap: a larger gap ends a number
_BEAM, _CONSTRAINED_BEAM, _CHOICES = 16, 64, 3  # readings kept at each piece; digits tried for each arc
_LEAST = -1.6  # score of a digit, and half the log-probability of its number: with less it is none
_TEMPERATURE = 1.0  # fitted on strings of MNIST's validation digits
_ACCEPTED = 0.98  # probability: of such strings 2 % are wrong
_MOST_READINGS = 11  # of a number: the best and its alternatives
_LISTED, _FEWEST_UNLISTED = 0.9, 100  # how probable it is that a number is on its list; numbers that are not on it

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

    @property
    def rejection(self) -> tuple[Reason, float, float] | None:
        """Why it is not accepted, its score and the threshold; None if it is accepted."""
        if not self.is_whole:
            return "not_a_number", self.probability, _ACCEPTED
        if self.probability >= _ACCEPTED:
            return None
        return "low_confidence", self.probability, _ACCEPTED


class _Scores(NamedTuple):
    """Of each arc as each digit (n, 10), and as something else (n,), minus infinity where it is no whole part."""

    digits: NDArray[np.float64]
    other: NDArray[np.float64]
    is_mark: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class _Step(NamedTuple):
    before: "_Step | None"
    arc: int
    digit: int | None


_State = tuple[float, float, _Step | None]  # log-probability of all that leads here, of the best way, and that way
_States = dict[str, _State]  # by text


def read_lines(found: Lines, logits: Logits, temperature: float, wanted: Wanted = ANY) -> list[Number]:
    """The numbers of a picture in reading order, boxes in pixels of it. ``logits``: of `inks_of` its lines.

    Raises TooLarge beyond 400 digits, RuntimeError if the model gives a NaN.
    """
    if np.isnan(logits).any():
        raise RuntimeError("the engine gave a NaN")
    numbers, start = [], 0
    for line in found.lines:
        end = start + len(line.arcs)
        numbers += [_placed(number, found) for number in _read_line(line, logits[start:end], temperature, wanted)]
        start = end
    if sum(len(number.text) for number in numbers) > MAX_DIGITS:
        raise TooLarge(f"The image has more than {MAX_DIGITS} digits: send parts of it.")
    return numbers


def joined(cells: Sequence[Sequence[Number]], inked: Sequence[bool]) -> Number | None:
    """What a field holds: its best number, or the digits of its cells as one; None if nothing is read.

    ``inked``: which cells have ink. Not accepted if one of them has no number, or more than one.
    """
    best = [max(numbers, key=lambda number: len(number.text) * number.probability) for numbers in cells if numbers]
    whole = all(len(numbers) == has_ink for numbers, has_ink in zip(cells, inked, strict=True))
    if len(best) < 2:
        return best[0]._replace(is_whole=whole) if best else None
    boxes = np.array([number.box for number in best])
    return best[0]._replace(
        text="".join(number.text for number in best),
        probability=math.prod(number.probability for number in best),
        box=(*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()),
        digits=[digit for number in best for digit in number.digits],
        row=0,
        marks=[],
        alternatives=[],
        is_whole=whole,
    )


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
    scores = _score(line, logits, temperature)
    path = _best_path(line, scores)
    numbers: list[Number] = []
    for large in (_large_gap(line, path), math.inf):
        spans = _spans(line, path, scores, large)
        found = [_number(line, scores, first, end, wanted) for first, end in spans]
        numbers = [number for number in found if number]
        if wanted == ANY or len(numbers) == len(spans):
            break
    return numbers


def _score(line: Line, logits: Logits, temperature: float) -> _Scores:
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probable = exponents / exponents.sum(axis=1, keepdims=True)
    log = np.log(probable * (1 - _FLOOR) + _FLOOR / probable.shape[1])
    cut, joined, gap, bend, slant = np.array([arc[2:7] for arc in line.arcs], np.float64).T
    left, top, right, bottom = np.array([arc.box for arc in line.arcs], np.float64).T
    width, height = (right - left) / line.height, (bottom - top) / line.height
    size = np.maximum(height, 0.8 * width)
    arch = _parentheses(bend * (height > 0.95), left, log[:, :DIGITS])
    slash = (slant > _SLANT) & (np.abs(bend) < _BEND) & (height > 1.15)
    geometry = _CUT * cut + _JOIN * joined + _SPACE * gap + _SIGN * (arch | slash)
    geometry += _LOW[0] * np.maximum(0, np.log(_LOW[1] / size)) + _TALL[0] * np.maximum(0, np.log(height / _TALL[1]))
    geometry += _WIDE[0] * np.maximum(0, width - _WIDE[1])
    is_mark = ((size < _MARK_SIZE) | (height < _FLAT) | slash) & (cut == 0)
    none = log[:, DIGITS] if probable.shape[1] > DIGITS else np.full(len(log), math.log(_FLOOR))
    mark = _MARK + np.where(slash, 0.0, _DOT * none)
    other = np.where(is_mark, mark, np.where(arch, 0.0, _NONE * none) + _WIDTH * width + _OTHER_CUT * cut)
    other[joined > 0] = -math.inf
    return _Scores(log[:, :DIGITS] + geometry[:, None], other, is_mark, probable)


def _parentheses(bend: NDArray[np.float64], left: NDArray[np.float64], log: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which arcs are one of a pair: the network is sure of other digits than ones and sevens."""
    doubtful = np.isin(log.argmax(axis=1), (1, 7)) | (log.max(axis=1) < math.log(0.9))
    opening, closing = doubtful & (bend < -_BEND), doubtful & (bend > _BEND)
    if not (opening.any() and closing.any()):
        return np.zeros(len(log), np.bool_)
    pair: NDArray[np.bool_] = (opening & (left < left[closing].max())) | (closing & (left > left[opening].min()))
    return pair


def _best_path(line: Line, scores: _Scores) -> list[tuple[int, int | None]]:
    """(arc, its digit or None) from left to right (Viterbi). It costs more to begin a word than to go on with it."""
    best = [[-math.inf, -math.inf] for _ in range(line.pieces + 1)]  # outside a word, and inside
    back: list[list[tuple[int, int | None, int] | None]] = [[None, None] for _ in range(line.pieces + 1)]
    best[0][0] = 0.0
    top, digits = scores.digits.max(axis=1).tolist(), scores.digits.argmax(axis=1).tolist()
    for index, arc in enumerate(line.arcs):
        other, is_mark = float(scores.other[index]), bool(scores.is_mark[index])
        for state in (0, 1):
            cost = 0.0 if is_mark else _WORD if state else _OTHER
            for score, digit, after in ((top[index], digits[index], 0), (other + cost, None, state if is_mark else 1)):
                if best[arc.first][state] + score > best[arc.end][after]:
                    best[arc.end][after] = best[arc.first][state] + score
                    back[arc.end][after] = (index, digit, state)
    node, state = line.pieces, int(best[-1][1] > best[-1][0])
    path = []
    while step := back[node][state]:
        path.append(step[:2])
        node, state = line.arcs[step[0]].first, step[2]
    return path[::-1]


def _large_gap(line: Line, path: Sequence[tuple[int, int | None]]) -> float:
    boxes = [line.arcs[arc].box for arc, digit in path if digit is not None]
    gaps = [two[0] - one[2] for one, two in pairwise(boxes)]
    return max(_GAP * line.height, _GAPS * float(np.median(gaps))) if gaps else math.inf


def _spans(line: Line, path: Sequence[tuple[int, int | None]], scores: _Scores, large: float) -> list[tuple[int, int]]:
    """The pieces of each number, from its first digit to its last: words and large gaps are between them."""
    spans: list[tuple[int, int]] = []
    end, right = -1, 0
    for index, digit in path:
        arc = line.arcs[index]
        if digit is None:
            end = end if scores.is_mark[index] else -1
        elif end >= 0 and arc.box[0] - right <= large:
            spans[-1], end, right = (spans[-1][0], arc.end), arc.end, arc.box[2]
        else:
            spans.append((arc.first, arc.end))
            end, right = arc.end, arc.box[2]
    return spans


def _number(line: Line, scores: _Scores, first: int, end: int, wanted: Wanted) -> Number | None:
    """The number on some pieces of a line; None if nothing there looks like one, or fits."""
    beam = _BEAM if wanted == ANY or wanted.candidates else _CONSTRAINED_BEAM
    states = _search(line, scores, first, end, lambda text: len(text) <= wanted.most, beam)
    masses = {text: mass / _TEMPERATURE for text, (mass, _, _) in states.items()}
    none = None
    if wanted.candidates:
        probable, none = _posterior(_fits(line, scores, first, end, wanted.candidates), masses)
        states = {}
    else:
        fitting = {text: mass for text, mass in masses.items() if wanted == ANY or wanted.has(text)}
        total = _log_sum(list(fitting.values()))
        probable = {text: math.exp(mass - total) for text, mass in fitting.items()}
    ranked = sorted(probable, key=probable.__getitem__, reverse=True)
    if not ranked or not ranked[0]:
        return None
    text = ranked[0]
    if text not in states:
        states = _search(line, scores, first, end, text.startswith, max(_CONSTRAINED_BEAM, len(text) + 1))
    steps = []
    step = states[text][2] if text in states else None
    while step:
        steps.append(step)
        step = step.before
    steps.reverse()
    shown = [one for one in steps if one.digit is not None]
    score = sum(float(scores.digits[one.arc, one.digit]) for one in shown) / max(1, len(shown))
    if wanted == ANY and score + math.log(probable[text]) / 2 < _LEAST:
        return None
    arcs = [line.arcs[one.arc] for one in shown]
    boxes = np.array([arc.box for arc in arcs])
    box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    digits = [
        Digit(int(char), float(scores.confidence[one.arc, int(char)]), arc.box)
        for char, one, arc in zip(text, shown, arcs, strict=True)
    ]
    others = [(other, probable[other]) for other in ranked[1:_MOST_READINGS] if other]
    return Number(text, probable[text], box, line.row, digits, _marks(line, steps), others, none)


def _search(
    line: Line, scores: _Scores, first: int, end: int, is_possible: Callable[[str], bool], beam: int
) -> _States:
    """The readings of some pieces (beam search); those with the same text add up."""
    states: list[_States] = [{} for _ in range(end + 1)]
    states[first][""] = (0.0, 0.0, None)
    choices = np.argsort(-scores.digits, axis=1)[:, : _CHOICES if beam == _BEAM else DIGITS].tolist()
    for index, arc in enumerate(line.arcs):
        if arc.first < first or arc.end > end or not states[arc.first]:
            continue
        if len(states[arc.first]) > beam:
            kept = sorted(states[arc.first].items(), key=lambda state: -state[1][0])
            states[arc.first] = dict(kept[:beam])
        options: list[tuple[str, int | None, float]] = [
            (str(digit), digit, float(scores.digits[index, digit])) for digit in choices[index]
        ]
        if scores.other[index] > -math.inf:
            options.append(("", None, float(scores.other[index]) + (0 if scores.is_mark[index] else _OTHER)))
        after = states[arc.end]
        for text, (mass, best, step) in states[arc.first].items():
            for char, digit, score in options:
                longer = text + char
                if not is_possible(longer):
                    continue
                old = after.get(longer)
                way: _State = (mass + score, best + score, _Step(step, index, digit))
                if old is not None:
                    best_way = way if way[1] > old[1] else old
                    way = (_log_sum([way[0], old[0]]), *best_way[1:])
                after[longer] = way
    return states[end]


def _fits(line: Line, scores: _Scores, first: int, end: int, candidates: Sequence[str]) -> dict[str, float]:
    """The score of the best path of every candidate, all at once (Viterbi)."""
    found: dict[str, float] = {}
    digits = scores.digits.astype(np.float32)
    for length in {len(text) for text in candidates}:
        texts = [text for text in candidates if len(text) == length]
        codes = (np.frombuffer("".join(texts).encode(), np.uint8).reshape(-1, length) - ord("0")).T
        best = np.full((end - first + 1, length + 1, len(texts)), -np.inf, np.float32)
        best[0, 0] = 0
        for index, arc in enumerate(line.arcs):
            if arc.first < first or arc.end > end:
                continue
            before, after = best[arc.first - first], best[arc.end - first]
            for place in range(max(0, length - end + arc.first), min(length, arc.first - first + 1)):
                np.maximum(after[place + 1], before[place] + digits[index][codes[place]], out=after[place + 1])
            if scores.other[index] > -math.inf:
                cost = float(scores.other[index]) + (0 if scores.is_mark[index] else _OTHER)
                np.maximum(after, before + np.float32(cost), out=after)
        found.update(zip(texts, (best[-1, length] / _TEMPERATURE).tolist(), strict=True))
    return {text: score for text, score in found.items() if score > -math.inf}


def _posterior(fits: dict[str, float], masses: dict[str, float]) -> tuple[dict[str, float], float]:
    """The probability of each candidate, and that the number is none of them (Bayes' rule).

    Before it is read, every candidate is as probable as another. So is every other number that has one of the
    candidates' digits in each place: there are few beside a dense list, and very many beside a random one.
    """
    if not fits:
        return {}, 1.0
    prior = math.log(_LISTED / len(fits))
    places = zip_longest(*fits)
    unlisted = max(math.log(_FEWEST_UNLISTED), sum(math.log(len(set(place) - {None})) for place in places))
    others = [mass + math.log(1 - _LISTED) - unlisted for text, mass in masses.items() if text not in fits]
    listed = prior + float(np.logaddexp.reduce(np.array(list(fits.values()))))
    rest = _log_sum(others) if others else -math.inf
    total = _log_sum([listed, rest])
    best = nlargest(_MOST_READINGS, fits, key=fits.__getitem__)
    return {text: math.exp(fits[text] + prior - total) for text in best}, math.exp(rest - total)


def _marks(line: Line, steps: Sequence[_Step]) -> list[Mark]:
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
            if arc.slant > _SLANT and height > line.height:
                mark = "/"
            else:
                mark = "-" if width > 1.6 * height else "," if height > 1.6 * width else "."
            if marks and marks[-1].after == after and mark == marks[-1].mark == ".":
                marks[-1] = marks[-1]._replace(mark=":")
            else:
                marks.append(Mark(after, mark, 0.9))
    return marks


def _log_sum(logs: Sequence[float]) -> float:
    highest = max(logs, default=-math.inf)
    return highest if highest == -math.inf else highest + math.log(sum(math.exp(each - highest) for each in logs))
