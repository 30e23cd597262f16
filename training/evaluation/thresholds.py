"""Thresholds: which share of digits they accept, how right the accepted are, which share of outliers passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Labels
from training.evaluation.answers import Answers
from training.evaluation.measures import threshold_accepting

VALIDATION_ACCEPTED = (0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
LOW_CONFIDENCES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

_OF_NO_ELEVENTH_LOGIT = -30.0  # log odds that no network reaches, for one that tells none


@dataclass(frozen=True)
class Choice:
    """One pair of thresholds and what comes of it, all but the first three as shares.

    ``digits_accepted``, ``accuracy`` of these: of the digits at hand; ``outliers_accepted``: of what is none.
    """

    validation_accepted: float
    not_a_digit: float
    low_confidence: float
    digits_accepted: float
    accuracy: float | None
    wrong: int
    outliers_accepted: float | None


def not_a_digit_threshold(scores: NDArray[np.float64], share: float) -> float:
    """The outlier score up to which that share of validation digits, whose ``scores`` (n,) are given, is accepted."""
    return max(round(threshold_accepting(scores, share), 4), _OF_NO_ELEVENTH_LOGIT)


def choices(validation: Answers, digits: Answers, labels: Labels, outliers: Answers | None) -> list[Choice]:
    """Every pair of `VALIDATION_ACCEPTED` and `LOW_CONFIDENCES`. All answers tell scores."""
    assert validation.outlier_scores is not None
    right = np.nan_to_num(digits.probabilities).argmax(axis=1) == labels
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
                    accuracy=float(right[accepted].mean()) if accepted.any() else None,
                    wrong=int((accepted & ~right).sum()),
                    outliers_accepted=(
                        None if outliers is None else float(_accepted(outliers, threshold, low_confidence).mean())
                    ),
                )
            )
    return found


def _accepted(answers: Answers, threshold: float, low_confidence: float) -> NDArray[np.bool_]:
    """As `app.model.decision.rejection` decides: several digits stay rejected whatever the thresholds."""
    assert answers.outlier_scores is not None
    single = np.array([reason != "several_digits" for reason in _reasons(answers)], bool)
    confidences = np.nan_to_num(answers.probabilities).max(axis=1)
    return np.asarray(single & (answers.outlier_scores <= threshold) & (confidences >= low_confidence))


def _reasons(answers: Answers) -> Sequence[str | None]:
    return answers.rejections or [None] * len(answers.probabilities)
