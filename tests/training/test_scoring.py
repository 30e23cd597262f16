import math

import numpy as np
import pytest

from training.scoring import Scores, TagScore, accuracy, nll, score


def _confident(digits: list[int], confidence: float = 0.91) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rest = (1 - confidence) / 9
    return np.where(np.eye(10, dtype=bool)[digits], confidence, rest)


@pytest.fixture
def scores() -> Scores:
    """Four images: a 1 and a 7 read rightly, a 7 taken for a 1, a 3 not read at all."""
    probabilities = np.vstack([_confident([1, 7]), _confident([1], 0.99), np.full((1, 10), np.nan)])
    return score(
        probabilities,
        np.array([1, 7, 7, 3]),
        ["a", "b", "c", "d"],
        unread={3: "no_ink"},
        tags=["photo", "photo", "canvas", ""],
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
    mistakes = score(probabilities, np.zeros(3, np.int64), ["a", "b", "c"]).mistakes
    assert [mistake.name for mistake in mistakes] == ["b", "c", "a"]


def test_accuracy_is_told_by_tag_where_there_is_one(scores: Scores) -> None:
    assert scores.tags == {"photo": TagScore(2, 1.0), "canvas": TagScore(1, 0.0)}


def test_no_answer_at_all_has_no_loss() -> None:
    scores = score(np.full((1, 10), np.nan), np.array([3]), ["a"], unread={0: "no_ink"})
    assert math.isnan(scores.nll)
    assert scores.accuracy == 0


def test_certainty_of_the_wrong_digit_has_a_finite_loss() -> None:
    assert math.isfinite(nll(np.eye(10)[[1]], np.array([2])))


def test_accuracy_is_the_share_of_the_most_probable() -> None:
    assert accuracy(_confident([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.75
