"""Distorted MNIST digits, synthetic digits and synthetic outliers. Pure functions of a random generator.

Worker processes import this module.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.imaging.pixels import Grey
from app.imaging.preprocess import SIDE_PX
from training.data.samples import Samples
from training.drawing.digits import draw_digit
from training.drawing.distortions import as_grey, change_pen, outline, photograph, squared, strike, warp
from training.drawing.outliers import draw_outlier
from training.drawing.pens import NOT_A_DIGIT

OUTLIERS = 0.15  # share of images that are replaced by an outlier
DRAWN = 0.22  # share of digits that are replaced by a synthetic one, in styles that MNIST lacks
WARPED = 0.9  # share of the MNIST digits
REPENNED = 0.25  # share of the MNIST digits: other stroke width
OUTLINED = 0.04  # share of the remaining MNIST digits: hollow strokes
SQUARED = 0.06  # share of all digits
STRUCK = 0.05  # share of all digits
PHOTOGRAPHED = 0.25  # share of all digits; of outliers, half


def draw_drawing(
    random: np.random.Generator, grey: Grey, labels: NDArray[np.int64], place: int, _: Sequence[Samples]
) -> tuple[Grey, int]:
    """A picture in place of the MNIST digit at ``place``, and its label: that of the digit, or `NOT_A_DIGIT`."""
    if random.random() < OUTLIERS:
        return _outlier(random, grey), NOT_A_DIGIT
    return _digit(random, grey[place], int(labels[place])), int(labels[place])


def _digit(random: np.random.Generator, grey: Grey, label: int) -> Grey:
    if random.random() < DRAWN:
        height_px = int(random.choice([20, 22, 28, 56, 100]))
        drawing = draw_digit(label, random, height_px, height_px * _pen_width(random), random.random() < 0.7)
        if height_px >= SIDE_PX and random.random() < 0.5:
            drawing = warp(drawing, random, strength=0.5)
    else:
        drawing = grey.astype(np.float32) / np.float32(255)
        if random.random() < WARPED:
            drawing = warp(drawing, random)
        if random.random() < REPENNED:
            drawing = change_pen(drawing, random)
        elif random.random() < OUTLINED:
            drawing = outline(drawing, random)
    if random.random() < SQUARED:
        drawing = squared(drawing, random)
    if random.random() < STRUCK:
        drawing = strike(drawing, random)
    return photograph(drawing, random) if random.random() < PHOTOGRAPHED else as_grey(drawing)


def _pen_width(random: np.random.Generator) -> float:
    """Stroke width as a share of the digit's height: hairline to marker, rarely a brush."""
    return random.uniform(0.02, 0.14) if random.random() < 0.85 else random.uniform(0.14, 0.22)


def _outlier(random: np.random.Generator, digits: Grey) -> Grey:
    drawing = draw_outlier(random, digits)
    if random.random() < 0.8:
        drawing = warp(drawing, random)
    return photograph(drawing, random) if random.random() < 0.5 else as_grey(drawing)
