"""Measures: probabilities, labels and scores -> single figures and their uncertainty. Knows no model and no image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Labels

Probabilities = NDArray[np.float64]
Shares = NDArray[np.float64]

BINS = 15  # of confidence, equally wide: the usual number since Guo et al. 2017
Z_95 = 1.959964  # the standard normal distribution has 95 % within this many deviations
RESAMPLES = 10_000
RESAMPLING_SEED = 1979  # of the bootstrap: the same figures give the same interval


@dataclass(frozen=True)
class ConfidenceBin:
    """The answers of one range of confidence: how many, how sure on average, and the share that is right."""

    images: int
    confidence: float
    accuracy: float


def nll(probabilities: Probabilities, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats; nan where there is none."""
    if not len(labels):
        return math.nan
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The share of labels that are the most probable digit."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, ``right`` out of ``of``. Source: Wilson 1927."""
    if not of:
        return 0.0, 1.0
    share, z2 = right / of, Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(shares: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of ``shares``, resampled with replacement. Source: Efron 1979."""
    values = np.array(shares)
    random = np.random.default_rng(RESAMPLING_SEED)
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def reliability(confidences: Shares, right: NDArray[np.bool_]) -> list[ConfidenceBin]:
    """The answers by confidence, `BINS` ranges of equal width; those that nothing falls into are left out."""
    places = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    return [
        ConfidenceBin(int(inside.sum()), float(confidences[inside].mean()), float(right[inside].mean()))
        for inside in (places == place for place in range(BINS))
        if inside.any()
    ]


def ece(bins: Sequence[ConfidenceBin]) -> float:
    """The expected calibration error: the mean gap of confidence and accuracy, weighted by images; nan of nothing.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    images = sum(each.images for each in bins)
    if not images:
        return math.nan
    return sum(each.images * abs(each.accuracy - each.confidence) for each in bins) / images


def risk_coverage(confidences: Shares, right: NDArray[np.bool_]) -> list[float]:
    """The share of wrong answers among the 1, 2 ... 100 % of images that are answered with most confidence.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks.
    """
    wrong = np.cumsum(~right[np.argsort(-confidences, kind="stable")])
    counts = np.maximum(1, np.round(np.arange(1, 101) * len(right) / 100).astype(np.int64))
    return [float(wrong[count - 1] / count) for count in counts]


def auroc(digits: Shares, outliers: Shares) -> float:
    """The chance that an outlier's score is above a digit's, a tie counting half: the area under the ROC curve."""
    ordered = np.sort(digits)
    below = np.searchsorted(ordered, outliers, "left")
    not_above = np.searchsorted(ordered, outliers, "right")
    return float((below + not_above).mean() / (2 * len(digits)))


def threshold_accepting(scores: Shares, share: float) -> float:
    """The lowest of ``scores`` at which at least that share of them is accepted, being no higher."""
    return float(np.quantile(scores, share, method="higher"))
