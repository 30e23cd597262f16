"""Logits -> probabilities, and whether to act on them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.model.decision import Rejection, best_candidate, outlier_scores, probabilities, rejection, risk_rejection
from app.model.manifest import RiskCurve, Thresholds


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[0, 2] + [-99] * 8], np.float32)

    assert probabilities(logits, 2.0)[0, 1] == pytest.approx(np.e / (1 + np.e))


def test_the_eleventh_logit_takes_nothing_from_the_digits() -> None:
    logits = np.arange(22, dtype=np.float32).reshape(2, 11)

    assert np.array_equal(probabilities(logits, 1.3), probabilities(logits[:, :10], 1.3))


@given(
    logits=arrays(np.float32, (3, 10), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    temperature=st.floats(0.1, 10),
)
def test_any_finite_logits_give_probabilities_that_sum_to_one(logits: NDArray[np.float32], temperature: float) -> None:
    rows = probabilities(logits, temperature)

    assert rows.dtype == np.float64
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert rows.min() >= 0


# No digit


def test_outlier_scores_are_the_log_odds_worked_out_by_hand() -> None:
    """Of eleven equal logits, one against ten: -ln 10. With ln 30 more for none, three to one: ln 3."""
    equal = [0.0] * 11
    none = [0.0] * 10 + [math.log(30)]
    seven = [0.0] * 7 + [math.log(91)] + [0.0] * 3  # 1 against 91 + 9

    scores = outlier_scores(np.array([equal, none, seven], np.float32))

    assert scores == pytest.approx([-math.log(10), math.log(3), -math.log(100)], abs=1e-6)
    assert scores.dtype == np.float64


def test_a_network_without_an_eleventh_logit_takes_everything_for_a_digit() -> None:
    assert outlier_scores(np.zeros((3, 10), np.float32)).tolist() == [-math.inf] * 3


@given(logits=arrays(np.float32, (2, 11), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_any_finite_logits_have_finite_outlier_scores(logits: NDArray[np.float32]) -> None:
    assert np.isfinite(outlier_scores(logits)).all()


@pytest.mark.parametrize(
    ("scores", "taken"),
    [
        ([2.0], 0),
        ([2.0, -8.0, -9.0], 2),
        ([0.0, -6.9], 0),  # surer, but not far surer
        ([9.0, -1.9], 0),  # far surer, but not sure
        ([4.0, -3.0], 1),
    ],
)
def test_another_reading_is_taken_when_it_is_far_more_surely_a_digit(scores: list[float], taken: int) -> None:
    assert best_candidate(scores) == taken


# Acting on it


STRICT = Thresholds(not_a_digit=1.5, low_confidence=0.6)


@pytest.mark.parametrize(
    ("score", "confidence", "digits", "expected"),
    [
        pytest.param(-9.0, 0.99, 1, None, id="a clear digit"),
        pytest.param(1.5, 0.6, 1, None, id="just at both thresholds"),
        pytest.param(1.51, 0.99, 1, Rejection("not_a_digit", 1.51, 1.5), id="no digit"),
        pytest.param(-9.0, 0.59, 1, Rejection("low_confidence", 0.59, 0.6), id="a doubtful one"),
        pytest.param(-9.0, 0.99, 2, Rejection("several_digits", 2.0, 1.0), id="two digits"),
        pytest.param(9.0, 0.2, 1, Rejection("not_a_digit", 9.0, 1.5), id="no digit before a doubtful one"),
        pytest.param(9.0, 0.2, 3, Rejection("several_digits", 3.0, 1.0), id="several digits before everything"),
        pytest.param(-math.inf, 0.7, 1, None, id="a network that knows digits alone"),
    ],
)
def test_the_first_reason_not_to_act_is_given(
    score: float, confidence: float, digits: int, expected: Rejection | None
) -> None:
    assert rejection(STRICT, score, confidence, digits) == expected


CURVE = RiskCurve(pictures=1000, without_digit=0.1, scores=(0.001, 0.1, 1), risks=(0.0001, 0.01, 1))
NEVER = -math.inf  # the log-odds of no digit


@pytest.mark.parametrize(
    ("score", "confidence", "risk", "reason"),
    [
        pytest.param(NEVER, 0.99, 0.001, "low_confidence", id="between two knots"),
        pytest.param(-math.log(99), 1.0, 0.001, "not_a_digit", id="perhaps no digit"),  # one in a hundred
        pytest.param(-math.log(99), 0.98, 0.00298, "low_confidence", id="more likely another digit"),
        pytest.param(-math.log(99), 0.995, 0.00149, "not_a_digit", id="more likely no digit"),
        pytest.param(NEVER, 1.0, 0.0001, "low_confidence", id="surer than any of the curve"),
        pytest.param(999.0, 1.0, 1, "not_a_digit", id="surely no digit"),
        pytest.param(math.inf, 0.5, 1, "not_a_digit", id="certainly no digit"),
    ],
)
def test_an_answer_is_accepted_up_to_its_risk_and_rejected_for_the_larger_part_of_it(
    score: float, confidence: float, risk: float, reason: str
) -> None:
    assert risk_rejection(CURVE, risk * 1.01, score, confidence) is None
    rejected = risk_rejection(CURVE, risk * 0.99, score, confidence)
    assert rejected is not None
    assert (rejected.reason, rejected.threshold) == (reason, risk * 0.99)
    assert rejected.score == pytest.approx(risk, 0.005)
