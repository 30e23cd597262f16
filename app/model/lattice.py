"""A line as a lattice: its arcs are neighbouring pieces that may be one digit, and a path through it is a reading.

Scores are log-probabilities; what a path costs besides, for cuts and joins and unusual sizes, was chosen on pictures.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.imaging.pieces import Line
from app.model.decision import DIGITS
from app.model.engine import Logits

_FLOOR = 1e-3  # the network is wrong at least this often
_CUT, _JOIN, _SPACE = -0.5, -0.7, -2.5  # per width of a stroke that is cut, part that is joined, space in between
_LOW, _TALL, _WIDE = (-6.0, 0.75), (-4.0, 1.4), (-4.0, 1.1)  # per log-height below and above, height beyond
_SIGN = -6.0  # a parenthesis or slash as a digit
_MARK, _OTHER, _WORD, _WIDTH = 0.0, -3.2, -0.6, -0.8  # a mark, no digit, another in a row, per height of its width
_OTHER_CUT = -0.8  # per width of a stroke that is cut beside what is no digit
_SMALL = 0.33  # height of the digits of a fraction
_MARK_SIZE, _FLAT = 0.51, 0.25  # in heights of the line: smaller or flatter parts are marks
_BEND, SLANT = 0.045, 0.3  # of a parenthesis; of a slash
_GAP, _GAPS = 1.3, 3.0  # heights of a line, and times its usual gap: a larger gap ends a number
BEAM, CONSTRAINED_BEAM, _CHOICES = 16, 64, 3  # readings kept at each piece; digits tried for each arc
TEMPERATURE = 1.0  # fitted on strings of MNIST's validation digits


Path = list[tuple[int, int | None]]  # (arc, its digit or None) from left to right


class Scores(NamedTuple):
    """Of each arc as each digit (n, 10), and as something else (n,), minus infinity where it is no whole part."""

    digits: NDArray[np.float64]
    other: NDArray[np.float64]
    is_mark: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class Step(NamedTuple):
    before: "Step | None"
    arc: int
    digit: int | None


_State = tuple[float, float, Step | None]  # log-probability of all that leads here, of the best way, and that way
States = dict[str, _State]  # by text


def score_arcs(line: Line, logits: Logits, temperature: float) -> Scores:
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probable = exponents / exponents.sum(axis=1, keepdims=True)
    log = np.log(probable * (1 - _FLOOR) + _FLOOR / probable.shape[1])
    cut, joined, gap, bend, slant = np.array([arc[2:7] for arc in line.arcs], np.float64).T
    left, top, right, bottom = np.array([arc.box for arc in line.arcs], np.float64).T
    width, height = (right - left) / line.height, (bottom - top) / line.height
    size = np.maximum(height, 0.8 * width)
    arch = _parentheses(bend * (height > 0.95), left, log[:, :DIGITS])
    slash = (slant > SLANT) & (np.abs(bend) < _BEND) & (height > 1.15)
    geometry = _CUT * cut + _JOIN * joined + _SPACE * gap + _SIGN * (arch | slash)
    first, end = np.array([arc[:2] for arc in line.arcs]).T
    is_small = np.isin(first, end[slash]) | np.isin(end, first[slash])  # of a fraction
    low = np.where(is_small, _SMALL, _LOW[1])
    geometry += _LOW[0] * np.maximum(0, np.log(low / size)) + _TALL[0] * np.maximum(0, np.log(height / _TALL[1]))
    geometry += _WIDE[0] * np.maximum(0, width - _WIDE[1])
    is_mark = (((size < np.where(is_small, _SMALL, _MARK_SIZE)) | (height < _FLAT)) & (cut == 0)) | slash
    none = log[:, DIGITS] if probable.shape[1] > DIGITS else np.full(len(log), math.log(_FLOOR))
    other = np.where(is_mark, _MARK, np.where(arch, 0.0, none) + _WIDTH * width + _OTHER_CUT * cut)
    other[joined > 0] = -math.inf
    return Scores(log[:, :DIGITS] + geometry[:, None], other, is_mark, probable)


def _parentheses(bend: NDArray[np.float64], left: NDArray[np.float64], log: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which arcs are one of a pair: the network is sure of other digits than ones and sevens."""
    doubtful = np.isin(log.argmax(axis=1), (1, 7)) | (log.max(axis=1) < math.log(0.9))
    opening, closing = doubtful & (bend < -_BEND), doubtful & (bend > _BEND)
    if not (opening.any() and closing.any()):
        return np.zeros(len(log), np.bool_)
    pair: NDArray[np.bool_] = (opening & (left < left[closing].max())) | (closing & (left > left[opening].min()))
    return pair


def best_path(line: Line, scores: Scores) -> Path:
    """The best path (Viterbi). It costs more to begin a word than to go on with it."""
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
    path: Path = []
    while step := back[node][state]:
        path.append(step[:2])
        node, state = line.arcs[step[0]].first, step[2]
    return path[::-1]


def large_gap(line: Line, path: Path) -> float:
    boxes = [line.arcs[arc].box for arc, digit in path if digit is not None]
    gaps = [two[0] - one[2] for one, two in pairwise(boxes)]
    return max(_GAP * line.height, _GAPS * float(np.median(gaps))) if gaps else math.inf


def spans_of(line: Line, path: Path, scores: Scores, large: float) -> list[tuple[int, int]]:
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


def search(line: Line, scores: Scores, first: int, end: int, is_possible: Callable[[str], bool], beam: int) -> States:
    """The readings of some pieces (beam search); those with the same text add up."""
    states: list[States] = [{} for _ in range(end + 1)]
    states[first][""] = (0.0, 0.0, None)
    choices = np.argsort(-scores.digits, axis=1)[:, : _CHOICES if beam <= BEAM else DIGITS].tolist()
    for index, arc in enumerate(line.arcs):
        if arc.first < first or arc.end > end or not states[arc.first]:
            continue
        if len(states[arc.first]) > beam:
            kept = sorted(states[arc.first].items(), key=lambda state: -state[1][0])
            states[arc.first] = dict(kept[:beam])
        options: list[tuple[str, int | None, float]] = [
            (str(digit), digit, float(scores.digits[index, digit])) for digit in choices[index]
        ]
        if scores.other[index] > -math.inf and (not arc.cut or scores.is_mark[index]):
            options.append(("", None, float(scores.other[index]) + (0 if scores.is_mark[index] else _OTHER)))
        after = states[arc.end]
        for text, (mass, best, step) in states[arc.first].items():
            for char, digit, score in options:
                longer = text + char
                if not is_possible(longer):
                    continue
                old = after.get(longer)
                way: _State = (mass + score, best + score, Step(step, index, digit))
                if old is not None:
                    best_way = way if way[1] > old[1] else old
                    way = (log_sum([way[0], old[0]]), *best_way[1:])
                after[longer] = way
    return states[end]


def fit_candidates(
    line: Line, scores: Scores, first: int, end: int, candidates: Sequence[str]
) -> tuple[list[str], NDArray[np.float64], float]:
    """The candidates, the score of the best path of each, all at once (Viterbi), and the log of how many are like them.

    Like them: numbers with one of the candidates' digits in each place.
    """
    digits = scores.digits.astype(np.float32)
    ordered: list[str] = []
    found = []
    seen = np.zeros((max(map(len, candidates)), DIGITS), np.bool_)
    for length in sorted(set(map(len, candidates))):
        texts = [text for text in candidates if len(text) == length]
        codes = np.frombuffer("".join(texts).encode(), np.uint8).reshape(-1, length).T.astype(np.intp) - ord("0")
        for place, column in enumerate(codes):
            seen[place] |= np.bincount(column, minlength=DIGITS) > 0
        best = np.full((end - first + 1, length + 1, len(texts)), -np.inf, np.float32)
        best[0, 0] = 0
        longer = np.empty((length, len(texts)), np.float32)
        for index, arc in enumerate(line.arcs):
            if arc.first < first or arc.end > end:
                continue
            before, after = best[arc.first - first], best[arc.end - first]
            low, high = max(0, length - 1 - end + arc.end), min(length, arc.first - first + 1)
            if low < high:
                np.take(digits[index], codes[low:high], out=longer[low:high], mode="clip")
                longer[low:high] += before[low:high]
                np.maximum(after[low + 1 : high + 1], longer[low:high], out=after[low + 1 : high + 1])
            if scores.other[index] > -math.inf and (not arc.cut or scores.is_mark[index]):
                cost = float(scores.other[index]) + (0 if scores.is_mark[index] else _OTHER)
                low, high = max(0, length - end + arc.end), min(length, arc.first - first) + 1
                np.maximum(after[low:high], before[low:high] + np.float32(cost), out=after[low:high])
        ordered += texts
        found.append(best[-1, length].astype(np.float64) / TEMPERATURE)
    return ordered, np.concatenate(found), float(np.log(seen.sum(axis=1)).sum())


def log_sum(logs: Sequence[float]) -> float:
    highest = max(logs, default=-math.inf)
    return highest if highest == -math.inf else highest + math.log(sum(math.exp(each - highest) for each in logs))
