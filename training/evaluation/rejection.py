"""Rejection: answers to what is no single digit -> figures. Knows no model and no image."""

from collections import Counter
from dataclasses import dataclass

from training.evaluation.answers import Answers
from training.evaluation.measures import auroc, threshold_accepting, wilson_interval
from training.evaluation.scoring import Interval

REAL_ACCEPTED = 0.98  # the share of the digits at hand that the second threshold for outliers accepts


@dataclass(frozen=True)
class RejectionScores:
    """How pictures fared that should be rejected.

    ``accepted``: their share as served. ``auroc``: of the outlier score against the digits measured beside them.
    ``accepted_beside``: their share at the threshold that accepts `REAL_ACCEPTED` of these digits.
    """

    images: int
    accepted: float | None
    interval: Interval
    reasons: dict[str, int]
    auroc: float | None
    accepted_beside: float | None


def score_rejection(answers: Answers, digits: Answers | None) -> RejectionScores:
    """The figures of pictures that should be rejected, beside the answers to digits that should not, if given."""
    images = len(answers.probabilities)
    accepted = None if answers.rejections is None else answers.rejections.count(None)
    area = beside = None
    if digits and digits.outlier_scores is not None and answers.outlier_scores is not None:
        area = auroc(digits.outlier_scores, answers.outlier_scores)
        beside = float((answers.outlier_scores <= threshold_accepting(digits.outlier_scores, REAL_ACCEPTED)).mean())
    return RejectionScores(
        images=images,
        accepted=None if accepted is None else accepted / images,
        interval=wilson_interval(accepted or 0, 0 if accepted is None else images),
        reasons=dict(Counter(reason for reason in answers.rejections or [] if reason)),
        auroc=area,
        accepted_beside=beside,
    )
