"""Grey -> the lines of characters on a picture, over-segmented: each digit is one piece, or a few neighbouring ones.

Knows no model: which pieces make up a digit is decided by `app.model.numbers`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.grids import digit_height, weighted_median, without_grids
from app.imaging.paper import NOISE, RULED_PX, writing_contrast
from app.imaging.pixels import Grey, as_uint8, shrink
from app.imaging.preprocess import Ink, fit
from app.imaging.rules import without_ruling

_WORK_PX = 1600  # longest side at which lines are looked for

Box = tuple[int, int, int, int]


class Arc(NamedTuple):
    """Neighbouring pieces of a line that may be one digit: from ``first`` up to, not including, ``end``.

    ``cut``: strokes' widths of ink cut at its two sides. ``gap``: between the parts joined in it, as a share of the line's height.
    ``box``: left, top, right, bottom. ``ink``: float32 (28, 28, 1).
    """

    first: int
    end: int
    cut: float
    joined: int
    gap: float
    box: Box
    ink: Ink
    bend: float
    slant: float


class Line(NamedTuple):
    """``height``: of its digits, in pixels. ``pieces``: how many. ``row``: which line of the picture it is."""

    height: float
    pieces: int
    arcs: list[Arc]
    row: int


def find_lines(grey: Grey) -> tuple[list[Line], tuple[int, int]]:
    picture, step = shrink(grey, _WORK_PX)
    contrast, _, origin = writing_contrast(picture)
    mask, sure = _binary(contrast)
    mask = without_grids(mask)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    page = _Page(contrast, labels, stats, sure)
    groups = _group(stats, contrast.shape)
    return [page.line(group, row) for row, group in groups], origin


def _binary(contrast: Grey) -> tuple[Grey, float]:
    contrast = contrast.copy()
    for last in (False, False, True):
        above = contrast[contrast > NOISE]
        if above.size == 0:
            raise NoInk("Nothing on the image stands out from its ground: send one with a number on it.")
        otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
        sure = max(SURE * otsu, NOISE)
        mask = as_uint8(cv2.threshold(contrast, max(PALE * otsu, NOISE), 1, cv2.THRESH_BINARY)[1])
        if last or not _erase_surroundings(contrast, mask):
            break
    if min(contrast.shape) >= RULED_PX:
        mask = without_ruling(mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    seeded = np.zeros(count, bool)
    seeded[labels[contrast > sure]] = True
    seeded[0] = False
    seeded &= stats[:, 2:4].max(axis=1) >= 3
    return seeded.astype(np.uint8)[labels], sure


SURE, PALE = 0.9, 0.45


def _erase_surroundings(contrast: Grey, mask: Grey) -> bool:
    height, width = mask.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    left, top, wide, high, area = stats.T
    spans_x, spans_y = wide >= 0.97 * width, high >= 0.97 * height
    solid = area > 0.75 * wide * high
    touching = (left <= 0).astype(int) + (top <= 0) + (left + wide >= width) + (top + high >= height)
    big = (spans_x | spans_y) & solid & (area > 0.01 * mask.size)
    big |= (touching >= 2) & solid & (area > 0.01 * mask.size)
    big[0] = False
    if not big.any():
        return False
    zone = cv2.dilate(big.astype(np.uint8)[labels], np.ones((5, 5), np.uint8))
    contrast[zone > 0] = 0
    return True


def _group(stats: MatLike, shape: tuple[int, ...]) -> list[tuple[int, list[int]]]:
    """(row, parts) of each line, in reading order; parts by their place from left to right."""
    left, top, wide, high, area = stats.T.astype(float)
    right, bottom, middle = left + wide, top + high, top + high / 2
    tall = np.flatnonzero(np.maximum(high, wide) >= 5)
    tall = tall[tall > 0]
    if not tall.size:
        return []
    big = digit_height(stats)
    parent: dict[int, int] = {}

    def root(part: int) -> int:
        while parent[part] != part:
            part = parent[part]
        return part

    line = (high > 6 * wide) & (high > 1.4 * big)
    upright = tall[(high[tall] >= 6) & (wide[tall] < 3 * high[tall]) & ~line[tall]]
    order = upright[np.argsort(left[upright])]
    parent = {int(part): int(part) for part in order}
    for place, a in enumerate(order):
        others = order[place + 1 :]
        gap = left[others] - right[a]
        overlap = np.minimum(bottom[a], bottom[others]) - np.maximum(top[a], top[others])
        smaller = np.minimum(high[a], high[others])
        near = (gap < 8 * np.maximum(high[a], high[others])) & (overlap > 0.4 * smaller)
        alike = (high[others] < 2.2 * high[a]) & (high[a] < 2.2 * high[others])
        ok = np.flatnonzero(near & alike)
        if ok.size:
            close = ok[gap[ok] < 0.5 * high[a]]
            for b in {int(others[ok[np.argmin(gap[ok])]]), *(int(others[c]) for c in close)}:
                one, two = root(int(a)), root(b)
                if one != two:
                    parent[two] = one
    groups: dict[int, list[int]] = {}
    for part in order:
        groups.setdefault(root(int(part)), []).append(int(part))
    chains = sorted(([parts, weighted_median(high[parts], high[parts])] for parts in groups.values()), key=lambda c: -c[1] * len(c[0]))
    # small ones join a chain that they lie in
    kept: list = []
    loose = [[[int(p)], float(high[p])] for p in tall if int(p) not in parent and not line[p]]
    for parts, height in chains + loose:
        l, r, t, b = left[parts].min(), right[parts].max(), top[parts].min(), bottom[parts].max()
        mid = (t + b) / 2
        home = None
        for other, h in kept:
            if height > 0.7 * h:
                continue
            o = np.array(other)
            near = (left[o] - r < 1.2 * h) & (l - right[o] < 1.2 * h) & (mid > top[o] - 0.15 * h) & (mid < bottom[o] + 0.25 * h)
            if near.any():
                home = other
                break
        if home is not None:
            home.extend(parts)
        elif height >= 6:
            kept.append((list(parts), height))
    kept = [(p, h) for p, h in kept if h > 0.35 * big or len(p) >= 3]
    at_border = (left <= 0) | (top <= 0) | (right >= shape[1]) | (bottom >= shape[0])
    if not all(at_border[p].all() for p, _ in kept):
        kept = [(p, h) for p, h in kept if not at_border[p].all()]
    # rows
    spans = [(top[p].min(), bottom[p].max(), left[p].min()) for p, _ in kept]
    order2 = sorted(range(len(kept)), key=lambda i: (spans[i][0] + spans[i][1]) / 2)
    rows: list[list[int]] = []
    for i in order2:
        mid = (spans[i][0] + spans[i][1]) / 2
        for row in rows[-1:]:
            t = np.mean([spans[j][0] for j in row]); b = np.mean([spans[j][1] for j in row])
            m2 = (t + b) / 2
            if t < mid < b and spans[i][0] < m2 < spans[i][1]:
                row.append(i)
                break
        else:
            rows.append([i])
    return [
        (number, sorted(kept[i][0], key=lambda p: left[p] + right[p]))
        for number, row in enumerate(rows)
        for i in sorted(row, key=lambda i: spans[i][2])
    ]


class _Page:
    def __init__(self, contrast: Grey, labels: MatLike, stats: MatLike, sure: float) -> None:
        self.contrast, self.labels, self.stats, self.sure = contrast, labels, stats, sure

    def line(self, parts: list[int], row: int) -> Line:
        stats = self.stats[parts]
        high = stats[:, 3].astype(float)
        upright = high[stats[:, 2] < 3 * high] if (stats[:, 2] < 3 * high).any() else high
        height = weighted_median(upright, upright)
        left, top = stats[:, 0].min(), stats[:, 1].min()
        right, bottom = (stats[:, 0] + stats[:, 2]).max(), (stats[:, 1] + stats[:, 3]).max()
        area = np.s_[top:bottom, left:right]
        labels, contrast = self.labels[area], self.contrast[area]
        pieces = np.zeros(labels.shape, np.int32)
        number = 0
        owner: list[int] = []
        cuts: list[float] = []  # before each piece, 0 between parts
        for place, part in enumerate(parts):
            x, y, w, h, _ = (int(v) for v in self.stats[part])
            inner = np.s_[y - top : y - top + h, x - left : x - left + w]
            mask = labels[inner] == part
            seams, crossed = _seams(mask, contrast[inner], height)
            split = np.zeros(mask.shape, np.int32)
            for seam in seams:
                split += np.arange(w)[None, :] >= seam[:, None]
            filled = np.bincount(split[mask], minlength=len(seams) + 1)
            new = np.cumsum(filled > 0) - 1
            split = new[split].astype(np.int32)
            keep = np.flatnonzero(filled > 0)
            crossed = [max(crossed[keep[i]:keep[i + 1]]) for i in range(len(keep) - 1)]
            seams = crossed
            pieces[inner][mask] = (number + 1 + split)[mask]
            number += len(seams) + 1
            owner += [place] * (len(seams) + 1)
            cuts += [0.0, *crossed]
        cuts.append(0.0)
        boxes = _boxes(pieces, number)
        arcs = []
        for first in range(number):
            box = boxes[first]
            gap, joined = 0.0, 0
            for end in range(first + 1, min(first + 7, number + 1)):
                if end > first + 1:
                    new = boxes[end - 1]
                    if owner[end - 1] != owner[end - 2]:
                        gap += max((new[0] - box[2]) / height, 0.0)
                        joined += 1
                    box = (min(box[0], new[0]), min(box[1], new[1]), max(box[2], new[2]), max(box[3], new[3]))
                if box[2] - box[0] > 1.6 * height and end > first + 1:
                    break
                if box[2] <= box[0]:
                    continue
                cut = box_area = np.s_[box[1] : box[3], box[0] : box[2]]
                inside = pieces[box_area]
                strokes = ((inside > first) & (inside <= end)).astype(np.uint8)
                levels = contrast[box_area]
                sure = min(self.sure, 0.9 * float((levels * strokes).max()))
                ink = fit(levels, strokes, sure)
                whole = (box[0] + int(left), box[1] + int(top), box[2] + int(left), box[3] + int(top))
                bend, slant = _shape(strokes) if end == first + 1 and not cuts[first] + cuts[end] and box[3] - box[1] > 0.9 * height else (0.0, 0.0)
                arcs.append(Arc(first, end, cuts[first] + cuts[end], joined, gap, whole, ink, bend, slant))
        return Line(height, number, arcs, row)


def _shape(strokes: Grey) -> tuple[float, float]:
    """Of a single thin stroke: how far its middle lies beside its ends, and how far its top beside its foot, as
    shares of its height; 0 for anything else."""
    height, width = strokes.shape
    first, last = strokes.argmax(axis=1), width - 1 - strokes[:, ::-1].argmax(axis=1)
    if height < 8 or float(np.percentile(last - first + 1, 85)) > 0.25 * height:
        return 0.0, 0.0
    middle = (first + last) / 2
    rows = np.arange(height)
    slope, start = np.polyfit(rows, middle, 1)
    away = middle - (start + slope * rows)
    third = height // 4
    bend = float(away[third:-third].mean() - (away[:third].mean() + away[-third:].mean()) / 2) / height
    return bend, -float(slope)


def _boxes(pieces: NDArray[np.int32], number: int) -> list[Box]:
    boxes = [(0, 0, 0, 0)] * number
    ys, xs = np.nonzero(pieces)
    which = pieces[ys, xs] - 1
    l = np.full(number, 10**9); t = l.copy(); r = np.full(number, -1); b = r.copy()
    np.minimum.at(l, which, xs); np.minimum.at(t, which, ys); np.maximum.at(r, which, xs); np.maximum.at(b, which, ys)
    return [(int(l[i]), int(t[i]), int(r[i]) + 1, int(b[i]) + 1) if r[i] >= 0 else (0, 0, 0, 0) for i in range(number)]


_SEAM_ROWS = 40


def _seams(mask: NDArray[np.bool_], contrast: Grey, line_height: float) -> tuple[list[NDArray[np.int32]], list[float]]:
    """Where a wide part can be cut: for each cut its column in each row, and strokes' widths of ink it crosses."""
    height, width = mask.shape
    if width < 0.7 * max(line_height, 0.8 * height) or height < 0.4 * line_height or width < 8 or width > 40 * line_height:
        return [], []
    scale = min(1.0, _SEAM_ROWS / line_height)
    small = cv2.resize(mask.astype(np.uint8) * 255, (max(4, round(width * scale)), max(4, round(height * scale))), interpolation=cv2.INTER_AREA)
    ink = small.astype(np.float32) / 255
    rows, columns = ink.shape
    area = float(ink.sum())
    framed = cv2.copyMakeBorder((ink > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    stroke = max(1.0, 4 * float(distance.sum()) / max(1.0, float(framed.sum())) - 1)
    cost = ink + 0.01
    total = cost[0].copy()
    back = np.zeros((rows, columns), np.int8)
    infinite = np.array([np.inf], np.float32)
    for row in range(1, rows):
        from_left = np.concatenate([infinite, total[:-1]]) + 0.02
        from_right = np.concatenate([total[1:], infinite]) + 0.02
        best = np.minimum(np.minimum(from_left, from_right), total)
        back[row] = np.where(best == total, 0, np.where(best == from_left, -1, 1))
        total = best + cost[row] * np.where(back[row] == 0, 1.0, 1.3)
    found = []
    order = np.argsort(total, kind="stable")
    apart = max(3, round(0.12 * line_height * scale))
    chosen: list[int] = []
    paths = []
    for column in order:
        crossed = float(total[column]) / stroke
        if crossed > 4 or len(chosen) > 60:
            break
        path = np.empty(rows, np.int32)
        at = int(column)
        for row in range(rows - 1, -1, -1):
            path[row] = at
            at += int(back[row, at])
        mid = float(path.mean())
        if mid < 0.12 * line_height * scale or mid > columns - 0.12 * line_height * scale:
            continue
        if any(abs(mid - other) < apart for other in chosen):
            continue
        chosen.append(mid)
        paths.append((mid, path, crossed))
    paths.sort(key=lambda p: p[0])
    seams = []
    for _, path, crossed in paths:
        full = np.interp(np.arange(height), (np.arange(rows) + 0.5) * height / rows, (path + 0.5) * width / columns)
        seams.append(full.astype(np.int32))
    return seams, [crossed for _, _, crossed in paths]
