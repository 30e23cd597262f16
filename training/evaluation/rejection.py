"""Rejection: how many outliers a model accepts, and what other thresholds would accept. Independent of models."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.arrays import Labels
from training.evaluation.measures import auroc, threshold_accepting, wilson_interval
from training.evaluation.scoring import Answers, Interval

# The rule for the thresholds in the manifest; the command `thresholds` shows the effect of others.
ACCEPTED = 0.995  # share of validation digits not rejected as "not a digit"; of real drawings it is 98.1 %
LOW_CONFIDENCE = 0.8  # all accepted real drawings are right

REAL_ACCEPTED = 0.98  # share of the digits that the alternative outlier threshold accepts
VALIDATION_ACCEPTED = (0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
LOW_CONFIDENCES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

_NO_OUTLIER_SCORE = -30.0  # finite stand-in for the score of a network without an eleventh logit; no network reaches it


@dataclass(frozen=True)
class RejectionScores:
    """Scores of images that should be rejected.

    ``accepted``: share accepted by the thresholds. ``auroc``: of the outlier score, against the digits.
    ``accepted_beside``: share accepted at the outlier threshold that accepts `REAL_ACCEPTED` of the digits.
    """

    images: int
    accepted: float | None
    interval: Interval
    reasons: dict[str, int]
    auroc: float | None
    accepted_beside: float | None


@dataclass(frozen=True)
class Choice:
    """A pair of thresholds and its effect. All but the two thresholds and ``wrong`` are shares.

    ``validation_accepted``: of the validation digits, by the outlier threshold. ``accuracy``: of the accepted digits.
    """

    validation_accepted: float
    not_a_digit: float
    low_confidence: float
    digits_accepted: float
    accuracy: float | None
    wrong: int
    outliers_accepted: float | None


def score_rejection(answers: Answers, digits: NDArray[np.float64] | None) -> RejectionScores:
    """Scores of images that should be rejected. ``digits``: the outlier scores of images that should not, if known."""
    images = len(answers.probabilities)
    accepted = None if answers.rejections is None else answers.rejections.count(None)
    area = beside = None
    if digits is not None and answers.outlier_scores is not None:
        area = auroc(digits, answers.outlier_scores)
        beside = float((answers.outlier_scores <= threshold_accepting(digits, REAL_ACCEPTED)).mean())
    return RejectionScores(
        images=images,
        accepted=None if accepted is None else accepted / images,
        interval=wilson_interval(accepted or 0, 0 if accepted is None else images),
        reasons=dict(Counter(reason for reason in answers.rejections or [] if reason)),
        auroc=area,
        accepted_beside=beside,
    )


def not_a_digit_threshold(scores: NDArray[np.float64], share: float) -> float:
    """The outlier score below which ``share`` of the validation digits lie. ``scores``: (n,), of these digits."""
    return max(round(threshold_accepting(scores, share), 4), _NO_OUTLIER_SCORE)


def choices(validation: Answers, digits: Answers, labels: Labels, outliers: Answers | None) -> list[Choice]:
    """The effect of each pair of `VALIDATION_ACCEPTED` and `LOW_CONFIDENCES`. All answers must have outlier scores."""
    assert validation.outlier_scores is not None
    correct = np.nan_to_num(digits.probabilities).argmax(axis=1) == labels
    found = []
    for share in VALIDATION_ACCEPTED:
        threshold = not_a_digit_threshold(validation.outlier_scores, share)
        for low_confidence in LOW_CONFIDENCES:
            accepted = _accepted(digits, threshold, low_confidence)
            found.append(
                Choice(
                    validation_accepted=share,
                    not_a_digit=threshold,
                    low_confidence=low_confidence,
                    digits_accepted=float(accepted.mean()),
                    accuracy=float(correct[accepted].mean()) if accepted.any() else None,
                    wrong=int((accepted & ~correct).sum()),
                    outliers_accepted=(
                        None if outliers is None else float(_accepted(outliers, threshold, low_confidence).mean())
                    ),
                )
            )
    return found


def _accepted(answers: Answers, threshold: float, low_confidence: float) -> NDArray[np.bool_]:
    """What `app.model.decision.rejection` would accept; images of several digits are rejected at any threshold."""
    assert answers.outlier_scores is not None
    reasons: Sequence[str | None] = answers.rejections or [None] * len(answers.probabilities)
    single = np.array([reason != "several_digits" for reason in reasons], bool)
    confidences = np.nan_to_num(answers.probabilities).max(axis=1)
    return np.asarray(single & (answers.outlier_scores <= threshold) & (confidences >= low_confidence))
