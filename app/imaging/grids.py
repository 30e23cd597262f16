"""A mask without the lines of forms: frames, combs, tables and underlines that strokes touch or cross."""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.pixels import Grey, as_uint8, parts_of

_LONGER, _TALLER = 2.2, 1.6  # of a digit's height: no stroke of it runs straight as far, across and down
_SPAN = 0.4  # of the width of a frame whose digits all touch it
_WALL = 0.75  # of the space between two lines: a wall of a box
_REACH_PX = 3  # from a wall's end to the line that it ends at
_FRAMES = 20  # parts that may hold others
_SLOPES = np.linspace(-0.12, 0.12, 25)  # of lines, down for one to the right
_SLOPE_PX = 400  # width at which the slope is measured
_MOST, _MOST_AREA = 200, 3  # parts that are looked at, the largest first; of the picture, their bounds together


def digit_height(stats: MatLike) -> float:
    """The median height of the parts that may be digits, weighted by it, or of all parts; 0 if there are none."""
    left, top, wide, high, area = stats[1:].T.astype(np.float64)
    body = (high >= 6) & (wide < 3 * high) & (high < 6 * wide) & (area > 0.1 * high * wide)
    for part in np.argsort(-high * body)[:_FRAMES]:
        within = (left > left[part]) & (top > top[part]) & (left + wide < left[part] + wide[part])
        within &= (top + high < top[part] + high[part]) & body
        body[part] &= np.count_nonzero(within) < 2
    body = body if body.any() else high > 0
    return weighted_median(high[body], high[body]) if body.any() else 0.0


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def without_grids(mask: Grey) -> Grey:
    """Lines longer than digits are high, and what joins two of them; strokes that cross a line stay whole."""
    labels, stats, _ = parts_of(mask)
    wide, high, area = stats[:, 2], stats[:, 3], stats[:, 4]
    size = digit_height(stats)
    large = (np.maximum(wide, high) > _LONGER * size) & (area < 0.6 * wide * high) & (np.maximum(wide, high) > 12)
    large[0] = False
    parts = np.flatnonzero(large)
    kept = mask.copy()
    room = _MOST_AREA * mask.size
    for part in parts[np.argsort(-np.maximum(wide, high)[parts])][:_MOST]:
        x, y, width, height, _ = (int(value) for value in stats[part])
        room -= width * height
        if room < 0:
            break
        cut = np.s_[y : y + height, x : x + width]
        own = (labels[cut] == part).astype(np.uint8)
        kept[cut] -= own - _without_lines(own, size)
    return kept


def _without_lines(own: Grey, size: float) -> Grey:
    height, width = own.shape
    other = size if size < 0.8 * height else 0.0  # the part may be all there is
    across = _LONGER * other or (max(1.5 * height, _SPAN * width) if width > 2 * height else 0.7 * width)
    down = max(_TALLER * other, _SPAN * height) if other else 0.7 * height
    thickest = 2 + 0.2 * (other or min(own.shape))
    rows = _lines(own, round(across), thickest)
    columns = _lines(np.ascontiguousarray(own.T), round(down), thickest)
    found, row_labels, _, centres = cv2.connectedComponentsWithStats(rows)
    if not other and (found < 3 or (width <= 2 * height and cv2.connectedComponents(columns)[0] < 3)):
        return own
    rest = erase_lines(own, rows)
    if found > 2:
        space = float(np.diff(np.sort(centres[1:, 1])).max())
        if space > 8:
            columns |= _walls(own, row_labels, round(_WALL * space), thickest).T
    return as_uint8(erase_lines(np.ascontiguousarray(rest.T), columns & rest.T).T)


def _lines(mask: Grey, length: int, thickest: float) -> Grey:
    """The straight, thin, nearly horizontal runs of at least this length, which may slope as one."""
    if length < 8 or mask.shape[1] < length:
        return np.zeros_like(mask)
    shift = np.rint(_slope(mask) * np.arange(mask.shape[1])).astype(np.int32)
    reach = int(np.abs(shift).max())
    level = np.pad(mask, ((reach, reach), (0, 0)))
    rows = np.arange(len(level))[:, None] + shift
    level = np.take_along_axis(level, np.clip(rows, 0, len(level) - 1), 0)
    steeper = cv2.dilate(level, np.ones((3, 1), np.uint8))
    runs = as_uint8(cv2.morphologyEx(steeper, cv2.MORPH_OPEN, np.ones((1, length), np.uint8)))
    runs = np.take_along_axis(runs, np.arange(reach, reach + len(mask))[:, None] - shift, 0) & mask
    labels, stats, _ = parts_of(runs)
    thin = (stats[:, 4] <= thickest * stats[:, 2]) & (stats[:, 2] >= 0.7 * length)
    thin[0] = False
    return as_uint8(thin.astype(np.uint8)[labels])


def _slope(mask: Grey) -> float:
    """How far its lines go down for one to the right: in rows along them there is most ink."""
    scale = min(1.0, _SLOPE_PX / mask.shape[1])
    small = mask if scale == 1 else cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    rows, columns = np.nonzero(small)
    fullest = [
        int((np.bincount(np.rint(rows - slope * columns).astype(np.int32) + small.shape[1]) ** 2).sum())
        for slope in _SLOPES
    ]
    return float(_SLOPES[int(np.argmax(fullest))])


def _walls(mask: Grey, rows: MatLike, length: int, thickest: float) -> Grey:
    """The vertical lines from one of the ``rows`` to another."""
    runs = _lines(np.ascontiguousarray(mask.T), length, thickest).T
    count, labels = cv2.connectedComponents(np.ascontiguousarray(runs))
    near = cv2.dilate(rows.astype(np.uint16), np.ones((2 * _REACH_PX + 1, 1), np.uint8))
    walls = np.array([False] + [np.unique(near[(labels == run) & (near > 0)]).size > 1 for run in range(1, count)])
    return as_uint8(walls.astype(np.uint8)[labels])


def erase_lines(mask: Grey, lines: Grey) -> Grey:
    """The mask without horizontal ``lines`` but where something crosses them."""
    if not lines.any():
        return mask
    wider = as_uint8(cv2.dilate(lines, np.ones((3, 1), np.uint8))) & mask
    thickness = int(np.median(wider.sum(axis=0)[wider.any(axis=0)]))
    crossing = as_uint8(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((thickness + 3, 1), np.uint8)))
    return as_uint8(mask - wider + (crossing & wider))
