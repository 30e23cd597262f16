"""Metrics and their confidence intervals, from probabilities, labels and scores. Independent of models and images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.arrays import Labels

Probabilities = NDArray[np.float64]
Shares = NDArray[np.float64]

BINS = 15  # equal-width confidence bins; the usual number since Guo et al. 2017
Z_95 = 1.959964  # 95 % of the standard normal distribution lies within this many deviations
RESAMPLES = 10_000  # of the bootstrap
RESAMPLING_SEED = 1979  # fixed, so that the same data give the same interval


@dataclass(frozen=True)
class ConfidenceBin:
    """The answers in one confidence range: their number, mean confidence and accuracy."""

    images: int
    confidence: float
    accuracy: float


def nll(probabilities: Probabilities, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats; NaN if there are none."""
    if not len(labels):
        return math.nan
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The share of rows whose most probable digit is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the share ``count / total``. Source: Wilson 1927."""
    if not total:
        return 0.0, 1.0
    share, z2 = count / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(shares: Sequence[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of ``shares``. Source: Efron 1979."""
    values = np.array(shares)
    random = np.random.default_rng(RESAMPLING_SEED)
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def reliability(confidences: Shares, correct: NDArray[np.bool_]) -> list[ConfidenceBin]:
    """The answers in `BINS` confidence bins of equal width, without the empty ones."""
    places = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    return [
        ConfidenceBin(int(inside.sum()), float(confidences[inside].mean()), float(correct[inside].mean()))
        for inside in (places == place for place in range(BINS))
        if inside.any()
    ]


def ece(bins: Sequence[ConfidenceBin]) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by images; NaN if empty.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    images = sum(each.images for each in bins)
    if not images:
        return math.nan
    return sum(each.images * abs(each.accuracy - each.confidence) for each in bins) / images


def risk_coverage(confidences: Shares, correct: NDArray[np.bool_]) -> list[float]:
    """The share of wrong answers among the most confident 1, 2 ... 100 % of images.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks.
    """
    wrong = np.cumsum(~correct[np.argsort(-confidences, kind="stable")])
    counts = np.maximum(1, np.round(np.arange(1, 101) * len(correct) / 100).astype(np.int64))
    return [float(wrong[count - 1] / count) for count in counts]


def auroc(digits: Shares, outliers: Shares) -> float:
    """Area under the ROC curve: the chance that an outlier scores higher than a digit; ties count half."""
    ordered = np.sort(digits)
    below = np.searchsorted(ordered, outliers, "left")
    not_above = np.searchsorted(ordered, outliers, "right")
    return float((below + not_above).mean() / (2 * len(digits)))


def threshold_accepting(scores: Shares, share: float) -> float:
    """The lowest of ``scores`` such that at least ``share`` of them are no higher."""
    return float(np.quantile(scores, share, method="higher"))
