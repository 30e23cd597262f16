import numpy as np
import pytest

from training.evaluation.measures import threshold_accepting
from training.evaluation.rejection import (
    LOW_CONFIDENCES,
    VALIDATION_ACCEPTED,
    choices,
    not_a_digit_threshold,
    score_rejection,
)
from training.evaluation.scoring import Answers


def _answers(
    scores: list[float] | None,
    rejections: list[str | None] | None = None,
    confidences: tuple[float, ...] = (0.99, 0.99, 0.99, 0.99),
) -> Answers:
    """The digit is always 7."""
    column = np.array(confidences)[:, np.newaxis]
    rows = np.where(np.arange(10) == 7, column, (1 - column) / 9)
    return Answers(rows, None if scores is None else np.array(scores), rejections, {})


def test_outliers_are_scored_by_acceptance_reason_and_outlier_score() -> None:
    digits = _answers([-9.0, -8.0, -7.0, 1.0], [None, None, None, "not_a_digit"])
    outliers = _answers([-8.5, 2.0, 3.0, np.inf], [None, "not_a_digit", "not_a_digit", "no_ink"])
    scores = score_rejection(outliers, digits.outlier_scores)
    assert (scores.images, scores.accepted) == (4, 0.25)
    assert scores.reasons == {"not_a_digit": 2, "no_ink": 1}
    assert scores.auroc == pytest.approx(13 / 16)
    assert scores.accepted_beside == 0.25


def test_what_is_unknown_is_none() -> None:
    service = score_rejection(_answers(None, [None] * 4), np.zeros(4))
    assert (service.auroc, service.accepted_beside, service.accepted) == (None, None, 1.0)
    without_thresholds = score_rejection(_answers([1.0] * 4), np.zeros(4))
    assert (without_thresholds.accepted, without_thresholds.auroc) == (None, 1.0)
    assert score_rejection(_answers([1.0] * 4, ["several_digits"] * 4), None).auroc is None


def test_a_threshold_is_finite_where_every_score_is_not() -> None:
    assert not_a_digit_threshold(np.full(10, -np.inf), 0.99) == -30.0


def test_each_pair_of_thresholds_is_shown_with_what_it_accepts() -> None:
    validation = _answers(list(np.linspace(-10, -5, 200)), confidences=(0.99,) * 200)
    rejections: list[str | None] = [None, None, None, "several_digits"]
    digits = _answers([-9.0, -1.0, -9.0, -9.0], rejections, (0.99, 0.99, 0.55, 0.99))
    found = choices(validation, digits, np.array([7, 7, 1, 7]), _answers([5.0, -9.0], confidences=(0.99, 0.35)))
    assert len(found) == len(VALIDATION_ACCEPTED) * len(LOW_CONFIDENCES)
    by_low = {choice.low_confidence: choice for choice in found if choice.validation_accepted == 0.98}
    assert by_low[0.5].not_a_digit == round(threshold_accepting(np.linspace(-10, -5, 200), 0.98), 4)
    assert (by_low[0.5].digits_accepted, by_low[0.5].accuracy, by_low[0.5].wrong) == (0.5, 0.5, 1)
    assert (by_low[0.6].digits_accepted, by_low[0.6].accuracy, by_low[0.6].wrong) == (0.25, 1.0, 0)
    assert (by_low[0.3].outliers_accepted, by_low[0.4].outliers_accepted) == (0.5, 0.0)
    last = choices(validation, digits, np.array([7, 7, 1, 7]), None)[-1]
    assert last.outliers_accepted is None
