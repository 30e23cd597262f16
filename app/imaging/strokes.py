"""Where the digit is: grey -> its strokes. Owns paper, light, polarity, frames, ruled lines and dirt.

Knows nothing of 28x28 or of a model.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.decode import Grey

_WORK_PX = 400  # longest side at which strokes are looked for
_FLAT_RANGE = 12  # grey levels that most of the border's pixels span on evenly lit paper
_EVEN_SHARE, _EVEN_SHARE_SMALL = 0.75, 0.5  # most of them: small pictures are cut tightly, large ones have shadows
_MARGIN_SHARE = 0.1  # of the shorter side: a margin of another level is looked for this deep
_MARGIN_LEVELS = 16  # grey levels from one ring of pixels to the next at the edge of such a margin
_BAND_SHARE = 0.3  # of the width: bands of another level at the sides are at most this broad
_NARROWEST_BAND_PX, _NARROWEST_BAND_SHARE = 6, 0.15  # at least this broad, or a stroke at the edge would be one
_BAND_LEVELS = 64  # grey levels from one column to the next at the edge of such a band
_BAND_UNBROKEN = 0.5  # of that edge: strokes may cross the rest
_CROWDED_SHARE = 0.3  # of the border: more than this of another level, and strokes crowd it
_BACKGROUND_PX = 64  # longest side at which the light on uneven paper is estimated
_BACKGROUND_WINDOW = 0.4  # of that side: wider than any stroke, narrower than a shadow
_DARKEST_PAPER = 30  # grey levels: what is darker gives no measure of the light
_WHITE = 255
_NOISE = 10  # grey levels: less contrast than this is paper
_NEAR = 0.25  # of the digit's longer side: parts of one digit lie at most this far apart
_SPECK = 0.02  # of the digit's area: what is smaller is dirt
_SMALLEST_PX, _SMALLEST_SHARE = 4, 0.015  # of the longer side: what is smaller is grain of the paper
_SPECKS_AT_MOST = 4  # looked past for a digit
_PALE_REACH = 0.03  # of the longer side: paler parts of a stroke lie this near to a sure one, pale lines run on
_RULED_PX = 64  # ruled lines are looked for on images at least this wide: on smaller ones they are as thick as a pen
_RULED_FILL = 0.3  # of a row that a line, perhaps sloping, fills
_THIN_SHARE = 0.06  # of the longer side: what is narrower is thin
_RULED_RUN = 0.2  # of the width: the straight run that no stroke of a digit has so thinly


class Found(NamedTuple):
    """The part of the image that holds the digit.

    ``contrast``: uint8 (height, width), how far each pixel stands out from the paper. ``strokes``: its mask, 0 or 1.
    ``sure``: the contrast that strokes surely have. ``inverted``: the ink was the darker side. ``box``: (x, y, width,
    height) of it in pixels of the image. ``digits``: how many parts of about its size stand side by side. ``picture``:
    the image, as small as it was looked at.
    """

    contrast: Grey
    strokes: Grey
    sure: float
    inverted: bool
    box: tuple[int, int, int, int]
    digits: int
    picture: Grey


def find_strokes(grey: Grey) -> Found:
    """The digit on a picture, uint8 of any size. Raises NoInk when nothing stands out from the paper."""
    picture = small = _shrink(grey)
    margin = 0
    level = _blank_border(small)
    if level is None:
        margin = _margin(small)
        if margin:
            small = small[margin:-margin, margin:-margin]
        small = _level_bands(_level_bands(small).T).T
        level = _even_level(small)
    contrast, inverted = _stand_out(small, level)
    return _strokes(contrast, inverted, margin, picture, grey.shape)


def find_others(picture: Grey, inverted: bool) -> Iterator[Found]:
    """What else may be meant by a picture on which there seemed to be no digit; boxes in pixels of this ``picture``.

    First the other polarity, against its extreme level: of a tightly cut digit the strokes may be taken for the paper.
    On larger pictures then whatever is thin and darker than what is around it, in any light (a black-hat).
    """
    if inverted:
        contrasts = [cv2.subtract(picture, np.full_like(picture, picture.min()))]
    else:
        contrasts = [cv2.subtract(np.full_like(picture, picture.max()), picture)]
    if max(picture.shape) > _RULED_PX:
        window = int(max(picture.shape) * _THIN_SHARE) | 1
        contrasts.append(cv2.morphologyEx(picture, cv2.MORPH_BLACKHAT, np.ones((window, window), np.uint8)))
    for contrast, dark in zip(contrasts, (not inverted, True), strict=False):
        with suppress(NoInk):
            yield _strokes(_uint8(contrast), dark, 0, picture, picture.shape)


def _strokes(contrast: Grey, inverted: bool, margin: int, picture: Grey, original: tuple[int, ...]) -> Found:
    """The digit that stands out. ``margin``: what was cut off the picture. ``original``: the shape of the image."""
    for _ in range(_SPECKS_AT_MOST):
        strokes, sure, digits = _find_digit(contrast)
        x, y, width, height = cv2.boundingRect(strokes)
        if max(width, height) >= max(_SMALLEST_PX, _SMALLEST_SHARE * max(contrast.shape)):
            break
        contrast[cv2.dilate(strokes, np.ones((3, 3), np.uint8)) > 0] = 0  # dirt, stronger than a pale digit
    else:
        raise NoInk("Nothing but specks stands out from the ground: send a larger image of the digit.")
    part = np.s_[y : y + height, x : x + width]
    scale_y, scale_x = original[0] / picture.shape[0], original[1] / picture.shape[1]
    left, top = int((x + margin) * scale_x), int((y + margin) * scale_y)
    right, bottom = round((x + margin + width) * scale_x), round((y + margin + height) * scale_y)
    box = (left, top, right - left, bottom - top)
    return Found(contrast[part], strokes[part], sure, inverted, box, digits, picture)


def _shrink(grey: Grey) -> Grey:
    """At most `_WORK_PX` a side. First by a whole number, for which OpenCV's area average is several times faster."""
    whole = max(grey.shape) // _WORK_PX
    if whole > 1:
        height, width = (max(1, side // whole) for side in grey.shape)
        grey = cv2.resize(
            grey[: height * whole, : width * whole], (width, height), interpolation=cv2.INTER_AREA
        ).astype(np.uint8)
    longest = max(grey.shape)
    if longest > _WORK_PX:
        height, width = (max(1, round(side * _WORK_PX / longest)) for side in grey.shape)
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return grey


def _blank_border(grey: Grey) -> int | None:
    """The level of the paper where nothing touches the border and little comes near it, as in drawings; else None.

    There is no margin, band or shadow to look for then: half of the search.
    """
    level = int(grey[0, 0])
    ink = grey if level == 0 else cv2.absdiff(grey, np.full_like(grey, level))
    rows, columns = grey.shape
    left, top, width, height = cv2.boundingRect(ink)
    clear = min(left, top, columns - left - width, rows - top - height)
    if clear < 1:
        return None
    rings = _rings(grey)
    if clear >= rings:
        return level
    near = cv2.countNonZero(ink) - cv2.countNonZero(ink[rings : rows - rings, rings : columns - rings])
    innermost = 2 * (rows + columns) - 8 * rings + 4  # pixels of the last ring: a margin's edge covers half of them
    return level if 2 * near < innermost else None


def _rings(grey: Grey) -> int:
    """How many rings of pixels, from the border inwards, may belong to a margin."""
    shorter: int = min(grey.shape)
    return min(int(shorter * _MARGIN_SHARE) + 2, (shorter + 1) // 2)  # a picture of one or two pixels has only one


def _stand_out(grey: Grey, level: int | None) -> tuple[Grey, bool]:
    """How far each pixel stands out from the paper, uint8, and whether the ink is the darker side.

    From one ``level`` where the border is even (drawings, scans): a local one would eat the inside of thick strokes.
    In uneven light (photographs) from a wide median; dark ink then is the share of the light that is missing, so that
    it is as strong in a shadow as beside it.
    """
    if level == 0:  # nothing is darker, or lighter
        return grey.copy(), False
    if level == _WHITE:
        return _uint8(cv2.bitwise_not(grey)), True
    paper = _light_on_paper(grey) if level is None else np.full_like(grey, level)
    darker, lighter = _uint8(cv2.subtract(paper, grey)), _uint8(cv2.subtract(grey, paper))
    inverted = _energy(darker) > _energy(lighter)
    if inverted and level is None:
        darker = _uint8(cv2.divide(darker, np.maximum(paper, _DARKEST_PAPER), scale=float(np.median(paper))))
    return (darker if inverted else lighter), inverted


def _even_level(grey: Grey) -> int | None:
    """The level of the paper where most of the border is even; None in uneven light.

    Of a tightly cut small picture strokes may cover most of the border: there the level that most of it has decides.
    """
    small = max(grey.shape) < _RULED_PX
    border = np.sort(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])).astype(np.int16)
    most = int(border.size * (_EVEN_SHARE_SMALL if small else _EVEN_SHARE))
    spreads = border[most:] - border[: border.size - most]  # of so many of its pixels, by level
    evenest = int(spreads.argmin())
    if spreads[evenest] > _FLAT_RANGE:
        return None
    level = int(border[evenest + most // 2])
    if small and np.count_nonzero(np.abs(border - level) > _FLAT_RANGE) > _CROWDED_SHARE * border.size:
        return int(np.median(grey))
    return level


def _energy(contrast: Grey) -> float:
    above = cv2.threshold(contrast, _NOISE, 0, cv2.THRESH_TOZERO)[1]
    return cv2.norm(above, cv2.NORM_L2SQR)


def _light_on_paper(grey: Grey) -> Grey:
    """The picture without its ink: a median, wider than strokes and narrower than shadows."""
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _BACKGROUND_PX)
    small_size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    window = int(max(small_size) * _BACKGROUND_WINDOW) | 1
    wide = cv2.copyMakeBorder(small, window, window, window, window, cv2.BORDER_REFLECT)
    light = cv2.medianBlur(wide, window)[window:-window, window:-window]
    light = cv2.GaussianBlur(light, (0, 0), 2)
    return _uint8(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR))


def _uint8(pixels: MatLike) -> Grey:
    return pixels.astype(np.uint8, copy=False)


def _find_digit(contrast: Grey) -> tuple[Grey, float, int]:
    """The digit among everything that stands out: its mask, the contrast its strokes surely have, how many digits.

    Two thresholds (Canny's hysteresis): pale ends of a stroke count when they hang on a sure part of it.
    """
    above = contrast[contrast > _NOISE]
    if above.size == 0:
        raise NoInk("Nothing on the image stands out from its ground: send one with a digit on it.")
    otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    sure = max(0.9 * otsu, _NOISE)
    standing_out = _uint8(cv2.threshold(contrast, max(0.5 * sure, _NOISE), 1, cv2.THRESH_BINARY)[1])
    if min(contrast.shape) >= _RULED_PX:
        standing_out = _without_ruling(standing_out)
        reach = 2 * round(max(contrast.shape) * _PALE_REACH) + 1
        standing_out &= _uint8(cv2.dilate((contrast > sure).astype(np.uint8), np.ones((reach, reach), np.uint8)))
    count, labels = cv2.connectedComponents(standing_out, connectivity=8, ltype=cv2.CV_16U)
    if count == 2 and cv2.minMaxLoc(contrast, standing_out)[1] > sure:  # one part and the ground: no choice
        return standing_out, sure, 1
    count, labels, stats, centres = cv2.connectedComponentsWithStats(standing_out, connectivity=8, ltype=cv2.CV_16U)
    seeded = np.zeros(count, bool)
    seeded[labels[contrast > sure]] = True
    seeded[0] = False
    parts = np.flatnonzero(seeded)
    if not parts.size:  # lines and nothing else
        raise NoInk("Nothing but lines stands out from the ground: send an image with a digit on it.")
    if parts.size == 1:
        return (labels == parts[0]).astype(np.uint8), sure, 1
    parts = _without_frames(parts, labels, stats)
    inked = labels > 0
    strength = np.bincount(labels[inked], weights=np.square(contrast[inked], dtype=np.float32), minlength=count)
    chosen = _choose(stats[parts], centres[parts], strength[parts], contrast.shape)
    keep = np.zeros(count, np.uint8)
    keep[parts[chosen]] = 1
    return keep[labels], sure, _count_digits(stats[parts], strength[parts], chosen, contrast.shape)


def _choose(stats: MatLike, centres: MatLike, strength: MatLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which connected parts make up the digit: the best one, and what lies near it.

    ``stats``: (n, 5) of left, top, width, height, area; ``centres``: (n, 2) of x, y; ``strength``: (n,) sums of
    squared contrast. Strong and central wins; what lies at the border (page edges, shadows, neighbours) loses.
    """
    height, width = shape
    left, top, part_width, part_height, area = stats.T.astype(np.float64)
    right, bottom = left + part_width, top + part_height
    touching = (left <= 0).astype(int) + (top <= 0) + (right >= width) + (bottom >= height)
    away = np.abs(centres / (width, height) - 0.5)
    at_border = np.where(away.max(axis=1) > 0.25, 0.1, 0.7)
    score = strength * np.exp(-4 * np.square(away).sum(axis=1)) * np.where(touching > 0, at_border, 1.0)
    main = int(np.argmax(score))
    size = max(part_width[main], part_height[main])
    chosen = np.zeros(len(stats), bool)
    chosen[main] = True
    for _ in range(2):  # a third stroke may hang on the second
        gap_x = np.maximum(0, np.maximum(left - right[chosen].max(), left[chosen].min() - right))
        gap_y = np.maximum(0, np.maximum(top - bottom[chosen].max(), top[chosen].min() - bottom))
        gap = np.hypot(gap_x, gap_y)
        inside = (touching == 0) | (touching[main] > 0) | ((gap < 0.08 * size) & (touching < 2))
        chosen |= (gap < _NEAR * size) & (area > _SPECK * area[main]) & inside
    return chosen


def _count_digits(stats: MatLike, strength: MatLike, chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> int:
    """How many parts of the size and strength of the chosen ones stand side by side, clear of the border; 1 at least.

    The bounds were set on real pictures: none of 631 single digits counts as more, 23 of 34 rows of digits do.
    """
    left, top, width, height = stats[:, :4].T.astype(np.float64)
    right, bottom = left + width, top + height
    tall = bottom[chosen].max() - top[chosen].min()
    alike = (height >= 0.6 * tall) & (height <= 1.7 * tall) & (strength >= 0.12 * strength[chosen].sum())
    alike &= (left > 0) & (top > 0) & (right < shape[1]) & (bottom < shape[0])
    count, end = 0, -1.0
    for part in np.flatnonzero(alike)[np.argsort(right[alike])]:
        if left[part] >= end - 0.1 * width[part]:
            count, end = count + 1, right[part]
    return max(1, count)


def _margin(grey: Grey) -> int:
    """How many pixels on each side belong to a frame or a margin of another level than what it surrounds; 0 mostly.

    Past the deepest jump of a ring's level, where the rings are even and of the level of the paper within.
    """
    rings = _rings(grey)
    levels = [_percentile(_ring(grey, depth), 50) for depth in range(rings)]
    jumps = [at for at in range(1, rings) if abs(levels[at] - levels[at - 1]) > _MARGIN_LEVELS]
    if not jumps:
        return 0
    for depth in range(jumps[-1] + 1, rings):
        low, level, high = (_percentile(_ring(grey, depth), percent) for percent in (20, 50, 80))
        paper = float(np.median(grey[depth:-depth, depth:-depth]))
        if high - low <= 2 * _FLAT_RANGE and abs(level - paper) <= _FLAT_RANGE:
            return depth
    return 0


def _level_bands(grey: Grey) -> Grey:
    """The picture with straight bands at its left and right brought to the level and polarity of its middle.

    Bars of letterboxed pictures become paper, and strokes that reach into an inverted band are whole again.
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
    levelled = [_turned(grey[:, :left], middle, level), middle, _turned(grey[:, right:], middle, level)]
    return np.clip(np.concatenate(levelled, axis=1), 0, 255).astype(np.uint8)


def _is_edge(grey: Grey, column: int) -> bool:
    """Whether most of a column differs from the next as its two ends do."""
    steps = grey[:, column + 1].astype(np.int16) - grey[:, column]
    return bool(np.mean(steps * np.sign(steps[0]) >= _BAND_LEVELS) >= _BAND_UNBROKEN)


def _turned(band: Grey, middle: NDArray[np.int16], level: int) -> NDArray[np.int16]:
    apart = band - np.int16(np.median(band)) if band.size else band.astype(np.int16)
    turned_over = (apart.sum(dtype=np.int64) < 0) != ((middle - level).sum(dtype=np.int64) < 0)
    return level - apart if turned_over else level + apart


def _ring(grey: Grey, depth: int) -> Grey:
    """The pixels that lie ``depth`` inside the border."""
    inner = grey[depth : grey.shape[0] - depth, depth : grey.shape[1] - depth]
    return np.concatenate([inner[0], inner[-1], inner[1:-1, 0], inner[1:-1, -1]])


def _percentile(levels: Grey, percent: int) -> int:
    up_to = np.bincount(levels, minlength=256).cumsum()
    return int(np.searchsorted(up_to, (levels.size - 1) * percent // 100, side="right"))


def _without_ruling(mask: Grey) -> Grey:
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


def _without_frames(parts: NDArray[np.intp], labels: MatLike, stats: MatLike) -> NDArray[np.intp]:
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


def _holds(outer: MatLike, inner: MatLike) -> bool:
    """Whether a part of some size lies within the bounds of another."""
    within = (inner[:2] >= outer[:2]).all() and (inner[:2] + inner[2:4] <= outer[:2] + outer[2:4]).all()
    return bool(within and inner[2:4].max() > 0.2 * outer[2:4].max())
