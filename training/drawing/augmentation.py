"""Augmentation: pictures are drawn, then preprocessed like requests. Pure functions of a seed.

Distortions come before preprocessing, so that training images are segmented, cropped and centred like requests.
Worker processes import this module: NumPy, OpenCV and Pillow only.
"""

from collections.abc import Sequence
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.pixels import Grey
from app.imaging.preprocess import SIDE_PX, Ink, find_ink
from training.data.samples import Samples
from training.drawing.hands import draw_picture, draw_sample
from training.drawing.pens import NOT_A_DIGIT

Labels = NDArray[np.int64]


def augment(grey: Grey, labels: Labels, seed: int, sources: Sequence[Samples] = ()) -> tuple[Ink, Labels]:
    """Model input, float32 (n, 28, 28, 1), and labels 0 to 10, one for each of ``grey``, uint8 (n, 28, 28).

    ``sources``: those of the recipe. A digit that the distortions erased is replaced by the undistorted one of its
    place.
    """
    random = np.random.default_rng(seed)
    ink = np.zeros((len(grey), SIDE_PX, SIDE_PX, 1), np.float32)
    given = labels.copy()
    for place in range(len(grey)):
        picture, label = draw_picture(random, grey, labels, place, sources)
        try:
            ink[place] = _missegment(find_ink(picture).ink, random)
            given[place] = label
        except NoInk:
            if label == NOT_A_DIGIT:
                given[place] = label
            else:
                ink[place] = find_ink(grey[place]).ink
    return ink, given


def draw_each(samples: Samples, places: Sequence[int], seed: int) -> tuple[Ink, Labels]:
    """Model input and labels of these samples of a source, drawn once each. Blank ones stay blank."""
    random = np.random.default_rng(seed)
    ink = np.zeros((len(places), SIDE_PX, SIDE_PX, 1), np.float32)
    labels = np.full(len(places), NOT_A_DIGIT)
    for row, place in enumerate(places):
        picture, labels[row] = draw_sample(samples, place, random)
        with suppress(NoInk):
            ink[row] = find_ink(picture).ink
    return ink, labels


def _missegment(ink: Ink, random: np.random.Generator) -> Ink:
    """Half of the time slightly shifted and scaled, as after segmentation errors caused by specks or cut strokes."""
    if random.random() < 0.5:
        return ink
    scale = np.exp(random.normal(0, 0.04))
    shift = (SIDE_PX - 1) / 2 * (1 - scale) + random.normal(0, 0.5, 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(ink, matrix, (SIDE_PX, SIDE_PX)).astype(np.float32)[..., np.newaxis]
