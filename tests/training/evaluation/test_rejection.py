import numpy as np
import pytest

from training.evaluation.answers import Answers
from training.evaluation.rejection import score_rejection


def _answers(scores: list[float] | None, rejections: list[str | None] | None, count: int = 4) -> Answers:
    return Answers(np.eye(10)[:count], None if scores is None else np.array(scores), rejections, {})


def test_outliers_are_told_by_what_became_of_them_and_by_their_score() -> None:
    digits = _answers([-9.0, -8.0, -7.0, 1.0], [None, None, None, "not_a_digit"])
    outliers = _answers([-8.5, 2.0, 3.0, np.inf], [None, "not_a_digit", "not_a_digit", "no_ink"])
    scores = score_rejection(outliers, digits)
    assert (scores.images, scores.accepted) == (4, 0.25)
    assert scores.reasons == {"not_a_digit": 2, "no_ink": 1}
    assert scores.auroc == pytest.approx(13 / 16)
    assert scores.accepted_beside == 0.25


def test_a_service_that_tells_no_scores_has_no_area() -> None:
    scores = score_rejection(_answers(None, [None] * 4), _answers(None, [None] * 4))
    assert (scores.auroc, scores.accepted_beside, scores.accepted) == (None, None, 1.0)


def test_a_network_without_thresholds_accepts_no_share() -> None:
    scores = score_rejection(_answers([1.0] * 4, None), _answers([0.0] * 4, None))
    assert (scores.accepted, scores.auroc) == (None, 1.0)


def test_without_digits_beside_them_there_is_no_area() -> None:
    assert score_rejection(_answers([1.0] * 4, ["several_digits"] * 4), None).auroc is None
