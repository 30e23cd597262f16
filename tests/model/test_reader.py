"""The reader: when it looks again, which candidate it takes, and what stays rejected."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from app.imaging.preprocess import Ink, Preprocessed, find_ink
from app.model.engine import Logits
from app.model.manifest import RiskCurve, Thresholds
from app.model.reader import Reader
from tests.drawings import digit_drawn
from tests.pictures import on_paper, side_by_side

READER = Reader(temperature=1.0, thresholds=Thresholds(not_a_digit=1.5, low_confidence=0.6))
SEVEN = find_ink(digit_drawn(7))  # a small picture: turned twice, the other polarity, that turned twice

Answer = tuple[int, float]  # the digit, and the log-odds that it is none


def logits(digit: int, outlier_score: float) -> Logits:
    row = np.zeros(11, np.float32)
    row[digit] = 20
    row[10] = 20 + outlier_score
    return row


def answering(*answers: Answer) -> tuple[Callable[[Ink], Logits], list[int]]:
    """A model that gives these answers in turn, the last for ever; and the sizes of its batches."""
    rows, sizes = [logits(*answer) for answer in answers], []

    def run(inks: Ink) -> Logits:
        sizes.append(len(inks))
        return np.stack([rows.pop(0) if len(rows) > 1 else rows[0] for _ in inks])

    return run, sizes


def test_a_digit_is_read_at_the_first_look() -> None:
    run, sizes = answering((7, -9.0))

    reading = READER.read(SEVEN, run)

    assert sizes == [1]
    assert np.argmax(reading.probabilities) == 7
    assert reading.rejection is None
    assert reading.alternative == 0
    assert sum(reading.probabilities) == pytest.approx(1)
    assert reading.outlier_score == pytest.approx(-9, abs=1e-3)


def test_what_looks_like_no_digit_is_looked_at_again_in_one_batch_and_stays_rejected() -> None:
    run, sizes = answering((1, 3.0), (2, 2.0), (3, -8.0), (4, -9.0), (5, 1.0))

    reading = READER.read(SEVEN, run)

    assert sizes == [1, 5]
    assert np.argmax(reading.probabilities) == 4
    assert reading.alternative == 3
    assert reading.found is not SEVEN
    assert reading.rejection is not None
    assert (reading.rejection.reason, reading.rejection.score) == ("not_a_digit", 3)


@pytest.mark.parametrize(
    "found",
    [
        find_ink(digit_drawn(7), "plain"),
        find_ink(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)]))),
    ],
    ids=["plain", "several digits"],
)
def test_there_is_no_second_look(found: Preprocessed) -> None:
    run, sizes = answering((1, 3.0))

    reading = READER.read(found, run)

    assert sizes == [1]
    assert reading.rejection is not None


def test_only_an_answer_of_the_first_look_at_one_digit_is_judged_by_its_risk() -> None:
    curve = RiskCurve(pictures=9, without_digit=0, scores=(0.5, 1), risks=(0.01, 1))
    several = find_ink(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)])))
    first, turned, both = (
        READER.read(found, answering(*answers)[0])
        for found, *answers in ((SEVEN, (7, 1.6)), (SEVEN, (1, 3.0), (2, -9.0)), (several, (7, -9.0)))
    )

    assert first.rejection_at(0.9, curve) is None
    assert turned.rejection_at(0.9, curve) == ("not_a_digit", 1, 0.9)
    assert both.rejection_at(0.9, curve) == both.rejection == ("several_digits", 2, 1)


@pytest.mark.parametrize("place", [0, 10])
def test_a_nan_is_an_error(place: int) -> None:
    row = logits(7, -9.0)
    row[place] = math.nan

    with pytest.raises(RuntimeError, match="NaN"):
        READER.judge(SEVEN, row)
