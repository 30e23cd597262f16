"""Drift without labels: what is measured of each picture, and how far many of them are from a reference.

The service and training measure with the same functions. Knows no request and no metric.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import SIDE_PX, Ink
from app.model.manifest import Histogram

# In this order: the share of the 28x28 that is ink, the mean width of its strokes in pixels, 1 for ink that was darker
# than the paper, the probability of the best digit, and that digit.
FEATURES = ("ink_fraction", "stroke_width", "polarity", "confidence", "digit")

# Bins that mean something; the other features are cut at the tenths of the reference.
_EDGES = {
    "polarity": (0.5,),
    "confidence": (0.5, 0.8, 0.9, 0.95, 0.99, 0.999),
    "digit": tuple(digit + 0.5 for digit in range(9)),
}
_LEAST_SHARE = 1e-4  # of an empty bin: else one picture in it would be an infinite distance


def shape(ink: Ink) -> tuple[float, float]:
    """Ink fraction in [0, 1] and stroke width in pixels of an ink (28, 28, 1): two numbers of the five.

    A stroke's width is four times the mean distance of its pixels to its edge; at most 28. OpenCV's distance is that to
    the middle of the next pixel outside, half a pixel more.
    """
    distance = cv2.distanceTransform((ink > 0.5).view(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.countNonZero(distance)
    width = 4 * (cv2.sumElems(distance)[0] / inside - 0.5) if inside else 0.0
    return cv2.sumElems(ink)[0] / ink.size, min(width, float(SIDE_PX))


def histogram(feature: str, values: NDArray[np.float64]) -> Histogram:
    """How a feature is distributed among pictures, by its ``values``, (n,)."""
    edges = _EDGES.get(feature) or tuple(np.unique(np.quantile(values, np.arange(1, 10) / 10).round(4)).tolist())
    return Histogram(edges=edges, shares=tuple(_shares(values, edges).round(6).tolist()))


def stability_index(reference: Histogram, values: NDArray[np.float64]) -> float:
    """The population stability index of ``values``, (n,): 0 for the distribution of the reference, and no upper end.

    The sum over all bins of (share - reference) * ln(share / reference). Source: Siddiqi 2006, Credit Risk Scorecards,
    where less than 0.1 is no change, and more than 0.25 a shift to look into.
    """
    expected = np.maximum(reference.shares, _LEAST_SHARE)
    shares = np.maximum(_shares(values, reference.edges), _LEAST_SHARE)
    return float(((shares - expected) * np.log(shares / expected)).sum())


def _shares(values: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return np.asarray(counts / len(values), np.float64)
