"""A part of a line that may be several digits -> pieces of it."""

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

_CUT_WIDTH = 0.7  # of the line's height: wider parts are cut
_CUT_ROWS = 40  # at which cuts are looked for
_MOST_CUT, _CUTS = 4, 60  # widths of a stroke that a cut may cross; cuts of a part
_APART = 0.12  # of the line's height, between two cuts
_SIDEWAYS = 0.02  # of a stroke's ink: what a step of a cut to the side costs
_LOWEST = 0.1  # of its height: a cut crosses the least ink on either side so far
_SLOPES = np.linspace(0.25, 1.1, 18)  # of a slash: to the right for one up
_SLASH_ROWS = 60  # at which a slash is looked for
_TALL = 1.2  # of the line's height: a slash is taller
_WHOLE = 0.85  # of its part's height: how long a slash is
_LEAST = 0.1  # of a slash's ink: less beside it is none


class Cut(NamedTuple):
    """``sides``: for each pixel how many cuts lie to its left. ``crossed``: how many widths of a stroke each crosses.

    ``slash``: which of the pieces is one.
    """

    sides: NDArray[np.int32]
    crossed: list[float]
    slash: int | None = None


def cut_part(mask: NDArray[np.bool_], line_height: float) -> Cut:
    """Beside a slash that is as high as the part, or else along seams."""
    return _beside_slash(mask, line_height) or _along_seams(mask, line_height)


def _along_seams(mask: NDArray[np.bool_], line_height: float) -> Cut:
    """A seam is a path from top to bottom, steep but not straight, through as little ink as possible."""
    height, width = mask.shape
    sides = np.zeros(mask.shape, np.int32)
    if width < _CUT_WIDTH * max(line_height, 0.8 * height) or height < 0.4 * line_height or width < 8:
        return Cut(sides, [])
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
    return Cut(np.searchsorted(filled, sides).astype(np.int32), crossed)


def _beside_slash(mask: NDArray[np.bool_], line_height: float) -> Cut | None:
    """What is before a slash is above its middle, and what is after it below: a fraction."""
    height, width = mask.shape
    if height < max(_TALL * line_height, 12) or not 0.3 * height < width < 1.1 * height:
        return None
    scale = min(1.0, _SLASH_ROWS / height)
    ink = cv2.resize(mask.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(ink > 0.5)
    if not rows.size:  # a hairline
        return None
    along = [np.bincount(np.rint(columns + slope * rows).astype(np.intp)) for slope in _SLOPES]
    slope, longest = max(zip(_SLOPES.tolist(), along, strict=True), key=lambda each: each[1].max())
    if longest.max() < _WHOLE * len(ink):
        return None
    across = (np.arange(width) + 0.5 + slope * (np.arange(height)[:, None] + 0.5)) * scale
    across -= longest.argmax() + 0.5 * (1 + slope)
    reach = (0.5 * _stroke_width(ink) + 1) * math.hypot(1, slope)
    sides = (across > -reach).astype(np.int32) + (across > reach)
    areas = np.bincount(sides[mask], minlength=3)
    before, after = areas[[0, 2]] > _LEAST * areas[1]
    rows, side = np.nonzero(mask)[0], sides[mask]
    if not (before or after) or (before and rows[side == 0].mean() > height / 2):
        return None
    if after and rows[side == 2].mean() < height / 2:
        return None
    sides = np.clip(sides, int(not before), 1 + int(after)) - int(not before)
    return Cut(sides, [1.0] * (int(before) + int(after)), int(before))


def _seams(ink: MatLike, line_height: float) -> list[tuple[NDArray[np.int32], float]]:
    """(column in each row, widths of a stroke it crosses) of each cut, from left to right. ``ink``: in [0, 1]."""
    rows, columns = ink.shape
    stroke = _stroke_width(ink)
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


def _stroke_width(ink: MatLike) -> float:
    framed = cv2.copyMakeBorder((ink > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    return max(1.0, 4 * cv2.sumElems(distance)[0] / max(1.0, cv2.sumElems(framed)[0]) - 1)


def _descent(ink: MatLike) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """The least ink on a way from the first row to each column of the last, and the steps to each pixel."""
    rows, columns = ink.shape
    steps = np.zeros(ink.shape, np.int8)
    total = np.full(columns + 2, np.inf)  # with a wall at either side
    total[1:-1] = ink[0] + 0.01
    straight = total[1:-1]
    for row in range(1, rows):
        left, right = total[:-2], total[2:]
        aside = np.minimum(left, right) + _SIDEWAYS
        moved = aside < straight
        steps[row] = np.where(moved, np.where(left <= right, -1, 1), 0)
        level = ink[row] + 0.01
        straight[:] = np.where(moved, aside + 1.3 * level, straight + level)
    return straight, steps


def _path(steps: NDArray[np.int8], column: int) -> NDArray[np.int32]:
    """The column in each row of the way that ends in this one."""
    path = np.empty(len(steps), np.int32)
    for row in range(len(steps) - 1, -1, -1):
        path[row] = column
        column += int(steps[row, column])
    return path
