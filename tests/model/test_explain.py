"""Saliency by occlusion, with a stand-in for the model."""

import numpy as np
import pytest

from app.imaging.preprocess import SIDE_PX, Ink, find_ink
from app.model.explain import occlusions, saliency
from tests.drawings import digit_drawn

EIGHT = find_ink(digit_drawn(8)).ink


def top_half(inks: Ink) -> list[list[float]]:
    """Sees a three, the more surely the more ink is in the upper half."""
    sure = inks[:, : SIDE_PX // 2].sum(axis=(1, 2, 3)) / 1000
    return [[0.0] * 3 + [float(each)] + [0.0] * 6 for each in sure]


def test_each_occlusion_lacks_some_ink_and_adds_none() -> None:
    occluded = occlusions(EIGHT)

    assert 40 < len(occluded) < 170
    assert (occluded <= EIGHT).all()
    assert (occluded.sum(axis=(1, 2, 3)) < EIGHT.sum()).all()


def test_the_saliency_is_bright_where_ink_decides_the_answer_and_nowhere_else() -> None:
    [probabilities] = top_half(EIGHT[None])

    shown = saliency(EIGHT, probabilities, top_half(occlusions(EIGHT)))

    assert shown.shape == (SIDE_PX, SIDE_PX)
    assert shown.dtype == np.float32
    assert shown.max() == pytest.approx(1)
    assert not shown[SIDE_PX // 2 + 3 :].any()  # a patch is four pixels wide
    for row, column in zip(*np.nonzero(shown), strict=True):
        assert EIGHT[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4].any()


def test_an_answer_that_depends_on_nothing_has_a_dark_saliency() -> None:
    probabilities = [0.0, 1.0] + [0.0] * 8

    assert not saliency(EIGHT, probabilities, [probabilities] * len(occlusions(EIGHT))).any()
