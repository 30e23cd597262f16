"""What is no digit: of every kind, and the skeleton that written signs are made of."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.drawings import enlarged, mnist_test
from training.drawing import outliers
from training.drawing.outliers import draw_outlier, thin

Mask = NDArray[np.uint8]

DRAWN = 300
DIGITS = mnist_test()[0]


def test_outliers_are_alpha_of_every_shape_and_never_blank() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_outlier(random, DIGITS) for _ in range(DRAWN)]

    assert {each.dtype for each in drawn} == {np.dtype(np.float32)}
    assert all(each.ndim == 2 and each.min() >= 0 and each.max() <= 1 for each in drawn)
    assert all(each.max() > 0.3 for each in drawn)
    assert len({each.shape for each in drawn}) > 50


def test_an_outlier_follows_its_seed_alone() -> None:
    drawn = [draw_outlier(np.random.default_rng(seed), DIGITS) for seed in range(60)]

    assert all(
        np.array_equal(each, draw_outlier(np.random.default_rng(seed), DIGITS)) for seed, each in enumerate(drawn)
    )
    assert len({each.tobytes() for each in drawn}) == 60


def test_the_digits_that_are_joined_are_left_as_they_were() -> None:
    digits = DIGITS[:20].copy()
    for seed in range(60):
        draw_outlier(np.random.default_rng(seed), digits)

    assert np.array_equal(digits, DIGITS[:20])


@pytest.mark.parametrize("kind", ["_sign", "_scribble", "_shapes", "_blot", "_texture", "_word"])
def test_each_kind_is_drawn_a_hundred_times_over(kind: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        drawn = getattr(outliers, kind)(random)

        assert drawn.dtype == np.float32
        assert 0 <= drawn.min() <= drawn.max() <= 1
        assert drawn.any()


def test_some_blots_are_round() -> None:
    """Nearly all of what lies within them is an ellipse: of 300 polygons with corners at random none is."""
    blots = [outliers._blot(np.random.default_rng(seed)) for seed in range(300)]
    shares = [_share_of_an_ellipse((blot > 0.02).astype(np.uint8)) for blot in blots]

    assert 10 < sum(share > 0.94 for share in shares) < 60


def _share_of_an_ellipse(blot: Mask) -> float:
    """Of the blot without its dents and the ellipse fitted to it, what both cover; 0 where the dents are large."""
    outline = np.vstack(cv2.findContours(blot, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])
    whole = cv2.fillPoly(np.zeros_like(blot), [cv2.convexHull(outline)], (1,))
    ellipse = cv2.ellipse(np.zeros_like(blot), cv2.fitEllipse(outline), (1,), -1)
    if blot.sum() < 0.85 * whole.sum():
        return 0.0
    return float(np.minimum(whole, ellipse).sum() / np.maximum(whole, ellipse).sum())


def test_joined_digits_are_wider_than_one() -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        joined = outliers._joined(random, DIGITS)
        columns = np.flatnonzero(joined.max(axis=0) > 0.2)

        assert joined.shape[0] == 28
        assert len(columns) >= 4
        assert joined.dtype == np.float32


def test_no_sign_is_one_that_a_digit_looks_like() -> None:
    assert not set(outliers._SIGNS) & set("0123456789IOSZbgiloqsz")
    assert len(outliers._SIGNS) == len(set(outliers._SIGNS))


# Skeletons

MASKS: dict[str, Mask] = {
    f"MNIST's {number}": (enlarged(DIGITS[number], 56) > 127).astype(np.uint8) for number in range(0, 200, 16)
}
MASKS |= {sign: outliers._glyph(0, sign) for sign in "AEGRaek&@%Ψ#"}


def components(mask: Mask) -> int:
    return int(cv2.connectedComponents(mask, connectivity=8)[0]) - 1


@pytest.mark.parametrize("name", MASKS)
def test_a_skeleton_is_one_pixel_wide_lies_within_and_stays_connected(name: str) -> None:
    mask = MASKS[name]
    before = mask.copy()
    skeleton = thin(mask)

    assert np.array_equal(mask, before)
    assert skeleton.dtype == np.dtype(np.uint8)
    assert skeleton.shape == mask.shape
    assert not (skeleton > mask).any()
    squares = skeleton[:-1, :-1] & skeleton[1:, :-1] & skeleton[:-1, 1:] & skeleton[1:, 1:]
    assert not squares.any()
    assert components(skeleton) == components(mask)


@pytest.mark.parametrize("name", MASKS)
def test_a_skeleton_has_the_holes_of_its_mask(name: str) -> None:
    def holes(mask: Mask) -> int:
        return int(cv2.connectedComponents(1 - np.pad(mask, 1), connectivity=4)[0]) - 2

    assert holes(thin(MASKS[name])) == holes(MASKS[name])


def test_a_skeleton_is_its_own() -> None:
    for mask in MASKS.values():
        assert np.array_equal(thin(thin(mask)), thin(mask))


def test_the_skeleton_of_a_bar_is_its_middle_line() -> None:
    bar = np.zeros((11, 31), np.uint8)
    bar[3:8, 3:28] = 1

    skeleton = thin(bar)

    assert np.flatnonzero(skeleton.any(axis=1)).tolist() == [5]
    assert 19 <= skeleton.sum() <= 25


def test_nothing_has_no_skeleton() -> None:
    assert not thin(np.zeros((5, 5), np.uint8)).any()
