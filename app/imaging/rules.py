"""What is drawn around a digit and is no stroke of it: ruled lines, frames, lines above and below, parentheses.

Most bounds were set on strokes of digits: fives and sevens with a loose bar, ones with a loose foot, fours in two.
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.paper import RULED_PX
from app.imaging.pixels import Grey, as_uint8

_RULED_FILL = 0.3  # of a row that a line, perhaps sloping, fills
_AT_SIDE = 0.02  # of the width: a line from edge to edge ends as near to the sides
_RULED_RUN = 0.2  # of the width: no stroke of a digit runs straight and thin as far as this
_FLAT = 0.4  # of its width: the height of a line, which may slope or wave
_LONG = 0.5  # of the digit's longer side: a line is longer, its dashes and dots are shorter
_BENT = 0.1  # of its height: parentheses bend further than a one
_ARC_WIDTH = 0.25  # of its height: the widest row of a parenthesis
_MAX_ARCS = 32  # the tallest parts that may be one: dashes and dots may be thousands


def without_ruling(mask: Grey) -> Grey:
    """The mask without thin lines that run from edge to edge; where strokes cross them, the strokes stay."""
    for axis in (0, 1):
        across = mask if axis == 0 else as_uint8(cv2.transpose(mask))
        width = across.shape[1]
        side = int(_AT_SIDE * width) + 1
        fullest = cv2.reduce(across, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).max()
        if fullest < _RULED_FILL * width or not (across[:, :side].any() and across[:, -side:].any()):
            continue
        lines = _edge_to_edge(across)
        if lines is not None:
            kept = across - lines
            thickness = int(np.median(lines.sum(axis=0))) + 2
            crossing = cv2.morphologyEx(across, cv2.MORPH_OPEN, np.ones((thickness + 2, 1), np.uint8))
            across = kept | (crossing.astype(np.uint8) & lines)
            mask = across if axis == 0 else as_uint8(cv2.transpose(across))
    return mask


def without_frames(parts: NDArray[np.intp], labels: MatLike, stats: MatLike) -> NDArray[np.intp]:
    """The parts without boxes drawn around another part: nearly all of a box lies at the edge of its own bounds."""
    kept = parts
    for part in parts[np.argsort(-stats[parts, 2] * stats[parts, 3])[:3]]:
        left, top, width, height, area = (int(value) for value in stats[part])
        if min(width, height) < 12 or np.count_nonzero(_held(stats[part], stats[kept])) < 2:  # itself
            continue
        inset_x, inset_y = max(1, round(width * 0.15)), max(1, round(height * 0.15))
        middle = labels[top + inset_y : top + height - inset_y, left + inset_x : left + width - inset_x]
        if np.count_nonzero(middle == part) < 0.05 * area:
            kept = kept[kept != part]
    return kept


def without_parentheses(parts: NDArray[np.intp], labels: MatLike, stats: MatLike) -> NDArray[np.intp]:
    """The parts without parentheses, or a closing one alone. An opening one alone may be a stroke of a four."""
    upright = parts[(stats[parts, 3] >= 2 * stats[parts, 2]) & (stats[parts, 3] > 0.5 * stats[parts, 3].max())]
    upright = upright[np.argsort(-stats[upright, 3])[:_MAX_ARCS]]
    arcs = {int(part): bend for part in upright if abs(bend := _bend(labels, stats[part], part)) > _BENT}
    left, top, width, height, _ = stats[np.setdiff1d(parts, [*arcs], assume_unique=True)].T
    around = []
    for part, bend in arcs.items():
        start, upper, long, tall = (int(value) for value in stats[part, :4])
        gap = start - left - width if bend > 0 else left - start - long
        level = (top < upper + 0.5 * tall) & (top + height > upper + 0.5 * tall)
        if ((gap > -0.1 * tall) & level & (height > 0.4 * tall) & (height < 1.3 * tall)).any():
            around.append(part)
    return parts[~np.isin(parts, around)] if any(arcs[part] > 0 for part in around) else parts


def is_flat(stats: MatLike) -> NDArray[np.bool_]:
    """Which parts have the bounds of a line."""
    flat: NDArray[np.bool_] = stats[:, 3] <= _FLAT * stats[:, 2]
    return flat


def without_lines(
    parts: NDArray[np.intp], body: NDArray[np.intp], stats: MatLike, centres: MatLike
) -> NDArray[np.intp]:
    """The parts without lines above and below the digit, whole, dashed or dotted.

    ``body``: the parts of the digit that are not flat. A bar or a foot may be flat and loose as well.
    """
    sides = stats[body, 2:4].max(axis=1)
    longest = int(sides.max())
    left, top, right, bottom = _bounds(stats[body[sides >= _LONG * longest]])
    size = max(right - left, bottom - top)
    width, height, area = stats[parts, 2:].T
    pieces = (np.maximum(width, height) < _LONG * longest) & (longest > 0.6 * size)  # not of a digit in pieces
    thin = (
        (height <= 0.3 * size)
        & (area > 0.002 * stats[body, 4].max())
        & (pieces | (is_flat(stats[parts]) & (width >= _LONG * size)))
    )
    rules = np.zeros(parts.size, np.bool_)
    for line in (thin & (centres[parts, 1] < top), thin & (centres[parts, 1] > bottom)):
        if not line.any():
            continue
        start, upper, end, lower = _bounds(stats[parts[line]])
        length, over = (end - start) / size, min(left - start, end - right) / size
        gap = max(top - lower, upper - bottom) / size
        if upper + lower < top + bottom:  # above: a loose bar is slanted, or goes beyond the digit at one side
            straight = bool((height * width <= 1.6 * area)[line].all())
            stroke = over + gap < (-0.1 if straight else 0.15)
        else:  # below: a loose foot is near the flag and stem of a one
            ink = float(stats[body, 4].sum() * width[line].sum() / area[line].sum()) / size
            one = (right - left) / size + gap < 0.6 and ink < 1.8
            stroke = (gap < 0.015 and over < 0.1) or (one and length < 1.5 and np.count_nonzero(line) == 1)
        flat = lower - upper < (0.2 if pieces[line].any() else 0.5) * size  # broken strokes and spray are not
        if length > 0.4 and flat and not stroke:
            rules |= line
    return parts[~rules]


def rows_between_lines(strokes: Grey) -> tuple[int, int]:
    """The rows of a digit, cut to its bounds, between long lines that it touches above and below: from, up to."""
    height, width = strokes.shape
    if height < RULED_PX or width < 0.9 * height:  # a line as short as this may be its bar or foot
        return 0, height
    full = np.flatnonzero(cv2.reduce(strokes, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S) > 0.6 * width)
    slope = round(0.04 * height)
    first = int(full[full < 0.25 * height].max(initial=-slope)) + slope
    last = int(full[full > 0.75 * height].min(initial=height + slope)) - slope
    x, _, inner, _ = cv2.boundingRect(strokes[first:last])
    long = min(x, width - x - inner) > 0.35 * (last - first)
    one = inner < 0.5 * (last - first) and width < 1.5 * (last - first)  # its foot may be wide
    return (first, last) if long and not one else (0, height)


def _edge_to_edge(mask: Grey) -> Grey | None:
    """The horizontal lines of a mask that touch both its sides and are thin; None when there are none."""
    height, width = mask.shape
    runs = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, max(8, int(width * _RULED_RUN))), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8, ltype=cv2.CV_16U)
    spanning = (stats[:, 0] <= _AT_SIDE * width) & (stats[:, 0] + stats[:, 2] >= (1 - _AT_SIDE) * width)
    thin = stats[:, 4] <= stats[:, 2] * (2 + 0.03 * height)
    lines = spanning & thin
    lines[0] = False
    if not lines.any():
        return None
    spanning_lines: Grey = lines.astype(np.uint8)[labels]
    return spanning_lines


def _bounds(stats: MatLike) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of some parts together."""
    left, top = (int(edge) for edge in stats[:, :2].min(axis=0))
    right, bottom = (int(edge) for edge in (stats[:, :2] + stats[:, 2:4]).max(axis=0))
    return left, top, right, bottom


def _bend(labels: MatLike, bounds: MatLike, part: int) -> float:
    """How far the middle of a thin part lies to the right of its ends, as a share of its height; 0 for a thick one."""
    left, top, width, height, _ = (int(value) for value in bounds)
    ink = labels[top : top + height, left : left + width] == part
    first, last = ink.argmax(axis=1), width - 1 - ink[:, ::-1].argmax(axis=1)
    middle = (first + last) / 2
    thick = (last - first).max() > _ARC_WIDTH * height
    return 0.0 if thick else float(middle[height // 2] - (middle[0] + middle[-1]) / 2) / height


def _held(outer: MatLike, inner: MatLike) -> NDArray[np.bool_]:
    """Which parts of some size lie within the bounds of another."""
    within = (inner[:, :2] >= outer[:2]) & (inner[:, :2] + inner[:, 2:4] <= outer[:2] + outer[2:4])
    held: NDArray[np.bool_] = within.all(axis=1) & (inner[:, 2:4].max(axis=1) > 0.2 * outer[2:4].max())
    return held
