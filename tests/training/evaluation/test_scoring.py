import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.scoring import Answers, Scores, score


def _confident(digits: list[int], confidence: float = 0.91) -> NDArray[np.float64]:
    return np.where(np.eye(10, dtype=bool)[digits], confidence, (1 - confidence) / 9)


def _answers(
    probabilities: NDArray[np.float64],
    rejections: list[str | None] | None = None,
    unread: dict[int, str] | None = None,
) -> Answers:
    return Answers(probabilities, None, rejections, unread or {})


@pytest.fixture
def scores() -> Scores:
    """Four images: a 1 and a 7 read correctly, a 7 read as 1, an unread 3."""
    probabilities = np.vstack([_confident([1, 7]), _confident([1], 0.99), np.full((1, 10), np.nan)])
    return score(
        _answers(probabilities, unread={3: "no_ink"}, rejections=[None, "not_a_digit", None, "no_ink"]),
        np.array([1, 7, 7, 3]),
        ["a", "b", "c", "d"],
        tags=["photo", "photo", "canvas", ""],
        groups=["anna", "anna", "anna", "bert"],
    )


def test_an_unread_image_counts_as_wrong_and_is_left_out_of_loss_and_calibration(scores: Scores) -> None:
    assert (scores.accuracy, scores.wrong, scores.unread) == (0.5, 2, {"d": "no_ink"})
    assert scores.nll == pytest.approx(-(2 * math.log(0.91) + math.log(0.01 / 9)) / 3)
    # two bins: 0.91 twice, both correct, and 0.99, which is wrong
    assert sum(each.images for each in scores.reliability) == 3
    assert scores.ece == pytest.approx((2 * 0.09 + 0.99) / 3)
    assert scores.risk_coverage[-1] == 0.5
    assert scores.risk_coverage[0] == 1.0  # the most confident answer is the wrong one


def test_precision_recall_and_confusion_are_by_digit(scores: Scores) -> None:
    assert (scores.precision[1], scores.precision[7]) == (0.5, 1.0)
    assert (scores.recall[7], scores.recall[3]) == (0.5, 0.0)
    assert scores.precision[0] is scores.recall[0] is None
    assert scores.confusion[7][1] == 1  # row = label, column = answer
    assert sum(map(sum, scores.confusion)) == 3


def test_mistakes_are_listed_most_confident_first(scores: Scores) -> None:
    (mistake,) = scores.mistakes
    assert (mistake.name, mistake.place, mistake.label, mistake.digit) == ("c", 2, 7, 1)
    assert mistake.confidence == pytest.approx(0.99)
    probabilities = np.vstack([_confident([1], 0.5), _confident([2], 0.9), _confident([3], 0.7)])
    mistakes = score(_answers(probabilities), np.zeros(3, np.int64), ["a", "b", "c"]).mistakes
    assert [mistake.name for mistake in mistakes] == ["b", "c", "a"]


def test_accuracy_is_given_by_tag_and_as_mean_over_groups_of_any_size(scores: Scores) -> None:
    by_tag = {tag: (each.images, each.accuracy) for tag, each in scores.tags.items()}
    assert by_tag == {"photo": (2, 1.0), "canvas": (1, 0.0)}
    assert scores.groups is not None
    assert (scores.groups.groups, scores.groups.lowest) == (2, 0.0)
    assert scores.groups.accuracy == pytest.approx(1 / 3)
    assert score(_answers(_confident([1])), np.array([1]), ["a"], groups=[""]).groups is None


def test_rejected_images_are_counted_by_reason(scores: Scores) -> None:
    assert scores.acceptance is not None
    assert (scores.acceptance.share, scores.acceptance.wrong, scores.acceptance.accuracy) == (0.5, 1, 0.5)
    assert scores.acceptance.reasons == {"not_a_digit": 1, "no_ink": 1}
    assert score(_answers(_confident([1])), np.array([1]), ["a"]).acceptance is None
    nothing_accepted = score(_answers(_confident([1]), rejections=["not_a_digit"]), np.array([1]), ["a"]).acceptance
    assert nothing_accepted is not None
    assert nothing_accepted.accuracy is None


def test_without_any_answer_there_is_no_loss() -> None:
    scores = score(_answers(np.full((1, 10), np.nan), unread={0: "no_ink"}), np.array([3]), ["a"])
    assert math.isnan(scores.nll)
    assert scores.accuracy == 0
