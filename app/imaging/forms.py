"""A page -> the digits in the fields of a form. What is ink is decided once for the page; the lines of boxes go."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import TooLarge
from app.imaging.decode import Decoded
from app.imaging.grids import erase_lines, without_grids
from app.imaging.lines import Lines, lines_of
from app.imaging.paper import NOISE, page_contrast
from app.imaging.pieces import Arc, Line, fitted
from app.imaging.pixels import Grey, as_uint8, parts_of

FORM_PX = 2000  # longest side at which fields are read: a JPEG may be decoded as small

_MOST_AREA = 4  # of the page: all fields together
_GRAIN = 4.5  # standard deviations of the paper: less contrast is none
_FAINT = 0.2  # of the page's usual ink: less contrast is no pen
_SURE, _PALE = 0.9, 0.45  # of Otsu's level, as in `app.imaging.lines`
_AROUND = 0.3  # of a box's height that is looked at around it
_ZONE, _SKEW = 0.15, 0.02  # of a cell's sides, and of the field's width: how far off the lines of a box may be
_ACROSS, _DOWN = 1.3, 0.6  # of a cell's width and height: a line is longer
_DIRT, _SMALL = 0.15, 0.2  # of a box's height: smaller parts are dirt; of the largest part of a cell
_WIDE = 1.2  # of a cell's width: wider ink is of two cells


class Place(NamedTuple):
    """``box``: (x, y, width, height) in pixels of the upright image, or in [0, 1] of its sides."""

    box: tuple[float, float, float, float]
    cells: int


class _Crop(NamedTuple):
    """``mask``: the strokes in and around a box, whose ``left``, ``top`` and sides are in pixels of the crop."""

    contrast: Grey
    mask: Grey
    sure: float
    left: float
    top: float
    width: float
    height: float


def find_fields(decoded: Decoded, places: Sequence[Place]) -> list[Lines]:
    """The lines of each field; of a field with cells one, with a piece and an arc for each cell that has ink.

    Raises TooLarge for fields that overlap too much, or hold too much.
    """
    scale = min(1.0, FORM_PX / max(decoded.grey.shape))
    grey = decoded.grey
    if scale < 1:
        grey = as_uint8(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    contrast = page_contrast(grey)
    floor = _floor(contrast)
    across, down = decoded.width / grey.shape[1], decoded.height / grey.shape[0]
    found = []
    room = _MOST_AREA * contrast.size
    for box, cells in places:
        x, y, width, height = box
        if max(box) <= 1:
            x, width, y, height = x * decoded.width, width * decoded.width, y * decoded.height, height * decoded.height
        x, width, y, height = x / across, width / across, y / down, height / down
        around = round(_AROUND * height)
        left, top = max(0, round(x) - around), max(0, round(y) - around)
        part = contrast[top : round(y + height) + around, left : round(x + width) + around]
        room -= part.size
        if room < 0:
            raise TooLarge("The fields overlap too much: send them in several requests.")
        lines: list[Line] = []
        if min(part.shape) > 2 and (levels := _levels(part := _on_even_paper(part), floor)):
            crop = _Crop(part, *levels, x - left, y - top, width, height)
            lines = _cells(crop, cells) if cells else _lines(crop)
        found.append(Lines(lines, (across, down), (round(left * across), round(top * down))))
    return found


def _floor(contrast: Grey) -> float:
    """The contrast that is neither grain of the paper nor dirt, by the page's own."""
    counts = cv2.calcHist([contrast], [0], None, [256], [0, 256]).ravel()
    total = np.cumsum(counts)
    grain = float(np.searchsorted(total, 0.75 * total[-1])) / 0.6745  # half of the paper is lighter than its level
    floor = max(NOISE, _GRAIN * grain)
    levels = np.arange(256)
    above = counts * (levels > floor)
    ink = float(above @ levels / above.sum()) if above.any() else 0.0
    return max(floor, _FAINT * ink) if ink else floor


def _on_even_paper(contrast: Grey) -> Grey:
    return as_uint8(cv2.subtract(contrast, np.full_like(contrast, np.median(contrast))))


def _levels(contrast: Grey, floor: float) -> tuple[Grey, float] | None:
    """The mask of strokes, and the contrast that they surely have; None without ink."""
    above = contrast[contrast > floor]
    if not above.size:
        return None
    otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    mask = as_uint8(cv2.threshold(contrast, max(_PALE * otsu, floor), 1, cv2.THRESH_BINARY)[1])
    return mask, max(_SURE * otsu, floor)


def _edges(crop: _Crop, cells: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows and the columns where the lines of the boxes may be."""
    rows, columns = np.arange(crop.mask.shape[0])[:, None], np.arange(crop.mask.shape[1])[:, None]
    edges = crop.left + np.arange(cells + 1) * crop.width / cells
    off = _ZONE * min(crop.height, crop.width / cells)
    near_rows = np.abs(rows - [crop.top, crop.top + crop.height]) <= off + _SKEW * crop.width
    near_columns = np.abs(columns - edges) <= off + _SKEW * crop.height
    return np.any(near_rows, axis=1), np.any(near_columns, axis=1)


def _without_boxes(crop: _Crop, cells: int) -> Grey:
    near_rows, near_columns = _edges(crop, cells)
    cell = crop.width / cells
    mask = crop.mask
    rows = _runs(mask, min(_ACROSS * min(cell, crop.height), 0.8 * crop.width)) * near_rows[:, None]
    columns = _runs(mask.T, _DOWN * crop.height).T * near_columns
    rest = erase_lines(mask, as_uint8(rows))
    turned = np.ascontiguousarray(rest.T)
    return np.ascontiguousarray(erase_lines(turned, as_uint8(columns.T) & turned).T)


def _runs(mask: Grey, length: float) -> Grey:
    """The nearly horizontal runs of at least this length."""
    if length > mask.shape[1]:
        return np.zeros_like(mask)
    steeper = cv2.dilate(np.ascontiguousarray(mask), np.ones((3, 1), np.uint8))
    return as_uint8(cv2.morphologyEx(steeper, cv2.MORPH_OPEN, np.ones((1, max(3, round(length))), np.uint8))) & mask


def _inner(crop: _Crop, cells: int) -> Grey:
    """The mask of the strokes in a field, without what is printed around it."""
    mask = _without_boxes(crop, cells)
    near_rows, near_columns = _edges(crop, cells)
    labels, stats, centres = parts_of(mask)
    seeded = np.zeros(len(stats), np.bool_)
    seeded[labels[crop.contrast > crop.sure]] = True
    wide, high = stats[:, 2:4].T
    x, y = centres.T
    drift = _SKEW * crop.width
    inside = (x > crop.left) & (x < crop.left + crop.width)
    inside &= (y > crop.top - drift) & (y < crop.top + crop.height + drift)
    at_line = [near_rows[a : a + h].all() or near_columns[b : b + w].all() for b, a, w, h, _ in stats.tolist()]
    kept = seeded & inside & (np.maximum(wide, high) > _DIRT * crop.height) & ~np.array(at_line)
    kept[0] = False
    return as_uint8(kept.astype(np.uint8)[labels])


def _lines(crop: _Crop) -> list[Line]:
    mask = without_grids(_inner(crop, 1))
    return lines_of(crop.contrast, mask, crop.sure) if mask.any() else []


def _cells(crop: _Crop, cells: int) -> list[Line]:
    """One line: each cell's ink is one digit."""
    mask = _inner(crop, cells)
    labels, stats, centres = parts_of(mask)
    wide = stats[:, 2] > _WIDE * crop.width / cells
    wide[0] = False
    if wide.any():
        edges = np.rint(crop.left + np.arange(1, cells) * crop.width / cells).astype(np.int32)
        mask[:, edges] &= ~wide[labels[:, edges]]
        labels, stats, centres = parts_of(mask)
    cell_of = np.clip((centres[:, 0] - crop.left) * cells / crop.width, 0, cells - 1).astype(np.int32)
    side = stats[:, 2:4].max(axis=1)
    cell_of[0] = -1
    arcs: list[Arc] = []
    for cell in np.unique(cell_of[1:]).tolist():
        own = np.flatnonzero(cell_of == cell)
        own = own[side[own] > _SMALL * side[own].max()]
        left, top = (int(edge) for edge in stats[own, :2].min(axis=0))
        right, bottom = (int(edge) for edge in (stats[own, :2] + stats[own, 2:4]).max(axis=0))
        cut = np.s_[top:bottom, left:right]
        is_own = np.zeros(len(stats), np.uint8)
        is_own[own] = 1
        ink = fitted(crop.contrast[cut], is_own[labels[cut]], crop.sure)
        arcs.append(Arc(len(arcs), len(arcs) + 1, 0.0, 1, 0.0, 0.0, 0.0, (left, top, right, bottom), ink))
    if not arcs:
        return []
    height = float(np.median([arc.box[3] - arc.box[1] for arc in arcs]))
    return [Line(height, len(arcs), arcs, 0)]
