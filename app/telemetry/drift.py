"""Drift without labels: five features of each image, and how far their distribution is from a reference.

The service and training measure with the same functions. Knows nothing about requests and metrics.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import SIDE_PX, Ink
from app.model.manifest import Histogram, Reference

# Share of the 28x28 that is ink, mean stroke width in pixels, 1 for ink darker than the paper, confidence, digit.
FEATURES = ("ink_fraction", "stroke_width", "polarity", "confidence", "digit")

MOST_BINS = 10  # of a feature's histogram: deciles, digits
WINDOW = 1000  # images
LEAST = 500  # below that the index exceeds 0.02 by chance alone
EVERY_S = 0.01  # measures one image at most: shape() takes 10 µs, and the window should last some seconds
_UPDATE = 50  # images between two updates of the indices, each of which takes 0.3 ms

_LEAST_SHARE = 1e-4  # stands in for an empty bin, which would make the index infinite


def shape(ink: Ink) -> tuple[float, float]:
    """Ink fraction in [0, 1] and stroke width in pixels, at most 28, of an ink (28, 28, 1).

    The width is four times the mean distance of ink pixels to the edge of the stroke. OpenCV measures to the centre of
    the nearest pixel outside, which is half a pixel more.
    """
    distance = cv2.distanceTransform((ink > 0.5).view(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.countNonZero(distance)
    width = 4 * (cv2.sumElems(distance)[0] / inside - 0.5) if inside else 0.0
    return cv2.sumElems(ink)[0] / ink.size, min(width, float(SIDE_PX))


def stability_index(reference: Histogram, values: NDArray[np.float64]) -> float:
    """The population stability index of ``values``, (n,): at least 0, which means the reference's own distribution.

    The sum over all bins of (share - reference) * ln(share / reference). Source: Siddiqi 2006, Credit Risk Scorecards:
    below 0.1 means no change, above 0.25 a shift to look into.
    """
    expected = np.maximum(reference.shares, _LEAST_SHARE)
    actual = np.maximum(shares(values, reference.edges), _LEAST_SHARE)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def shares(values: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.float64]:
    """The share of ``values``, (n,), in each bin of a histogram."""
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return np.asarray(counts / len(values), np.float64)


class DriftWindow:
    """The features of the last `WINDOW` images, at most one each `EVERY_S`, against a reference."""

    def __init__(self, reference: Reference, now: Callable[[], float] = time.monotonic) -> None:
        self._reference = reference
        self._now = now
        self._next_s = now()
        self._images: deque[tuple[float, ...]] = deque(maxlen=WINDOW)
        self._added = 0

    def is_due(self) -> bool:
        """Whether to add the current image."""
        return self._now() >= self._next_s

    def add(self, ink: Ink, *, inverted: bool, confidence: float, digit: int) -> dict[str, int]:
        """The bin of the reference's histogram that the image falls in, by feature."""
        self._next_s = self._now() + EVERY_S
        self._added += 1
        values = (*shape(ink), float(inverted), confidence, float(digit))
        self._images.append(values)
        return {
            feature: bisect_left(self._of_reference(feature).edges, value)
            for feature, value in zip(FEATURES, values, strict=True)
        }

    def indices(self) -> dict[str, float]:
        """The stability index by feature, once the window holds `LEAST` images and then every 50; else nothing."""
        if len(self._images) < LEAST or self._added % _UPDATE:
            return {}
        columns = zip(FEATURES, np.array(self._images).T, strict=True)
        return {feature: stability_index(self._of_reference(feature), values) for feature, values in columns}

    def _of_reference(self, feature: str) -> Histogram:
        found: Histogram = getattr(self._reference, feature)
        return found
