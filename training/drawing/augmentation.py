"""Augmentation: distorted MNIST digits, synthetic digits and outliers. Pure functions of a seed.

Distortions come before preprocessing, so that training images are segmented, cropped and centred like requests.
Worker processes import this module: NumPy, OpenCV and Pillow only.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.pixels import Grey
from app.imaging.preprocess import SIDE_PX, Ink, find_ink
from training.drawing.digits import Alpha, draw_digit
from training.drawing.distortions import change_pen, outline, photograph, squared, strike, warp
from training.drawing.outliers import draw_outlier

Labels = NDArray[np.int64]
Augmentation = Callable[[Grey, Labels, int], tuple[Ink, Labels]]

NOT_A_DIGIT = 10  # label of outliers

OUTLIERS = 0.15  # share of images that are replaced by an outlier
DRAWN = 0.22  # share of digits that are replaced by a synthetic one, in styles that MNIST lacks
WARPED = 0.9  # share of the MNIST digits
REPENNED = 0.25  # share of the MNIST digits: other stroke width
OUTLINED = 0.04  # share of the remaining MNIST digits: hollow strokes
SQUARED = 0.06  # share of all digits
STRUCK = 0.05  # share of all digits
PHOTOGRAPHED = 0.25  # share of all digits; of outliers, half


def distort(grey: Grey, labels: Labels, seed: int) -> tuple[Ink, Labels]:
    """Model input, float32 (n, 28, 28, 1), and labels 0 to 10, in the order of ``grey``, uint8 (n, 28, 28).

    Digits keep their labels: a synthetic digit shows the digit that it replaces.
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
            ink[place] = _missegment(find_ink(picture).ink, random)
        except NoInk:  # the distortions erased the digit
            if given[place] != NOT_A_DIGIT:
                ink[place] = find_ink(grey[place]).ink
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
    """Stroke width as a share of the digit's height: hairline to marker, rarely a brush."""
    return random.uniform(0.02, 0.14) if random.random() < 0.85 else random.uniform(0.14, 0.22)


def _outlier(random: np.random.Generator, digits: Grey) -> Grey:
    drawing = draw_outlier(random, digits)
    if random.random() < 0.8:
        drawing = warp(drawing, random)
    return photograph(drawing, random) if random.random() < 0.5 else _as_grey(drawing)


def _as_grey(alpha: Alpha) -> Grey:
    return (np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def _missegment(ink: Ink, random: np.random.Generator) -> Ink:
    """Half of the time slightly shifted and scaled, as after segmentation errors caused by specks or cut strokes."""
    if random.random() < 0.5:
        return ink
    scale = np.exp(random.normal(0, 0.04))
    shift = (SIDE_PX - 1) / 2 * (1 - scale) + random.normal(0, 0.5, 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(ink, matrix, (SIDE_PX, SIDE_PX)).astype(np.float32)[..., np.newaxis]
