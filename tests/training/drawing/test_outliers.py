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
