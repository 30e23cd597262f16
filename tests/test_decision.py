"""Logits -> probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.decision import probabilities


def test_equal_logits_are_equally_probable() -> None:
    assert np.allclose(probabilities(np.zeros((2, 10), np.float32), 1.0), 0.1)


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[0, 2]], np.float32)

    assert probabilities(logits, 2.0)[0, 1] == pytest.approx(np.e / (1 + np.e))


@given(
    logits=arrays(np.float32, (3, 10), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    temperature=st.floats(0.1, 10),
)
def test_any_finite_logits_give_probabilities_that_sum_to_one(logits: NDArray[np.float32], temperature: float) -> None:
    rows = probabilities(logits, temperature)

    assert rows.dtype == np.float64
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert rows.min() >= 0


@given(logits=arrays(np.float32, (1, 10), elements=st.floats(-50, 50, width=32)), temperature=st.floats(0.5, 3))
def test_temperature_never_changes_which_digit_wins(logits: NDArray[np.float32], temperature: float) -> None:
    rows = probabilities(logits, temperature)

    assert rows[0, logits[0].argmax()] == rows.max()
