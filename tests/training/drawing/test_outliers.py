import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.drawings import enlarged, mnist_test
from training.drawing import outliers
from training.drawing.outliers import draw_outlier, thin

Mask = NDArray[np.uint8]

DIGITS = mnist_test()[0]


def test_outliers_are_alpha_never_blank_and_depend_on_their_seed_only() -> None:
    digits = DIGITS.copy()
    drawn = [draw_outlier(np.random.default_rng(seed), digits) for seed in range(200)]
    assert {each.dtype for each in drawn} == {np.dtype(np.float32)}
    assert all(each.ndim == 2 and each.min() >= 0 and 0.3 < each.max() <= 1 for each in drawn)
    assert len({each.shape for each in drawn}) > 40
    assert len({each.tobytes() for each in drawn}) == 200
    again = [draw_outlier(np.random.default_rng(seed), digits) for seed in range(50)]
    assert all(np.array_equal(*pair) for pair in zip(drawn, again, strict=False))
    assert np.array_equal(digits, DIGITS)


@pytest.mark.parametrize("kind", ["_sign", "_scribble", "_shapes", "_blot", "_texture", "_word"])
def test_each_kind_is_alpha(kind: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        drawn = getattr(outliers, kind)(random)
        assert drawn.dtype == np.float32
        assert 0 <= drawn.min() <= drawn.max() <= 1
        assert drawn.any()


def test_no_sign_resembles_a_digit() -> None:
    assert not set(outliers._SIGNS) & set("0123456789IOSZbgiloqsz")
    assert len(outliers._SIGNS) == len(set(outliers._SIGNS))


MASKS: dict[str, Mask] = {
    f"MNIST's {number}": (enlarged(DIGITS[number], 56) > 127).astype(np.uint8) for number in range(0, 200, 40)
}
MASKS |= {sign: outliers._glyph(0, sign) for sign in "AERak&%Ψ#"}


@pytest.mark.parametrize("name", MASKS)
def test_a_skeleton_is_one_pixel_wide_with_the_parts_and_holes_of_its_mask(name: str) -> None:
    mask = MASKS[name]
    before = mask.copy()
    skeleton = thin(mask)

    assert np.array_equal(mask, before)
    assert (skeleton.dtype, skeleton.shape) == (np.dtype(np.uint8), mask.shape)
    assert not (skeleton > mask).any()
    squares = skeleton[:-1, :-1] & skeleton[1:, :-1] & skeleton[:-1, 1:] & skeleton[1:, 1:]
    assert not squares.any()
    parts = [cv2.connectedComponents(each, connectivity=8)[0] for each in (skeleton, mask)]
    assert parts[0] == parts[1]
    holes = [cv2.connectedComponents(1 - np.pad(each, 1), connectivity=4)[0] for each in (skeleton, mask)]
    assert holes[0] == holes[1]
    assert np.array_equal(thin(skeleton), skeleton)


def test_the_skeleton_of_a_bar_is_its_middle_line_and_a_blank_mask_has_none() -> None:
    bar = np.zeros((11, 31), np.uint8)
    bar[3:8, 3:28] = 1
    skeleton = thin(bar)
    assert np.flatnonzero(skeleton.any(axis=1)).tolist() == [5]
    assert 19 <= skeleton.sum() <= 25
    assert not thin(np.zeros((5, 5), np.uint8)).any()
