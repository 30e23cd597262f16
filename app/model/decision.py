"""Logits -> an answer: calibrated probabilities, and whether to act on them. Knows nothing of images or requests.

A network of eleven logits says by the last one how much a picture looks like no digit at all.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.model.manifest import Manifest

DIGITS = 10

_FAR_SURER, _SURELY = 6, -5  # log odds: see docs/experiments.md

Reason = Literal["not_a_digit", "low_confidence", "several_digits"]


class Rejection(NamedTuple):
    """Why an answer should not be acted on: a score beyond its threshold."""

    reason: Reason
    score: float
    threshold: float


def decide(logits: Sequence[float], temperature: float) -> tuple[list[float], float]:
    """Of one picture's 10 or 11 logits: the ten probabilities, and the log odds that it is no digit.

    Softmax of the ten digits' ``logits / temperature``; the eleventh logit against the ten, minus infinity without one.
    In plain floats: NumPy takes five times as long for so few. NaN where a logit is.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks; Hendrycks et al. 2019, Deep Anomaly Detection
    with Outlier Exposure, with a class of its own.
    """
    digits = logits[:DIGITS]
    highest = max(digits)
    exponents = [math.exp((logit - highest) / temperature) for logit in digits]
    total = sum(exponents)
    probable = [exponent / total for exponent in exponents]
    if len(logits) == DIGITS:
        return probable, -math.inf
    return probable, logits[DIGITS] - highest - math.log(sum([math.exp(logit - highest) for logit in digits]))


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Of many: (n, 10 or 11) -> (n, 10), each row sums to 1."""
    return np.array([decide(row, temperature)[0] for row in logits.tolist()], np.float64).reshape(-1, DIGITS)


def outlier_scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of many: (n, 10 or 11) -> (n,)."""
    return np.array([decide(row, 1.0)[1] for row in logits.tolist()], np.float64)


def best_reading(outlier_scores: Sequence[float]) -> int:
    """Which of several readings of a picture to take: the first, unless another is far more surely a digit.

    ``outlier_scores``: of each, the first's beyond its threshold.
    """
    best = min(range(len(outlier_scores)), key=outlier_scores.__getitem__)
    surer = outlier_scores[best] <= min(outlier_scores[0] - _FAR_SURER, _SURELY)
    return best if surer else 0


def rejection(manifest: Manifest, outlier_score: float, confidence: float, digits: int) -> Rejection | None:
    """The first reason not to act on an answer; None when there is none. ``digits``: how many were seen."""
    if digits > 1:
        return Rejection("several_digits", float(digits), 1.0)
    if outlier_score > manifest.thresholds.not_a_digit:
        return Rejection("not_a_digit", round(outlier_score, 4), manifest.thresholds.not_a_digit)
    if confidence < manifest.thresholds.low_confidence:
        return Rejection("low_confidence", confidence, manifest.thresholds.low_confidence)
    return None
