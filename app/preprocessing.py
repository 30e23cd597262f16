"""The one image truth: grey -> ink, the (28, 28, 1) that the model sees.

Training calls the same functions on every image that it learns from. Knows no model, no request and no setting.
`VERSION` changes with any change of a pixel that comes out; an engine refuses weights made with another.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from app.decoding import MAX_PIXELS, Decoded, Grey, decode, inspect
from app.errors import NoInk

VERSION = "1"

Mode = Literal["auto", "plain"]
Ink = NDArray[np.float32]

SIDE_PX = 28
BOX_PX = 20  # MNIST's digits are fitted into a box of this side, keeping their aspect

_PLACES = np.arange(BOX_PX, dtype=np.float32)
_WORK_PX = 400  # longest side at which ink is looked for
_FLAT_RANGE = 12  # grey levels between the quartiles of the border of evenly lit paper
_BACKGROUND_PX = 64  # longest side at which the light on uneven paper is estimated
_BACKGROUND_WINDOW = 0.4  # of that side: wider than any stroke, narrower than a shadow
_NOISE = 10  # grey levels: less contrast than this is paper
_NEAR = 0.25  # of the digit's longer side: parts of one digit lie at most this far apart
_SPECK = 0.02  # of the digit's area: what is smaller is dirt
_THIN_PX, _PEN_PX = 1.6, 2.2  # strokes thinner than the first, at MNIST's scale, are widened to the second


@dataclass(frozen=True)
class Preprocessed:
    """What the model sees, and where it was found.

    ``ink``: float32 (28, 28, 1) in [0, 1], 1 = pen. ``inverted``: the ink was darker than the paper, so the picture
    was turned over. ``ink_box``: (x, y, width, height) in pixels of the oriented image.
    """

    ink: Ink
    inverted: bool
    ink_box: tuple[int, int, int, int]


def preprocess(data: bytes, mode: Mode = "auto", *, max_pixels: int = MAX_PIXELS) -> Preprocessed:
    """The ink of an encoded image, in one call.

    Raises UnsupportedMediaType, TooLarge, UndecodableImage, or NoInk when the image is blank.
    """
    return ink_from_decoded(decode(inspect(data, max_pixels=max_pixels)), mode)


def ink_from_decoded(decoded: Decoded, mode: Mode = "auto") -> Preprocessed:
    """`find_ink` of a decoded image, its box in pixels of the original. Raises NoInk."""
    found = find_ink(decoded.grey, mode)
    x, y, width, height = (value * decoded.reduction for value in found.ink_box)
    return Preprocessed(found.ink, found.inverted, (x, y, width, height))


def find_ink(grey: Grey, mode: Mode = "auto") -> Preprocessed:
    """The ink of a decoded image: uint8 (height, width) of any size, dark on light or light on dark.

    Raises NoInk when nothing stands out from the paper.
    """
    return _plain(grey) if mode == "plain" else _auto(grey)


def ink_from_grey(grey: Grey, mode: Mode = "auto") -> Ink:
    """`find_ink(...).ink`: float32 (28, 28, 1) in [0, 1], 1 = pen."""
    return find_ink(grey, mode).ink


def _plain(grey: Grey) -> Preprocessed:
    """The textbook way: light ink on dark is taken as given."""
    if not grey.any():
        raise NoInk("The image is black all over: draw a digit on it.")
    height, width = grey.shape
    small = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    ink = small.astype(np.float32)[:, :, None] / np.float32(255)
    return Preprocessed(ink, inverted=False, ink_box=(0, 0, width, height))


def _auto(grey: Grey) -> Preprocessed:
    small = _shrink(grey)
    contrast, inverted = _stand_out(small)
    strokes, stroke_level, (left, top, right, bottom) = _find_digit(contrast)
    part = np.s_[top:bottom, left:right]
    ink = _fit(contrast[part], strokes[part], stroke_level)
    scale_y, scale_x = grey.shape[0] / small.shape[0], grey.shape[1] / small.shape[1]
    x, y = int(left * scale_x), int(top * scale_y)
    return Preprocessed(ink, inverted, (x, y, round(right * scale_x) - x, round(bottom * scale_y) - y))


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


def _stand_out(grey: Grey) -> tuple[Grey, bool]:
    """How far each pixel stands out from the paper, uint8 in grey levels, and whether the ink is the darker side."""
    paper = _paper(grey)
    darker, lighter = cv2.subtract(paper, grey), cv2.subtract(grey, paper)
    inverted = _energy(darker) > _energy(lighter)
    return (darker if inverted else lighter).astype(np.uint8), inverted


def _energy(contrast: cv2.typing.MatLike) -> float:
    above = contrast[contrast > _NOISE].astype(np.float32)
    return float(np.dot(above, above))


def _paper(grey: Grey) -> Grey:
    """The picture without its ink, uint8 of the same shape.

    One level where the border is even (drawings, scans), a wide median where light falls unevenly (photographs): a
    median of even paper would eat the inside of thick strokes.
    """
    border = np.sort(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    quarter, middle, three_quarters = border[border.size * np.array([1, 2, 3]) // 4]
    if int(three_quarters) - int(quarter) <= _FLAT_RANGE:
        return np.full_like(grey, middle)
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _BACKGROUND_PX)
    small_size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    window = int(max(small_size) * _BACKGROUND_WINDOW) | 1
    wide = cv2.copyMakeBorder(small, window, window, window, window, cv2.BORDER_REFLECT)
    light = cv2.medianBlur(wide, window)[window:-window, window:-window]
    light = cv2.GaussianBlur(light, (0, 0), 2)
    return cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _find_digit(contrast: Grey) -> tuple[Grey, float, tuple[int, int, int, int]]:
    """The digit among everything that stands out.

    Gives its mask (uint8, 0 or 1), the contrast that its strokes surely have, and (left, top, right, bottom).
    Two thresholds (Canny's hysteresis): pale ends of a stroke count when they hang on a sure part of it.
    """
    above = contrast[contrast > _NOISE]
    if above.size == 0:
        raise NoInk("Nothing on the image stands out from its ground: send one with a digit on it.")
    otsu, _ = cv2.threshold(above.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    sure = max(0.9 * otsu, _NOISE)
    pale = max(0.5 * sure, _NOISE)
    count, labels, stats, centres = cv2.connectedComponentsWithStats((contrast > pale).astype(np.uint8), connectivity=8)
    seeded = np.zeros(count, bool)
    seeded[labels[contrast > sure]] = True
    parts = np.flatnonzero(seeded)
    chosen = parts[_choose(stats[parts].astype(np.float64), centres[parts].astype(np.float64), contrast.shape)]
    keep = np.zeros(count, np.uint8)
    keep[chosen] = 1
    left, top = stats[chosen, :2].min(axis=0)
    right, bottom = (stats[chosen, :2] + stats[chosen, 2:4]).max(axis=0)
    return keep[labels], sure, (int(left), int(top), int(right), int(bottom))


def _choose(stats: NDArray[np.float64], centres: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which connected parts make up the digit: the best one, and what lies near it.

    ``stats``: (n, 5) of left, top, width, height, area; ``centres``: (n, 2) of x, y. Large and central wins; what
    touches the border (page edges, neighbours, frames) loses to what does not.
    """
    if len(stats) == 1:
        return np.ones(1, bool)
    height, width = shape
    left, top, part_width, part_height, area = stats.T
    right, bottom = left + part_width, top + part_height
    touching = (left <= 0).astype(int) + (top <= 0) + (right >= width) + (bottom >= height)
    off_centre = np.square(centres / (width, height) - 0.5).sum(axis=1)
    score = area * np.exp(-4 * off_centre) * np.where(touching > 0, 0.15, 1.0)
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


def _fit(contrast: Grey, strokes: Grey, stroke_level: float) -> Ink:
    """Scale the strokes into 20x20 and put their centre of mass at the centre of 28x28, as MNIST's makers did.

    Source: LeCun, Cortes and Burges, the MNIST database. Hairlines of large drawings, which an average would dim
    away, are widened first.
    """
    sure = ((contrast > stroke_level) & (strokes > 0)).astype(np.uint8)
    level = float(np.median(contrast[sure > 0]))
    ink = np.minimum(contrast * np.float32(1 / level), 1) * strokes
    ink = _widen(ink, sure)
    scale = BOX_PX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    if ink.shape != (height, width):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        ink = cv2.resize(ink, (width, height), interpolation=how).astype(np.float32)
    left = min(max(round(SIDE_PX / 2 - _centre(ink.sum(axis=0))), 0), SIDE_PX - width)
    top = min(max(round(SIDE_PX / 2 - _centre(ink.sum(axis=1))), 0), SIDE_PX - height)
    frame = np.zeros((SIDE_PX, SIDE_PX, 1), np.float32)
    frame[top : top + height, left : left + width, 0] = ink
    return frame


def _centre(profile: NDArray[np.float32]) -> float:
    """Centre of mass along one axis (cv2.moments takes a picture two pixels wide for a list of points)."""
    return float(np.dot(profile, _PLACES[: profile.size]) / profile.sum())


def _widen(ink: Ink, sure: Grey) -> Ink:
    """Dilate strokes that would be thinner than `_THIN_PX` at MNIST's scale; the frame grows with them.

    A stroke's width is four times the mean distance of its pixels to its edge.
    """
    framed = cv2.copyMakeBorder(sure, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    stroke_width = max(1.0, 4 * float(distance.sum()) / np.count_nonzero(sure) - 1)
    scale = BOX_PX / max(ink.shape)
    if stroke_width * scale >= _THIN_PX:
        return ink
    size = round(_PEN_PX / scale - stroke_width) + 1
    if size < 2:
        return ink
    shape = cv2.MORPH_RECT if size == 2 else cv2.MORPH_ELLIPSE  # an ellipse of two pixels is a line
    grown = cv2.copyMakeBorder(ink, size, size, size, size, cv2.BORDER_CONSTANT)
    grown = cv2.dilate(grown, cv2.getStructuringElement(shape, (size, size)))
    x, y, width, height = cv2.boundingRect((grown > 0.3).astype(np.uint8))
    return grown[y : y + height, x : x + width].astype(np.float32)
