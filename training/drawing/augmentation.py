"""Augmentation: MNIST's digits as other people would send them, and what is no digit. Pure functions of a seed.

Distortions go in before preprocessing, so that what is learnt from was found, cut and centred as a request's would be.
Worker processes import this module: numpy, OpenCV and Pillow only.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.decode import Grey
from app.imaging.preprocess import SIDE_PX, Ink, ink_from_grey
from training.drawing.digits import Alpha, draw_digit
from training.drawing.distortions import change_pen, outline, photograph, squared, strike, warp
from training.drawing.outliers import draw_outlier

Labels = NDArray[np.int64]
Augmentation = Callable[[Grey, Labels, int], tuple[Ink, Labels]]

NOT_A_DIGIT = 10  # the label of what is none

OUTLIERS = 0.15  # the share of images that are no digit
DRAWN = 0.22  # the share of digits that code draws, with the strokes MNIST's writers do not make
WARPED = 0.9  # of MNIST's digits
REPENNED = 0.25  # of MNIST's digits, thicker or thinner
OUTLINED = 0.04  # of MNIST's other digits
SQUARED = 0.06  # of all digits
STRUCK = 0.05  # of all digits
PHOTOGRAPHED = 0.25  # of all digits; outliers half


def distort(grey: Grey, labels: Labels, seed: int) -> tuple[Ink, Labels]:
    """Model input, float32 (n, 28, 28, 1), and labels 0 to 10, in the order of ``grey``, uint8 (n, 28, 28).

    The label of a digit is kept: one that code draws is the digit that it replaces.
    """
    random = np.random.default_rng(seed)
    ink = np.zeros((len(grey), SIDE_PX, SIDE_PX, 1), np.float32)
    given = labels.copy()
    for place in range(len(grey)):
        if random.random() < OUTLIERS:
            given[place] = NOT_A_DIGIT
            picture = _outlier(random, grey)
        else:
            picture = _digit(random, grey[place], int(labels[place]))
        try:
            ink[place] = _missegment(ink_from_grey(picture), random)
        except NoInk:  # a distortion wiped it out
            if given[place] != NOT_A_DIGIT:
                ink[place] = ink_from_grey(grey[place])
    return ink, given


AUGMENTATIONS: dict[str, Augmentation] = {"drawings": distort}


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
    return photograph(drawing, random) if random.random() < PHOTOGRAPHED else _as_grey(drawing)


def _pen_width(random: np.random.Generator) -> float:
    """Of a digit's height: from a hairline to a marker, seldom a brush."""
    return random.uniform(0.02, 0.14) if random.random() < 0.85 else random.uniform(0.14, 0.22)


def _outlier(random: np.random.Generator, digits: Grey) -> Grey:
    drawing = draw_outlier(random, digits)
    if random.random() < 0.8:
        drawing = warp(drawing, random)
    return photograph(drawing, random) if random.random() < 0.5 else _as_grey(drawing)


def _as_grey(alpha: Alpha) -> Grey:
    return (np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def _missegment(ink: Ink, random: np.random.Generator) -> Ink:
    """Half of the time a little off centre and off size, as a speck or a cut stroke leaves it."""
    if random.random() < 0.5:
        return ink
    scale = np.exp(random.normal(0, 0.04))
    shift = (SIDE_PX - 1) / 2 * (1 - scale) + random.normal(0, 0.5, 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(ink, matrix, (SIDE_PX, SIDE_PX)).astype(np.float32)[..., np.newaxis]
