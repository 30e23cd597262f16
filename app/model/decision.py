"""Logits -> calibrated probabilities, and whether to accept the answer. Knows nothing about images or requests.

A network may have an eleventh logit, for pictures that show no digit.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.model.manifest import RiskCurve, Thresholds

DIGITS = 10

_MUCH_SURER, _SURE = 7, -2  # log-odds, chosen in docs/experiments.md

Reason = Literal["not_a_digit", "low_confidence", "several_digits"]


class Rejection(NamedTuple):
    """Why an answer is not accepted: its score is beyond the threshold."""

    reason: Reason
    score: float
    threshold: float


def decide(logits: Sequence[float], temperature: float) -> tuple[list[float], float]:
    """The ten probabilities of one picture with 10 or 11 logits, and the log-odds that it shows no digit.

    Probabilities: softmax of the first ten ``logits / temperature``. Log-odds: the eleventh logit against the ten,
    minus infinity without one. In plain floats, five times as fast as NumPy for so few. A NaN logit gives NaN.
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
    """For many pictures: (n, 10 or 11) -> (n, 10), each row sums to 1."""
    return np.array([decide(row, temperature)[0] for row in logits.tolist()], np.float64).reshape(-1, DIGITS)


def outlier_scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """For many pictures: (n, 10 or 11) -> (n,)."""
    return np.array([decide(row, 1.0)[1] for row in logits.tolist()], np.float64)


def best_candidate(outlier_scores: Sequence[float]) -> int:
    """The index of the candidate to answer with: 0, unless another is far more likely to be a digit.

    ``outlier_scores``: of each candidate, the first of which is above its threshold.
    """
    best = min(range(len(outlier_scores)), key=outlier_scores.__getitem__)
    return best if outlier_scores[best] <= min(outlier_scores[0] - _MUCH_SURER, _SURE) else 0


def rejection(thresholds: Thresholds, outlier_score: float, confidence: float, digits: int) -> Rejection | None:
    """The first reason not to accept an answer, None if there is none. ``digits``: how many are in the picture."""
    if digits > 1:
        return Rejection("several_digits", float(digits), 1.0)
    if outlier_score > thresholds.not_a_digit:
        return Rejection("not_a_digit", round(outlier_score, 4), thresholds.not_a_digit)
    if confidence < thresholds.low_confidence:
        return Rejection("low_confidence", round(confidence, 8), thresholds.low_confidence)
    return None


def error_score(confidence: float, outlier_score: float) -> float:
    """The model's own estimate, not calibrated, that an answer is wrong: another digit, or no digit at all."""
    return 1 - confidence / (1 + math.exp(min(outlier_score, 99)))  # more would overflow


def risk_rejection(curve: RiskCurve, accept_risk: float, outlier_score: float, confidence: float) -> Rejection | None:
    """Why not to accept an answer to a picture of one digit, None if its risk is at most ``accept_risk``."""
    score = max(error_score(confidence, outlier_score), curve.scores[0])
    risk = math.exp(np.interp(math.log(score), np.log(curve.scores), np.log(curve.risks)))
    if risk <= accept_risk:
        return None
    reason: Reason = "not_a_digit" if error_score(1, outlier_score) > 1 - confidence else "low_confidence"
    return Rejection(reason, round(risk, 8), accept_risk)
