"""Grey -> the lines of characters on a picture: which ink, which parts, in which order. Knows no model.

Every part of a line is cut into pieces by `app.imaging.pieces`; `app.model.numbers` decides which of them are digits.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.errors import NoInk, TooLarge
from app.imaging.decode import Decoded
from app.imaging.grids import digit_height, weighted_median, without_grids
from app.imaging.paper import NOISE, RULED_PX, find_sheet, writing_contrast
from app.imaging.pieces import MOST_PIECES, Arc, Line, Page, cut_line
from app.imaging.pixels import Grey, as_uint8, parts_of, shrink
from app.imaging.preprocess import ink_from_decoded
from app.imaging.rules import without_ruling

REDUCED_PX = 800  # longest side: a JPEG may be decoded as small

_WORK_PX = 1600  # longest side at which lines are looked for
_ENLARGED_PX, _ENLARGED = 300, 2  # longest side of small pictures, whose strokes touch where they are blurred; times
_SURE, _PALE = 0.9, 0.45  # of Otsu's level: a stroke has a sure pixel, and pale ones that touch it
_WRITING = 0.1  # of the shorter side of a sheet: its digits are larger
_LONE = 24  # pieces: a picture with more of them shows more than one digit
_SMALLEST_PX = 6  # height of a digit
_MOST_PARTS = 3000  # of a picture: a page of letters has as many
_MOST_MARKS = 200  # of a picture, the largest
_REACH = 8  # heights to the next digit of a line
_LEVEL, _ALIKE = 0.4, 2.2  # of the lower of two neighbours, at the height of the other; the taller against the lower
_STEM = 6, 1.4  # times its width, and a digit's height: a taller part is the line of a table
_MARK = 0.7  # of a line's height: a lower part beside its digits belongs to it
_TOUCHING = 0.6  # of a digit's height: a part that is as high and wide may be touching digits
_SPECK = 0.6, 0.35  # of a digit's height: lower lines of one or two parts are dirt


class Lines(NamedTuple):
    """``lines`` in reading order.

    ``scale``: pixels of the upright original for one of theirs, across and down. ``origin``: their place in it.
    """

    lines: list[Line]
    scale: tuple[float, float] = (1, 1)
    origin: tuple[int, int] = (0, 0)


def longest_px(shape: tuple[int, ...], side_px: int) -> int:
    """The longest side at which a picture is searched: strips are not reduced as much as others.

    ``shape``: as a header says, so that it may be negative: broken files are refused when they are decoded.
    """
    return round(side_px * max(1.0, math.sqrt(max(shape) / max(1, min(shape))) / 2))


def find_lines(decoded: Decoded) -> Lines:
    """The lines of a picture. Raises NoInk when nothing stands out, TooLarge beyond 400 digits."""
    picture, _ = shrink(decoded.grey, longest_px(decoded.grey.shape, _WORK_PX))
    contrast = _contrast(picture)
    if max(contrast.shape) < _ENLARGED_PX:
        contrast = as_uint8(cv2.resize(contrast, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC))
    mask, sure = _ink(contrast)
    lines = lines_of(contrast, without_grids(mask), sure)
    scale = decoded.width / mask.shape[1], decoded.height / mask.shape[0]
    if lines and sum(line.pieces for line in lines) <= _LONE:
        lines += _whole(decoded, scale)
    return Lines(lines, scale)


def lines_of(contrast: Grey, mask: Grey, sure: float) -> list[Line]:
    """The lines of a mask of strokes. Raises TooLarge beyond 400 digits."""
    labels, stats, _ = parts_of(mask)
    page = Page(contrast, labels, stats, sure)
    lines: list[Line] = []
    for row, parts in _rows(stats, mask.shape):
        lines.append(cut_line(page, parts, row, MOST_PIECES - sum(line.pieces for line in lines)))
    return lines


def _whole(decoded: Decoded, scale: tuple[float, float]) -> list[Line]:
    """The picture as that of one digit, as `/predict` sees it."""
    try:
        found = ink_from_decoded(decoded)
    except NoInk:
        return []
    x, y, width, height = found.ink_box
    left, top, right, bottom = (round(edge) for edge in np.array([x, y, x + width, y + height]) / (*scale, *scale))
    arc = Arc(0, 1, 0.0, 0, 0.0, 0.0, 0.0, (left, top, right, bottom), found.ink)
    return [Line(max(1, bottom - top), 1, [arc], 0, is_whole=True)]


def _contrast(picture: Grey) -> Grey:
    """How far the writing stands out: on the sheet, note or display, if that is only a part of the picture."""
    sheet = find_sheet(picture, _WRITING) if min(picture.shape) >= RULED_PX else None
    if sheet is None:
        return writing_contrast(picture)
    grey, (left, top) = sheet
    contrast = np.zeros_like(picture)
    contrast[top : top + grey.shape[0], left : left + grey.shape[1]] = writing_contrast(grey)
    return contrast


def _ink(contrast: Grey) -> tuple[Grey, float]:
    """The mask of strokes, and the contrast that they surely have. Dark surroundings do not set the threshold."""
    contrast = contrast.copy()
    for _ in range(3):
        above = contrast[contrast > NOISE]
        if above.size == 0:
            raise NoInk("Nothing on the image stands out from its ground: send one with a number on it.")
        otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
        mask = as_uint8(cv2.threshold(contrast, max(_PALE * otsu, NOISE), 1, cv2.THRESH_BINARY)[1])
        around = _surroundings(mask)
        if around is None:
            break
        contrast[around > 0] = 0
    if min(contrast.shape) >= RULED_PX:
        mask = without_ruling(mask)
    sure = max(_SURE * otsu, NOISE)
    count, labels = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
    seeded = np.zeros(count, np.uint8)
    seeded[labels[contrast > sure]] = 1
    seeded[0] = 0
    return seeded[labels], sure


def _surroundings(mask: Grey) -> Grey | None:
    """The solid parts at the border of a picture, such as the dark beside a sheet; None if there are none."""
    height, width = mask.shape
    labels, stats, _ = parts_of(mask)
    left, top, wide, high, area = stats.T
    touching = (left <= 0).astype(int) + (top <= 0) + (left + wide >= width) + (top + high >= height)
    solid = (area > 0.75 * wide * high) & (area > 0.01 * mask.size) & (touching > 1)
    solid[0] = False
    return as_uint8(cv2.dilate(solid.astype(np.uint8)[labels], np.ones((5, 5), np.uint8))) if solid.any() else None


def _rows(stats: MatLike, shape: tuple[int, ...]) -> list[tuple[int, list[int]]]:
    """(row, parts from left to right) of each line, in reading order."""
    left, top, wide, high, _ = stats.T.astype(np.float64)
    right, bottom = left + wide, top + high
    size = digit_height(stats)
    parts = np.arange(1, len(stats))
    parts = parts[np.maximum(high, wide)[parts] >= _SMALLEST_PX - 1]
    if np.count_nonzero(high[parts] > _SPECK[0] * size) > _MOST_PARTS:
        raise TooLarge(f"The image has more than {_MOST_PARTS} characters or marks: send parts of it.")
    parts = parts[np.argsort(-high[parts], kind="stable")][:_MOST_PARTS]
    parts = parts[~((high > _STEM[0] * wide) & (high > _STEM[1] * size))[parts]]
    upright = (high[parts] >= _SMALLEST_PX) & ((wide < 3 * high) | (high > _TOUCHING * size))[parts]
    chains = _chains(parts[upright], stats)
    marks = [[int(part)] for part in parts[~upright] if wide[part] < 2 * size][:_MOST_MARKS]
    lines: list[tuple[list[int], float]] = []
    for chain in chains + marks:
        height = weighted_median(high[chain], high[chain])
        middle = (top[chain].min() + bottom[chain].max()) / 2
        for other, tall in lines:
            if height > _MARK * tall:
                continue
            near = (left[other] - right[chain].max() < 1.2 * tall) & (left[chain].min() - right[other] < 1.2 * tall)
            level = (middle > top[other] - 0.15 * tall) & (middle < bottom[other] + 0.25 * tall)
            if (near & level).any():
                other.extend(chain)
                break
        else:
            if chain not in marks:
                lines.append((list(chain), height))
    lines = [(line, height) for line, height in lines if len(line) > 2 or height > _SPECK[len(line) - 1] * size]
    clear = (left > 0) & (top > 0) & (right < shape[1]) & (bottom < shape[0])
    inside = [line for line, _ in lines if clear[line].any()] or [line for line, _ in lines]
    return _in_reading_order(inside, stats)


def _chains(parts: NDArray[np.intp], stats: MatLike) -> list[list[int]]:
    """Parts of similar height, each beside the next, the largest chain first."""
    left, top, wide, high, _ = stats.T.astype(np.float64)
    chain_of = {int(part): [int(part)] for part in parts}
    order = parts[np.argsort(left[parts])]
    for place, part in enumerate(order):
        others = order[place + 1 :]
        gap = left[others] - left[part] - wide[part]
        level = np.minimum(top[part] + high[part], top[others] + high[others]) - np.maximum(top[part], top[others])
        lower, taller = np.minimum(high[part], high[others]), np.maximum(high[part], high[others])
        fits = np.flatnonzero((gap < _REACH * taller) & (level > _LEVEL * lower) & (taller < _ALIKE * lower))
        if not fits.size:
            continue
        close = fits[gap[fits] <= max(0.5 * high[part], gap[fits].min() + 0.2 * high[part])]
        for other in others[close].tolist():
            one, two = chain_of[int(part)], chain_of[other]
            if one is not two:
                one.extend(two)
                chain_of.update(dict.fromkeys(two, one))
    chains = list({id(chain): chain for chain in chain_of.values()}.values())
    return sorted(chains, key=lambda chain: -float(high[chain].sum()))


def _in_reading_order(lines: list[list[int]], stats: MatLike) -> list[tuple[int, list[int]]]:
    """Lines beside each other are one row."""
    left, top, wide, high, _ = stats.T.astype(np.float64)
    spans = {id(line): (top[line].min(), (top + high)[line].max()) for line in lines}
    rows: list[list[list[int]]] = []
    for line in sorted(lines, key=lambda line: sum(spans[id(line)])):
        first, last = spans[id(line)]
        if rows:
            upper, lower = np.mean([spans[id(other)] for other in rows[-1]], axis=0)
            if upper < (first + last) / 2 < lower and first < (upper + lower) / 2 < last:
                rows[-1].append(line)
                continue
        rows.append([line])
    return [
        (number, sorted(line, key=lambda part: left[part] + wide[part] / 2))
        for number, row in enumerate(rows)
        for line in sorted(row, key=lambda line: left[line].min())
    ]
