"""Pictures as users send them: MNIST's digits on framed, ruled, shaded, dirty, large and small sheets.

A drawing is light ink on dark, from `tests.drawings`; every picture made here is dark ink on light paper.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.drawings import Grey, digit_drawn, enlarged, placed

PAPER, PEN = 235, 45

Box = tuple[int, int, int, int]  # x, y, width, height


def box_of(drawing: Grey) -> Box:
    """Where the ink of a drawing is."""
    rows, columns = np.nonzero((drawing > 100).any(axis=1))[0], np.nonzero((drawing > 100).any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def cut_out(drawing: Grey) -> Grey:
    """Its ink alone, to the last row and column."""
    x, y, width, height = box_of(drawing)
    return drawing[y : y + height, x : x + width]


def traced(digit: Grey, side_px: int, pen_px: int) -> Grey:
    """The centre line of MNIST's strokes, redrawn with a pen of that width."""
    mask = (enlarged(digit, side_px) > 127).astype(np.uint8)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    ridge = (distance > 0.5) & (distance >= cv2.dilate(distance, np.ones((5, 5))) - 0.5)
    joined = cv2.morphologyEx(ridge.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9)))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen_px, pen_px))
    drawn: Grey = (cv2.dilate(joined, pen) * 255).astype(np.uint8)
    return drawn


def on_paper(drawing: Grey, paper: int = PAPER, pen: int = PEN) -> Grey:
    """Dark ink of level ``pen`` on paper of level ``paper``."""
    return lit(drawing, np.full(drawing.shape, paper, np.float64), pen / paper)


def lit(drawing: Grey, light: NDArray[np.float64], share: float = PEN / PAPER) -> Grey:
    """``light``: the level of the paper at each pixel. Ink reflects a ``share`` of it."""
    picture: Grey = np.rint(light * (1 - (1 - share) * (drawing / 255.0))).astype(np.uint8)
    return picture


def framed(drawing: Grey, inset_px: int, thickness_px: int, level: int = 30) -> Grey:
    """With a rectangle ``inset_px`` from the edge."""
    picture = on_paper(drawing)
    height, width = picture.shape
    for depth in range(inset_px, inset_px + thickness_px):
        picture[[depth, height - 1 - depth], depth : width - depth] = level
        picture[depth : height - depth, [depth, width - 1 - depth]] = level
    return picture


def ruled(
    drawing: Grey, gap_px: int, thickness_px: int, level: int, slope: float = 0.0, *, squared: bool = False
) -> Grey:
    """With lines from edge to edge beneath the ink, ``slope`` pixels down for each to the right."""
    y, x = np.mgrid[: drawing.shape[0], : drawing.shape[1]]
    lines = (np.floor(y - slope * x).astype(int) + gap_px // 2) % gap_px < thickness_px
    if squared:
        lines |= (np.floor(x + slope * y).astype(int) + gap_px // 2) % gap_px < thickness_px
    return lit(drawing, np.where(lines, float(level), float(PAPER)))


def shadowed(drawing: Grey, depth: float, softness_px: float = 12) -> Grey:
    """Half of the sheet in the soft shadow of a hand, ``depth`` of the light gone."""
    y, x = np.mgrid[: drawing.shape[0], : drawing.shape[1]]
    beyond = (x + 0.4 * y - 0.6 * drawing.shape[1]) / softness_px
    return lit(drawing, PAPER * (1 - depth / (1 + np.exp(-np.clip(beyond, -50, 50)))))


def sloping_light(drawing: Grey, depth: float) -> Grey:
    """Full light at one corner, ``depth`` of it gone at the other."""
    y, x = np.mgrid[0 : 1 : drawing.shape[0] * 1j, 0 : 1 : drawing.shape[1] * 1j]
    return lit(drawing, PAPER * (1 - depth * (x + y) / 2))


def vignetted(drawing: Grey, depth: float) -> Grey:
    """Full light in the middle, ``depth`` of it gone in the corners."""
    y, x = np.mgrid[-1 : 1 : drawing.shape[0] * 1j, -1 : 1 : drawing.shape[1] * 1j]
    return lit(drawing, PAPER * (1 - depth * (x**2 + y**2) / 2))


def speckled(drawing: Grey, count: int, size_px: int, seed: int = 0) -> Grey:
    """With dots of dirt clear of the ink."""
    picture = on_paper(drawing)
    x, y, width, height = box_of(drawing)
    random = np.random.default_rng(seed)
    reach = size_px + 3
    while count:
        row, column = (int(random.integers(reach, side - reach)) for side in picture.shape)
        if y - reach < row < y + height + reach and x - reach < column < x + width + reach:
            continue
        picture[row : row + size_px, column : column + size_px] = PEN
        count -= 1
    return picture


def grainy(picture: Grey, sigma: float, seed: int = 0) -> Grey:
    """With the noise of a camera."""
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    noisy: Grey = np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
    return noisy


def worn(drawing: Grey, share: float, grain_px: float = 0) -> Grey:
    """The drawing with that ``share`` of its pixels left, in grains of about that size: spray, or pencil on paper."""
    noise = np.random.default_rng(0).normal(size=drawing.shape)
    grains = cv2.GaussianBlur(noise, (0, 0), grain_px) if grain_px else noise
    return np.where(grains < np.quantile(grains, share), drawing, np.uint8(0))


def dithered(drawing: Grey, pen: int) -> Grey:
    """Ink of level ``pen`` in black dots (Floyd and Steinberg), as a drawing again."""
    return 255 - np.asarray(Image.fromarray(on_paper(drawing, 255, pen)).convert("1").convert("L"))


def screened(drawing: Grey, period_px: int, tone: float) -> Grey:
    """Ink of that ``tone`` in the round dots of a printer's screen."""
    y, x = np.mgrid[: drawing.shape[0], : drawing.shape[1]] * 2 * np.pi / period_px
    return np.where((np.cos(x + y) + np.cos(x - y)) / 4 + 0.5 > 1 - tone, drawing, np.uint8(0))


def dotted(drawing: Grey, pen_px: int, pitch_px: float) -> Grey:
    """Round dots on the middle of its strokes, no two nearer than ``pitch_px``."""
    distance = cv2.distanceTransform((drawing > 127).astype(np.uint8), cv2.DIST_L2, 5)
    ridge = (distance > 1) & (distance >= cv2.dilate(distance, np.ones((5, 5))) - 0.5)
    dots: list[NDArray[np.intp]] = []
    for place in np.argwhere(ridge):
        if all(np.hypot(*(place - dot)) >= pitch_px for dot in dots):
            dots.append(place)
    sheet = np.zeros_like(drawing)
    for row, column in dots:
        cv2.circle(sheet, (int(column), int(row)), pen_px // 2, 255, cv2.FILLED, cv2.LINE_AA)
    return sheet


def dashed(drawing: Grey, dash_px: int, gap_px: int) -> Grey:
    """Cut by gaps that run down to the right."""
    y, x = np.mgrid[: drawing.shape[0], : drawing.shape[1]]
    return np.where((2 * x - y) % (dash_px + gap_px) < dash_px, drawing, np.uint8(0))


def on_nothing(drawing: Grey, pen: int, hidden: int) -> Image.Image:
    """RGBA: ink of level ``pen``; the transparent ground has the invisible level ``hidden``."""
    level = np.where(drawing > 0, pen, hidden).astype(np.uint8)
    return Image.fromarray(np.dstack([level, level, level, drawing]))


def side_by_side(digits: list[Grey], side_px: int = 100, gap_px: int = 25) -> Grey:
    """Drawings in a row, their ink ``gap_px`` apart, with room around."""
    parts = [cut_out(enlarged(digit, side_px)) for digit in digits]
    width = sum(part.shape[1] + gap_px for part in parts) + 80
    row = np.zeros((side_px + 80, width), np.uint8)
    left = 40
    for part in parts:
        row |= placed(part, row.shape, 40, left)
        left += part.shape[1] + gap_px
    return row


def number_drawn(text: str, height_px: int = 60, gap: float = 0.3, margin_px: int = 30) -> Grey:
    """MNIST's digits in a row, light on dark. ``gap``: in heights, below 0 they touch; a space is as wide as two."""
    digits = [None if char == " " else cut_out(enlarged(digit_drawn(int(char)), height_px * 7 // 5)) for char in text]
    canvas = np.zeros((height_px * 3 // 2 + 2 * margin_px, 2 * height_px * len(text) + 2 * margin_px), np.uint8)
    left = margin_px
    for digit in digits:
        if digit is None:
            left += 2 * height_px
            continue
        height, width = digit.shape
        top = (len(canvas) - height) // 2
        place = canvas[top : top + height, left : left + width]
        np.maximum(place, digit, out=place)
        left += width + round(gap * height_px)
    return canvas[:, : left + margin_px]
