"""The pieces of a line -> numbers, each with the probability that all of it is right. Pure and synchronous.

A line is a lattice: its arcs are neighbouring pieces that may be one digit, and a path through it is a reading.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.imaging.pieces import Arc, Line
from app.model.decision import DIGITS
from app.model.engine import Logits


@dataclass
class Params:
    cut: float = 1.0
    join: float = 0.7
    gap: float = 4.0
    small: float = 6.0
    tall: float = 4.0
    wide: float = 3.0
    enter: float = -2.5
    stay: float = -1.0
    width: float = -0.8
    mark: float = -0.5
    temp: float = 1.0
    floor: float = 1e-3
    keep: float = -1.6
    bend: float = 0.045
    slant: float = 0.3
    sign: float = 6.0


P = Params()
_BEAM = 16
_GAP, _GAPS = 1.3, 3.0


class Found(NamedTuple):
    text: str
    score: float
    share: float
    path: list[tuple[Arc, int]]
    others: list[tuple[str, float]]


class _Scores(NamedTuple):
    digits: NDArray[np.float64]  # (n, 10)
    other: NDArray[np.float64]  # (n,), -inf where the arc is no whole part
    is_mark: NDArray[np.bool_]


def score_arcs(line: Line, logits: Logits) -> _Scores:
    z = logits.astype(np.float64) / P.temp
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(axis=1, keepdims=True)
    logp = np.log(p * (1 - P.floor) + P.floor / 11)
    box = np.array([arc.box for arc in line.arcs], float)
    cut = np.array([arc.cut for arc in line.arcs])
    gap = np.array([arc.gap for arc in line.arcs])
    joined = np.array([arc.joined for arc in line.arcs])
    w, h = (box[:, 2] - box[:, 0]) / line.height, (box[:, 3] - box[:, 1]) / line.height
    size = np.maximum(h, 0.8 * w)
    geometry = (
        -P.cut * cut / 2
        - P.join * joined
        - P.gap * gap
        - P.small * np.maximum(0, np.log(0.75 / size))
        - P.tall * np.maximum(0, np.log(h / 1.4))
        - P.wide * np.maximum(0, w - 1.1)
    )
    bend, slant = np.array([arc.bend for arc in line.arcs]), np.array([arc.slant for arc in line.arcs])
    left = box[:, 0]
    doubtful = np.isin(logp[:, :10].argmax(axis=1), (1, 7)) | (logp[:, :10].max(axis=1) < math.log(0.9))
    opening, closing = ((sign * bend > P.bend) & (h > 0.95) & doubtful for sign in (-1, 1))
    if opening.any() and closing.any():
        arch = (opening & (left < left[closing].max())) | (closing & (left > left[opening].min()))
    else:
        arch = np.zeros(len(h), bool)
    slash = (slant > P.slant) & (np.abs(bend) < 0.04) & (h > 1.15)
    geometry -= P.sign * (arch | slash)
    mark = (size < 0.45) | (h < 0.25) | slash
    whole = (cut == 0) & (joined == 0)
    other = np.where(mark, P.mark, np.where(arch, 0, np.maximum(logp[:, 10], -8)) + P.width * w)
    return _Scores(logp[:, :10] + geometry[:, None], np.where(whole, other, -np.inf), mark)


def read_line(line: Line, logits: Logits) -> list[Found]:
    if not line.arcs:
        return []
    scores = score_arcs(line, logits)
    path = _best_path(line, scores)
    found = []
    for span in _spans(line, path, scores):
        first, end = line.arcs[span[0][0]].first, line.arcs[span[-1][0]].end
        number = _search(line, scores, first, end)
        if number is not None:
            found.append(number)
    return found


def _best_path(line: Line, scores: _Scores) -> list[tuple[int, int | None]]:
    """(arc, digit or None) from left to right (Viterbi)."""
    best = [[-math.inf, -math.inf] for _ in range(line.pieces + 1)]  # after a digit or mark; after something else
    back: list[list[tuple[int, int | None, int] | None]] = [[None, None] for _ in range(line.pieces + 1)]
    best[0] = [0.0, -math.inf]
    top, which = scores.digits.max(axis=1).tolist(), scores.digits.argmax(axis=1).tolist()
    other, is_mark = scores.other.tolist(), scores.is_mark.tolist()
    for index, arc in enumerate(line.arcs):
        for state in (0, 1):
            before = best[arc.first][state]
            if before == -math.inf:
                continue
            if before + top[index] > best[arc.end][0]:
                best[arc.end][0], back[arc.end][0] = before + top[index], (index, which[index], state)
            if other[index] == -math.inf:
                continue
            if is_mark[index]:
                if before + other[index] > best[arc.end][state]:
                    best[arc.end][state], back[arc.end][state] = before + other[index], (index, None, state)
            else:
                total = before + other[index] + (P.stay if state else P.enter)
                if total > best[arc.end][1]:
                    best[arc.end][1], back[arc.end][1] = total, (index, None, state)
    node, state = line.pieces, int(best[-1][1] > best[-1][0])
    path = []
    while node and (step := back[node][state]):
        path.append((step[0], step[1]))
        node, state = line.arcs[step[0]].first, step[2]
    return path[::-1]


def _spans(line: Line, path, scores) -> list[list[tuple[int, int | None]]]:
    """The path cut into numbers: at what is no mark, and at large gaps. Ends are digits."""
    spans: list[list[tuple[int, int | None]]] = [[]]
    digits = [line.arcs[i].box for i, d in path if d is not None]
    gaps = [b[0] - a[2] for a, b in zip(digits, digits[1:])]
    large = max(_GAP * line.height, _GAPS * float(np.median(gaps))) if gaps else 0
    for index, digit in path:
        if digit is None and not scores.is_mark[index]:
            spans.append([])
            continue
        spans[-1].append((index, digit))
    out = []
    for span in spans:
        current: list = []
        for index, digit in span:
            if digit is None:
                if current:
                    current.append((index, digit))
                continue
            last = next((line.arcs[i].box for i, d in reversed(current) if d is not None), None)
            if last and line.arcs[index].box[0] - last[2] > large:
                out.append(current)
                current = []
            current.append((index, digit))
        out.append(current)
    trimmed = []
    for span in out:
        while span and span[-1][1] is None:
            span.pop()
        if span:
            trimmed.append(span)
    return trimmed


def _search(line: Line, scores: _Scores, first: int, end: int) -> Found | None:
    """n best"""
    states: list[dict[str, tuple[float, float, object]]] = [{} for _ in range(end + 1)]
    states[first][""] = (0.0, 0.0, None)
    arcs = [(i, arc) for i, arc in enumerate(line.arcs) if arc.first >= first and arc.end <= end]
    order = np.argsort(-scores.digits, axis=1)[:, :3]
    at: dict[int, list[int]] = {}
    for i, arc in arcs:
        at.setdefault(arc.first, []).append(i)
    for node in range(first, end):
        best = sorted(states[node].items(), key=lambda item: -item[1][0])[:_BEAM]
        for i in at.get(node, ()):
            arc = line.arcs[i]
            options = [(str(d), float(scores.digits[i, d])) for d in order[i]]
            if scores.other[i] > -math.inf:
                options.append(("", float(scores.other[i]) + (0.0 if scores.is_mark[i] else P.enter)))
            after = states[arc.end]
            for text, (mass, top, way) in best:
                for char, score in options:
                    new = text + char
                    m, t = mass + score, top + score
                    old = after.get(new)
                    step = (way, i, char)
                    if old is not None:
                        if old[1] >= t:
                            t, step = old[1], old[2]
                        m = max(m, old[0]) + math.log1p(math.exp(-abs(m - old[0])))
                    after[new] = (m, t, step)
    ends = sorted(states[end].items(), key=lambda item: -item[1][0])
    if not ends or not ends[0][0]:
        return None
    top = ends[0][1][0]
    total = sum(math.exp(e[1][0] - top) for e in ends)
    text, (mass, _, way) = ends[0]
    path, best_score = [], 0.0
    while way is not None:
        before, i, char = way
        if char:
            path.append((line.arcs[i], int(char)))
            best_score += float(scores.digits[i, int(char)])
        way = before
    return Found(text, best_score, 1 / total, path[::-1], [(t, math.exp(v[0] - top) / total) for t, v in ends[1:11]])


def keep(found: Found) -> bool:
    return found.score / len(found.text) > P.keep
