"""Logits -> an answer: calibrated probabilities, and whether to act on them. Knows nothing of images or requests.

A network of eleven logits says by the last one how much a picture looks like no digit at all.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.manifest import Manifest

DIGITS = 10

Reason = Literal["not_a_digit", "low_confidence", "several_digits"]


@dataclass(frozen=True)
class Rejection:
    """Why an answer should not be acted on: a score beyond its threshold."""

    reason: Reason
    score: float
    threshold: float


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Softmax of the digits' ``logits / temperature``: (n, 10 or 11) -> float64 (n, 10), each row sums to 1.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    scaled = logits[:, :DIGITS].astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float64)


def outlier_scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The log odds (n,) that a picture is no digit: the eleventh logit against the ten, minus infinity without one.

    Source: Hendrycks et al. 2019, Deep Anomaly Detection with Outlier Exposure, with a class of its own.
    """
    if logits.shape[1] == DIGITS:
        return np.full(len(logits), -np.inf)
    digits = logits[:, :DIGITS].astype(np.float64)
    highest = digits.max(axis=1)
    return np.asarray(logits[:, DIGITS] - highest - np.log(np.exp(digits - highest[:, None]).sum(axis=1)), np.float64)


def rejection(manifest: Manifest, outlier_score: float, confidence: float, digits: int) -> Rejection | None:
    """The first reason not to act on an answer; None when there is none. ``digits``: how many were seen."""
    if digits > 1:
        return Rejection("several_digits", float(digits), 1.0)
    if outlier_score > manifest.thresholds.not_a_digit:
        return Rejection("not_a_digit", round(outlier_score, 4), manifest.thresholds.not_a_digit)
    if confidence < manifest.thresholds.low_confidence:
        return Rejection("low_confidence", confidence, manifest.thresholds.low_confidence)
    return None
