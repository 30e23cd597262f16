"""Mask -> mask without what is ruled on the paper: lines, and frames around the digit."""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.pixels import Grey

_RULED_FILL = 0.3  # of a row that a line, perhaps sloping, fills
_RULED_RUN = 0.2  # of the width: no stroke of a digit runs straight and thin as far as this


def without_ruling(mask: Grey) -> Grey:
    """The mask without thin lines that run from edge to edge; where strokes cross them, the strokes stay."""
    for axis in (0, 1):
        across = mask if axis == 0 else np.ascontiguousarray(mask.T)
        if across.mean(axis=1).max() < _RULED_FILL:
            continue
        lines = _edge_to_edge(across)
        if lines is not None:
            kept = across - lines
            thickness = int(np.median(lines.sum(axis=0))) + 2
            crossing = cv2.morphologyEx(across, cv2.MORPH_OPEN, np.ones((thickness + 2, 1), np.uint8))
            across = kept | (crossing.astype(np.uint8) & lines)
            mask = across if axis == 0 else np.ascontiguousarray(across.T)
    return mask


def without_frames(parts: NDArray[np.intp], labels: MatLike, stats: MatLike) -> NDArray[np.intp]:
    """The parts without boxes drawn around another part: nearly all of a box lies at the edge of its own bounds."""
    kept = list(parts)
    for part in parts[np.argsort(-stats[parts, 2] * stats[parts, 3])[:3]]:
        left, top, width, height, area = (int(value) for value in stats[part])
        others = [other for other in kept if other != part and _holds(stats[part], stats[other])]
        if not others or min(width, height) < 12:
            continue
        inset_x, inset_y = max(1, round(width * 0.15)), max(1, round(height * 0.15))
        middle = labels[top + inset_y : top + height - inset_y, left + inset_x : left + width - inset_x]
        if np.count_nonzero(middle == part) < 0.05 * area:
            kept.remove(part)
    return np.array(kept)


def _edge_to_edge(mask: Grey) -> Grey | None:
    """The horizontal lines of a mask that touch both its sides and are thin; None when there are none."""
    height, width = mask.shape
    runs = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, max(8, int(width * _RULED_RUN))), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    spanning = (stats[:, 0] <= 0.02 * width) & (stats[:, 0] + stats[:, 2] >= 0.98 * width)
    thin = stats[:, 4] <= stats[:, 2] * (2 + 0.03 * height)
    lines = spanning & thin
    lines[0] = False
    if not lines.any():
        return None
    spanning_lines: Grey = lines.astype(np.uint8)[labels]
    return spanning_lines


def _holds(outer: MatLike, inner: MatLike) -> bool:
    """Whether a part of some size lies within the bounds of another."""
    within = (inner[:2] >= outer[:2]).all() and (inner[:2] + inner[2:4] <= outer[:2] + outer[2:4]).all()
    return bool(within and inner[2:4].max() > 0.2 * outer[2:4].max())
