"""A line's parts -> pieces, and every run of neighbouring pieces that may be one digit."""

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.grids import weighted_median
from app.imaging.pixels import Grey, as_uint8
from app.imaging.preprocess import Ink, fit

Box = tuple[int, int, int, int]  # left, top, right, bottom

MOST_PIECES = 2400  # of a picture: with more, touching digits are not cut

_MOST_JOINED = 6  # pieces of a digit
_WIDEST = 1.6  # of the line's height
_MOST_AREA = 8  # of the picture: the bounds of a line's parts together, and of its arcs, where parts are within others
_FIT_PX = 96  # larger digits are reduced first
_CUT_WIDTH = 0.7  # of the line's height: wider parts are cut
_CUT_ROWS = 40  # at which cuts are looked for
_MOST_CUT, _CUTS = 4, 60  # widths of a stroke that a cut may cross; cuts of a part
_APART = 0.12  # of the line's height, between two cuts
_SIDEWAYS = 0.02  # of a stroke's ink: what a step of a cut to the side costs
_LOWEST = 0.1  # of its height: a cut crosses the least ink on either side so far
_STROKE = 0.25  # of its height: the width of a single thin stroke


class Page(NamedTuple):
    """``labels``, ``stats``: of the connected parts of the strokes, whose sure contrast is ``sure``."""

    contrast: Grey
    labels: MatLike
    stats: MatLike
    sure: float


class Arc(NamedTuple):
    """Neighbouring pieces of a line, from ``first`` up to ``end``, as one digit.

    ``cut``: how many widths of a stroke its two sides cut. ``joined``: how many parts it joins, ``gap``: the space
    between them, in heights of the line. ``bend``, ``slant``: of a part that is one thin stroke, its middle against its
    ends, and its top against its foot, to the right, in heights of its own.
    """

    first: int
    end: int
    cut: float
    joined: int
    gap: float
    bend: float
    slant: float
    box: Box
    ink: Ink


class Line(NamedTuple):
    """``height``: of its digits, in pixels. ``pieces``: how many. ``row``: lines beside each other have the same.

    ``is_whole``: all the strokes of a picture as one digit, to be read if the other lines hold no more than one.
    """

    height: float
    pieces: int
    arcs: list[Arc]
    row: int
    is_whole: bool = False


def cut_line(page: Page, parts: list[int], row: int, most: int = MOST_PIECES) -> Line:
    """The line of these parts, given from left to right; without arcs if they are texture.

    With ``most`` pieces no more parts are cut.
    """
    stats = page.stats[parts]
    high = stats[:, 3].astype(np.float64)
    height = weighted_median(high, high * (stats[:, 2] < 3 * high) + 1e-3)
    if stats[:, 2] @ high > _MOST_AREA * page.labels.size:
        return Line(height, 0, [], row)
    left, top = (int(edge) for edge in stats[:, :2].min(axis=0))
    right, bottom = (int(edge) for edge in (stats[:, :2] + stats[:, 2:4]).max(axis=0))
    area = np.s_[top:bottom, left:right]
    labels = page.labels[area]
    pieces = np.zeros(labels.shape, np.int32)
    owners: list[int] = []  # of each piece
    cuts: list[float] = []  # before each piece
    for part, (x, y, width, tall, _) in zip(parts, stats.tolist(), strict=True):
        inner = np.s_[y - top : y - top + tall, x - left : x - left + width]
        mask = labels[inner] == part
        sides, crossed = _cut(mask, height) if len(owners) < most else (np.zeros(mask.shape, np.int32), [])
        pieces[inner][mask] = len(owners) + 1 + sides[mask]
        owners += [part] * (len(crossed) + 1)
        cuts += [0.0, *crossed]
    arcs = _arcs(page, pieces, owners, [*cuts, 0.0], (left, top), height)
    return Line(height, len(owners), arcs, row)


def _arcs(
    page: Page, pieces: NDArray[np.int32], owners: list[int], cuts: list[float], origin: tuple[int, int], height: float
) -> list[Arc]:
    boxes = _boxes(pieces, len(owners))
    contrast = page.contrast[origin[1] :, origin[0] :]
    arcs = []
    room = _MOST_AREA * page.labels.size
    for first in range(len(owners)):
        box, joined, gap = boxes[first], 0, 0.0
        for end in range(first + 1, min(first + _MOST_JOINED, len(owners)) + 1):
            other = boxes[end - 1]
            if owners[end - 1] != owners[max(end - 2, first)]:
                joined, gap = joined + 1, gap + max((other[0] - box[2]) / height, 0.0)
            box = (min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3]))
            room -= (box[2] - box[0]) * (box[3] - box[1])
            if end > first + 1 and (box[2] - box[0] > _WIDEST * height or room < 0):
                break
            cut = np.s_[box[1] : box[3], box[0] : box[2]]
            strokes = ((pieces[cut] > first) & (pieces[cut] <= end)).astype(np.uint8)
            crossed = cuts[first] + cuts[end]
            bend, slant = _shape(strokes) if end == first + 1 and not crossed else (0.0, 0.0)
            placed = (box[0] + origin[0], box[1] + origin[1], box[2] + origin[0], box[3] + origin[1])
            ink = fitted(contrast[cut], strokes, page.sure)
            arcs.append(Arc(first, end, crossed, joined, gap, bend, slant, placed, ink))
    return arcs


def fitted(contrast: Grey, strokes: Grey, sure: float) -> Ink:
    """The ink of some strokes, reduced first where they are large."""
    scale = _FIT_PX / max(strokes.shape)
    levels = as_uint8(contrast * strokes)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in strokes.shape[::-1])
        levels = as_uint8(cv2.resize(levels, size, interpolation=cv2.INTER_AREA))
        strokes = as_uint8(cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY)[1])
    return fit(levels, strokes, min(sure, 0.9 * float(levels.max())))


def _boxes(pieces: NDArray[np.int32], count: int) -> list[Box]:
    rows, columns = np.nonzero(pieces)
    which = pieces[rows, columns] - 1
    low, high = np.full((2, count), pieces.size), np.zeros((2, count), np.int64)
    for axis, places in enumerate((columns, rows)):
        np.minimum.at(low[axis], which, places)
        np.maximum.at(high[axis], which, places + 1)
    return [(left, top, right, bottom) for left, top, right, bottom in np.concatenate([low, high]).T.tolist()]


def _shape(strokes: Grey) -> tuple[float, float]:
    height, width = strokes.shape
    first, last = strokes.argmax(axis=1), width - 1 - strokes[:, ::-1].argmax(axis=1)
    if height < 8 or float(np.percentile(last - first + 1, 85)) > _STROKE * height:
        return 0.0, 0.0
    middle, rows = (first + last) / 2, np.arange(height)
    slope, start = np.polyfit(rows, middle, 1)
    away, quarter = middle - (start + slope * rows), height // 4
    ends = (away[:quarter].mean() + away[-quarter:].mean()) / 2
    return float(away[quarter:-quarter].mean() - ends) / height, -float(slope)


def _cut(mask: NDArray[np.bool_], line_height: float) -> tuple[NDArray[np.int32], list[float]]:
    """For each pixel how many cuts lie to its left, and how many widths of a stroke each of them crosses.

    A cut is a path from top to bottom, steep but not straight, through as little ink as possible (a seam).
    """
    height, width = mask.shape
    sides = np.zeros(mask.shape, np.int32)
    if width < _CUT_WIDTH * max(line_height, 0.8 * height) or height < 0.4 * line_height or width < 8:
        return sides, []
    scale = min(1.0, _CUT_ROWS / line_height)
    size = max(4, round(width * scale)), max(4, round(height * scale))
    ink = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    paths = _seams(ink, line_height * scale)
    for path, _ in paths:
        columns = np.interp(
            np.arange(height), (np.arange(size[1]) + 0.5) * height / size[1], (path + 0.5) * width / size[0]
        )
        sides += np.arange(width) >= columns.astype(np.int32)[:, None]
    filled = np.flatnonzero(np.bincount(sides[mask], minlength=len(paths) + 1))
    crossed = [max(crossed for _, crossed in paths[one:two]) for one, two in itertools.pairwise(filled)]
    return np.searchsorted(filled, sides).astype(np.int32), crossed


def _seams(ink: MatLike, line_height: float) -> list[tuple[NDArray[np.int32], float]]:
    """(column in each row, widths of a stroke it crosses) of each cut, from left to right. ``ink``: in [0, 1]."""
    rows, columns = ink.shape
    framed = cv2.copyMakeBorder((ink > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    stroke = max(1.0, 4 * cv2.sumElems(distance)[0] / max(1.0, cv2.sumElems(framed)[0]) - 1)
    half = rows // 2
    upper, above = _descent(ink[: half + 1])
    lower, below = _descent(ink[: half - 1 : -1] if half else ink[::-1])
    total = upper + lower - ink[half]
    found: list[tuple[int, NDArray[np.int32], float]] = []
    apart = _APART * line_height
    reach = int(max(1, _LOWEST * line_height))
    lowest = np.lib.stride_tricks.sliding_window_view(np.pad(total, reach, constant_values=np.inf), 2 * reach + 1).min(
        axis=1
    )
    for column in np.argsort(total, kind="stable").tolist():
        if total[column] > lowest[column]:
            continue
        crossed = float(total[column]) / stroke
        if crossed > _MOST_CUT or len(found) == _CUTS:
            break
        near = any(abs(column - other) < max(3, apart) for other, _, _ in found)
        if apart < column < columns - apart and not near:
            path = np.concatenate([_path(above, column), _path(below, column)[-2::-1]])
            found.append((column, path, crossed))
    return [(path, crossed) for _, path, crossed in sorted(found, key=lambda cut: cut[0])]


def _descent(ink: MatLike) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The least ink on a way from the first row to each column of the last, and the steps to each pixel."""
    total = ink[0] + 0.01
    steps = np.zeros(ink.shape, np.int8)
    for row in range(1, len(ink)):
        wide = np.pad(total, 1, constant_values=np.inf)
        before = np.stack([wide[1:-1], wide[:-2] + _SIDEWAYS, wide[2:] + _SIDEWAYS])
        best = before.argmin(axis=0)
        steps[row] = np.array([0, -1, 1], np.int8)[best]
        total = before.min(axis=0) + (ink[row] + 0.01) * np.where(best == 0, 1.0, 1.3)
    return total, steps


def _path(steps: NDArray[np.int8], column: int) -> NDArray[np.int32]:
    """The column in each row of the way that ends in this one."""
    path = np.empty(len(steps), np.int32)
    for row in range(len(steps) - 1, -1, -1):
        path[row] = column
        column += int(steps[row, column])
    return path
