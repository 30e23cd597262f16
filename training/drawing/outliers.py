"""Synthetic outliers, from which the network learns what is not a digit. Pure functions of a random generator.

Letters and symbols from Matplotlib's fonts with pen-like strokes, scribbles, shapes, blots, textures, adjacent digits.
Characters that resemble digits (O, l, S, Z, b, q, g ...) are excluded. Worker processes import this module.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.drawing.digits import arc, curve, draw, draw_digit
from training.drawing.pens import Alpha

_FONTS = (
    "DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf", "STIXGeneralItalic.ttf", "cmmi10.ttf",
    "DejaVuSans-Bold.ttf", "DejaVuSansMono-Oblique.ttf",
)  # fmt: skip
_SIGNS = (
    "ABCDEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwxy"  # without I O S Z b g i l o q s z
    "αβγδεζηκλμνξπρτφχψωΓΔΛΞΠΣΦΨΩ"  # without ι ο σ υ θ
    "#&@%?!+=*<>{}~$€£"
)
_GLYPH_PX = 64


def draw_outlier(random: np.random.Generator, digits: NDArray[np.uint8]) -> Alpha:
    """An image that is not a single digit. ``digits``: MNIST images, uint8 (n, 28, 28), for adjacent digits."""
    kinds = (_sign, _scribble, _shapes, _blot, _texture, _word)
    chance = random.random()
    if chance < 0.1:
        return _joined(random, digits)
    if chance < 0.5:
        return _sign(random)
    return kinds[random.integers(1, len(kinds))](random)


def _sign(random: np.random.Generator) -> Alpha:
    font, sign = random.integers(len(_FONTS)), random.integers(len(_SIGNS))
    glyph = _glyph(int(font), _SIGNS[sign])
    if random.random() < 0.25:  # as printed
        return glyph.astype(np.float32)
    away = cv2.distanceTransform(1 - _skeleton(int(font), _SIGNS[sign]), cv2.DIST_L2, 3)
    pen_px = random.uniform(1.0, 9.0)
    written: Alpha = np.clip(pen_px / 2 - away + 0.5, 0, 1).astype(np.float32)
    return written


def _word(random: np.random.Generator) -> Alpha:
    letters = [_sign(random) for _ in range(random.integers(2, 5))]
    height = max(letter.shape[0] for letter in letters)
    word: Alpha = np.hstack([np.pad(letter, ((height - letter.shape[0], 0), (0, 0))) for letter in letters])
    return word


def _joined(random: np.random.Generator, digits: NDArray[np.uint8]) -> Alpha:
    """Two or three digits that touch or nearly touch."""
    count = random.integers(2, 4)
    parts = []
    for _ in range(count):
        if random.random() < 0.5:
            part = digits[random.integers(len(digits))].astype(np.float32) / 255
        else:
            drawn = draw_digit(int(random.integers(10)), random, 20, random.uniform(1.5, 3))
            part = np.zeros((28, max(28, drawn.shape[1])), np.float32)
            part[: min(28, drawn.shape[0]), : drawn.shape[1]] = drawn[:28]
        columns = np.flatnonzero(part.max(axis=0) > 0.2)
        parts.append(part[:, columns[0] : columns[-1] + 1])
    overlap = random.integers(-1, 3)
    frame = np.zeros((28, sum(part.shape[1] for part in parts) + 8), np.float32)
    left = 2
    for part in parts:
        area = frame[:, left : left + part.shape[1]]
        np.maximum(area, part, out=area)
        left += max(2, part.shape[1] - overlap)
    return frame[:, : left + 4]


def _scribble(random: np.random.Generator) -> Alpha:
    strokes = []
    for _ in range(random.integers(1, 5)):
        knots = np.cumsum(random.normal(0, 0.4, (random.integers(3, 9), 2)), axis=0) + random.normal(0, 0.3, 2)
        strokes.append(curve(*map(tuple, knots), corners=bool(random.random() < 0.4)))
    return draw(strokes, 56, random.uniform(1, 7))


def _shapes(random: np.random.Generator) -> Alpha:
    """Polygons, stars, crosses, grids, arrows, rings with dots, boxes, parallel lines."""
    kind = random.integers(7)
    if kind == 0:
        corners = random.integers(3, 7)
        angles = np.sort(random.uniform(0, 360, corners))
        points = [(np.cos(np.radians(angle)), np.sin(np.radians(angle))) for angle in angles]
        strokes = [curve(*points, points[0], corners=True)]
    elif kind == 1:  # a star or a cross
        arms = random.integers(2, 5)
        strokes = []
        for arm in range(arms):
            angle = np.pi * (arm + random.normal(0, 0.1)) / arms + 0.4
            x, y = np.cos(angle), np.sin(angle)
            strokes.append(curve((-x, -y), (x, y)))
    elif kind == 2:  # rows and columns
        lines = random.integers(2, 5)
        places = np.linspace(0, 1, lines)
        strokes = [curve((0, place), (1, place)) for place in places]
        strokes += [curve((place, 0), (place, 1)) for place in places[: random.integers(1, lines + 1)]]
    elif kind == 3:  # an arrow
        strokes = [curve((0, 0.5), (1, 0.5)), curve((0.7, 0.2), (1, 0.5), (0.7, 0.8), corners=True)]
    elif kind == 4:  # rings and dots
        strokes = [arc((0.5, 0.5), (0.5, 0.5), 0, 360)]
        for _ in range(random.integers(1, 4)):
            x, y = random.uniform(0.25, 0.75, 2)
            strokes.append(arc((x, y), (0.08, 0.08), 0, 360))
    elif kind == 5:  # a box with something in it
        strokes = [curve((0, 0), (1, 0), (1, 1), (0, 1), (0, 0), corners=True)]
        strokes.append(curve(*map(tuple, random.uniform(0.2, 0.8, (3, 2))), corners=True))
    else:  # parallel lines
        strokes = [
            curve((0.3 * line, 0), (0.3 * line, random.uniform(0.6, 1))) for line in range(random.integers(2, 5))
        ]
    turn = random.uniform(-np.pi, np.pi) if kind in {0, 3, 6} else random.normal(0, 0.15)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    squeeze = np.array([random.uniform(0.5, 1), 1])
    return draw([stroke @ matrix * squeeze for stroke in strokes], 56, random.uniform(1, 7))


def _blot(random: np.random.Generator) -> Alpha:
    """Filled shapes, like silhouettes."""
    if random.random() < 0.3:  # round
        angles = np.linspace(0, 2 * np.pi, 24)
        radius = np.full(24, random.uniform(8, 30))
    else:
        corners = random.integers(3, 11)
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        radius = random.uniform(8, 30, corners)
    stretch = random.uniform(0.5, 1)
    points = np.stack([32 + radius * np.cos(angles), 32 + stretch * radius * np.sin(angles)], axis=1)
    frame = np.zeros((64, 64), np.uint8)
    for _ in range(random.integers(1, 4)):
        cv2.fillPoly(frame, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
        points = points[:, ::-1] + random.normal(0, 6, 2)
    if random.random() < 0.5:  # with light on it
        light = _noise(random, (64, 64), int(random.integers(3, 12)))
        frame = np.maximum(frame * (0.5 + 0.5 * light), 0).astype(np.uint8)
    if random.random() < 0.3:
        frame[:, 30 : 30 + random.integers(2, 6)] = 0
    return frame.astype(np.float32) / np.float32(255)


def _texture(random: np.random.Generator) -> Alpha:
    shape = (56, int(random.integers(30, 80)))
    coarse = _noise(random, shape, int(random.integers(3, 24)))
    if random.random() < 0.4:
        coarse = coarse * _noise(random, shape, int(random.integers(3, 24)))
    if random.random() < 0.6:
        coarse = np.clip((coarse - random.uniform(0.35, 0.65)) * 12 + 0.5, 0, 1)
    return coarse.astype(np.float32)


def _noise(random: np.random.Generator, shape: tuple[int, int], cells: int) -> Alpha:
    small = random.random((cells, cells), dtype=np.float32)
    return np.clip(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)


@cache
def _glyph(font: int, sign: str) -> NDArray[np.uint8]:
    """A mask (0 or 1) of one character, with a margin."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FONTS[font]
    face = ImageFont.truetype(str(path), _GLYPH_PX)
    left, top, right, bottom = face.getbbox(sign)
    frame = Image.new("L", (int(right - left) + 14, int(bottom - top) + 14))
    ImageDraw.Draw(frame).text((7 - left, 7 - top), sign, fill=255, font=face)
    return (np.asarray(frame) > 127).astype(np.uint8)


@cache
def _skeleton(font: int, sign: str) -> NDArray[np.uint8]:
    return thin(_glyph(font, sign))


def thin(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The skeleton of a mask (0 or 1), one pixel wide.

    Source: Zhang and Suen 1984, A fast parallel algorithm for thinning digital patterns.
    """
    thinned = mask.copy()
    while True:
        before = thinned
        for step in range(2):
            neighbours = cv2.filter2D(thinned, cv2.CV_16S, _NEIGHBOUR_BITS, borderType=cv2.BORDER_CONSTANT)
            thinned = np.where((thinned > 0) & _ERASABLE[step][neighbours], 0, thinned).astype(np.uint8)
        if np.array_equal(before, thinned):
            return thinned


_NEIGHBOUR_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)  # P9 P2 P3 / P8 P1 P4 / P7 P6 P5


def _erasable(step: int) -> NDArray[np.bool_]:
    """For each pattern of eight neighbours: whether this sub-iteration (0 or 1) deletes the pixel."""
    table = np.zeros(256, bool)
    for pattern in range(256):
        p = [pattern >> bit & 1 for bit in range(8)]  # P2, P3, ... P9
        changes = sum(p[place] == 0 and p[(place + 1) % 8] == 1 for place in range(8))
        first, second = (
            (p[0] * p[2] * p[4], p[2] * p[4] * p[6]) if step == 0 else (p[0] * p[2] * p[6], p[0] * p[4] * p[6])
        )
        table[pattern] = 2 <= sum(p) <= 6 and changes == 1 and first == 0 and second == 0
    return table


_ERASABLE = (_erasable(0), _erasable(1))
