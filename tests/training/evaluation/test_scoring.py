import math

import numpy as np
import pytest

from training.evaluation.answers import Answers
from training.evaluation.scoring import Scores, score


def _confident(digits: list[int], confidence: float = 0.91) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rest = (1 - confidence) / 9
    return np.where(np.eye(10, dtype=bool)[digits], confidence, rest)


def _answers(
    probabilities: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    rejections: list[str | None] | None = None,
    unread: dict[int, str] | None = None,
) -> Answers:
    return Answers(probabilities, None, rejections, unread or {})


@pytest.fixture
def scores() -> Scores:
    """Four images: a 1 and a 7 read rightly, a 7 taken for a 1, a 3 not read at all."""
    probabilities = np.vstack([_confident([1, 7]), _confident([1], 0.99), np.full((1, 10), np.nan)])
    return score(
        _answers(probabilities, unread={3: "no_ink"}, rejections=[None, "not_a_digit", None, "no_ink"]),
        np.array([1, 7, 7, 3]),
        ["a", "b", "c", "d"],
        tags=["photo", "photo", "canvas", ""],
        groups=["anna", "anna", "anna", "bert"],
    )


def test_an_unread_image_counts_as_wrong(scores: Scores) -> None:
    assert scores.accuracy == 0.5
    assert scores.wrong == 2
    assert scores.unread == {"d": "no_ink"}


def test_the_loss_is_that_of_the_images_that_were_answered(scores: Scores) -> None:
    assert scores.nll == pytest.approx(-(2 * math.log(0.91) + math.log(0.01 / 9)) / 3)


def test_precision_and_recall_are_by_digit(scores: Scores) -> None:
    assert scores.precision[1] == 0.5
    assert scores.precision[7] == 1.0
    assert scores.recall[7] == 0.5
    assert scores.recall[3] == 0.0
    assert scores.precision[0] is scores.recall[0] is None


def test_confusion_has_labels_in_rows_and_answers_in_columns(scores: Scores) -> None:
    assert scores.confusion[7][1] == 1
    assert sum(map(sum, scores.confusion)) == 3


def test_mistakes_say_what_was_taken_for_what(scores: Scores) -> None:
    (mistake,) = scores.mistakes
    assert (mistake.name, mistake.place, mistake.label, mistake.digit) == ("c", 2, 7, 1)
    assert mistake.confidence == pytest.approx(0.99)


def test_mistakes_come_the_most_confident_first() -> None:
    probabilities = np.vstack([_confident([1], 0.5), _confident([2], 0.9), _confident([3], 0.7)])
    mistakes = score(_answers(probabilities), np.zeros(3, np.int64), ["a", "b", "c"]).mistakes
    assert [mistake.name for mistake in mistakes] == ["b", "c", "a"]


def test_accuracy_is_told_by_tag_where_there_is_one(scores: Scores) -> None:
    assert {tag: (each.images, each.accuracy) for tag, each in scores.tags.items()} == {
        "photo": (2, 1.0),
        "canvas": (1, 0.0),
    }


def test_a_group_counts_as_much_as_another_however_large(scores: Scores) -> None:
    assert scores.groups is not None
    assert (scores.groups.groups, scores.groups.lowest) == (2, 0.0)
    assert scores.groups.accuracy == pytest.approx(1 / 3)


def test_without_groups_there_is_no_mean_of_them() -> None:
    assert score(_answers(_confident([1])), np.array([1]), ["a"], groups=[""]).groups is None


def test_what_was_not_accepted_is_counted_by_reason(scores: Scores) -> None:
    assert scores.acceptance is not None
    assert (scores.acceptance.share, scores.acceptance.wrong, scores.acceptance.accuracy) == (0.5, 1, 0.5)
    assert scores.acceptance.reasons == {"not_a_digit": 1, "no_ink": 1}


def test_a_model_without_thresholds_rejects_nothing_that_could_be_counted() -> None:
    assert score(_answers(_confident([1])), np.array([1]), ["a"]).acceptance is None


def test_nothing_accepted_has_no_accuracy() -> None:
    acceptance = score(_answers(_confident([1]), rejections=["not_a_digit"]), np.array([1]), ["a"]).acceptance
    assert acceptance is not None
    assert acceptance.accuracy is None


def test_calibration_is_that_of_the_images_that_were_answered(scores: Scores) -> None:
    # 0.91 twice, of which both are right, and 0.99, which is wrong: two bins
    assert sum(each.images for each in scores.reliability) == 3
    assert scores.ece == pytest.approx((2 * 0.09 + 0.99) / 3)


def test_an_unread_image_is_the_last_that_would_be_answered(scores: Scores) -> None:
    assert scores.risk_coverage[-1] == 0.5
    assert scores.risk_coverage[0] == 1.0  # the most confident answer is the wrong one


def test_no_answer_at_all_has_no_loss() -> None:
    scores = score(_answers(np.full((1, 10), np.nan), unread={0: "no_ink"}), np.array([3]), ["a"])
    assert math.isnan(scores.nll)
    assert scores.accuracy == 0
