import numpy as np
import pytest

from training.evaluation.answers import Answers
from training.evaluation.measures import threshold_accepting
from training.evaluation.thresholds import LOW_CONFIDENCES, VALIDATION_ACCEPTED, choices, not_a_digit_threshold


def _answers(confidences: list[float], scores: list[float], rejections: list[str | None] | None = None) -> Answers:
    rest = (1 - np.array(confidences)[:, np.newaxis]) / 9
    rows = np.where(np.eye(10, dtype=bool)[[7] * len(confidences)], np.array(confidences)[:, np.newaxis], rest)
    return Answers(rows, np.array(scores), rejections, {})


def test_the_threshold_accepts_the_share_of_validation_digits() -> None:
    scores = np.linspace(-20, 0, 1001)
    assert (scores <= not_a_digit_threshold(scores, 0.99)).mean() == pytest.approx(0.99, abs=0.001)


def test_a_network_that_tells_no_outliers_gets_a_threshold_that_can_be_written() -> None:
    assert not_a_digit_threshold(np.full(10, -np.inf), 0.99) == -30.0


def test_every_pair_says_what_it_accepts() -> None:
    validation = _answers([0.99] * 200, list(np.linspace(-10, -5, 200)))
    digits = _answers([0.99, 0.99, 0.55, 0.99], [-9.0, -1.0, -9.0, -9.0], [None, None, None, "several_digits"])
    found = choices(validation, digits, np.array([7, 7, 1, 7]), _answers([0.99, 0.35], [5.0, -9.0]))
    assert len(found) == len(VALIDATION_ACCEPTED) * len(LOW_CONFIDENCES)
    by_low = {choice.low_confidence: choice for choice in found if choice.validation_accepted == 0.98}
    assert by_low[0.5].not_a_digit == round(threshold_accepting(np.linspace(-10, -5, 200), 0.98), 4)
    assert (by_low[0.5].digits_accepted, by_low[0.5].accuracy, by_low[0.5].wrong) == (0.5, 0.5, 1)
    assert (by_low[0.6].digits_accepted, by_low[0.6].accuracy, by_low[0.6].wrong) == (0.25, 1.0, 0)
    assert (by_low[0.3].outliers_accepted, by_low[0.4].outliers_accepted) == (0.5, 0.0)


def test_without_outliers_none_is_accepted_or_rejected() -> None:
    answers = _answers([0.2], [0.0])
    last = choices(answers, answers, np.array([7]), None)[-1]
    assert (last.outliers_accepted, last.accuracy) == (None, None)
