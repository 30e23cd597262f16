"""Contrast -> the strokes of the digit. Owns threshold, dirt and neighbours; knows no model."""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.paper import NOISE, RULED_PX, Contrast, alternative_contrasts, find_contrast
from app.imaging.pixels import Grey, as_uint8, shrink
from app.imaging.rules import (
    is_flat,
    rows_between_lines,
    without_frames,
    without_lines,
    without_parentheses,
    without_ruling,
)

_WORK_PX = 400  # longest side at which strokes are looked for
_JOIN_PX, _SMALLEST_SIDE_PX = 200, 24  # strokes in pieces: longest side of the first size, shorter side of the last
_SHRINK = 1.4  # from one of these sizes to the next
_WHOLE = 0.9  # of the ink clear of the border: what has less is a piece of a digit
_SOLID = 0.87  # of a part's convex hull: dots and dashes fill it, digits do not
_MAX_SPECKS = 4  # removed in search of a digit
_SMALLEST_PX, _SMALLEST_SHARE = 4, 0.015  # pixels, and of the longer side: anything smaller is a speck
_PALE_REACH = 0.03  # of the longer side: pale parts of a stroke lie this near to a sure one; pale lines run on
_NEAR = 0.25  # of the digit's longer side: parts of one digit lie at most this far apart
_DIRT = 0.02  # of the digit's area: a smaller part is dirt


class Segmentation(NamedTuple):
    """The part of a picture that holds the digit.

    ``contrast``: uint8 (height, width). ``strokes``: its mask, 0 or 1. ``sure``: the contrast that strokes surely have.
    ``inverted``: the ink is the darker side. ``digits``: how many parts of about its size stand side by side.
    ``whole``: no piece of something larger. ``picture``: the picture at the size that was searched. ``box``: (x, y,
    width, height) in pixels of it.
    """

    contrast: Grey
    strokes: Grey
    sure: float
    inverted: bool
    box: tuple[int, int, int, int]
    digits: int
    whole: bool
    picture: Grey


class _OnlySpecks(NoInk):
    """No part is large enough for a digit; together they may be one."""


def find_strokes(grey: Grey) -> Segmentation:
    """The digit on a picture, uint8 of any size. Raises NoInk when nothing stands out from the paper.

    Pieces that join at no size count as several digits, so that none of them is accepted.
    """
    picture, _ = shrink(grey, _WORK_PX)
    try:
        found = _segment(find_contrast(picture), picture)
    except _OnlySpecks:
        joined = _join_pieces(picture)
        if joined is None:
            raise
        return joined
    if found.whole:
        return found
    return _join_pieces(picture) or found._replace(digits=max(found.digits, 2))


def alternative_strokes(picture: Grey, *, inverted: bool) -> Iterator[Segmentation]:
    """What else may be the digit, if the one found in ``picture`` looks like none."""
    for contrast in alternative_contrasts(picture, inverted=inverted):
        with suppress(NoInk):
            yield _segment(contrast, picture)


def _join_pieces(picture: Grey) -> Segmentation | None:
    """The digit whose strokes are in pieces (dotted, dashed, sprayed, dithered, worn); None if it is not found.

    Pieces join in smaller, blurred pictures. Returns the first size at which they are one part, else the first at
    which they lie near each other.
    """
    near = None
    longest = max(picture.shape)
    side = min(longest, _JOIN_PX)
    while (scale := side / longest) * min(picture.shape) >= _SMALLEST_SIDE_PX:
        smaller = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        blurred = as_uint8(cv2.GaussianBlur(smaller, (0, 0), 1))
        with suppress(NoInk):
            found = _segment(find_contrast(blurred), blurred)
            if found.whole:
                if found.digits > 1 or cv2.connectedComponents(found.strokes)[0] == 2:
                    return found
                near = near or found
        side = int(side / _SHRINK)
    return near


def _segment(found: Contrast, picture: Grey) -> Segmentation:
    contrast, inverted, (left, top) = found
    for _ in range(_MAX_SPECKS):
        strokes, digits, whole, sure = _find_digit(contrast)
        x, y, width, height = cv2.boundingRect(strokes)
        first, last = rows_between_lines(strokes[y : y + height, x : x + width])
        rows = np.s_[y + first : y + last]
        if last - first < height and cv2.minMaxLoc(contrast[rows], strokes[rows])[1] > sure:  # not only pale ink
            strokes[: y + first] = 0
            strokes[y + last :] = 0
            x, y, width, height = cv2.boundingRect(strokes)
        if max(width, height) >= max(_SMALLEST_PX, _SMALLEST_SHARE * max(contrast.shape)):
            break
        contrast[cv2.dilate(strokes, np.ones((3, 3), np.uint8)) > 0] = 0  # dirt, stronger than a pale digit
    else:
        raise _OnlySpecks("There are only specks on the image: send a larger image of the digit.")
    part = np.s_[y : y + height, x : x + width]
    box = (x + left, y + top, width, height)
    return Segmentation(contrast[part], strokes[part], sure, inverted, box, digits, whole, picture)


def _find_digit(contrast: Grey) -> tuple[Grey, int, bool, float]:
    """The mask of the digit, how many digits there seem to be, if it is whole, the contrast its strokes surely have.

    Two thresholds (Canny's hysteresis): pale ends of a stroke count when they touch a sure part of it.
    """
    above = contrast[contrast > NOISE]
    if above.size == 0:
        raise NoInk("The image is blank: send one with a digit on it.")
    otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    sure = max(0.9 * otsu, NOISE)
    standing_out = as_uint8(cv2.threshold(contrast, max(0.5 * sure, NOISE), 1, cv2.THRESH_BINARY)[1])
    if min(contrast.shape) < RULED_PX:
        return *_choose_parts(contrast, standing_out, sure, (0, 0), contrast.shape), sure
    standing_out = without_ruling(standing_out)
    certain = as_uint8(cv2.threshold(contrast, sure, 1, cv2.THRESH_BINARY)[1])
    reach = round(max(contrast.shape) * _PALE_REACH)
    x, y, width, height = cv2.boundingRect(certain)
    margin = reach + 1  # one more, so that only parts at the border of the picture touch that of the cut
    left, top = max(0, x - margin), max(0, y - margin)
    part = np.s_[top : y + height + margin, left : x + width + margin]
    near = as_uint8(cv2.dilate(certain[part], np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)))
    strokes = np.zeros_like(contrast)
    strokes[part], digits, whole = _choose_parts(
        contrast[part], standing_out[part] & near, sure, (left, top), contrast.shape
    )
    return strokes, digits, whole, sure


def _choose_parts(
    contrast: Grey, standing_out: Grey, sure: float, origin: tuple[int, int], shape: tuple[int, ...]
) -> tuple[Grey, int, bool]:
    """The mask of the digit, how many digits there seem to be, if it is whole.

    ``origin``: (left, top) in the picture, whose ``shape`` it is, of a part with all that stands out.
    """
    count, labels = cv2.connectedComponents(standing_out, connectivity=8, ltype=cv2.CV_16U)
    if count == 2 and cv2.minMaxLoc(contrast, standing_out)[1] > sure:  # one part: nothing to choose
        return standing_out, 1, True
    count, labels, stats, centres = cv2.connectedComponentsWithStats(standing_out, connectivity=8, ltype=cv2.CV_16U)
    seeded = np.zeros(count, bool)
    seeded[labels[contrast > sure]] = True
    seeded[0] = False
    parts = np.flatnonzero(seeded)
    if not parts.size:
        raise NoInk("There are only lines on the image: send one with a digit on it.")
    keep = np.zeros(count, np.uint8)
    if parts.size == 1:
        keep[parts] = 1
        return (labels == parts[0]).astype(np.uint8), 1, _is_whole(stats, keep, contrast.shape)
    parts = without_parentheses(without_frames(parts, labels, stats), labels, stats)
    inked = labels > 0
    owners = labels[inked].astype(np.intp)
    strength = np.bincount(owners, weights=np.square(contrast[inked], dtype=np.float32), minlength=count)
    away = np.abs((centres + origin) / shape[::-1] - 0.5)
    body = parts[~is_flat(stats[parts])]
    if body.size:
        body = body[_choose(stats[body], away[body], strength[body], contrast.shape)]
        parts = without_lines(parts, body, stats, centres)
    chosen = _choose(stats[parts], away[parts], strength[parts], contrast.shape)
    keep[parts[chosen]] = 1
    digits = _count_digits(stats[parts], strength[parts], chosen, contrast.shape)
    around = np.setdiff1d(np.flatnonzero(seeded), parts, assume_unique=True)
    whole = _is_whole(np.delete(stats, around, 0), np.delete(keep, around), contrast.shape)
    if digits > 1 and not whole:  # a digit of a row is whole, a dot or dash is not
        largest = parts[chosen][stats[parts[chosen], 4].argmax()]
        hull = cv2.convexHull(cv2.findNonZero((labels == largest).astype(np.uint8)))
        whole = bool(stats[largest, 4] < _SOLID * cv2.contourArea(hull))
    return keep[labels], digits, whole


def _choose(stats: MatLike, away: MatLike, strength: MatLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which connected parts make up the digit: the best one and its neighbours.

    ``stats``: (n, 5) of left, top, width, height, area; ``away``: (n, 2), how far across and down from the middle, as
    shares of the picture; ``strength``: (n,) sums of squared contrast. Strong and central parts win; parts at the
    border (page edges, shadows) lose.
    """
    height, width = shape
    left, top, part_width, part_height, area = stats.T.astype(np.float64)
    right, bottom = left + part_width, top + part_height
    touching = (left <= 0).astype(int) + (top <= 0) + (right >= width) + (bottom >= height)
    at_border = np.where(away.max(axis=1) > 0.25, 0.1, 0.7)
    score = strength * np.exp(-4 * np.square(away).sum(axis=1)) * np.where(touching > 0, at_border, 1.0)
    main = int(np.argmax(score))
    size = max(part_width[main], part_height[main])
    chosen = np.zeros(len(stats), bool)
    chosen[main] = True
    for _ in range(2):  # a third stroke may lie near the second
        gap_x = np.maximum(0, np.maximum(left - right[chosen].max(), left[chosen].min() - right))
        gap_y = np.maximum(0, np.maximum(top - bottom[chosen].max(), top[chosen].min() - bottom))
        gap = np.hypot(gap_x, gap_y)
        inside = (touching == 0) | (touching[main] > 0) | ((gap < 0.08 * size) & (touching < 2))
        chosen |= (gap < _NEAR * size) & (area > _DIRT * area[main]) & inside
    return chosen


def _is_whole(stats: MatLike, keep: Grey, shape: tuple[int, ...]) -> bool:
    """Whether the parts to keep have nearly all the area of the parts clear of the border: 93 % on real pictures."""
    left, top, width, height, area = stats.T
    clear = (left > 0) & (top > 0) & (left + width < shape[1]) & (top + height < shape[0])
    return bool(area[keep > 0].sum() >= _WHOLE * area[clear | (keep > 0)].sum())


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
