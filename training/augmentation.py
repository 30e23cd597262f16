"""Augmentation: distortions of drawings and of strokes, each a pure function of (batch, seed).

Drawings are grey images before preprocessing, strokes are ink after it. Worker processes import this module:
numpy and OpenCV only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 28

MAX_ROTATION_RAD = np.radians(15.0)
MAX_SHEAR = 0.2
MAX_LOG_SCALE = 0.15  # each axis by itself, so that slim and stout digits come too
MAX_SHIFT_PX = 1.5
# Simard, Steinkraus and Platt, Best Practices for Convolutional Neural Networks, 2003: a random field, smoothed.
ELASTIC_SIGMA_PX = 4.0
MAX_ELASTIC_PX = 1.6  # standard deviation of the displacement, drawn anew for each image

Distortion = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
DrawingDistortion = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Augmentation:
    """What happens before preprocessing and what after it; None is nothing."""

    drawings: DrawingDistortion | None = None
    strokes: Distortion | None = None


def distort_strokes(ink: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Each image rotated, sheared, scaled, shifted and bent at random, in one resampling.

    ``ink``: float32 (n, 28, 28) in [0, 1], 1 = pen. Shape, dtype and range are kept.
    """
    random = np.random.default_rng(seed)
    displacement = _affine(random, len(ink)) + _elastic(random, len(ink))
    grid = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    sources = grid + displacement
    distorted = np.empty_like(ink)
    for image, (rows, columns), target in zip(ink, sources, distorted, strict=True):
        cv2.remap(image, columns, rows, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_CONSTANT)
    return distorted


AUGMENTATIONS: dict[str, Augmentation] = {
    "strokes": Augmentation(strokes=distort_strokes),
}


def _affine(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Displacements (n, 2, 28, 28) in pixels, rows first, of random affine maps about the middle of the frame."""
    angle = random.uniform(-MAX_ROTATION_RAD, MAX_ROTATION_RAD, count)
    shear = random.uniform(-MAX_SHEAR, MAX_SHEAR, count)
    scale = np.exp(random.uniform(-MAX_LOG_SCALE, MAX_LOG_SCALE, (count, 2, 1)))
    shift = random.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, (count, 2, 1))
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(count, 2, 2)
    slant = np.tile(np.eye(2), (count, 1, 1))
    slant[:, 1, 0] = shear  # columns move with the row, as handwriting slants
    centred = np.mgrid[:SIDE_PX, :SIDE_PX].reshape(2, -1) - (SIDE_PX - 1) / 2
    moved = (rotation @ slant * scale - np.eye(2)) @ centred + shift
    return moved.reshape(count, 2, SIDE_PX, SIDE_PX).astype(np.float32)


def _elastic(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Displacements (n, 2, 28, 28) in pixels: white noise under a Gaussian, so that neighbours move together."""
    noise = random.standard_normal((count, 2, SIDE_PX, SIDE_PX), dtype=np.float32)
    strength = random.uniform(0.0, MAX_ELASTIC_PX, (count, 1, 1, 1)).astype(np.float32)
    smooth = _SMOOTHING @ noise @ _SMOOTHING.T
    return (strength * smooth).astype(np.float32)


def _smoothing() -> NDArray[np.float32]:
    """A matrix (28, 28) that blurs a line of noise of variance 1 with ELASTIC_SIGMA_PX and keeps its variance.

    Twice a product of matrices is ten times as quick as a Gaussian blur of each image.
    """
    distance = np.subtract.outer(np.arange(SIDE_PX), np.arange(SIDE_PX))
    kernel = np.exp(-0.5 * (distance / ELASTIC_SIGMA_PX) ** 2)
    kernel /= np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return np.asarray(kernel, np.float32)


_SMOOTHING = _smoothing()
