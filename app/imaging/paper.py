"""Grey -> contrast: how far each pixel stands out from the paper, whatever its light, polarity, surroundings and bands.

Knows no digits.
"""

from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.imaging.pixels import Grey, as_uint8, shrink

NOISE = 10  # grey levels: less contrast than this is paper
RULED_PX = 64  # a picture at least this wide can show ruled lines, on smaller ones they are as thick as a pen

_WHITE = 255
_FLAT_RANGE = 12  # grey levels that most of the border spans on evenly lit paper
_EVEN_SHARE = 0.75  # of the border that has to be even: large pictures have shadows
_EVEN_SHARE_SMALL = 0.5  # the same for small pictures, which are cut tightly
_CROWDED_SHARE = 0.3  # of the border: with more than this at another level, strokes crowd it
_BACKGROUND_PX = 64  # longest side at which the light on uneven paper is estimated
_BACKGROUND_WINDOW = 0.4  # of that side: wider than any stroke, narrower than a shadow
_DARKEST_PAPER = 30  # grey levels: darker paper gives no measure of the light
_WIDEST_STROKE, _WIDEST_STROKE_PX = 0.15, 11  # of the shorter side; pixels: strokes of numbers are thinner
_DARKEST_SHARE = 0.4  # of its median: darker paper may be none
_THIN_SHARE = 0.06  # of the longer side: the widest stroke that the black-hat sees
_SHEET_PX = 256  # longest side at which the outline of a sheet is looked for
_SHEET_EDGE = 7  # grey levels between neighbouring pixels at that size: more is an edge
_SHEET_SHARE = 0.05  # of the picture: smaller surfaces are part of a drawing
_GRAINY = 0.5  # of the steps between neighbours are not 0: a photo, whose grain is smoothed first
_SHEET_FILL = 0.9  # of its convex hull
_SHEET_BOX = 0.85  # of the turned rectangle around it that a sheet fills, even in perspective; an ellipse fills 0.79
_ROUND_BOX = 0.72  # the same for a round one
_OPENING_EDGE, _WRITTEN, _CARD_LEVELS = 0.4, 0.2, 32  # of its width; of its pixels; grey levels around the card's
_SHEET_INK_SIZE = 0.2  # of the sheet's shorter side: ink on it is at least this long,
_SHEET_INK_LEVELS = 0.25  # and has at least this share of the picture's contrast
_MARGIN_SHARE = 0.64  # of the picture: a larger sheet is all of it but a margin, also without ink
_BAND_SHARE = 0.3  # of the width: the broadest band at a side
_NARROWEST_BAND_PX, _NARROWEST_BAND_SHARE = 6, 0.15  # a narrower one may be a stroke at the edge
_BAND_LEVELS = 64  # grey levels between columns at the edge of a band
_BAND_UNBROKEN = 0.5  # of that edge: strokes may cross the rest


class Contrast(NamedTuple):
    """``levels``: uint8, how far each pixel stands out. ``inverted``: the ink is the darker side.

    ``origin``: (left, top) of these levels in the picture.
    """

    levels: Grey
    inverted: bool
    origin: tuple[int, int] = (0, 0)


def find_contrast(grey: Grey) -> Contrast:
    """What stands out from the paper of a picture: of the sheet, if the paper is only a part of it."""
    sheet = find_sheet(grey) if min(grey.shape) >= RULED_PX else None
    if sheet is not None:
        grey, origin = sheet
        return _stand_out(grey, _even_level(grey), origin)
    level = _blank_border(grey)
    if level is None:
        grey = _level_bands(_level_bands(grey).T).T
        level = _even_level(grey)
    return _stand_out(grey, level)


def find_sheet(grey: Grey, least_ink: float = _SHEET_INK_SIZE) -> tuple[Grey, tuple[int, int]] | None:
    """The sheet, card or plot that the ink is on, and where it lies; None if it is the whole picture, or one of many.

    It is an even surface with an edge all around; of nested ones the innermost. The corners beside a turned sheet get
    the level of the paper. ``least_ink``: how long ink on it is at least, of its shorter side.
    """
    small, step = shrink(grey, _SHEET_PX)
    edges = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    if cv2.countNonZero(edges) > _GRAINY * edges.size:
        small = as_uint8(cv2.medianBlur(small, 3))
        edges = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    even = cv2.threshold(edges, _SHEET_EDGE, 1, cv2.THRESH_BINARY_INV)[1]
    outlines, tree = cv2.findContours(even, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    sheets = []
    for place in np.flatnonzero(tree[0, :, 3] < 0).tolist() if outlines else ():
        if cv2.contourArea(outlines[place]) > _SHEET_SHARE * small.size:
            holes = [outlines[hole] for hole in np.flatnonzero(tree[0, :, 3] == place).tolist()]
            if _is_sheet(outlines[place], holes, small, least_ink):
                sheets.append(cv2.convexHull(outlines[place]))
    inner = [sheet for sheet in sheets if not any(_lies_in(other, sheet) for other in sheets)]
    if len(inner) != 1:
        return None
    hull = inner[0]
    corners = ((hull + 0.5) * step).astype(np.int32)
    left, top, width, height = cv2.boundingRect(corners)
    cut = grey[top : top + height, left : left + width]
    inside = cv2.fillConvexPoly(np.zeros_like(cut), corners - (left, top), 1)
    level = np.uint8(np.median(small[cv2.fillConvexPoly(np.zeros_like(small), hull, 1) > 0]))
    return np.where(inside, cut, level), (left, top)


def alternative_contrasts(grey: Grey, *, inverted: bool) -> list[Contrast]:
    """What else may be ink if ``inverted`` was the wrong polarity, or the light misled.

    First the other polarity, against its extreme level: the strokes of a tightly cut digit may be taken for the paper.
    On larger pictures also whatever is thin and darker than its surroundings, in any light (a black-hat).
    """
    extreme = np.full_like(grey, grey.min() if inverted else grey.max())
    contrasts = [Contrast(as_uint8(cv2.absdiff(grey, extreme)), not inverted)]
    if max(grey.shape) > RULED_PX:
        window = int(max(grey.shape) * _THIN_SHARE) | 1
        thin = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((window, window), np.uint8))
        contrasts.append(Contrast(as_uint8(thin), inverted=True))
    return contrasts


def _blank_border(grey: Grey) -> int | None:
    """The level of the paper if nothing touches the border, as in drawings; else None.

    Such a picture has no band or shadow, which saves half of the search.
    """
    level = int(grey[0, 0])
    ink = grey if level == 0 else cv2.absdiff(grey, np.full_like(grey, level))
    rows, columns = grey.shape
    left, top, width, height = cv2.boundingRect(ink)
    return level if min(left, top, columns - left - width, rows - top - height) > 0 else None


def _is_sheet(outline: MatLike, holes: list[MatLike], small: Grey, least_ink: float) -> bool:
    """Whether an even surface is nearly a rectangle, a part of the picture, and has ink on it or a margin around it.

    Or nearly an ellipse that is written on: a thick zero is one that is not.
    """
    area, hull = cv2.contourArea(outline), cv2.convexHull(outline)
    long, short = sorted(cv2.minAreaRect(hull)[1], reverse=True)
    if area < _SHEET_FILL * cv2.contourArea(hull) or area < _ROUND_BOX * long * short:
        return False
    _, _, width, height = cv2.boundingRect(outline)
    if height == small.shape[0] or width == small.shape[1]:
        return False
    ink = [hole for hole in holes if _is_ink(hole, least_ink * short, small)]
    if area < _SHEET_BOX * long * short:
        return any(_is_written(hole, int(small[outline[0, 0, 1], outline[0, 0, 0]]), small) for hole in ink)
    return area > _MARGIN_SHARE * small.size or bool(ink)


def _is_written(hole: MatLike, level: int, small: Grey) -> bool:
    """Whether a hole in a card of this ``level`` has some of the card well within it, which a mere opening has not."""
    mask = cv2.fillConvexPoly(np.zeros_like(small), cv2.convexHull(hole), 1)
    depth = int(min(cv2.minAreaRect(hole)[1]) * _OPENING_EDGE) | 1
    within = small[cv2.erode(mask, np.ones((depth, depth), np.uint8)) > 0].astype(np.int16)
    return bool(np.count_nonzero(np.abs(within - level) < _CARD_LEVELS) > _WRITTEN * within.size)


def _lies_in(inner: MatLike, outer: MatLike) -> bool:
    """Whether a surface lies within another."""
    return cv2.pointPolygonTest(outer, inner[0, 0].tolist(), measureDist=False) > 0


def _is_ink(hole: MatLike, least: float, small: Grey) -> bool:
    """Whether a hole in a sheet is long and strong enough for a digit."""
    left, top, width, height = cv2.boundingRect(hole)
    if max(width, height) < least:
        return False
    return float(np.ptp(small[top : top + height, left : left + width])) > _SHEET_INK_LEVELS * float(np.ptp(small))


def _stand_out(grey: Grey, level: int | None, origin: tuple[int, int] = (0, 0)) -> Contrast:
    """Against one ``level`` where the border is even: a local one would eat the inside of thick strokes.

    In uneven light (None) against a wide median. Dark ink is then divided by the light on the paper, so that it is as
    strong in a shadow as beside it.
    """
    if level == 0:  # nothing is darker
        return Contrast(grey.copy(), inverted=False, origin=origin)
    if level == _WHITE:
        return Contrast(as_uint8(cv2.bitwise_not(grey)), inverted=True, origin=origin)
    paper = _light_on_paper(grey) if level is None else np.full_like(grey, level)
    darker, lighter = as_uint8(cv2.subtract(paper, grey)), as_uint8(cv2.subtract(grey, paper))
    inverted = _energy(darker) > _energy(lighter)
    if inverted and level is None:
        darker = as_uint8(cv2.divide(darker, np.maximum(paper, _DARKEST_PAPER), scale=float(np.median(paper))))
    return Contrast(darker if inverted else lighter, inverted, origin)


def _even_level(grey: Grey) -> int | None:
    """The level of the paper where most of the border is even; None in uneven light.

    Strokes may cover most of the border of a tightly cut small picture: there the median of the whole decides.
    """
    small = max(grey.shape) < RULED_PX
    border = np.sort(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])).astype(np.int16)
    most = int(border.size * (_EVEN_SHARE_SMALL if small else _EVEN_SHARE))
    spreads = border[most:] - border[: border.size - most]
    evenest = int(spreads.argmin())
    if spreads[evenest] > _FLAT_RANGE:
        return None
    level = int(border[evenest + most // 2])
    if small and np.count_nonzero(np.abs(border - level) > _FLAT_RANGE) > _CROWDED_SHARE * border.size:
        return int(np.median(grey))
    return level


def _energy(contrast: Grey) -> float:
    above = cv2.threshold(contrast, NOISE, 0, cv2.THRESH_TOZERO)[1]
    return cv2.norm(above, cv2.NORM_L2SQR)


def _light_on_paper(grey: Grey) -> Grey:
    """The picture without its ink: a median, wider than strokes and narrower than shadows."""
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _BACKGROUND_PX)
    small_size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    window = int(max(small_size) * _BACKGROUND_WINDOW) | 1
    reach = window // 2
    wide = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    light = cv2.medianBlur(wide, window)[reach : reach + small.shape[0], reach : reach + small.shape[1]]
    light = cv2.GaussianBlur(light, (0, 0), 2)
    return as_uint8(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR))


def _level_bands(grey: Grey) -> Grey:
    """The picture with straight bands at its left and right brought to the level and polarity of its middle.

    Letterbox bars become paper, and strokes that reach into an inverted band are whole again.
    """
    if np.ptp(grey[0]) < _BAND_LEVELS:
        return grey
    ends = grey[[0, -1]].astype(np.int16)
    jumps = ends[:, 1:] - ends[:, :-1]
    width = grey.shape[1]
    narrowest = max(_NARROWEST_BAND_PX, _NARROWEST_BAND_SHARE * width)
    edges = [
        int(column) + 1
        for column in np.flatnonzero(np.abs(jumps).min(axis=0) >= _BAND_LEVELS)
        if narrowest <= min(column + 1, width - column - 1) <= _BAND_SHARE * width and _is_edge(grey, int(column))
    ]
    if not edges:
        return grey
    left = max((edge for edge in edges if edge < width / 2), default=0)
    right = min((edge for edge in edges if edge > width / 2), default=width)
    middle = grey[:, left:right].astype(np.int16)
    if np.ptp(middle) < _BAND_LEVELS:  # a bar from edge to edge is a digit, and its sides are the paper
        return grey
    level = int(np.median(middle))
    levelled = [_levelled(grey[:, :left], middle, level), middle, _levelled(grey[:, right:], middle, level)]
    return np.clip(np.concatenate(levelled, axis=1), 0, 255).astype(np.uint8)


def _is_edge(grey: Grey, column: int) -> bool:
    """Whether most of a column differs from the next as its two ends do."""
    steps = grey[:, column + 1].astype(np.int16) - grey[:, column]
    return bool(np.mean(steps * np.sign(steps[0]) >= _BAND_LEVELS) >= _BAND_UNBROKEN)


def _levelled(band: Grey, middle: NDArray[np.int16], level: int) -> NDArray[np.int16]:
    apart = band - np.int16(np.median(band)) if band.size else band.astype(np.int16)
    opposite = (apart.sum(dtype=np.int64) < 0) != ((middle - level).sum(dtype=np.int64) < 0)
    return level - apart if opposite else level + apart


def writing_contrast(grey: Grey) -> Grey:
    """How far each pixel stands out from a paper that may be uneven, for strokes on most of a picture.

    Where ink touches the border, the paper is what remains without anything as thin as a stroke (a closing).
    """
    level = _blank_border(grey)
    if level is not None:
        return _stand_out(grey, level).levels
    window = max(_WIDEST_STROKE_PX, int(min(grey.shape) * _WIDEST_STROKE)) | 1
    kernel = np.ones((window, window), np.uint8)
    paper, ground = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel), cv2.morphologyEx(grey, cv2.MORPH_OPEN, kernel)
    darker, lighter = cv2.subtract(paper, grey), cv2.subtract(grey, ground)
    light = _light_on_paper(grey)  # between strokes, the paper is a thin thing of the other polarity
    dark, pale = cv2.min(darker, cv2.subtract(light, grey)), cv2.min(lighter, cv2.subtract(grey, light))
    if _energy(as_uint8(dark)) <= _energy(as_uint8(pale)):
        return as_uint8(lighter)
    usual = float(np.median(paper))
    lit = np.maximum(paper, max(_DARKEST_PAPER, int(_DARKEST_SHARE * usual)))
    return as_uint8(cv2.divide(darker, lit, scale=usual))


def page_contrast(grey: Grey) -> Grey:
    """The same where strokes are few, as on forms: half of the grain is below a wide median."""
    return _stand_out(grey, None).levels
