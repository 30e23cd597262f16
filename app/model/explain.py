"""Saliency by occlusion: how much of the answer's probability is lost when a patch of the ink is blanked.

Pure: the caller runs the model. Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import SIDE_PX, Ink

_PATCH_PX, _STEP_PX = 4, 2  # about 80 patches touch the ink of a digit


def occlusions(ink: Ink) -> Ink:
    """The ink (28, 28, 1) with each patch that touches it blanked: (n, 28, 28, 1)."""
    patches = _patches(ink)
    occluded = np.repeat(ink[None], len(patches), axis=0)
    for wiped, patch in zip(occluded, patches, strict=True):
        wiped[patch] = 0
    return occluded


def saliency(ink: Ink, probabilities: Sequence[float], occluded: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """How much the answer depends on each pixel: float32 (28, 28) in [0, 1].

    ``probabilities``: of the ink. ``occluded``: of each of its `occlusions`.
    """
    digit = probabilities.index(max(probabilities))
    lost = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for patch, without in zip(_patches(ink), occluded, strict=True):
        lost[patch] += max(probabilities[digit] - without[digit], 0)
    return lost / np.float32(max(float(lost.max()), 1e-6))


def _patches(ink: Ink) -> list[tuple[slice, slice]]:
    starts = range(0, SIDE_PX - _PATCH_PX + 1, _STEP_PX)
    patches = [np.s_[top : top + _PATCH_PX, left : left + _PATCH_PX] for top in starts for left in starts]
    return [patch for patch in patches if ink[patch].any()]
