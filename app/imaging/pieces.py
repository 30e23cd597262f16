"""A line's parts -> pieces, and every run of neighbouring pieces that may be one digit."""

from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.cuts import Cut, cut_part
from app.imaging.grids import weighted_median
from app.imaging.pixels import Grey, as_uint8
from app.imaging.preprocess import Ink, fit

Box = tuple[int, int, int, int]  # left, top, right, bottom

MOST_PIECES = 2400  # of a picture: with more, touching digits are not cut

_MOST_JOINED = 6  # pieces of a digit
_WIDEST = 1.6  # of the line's height
_MOST_AREA = 8  # of the picture: the bounds of a line's parts together, and of its arcs, where parts are within others
_FIT_PX = 96  # larger digits are reduced first
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
    slashes: set[int] = set()  # pieces
    for part, (x, y, width, tall, _) in zip(parts, stats.tolist(), strict=True):
        inner = np.s_[y - top : y - top + tall, x - left : x - left + width]
        mask = labels[inner] == part
        sides, crossed, slash = (
            cut_part(mask, height) if len(owners) < most else Cut(np.zeros(mask.shape, np.int32), [])
        )
        if slash is not None:
            slashes.add(len(owners) + slash)
        pieces[inner][mask] = len(owners) + 1 + sides[mask]
        owners += [part] * (len(crossed) + 1)
        cuts += [0.0, *crossed]
    arcs = _arcs(page, pieces, owners, [*cuts, 0.0], slashes, (left, top), height)
    return Line(height, len(owners), arcs, row)


def _arcs(
    page: Page,
    pieces: NDArray[np.int32],
    owners: list[int],
    cuts: list[float],
    slashes: set[int],
    origin: tuple[int, int],
    height: float,
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
            bend, slant = _shape(strokes) if end == first + 1 and (not crossed or first in slashes) else (0.0, 0.0)
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
