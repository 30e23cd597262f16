import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.risk import KNOTS, NO_DIGIT, fit_risk

COUNT = 20_000
ESTIMATES = np.geomspace(0.001, 0.49, COUNT)  # of being wrong, by the model
RISKS = np.array([0.03, 0.1, 0.4])


def _logits(estimates: NDArray[np.float64], column: int) -> NDArray[np.float32]:
    """Of zeros, which the model takes for ``column`` with the estimated probability."""
    logits = np.full((len(estimates), 11), -99.0, np.float32)
    logits[:, 0], logits[:, column] = np.log(1 / estimates - 1), 0
    return logits


@pytest.mark.parametrize("column", [1, NO_DIGIT], ids=["another digit", "no digit"])
@pytest.mark.parametrize("factor", [1, 0.3])
def test_a_known_risk_is_recovered(column: int, factor: float) -> None:
    labels = np.where(np.random.default_rng(0).random(COUNT) < factor * ESTIMATES, column, 0)
    curve = fit_risk(_logits(ESTIMATES, column), labels, 1.0, np.ones(COUNT))

    found = np.interp(np.log(RISKS), np.log(curve.scores), np.log(curve.risks))
    assert np.exp(found) == pytest.approx(factor * RISKS, rel=0.5)
    assert (sorted(curve.scores), sorted(curve.risks)) == (list(curve.scores), list(curve.risks))
    assert len(curve.scores) <= KNOTS


def test_few_right_answers_make_no_low_risk() -> None:
    few, many = (fit_risk(_logits(ESTIMATES[:n], 1), np.zeros(n, np.int64), 1.0).risks[0] for n in (9, 999))

    assert (few, many) == (0.1, 0.001)


@pytest.mark.parametrize("count", [100, 10_000])
def test_pictures_without_a_digit_count_as_the_same_share_however_many_there_are(count: int) -> None:
    """The model takes all pictures alike."""
    logits = _logits(np.full(10_000 + count, 0.2), NO_DIGIT)

    curve = fit_risk(logits, np.repeat([0, NO_DIGIT], [10_000, count]), 1.0)

    assert curve.without_digit == 0.1
    assert curve.risks[0] == pytest.approx(0.1, rel=0.01)
