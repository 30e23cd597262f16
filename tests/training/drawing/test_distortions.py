"""Distortions keep a drawing a picture of the same digit."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.preprocess import find_ink
from tests.drawings import digit_drawn, enlarged
from training.drawing.distortions import change_pen, outline, photograph, squared, strike, warp
from training.drawing.pens import Alpha


def alpha(digit: int = 5, side_px: int = 28) -> Alpha:
    grey = digit_drawn(digit) if side_px == 28 else enlarged(digit_drawn(digit), side_px)
    return grey.astype(np.float32) / np.float32(255)


DISTORTIONS: dict[str, Callable[[Alpha, np.random.Generator], Alpha]] = {
    "warp": warp,
    "weak warp": lambda drawing, random: warp(drawing, random, strength=0.5),
    "change_pen": change_pen,
    "outline": outline,
    "squared": squared,
    "strike": strike,
}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_distorted_drawing_is_alpha_and_an_empty_one_stays_empty(name: str) -> None:
    random = np.random.default_rng(0)
    for side_px in (28, 60):
        for digit in range(10):
            made = DISTORTIONS[name](alpha(digit, side_px), random)
            assert made.dtype == np.float32
            assert 0 <= made.min() <= made.max() <= 1
            assert made.any()
    if name != "strike":
        assert not DISTORTIONS[name](np.zeros((28, 28), np.float32), random).any()


def test_a_warp_has_room_for_all_ink() -> None:
    random = np.random.default_rng(0)
    kept = [float(warp(alpha(), random).sum() / alpha().sum()) for _ in range(100)]
    assert warp(alpha(), random).shape == (28 + 14, 28 + 14)
    assert 0.4 < min(kept) <= max(kept) < 2.2
    assert 0.9 < np.mean(kept) < 1.1


def test_strokes_become_thicker_and_thinner() -> None:
    random = np.random.default_rng(0)
    area = float((alpha() > 0.5).sum())
    changes = [float((change_pen(alpha(), random) > 0.5).sum()) / (9 * area) for _ in range(100)]
    assert change_pen(alpha(), random).shape == (84, 84)
    assert min(changes) < 0.8
    assert max(changes) > 1.3


def extent(drawing: Alpha) -> tuple[int, int]:
    """Height and width of the ink."""
    rows, columns = np.nonzero(drawing > 0.2)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def areas(mask: NDArray[np.bool_]) -> int:
    """Number of 4-connected areas."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1


@pytest.mark.parametrize("digit", range(10))
def test_an_outline_has_paper_within_the_strokes(digit: int) -> None:
    drawing = alpha(digit, 60)
    within = cv2.erode(cv2.resize(drawing, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.ones((5, 5))) > 0.6
    assert within.sum() > 250
    for seed in range(5):
        outlined = outline(drawing, np.random.default_rng(seed))
        assert outlined.shape == (188, 188)
        assert set(np.unique(outlined)) == {0, 1}
        assert not outlined[4:-4, 4:-4][within].any()
        assert areas(outlined == 0) > areas(drawing < 0.5)


@pytest.mark.parametrize("digit", range(10))
def test_a_squared_drawing_is_closer_to_a_square_by_at_most_a_factor_of_two(digit: int) -> None:
    shorter, longer = sorted(extent(alpha(digit)))
    elongation = longer / shorter
    after = []
    for seed in range(100):
        made = squared(alpha(digit), np.random.default_rng(seed))
        shorter, longer = sorted(np.subtract(made.shape, 2))  # the margin is one pixel
        after.append(longer / shorter)
        assert 12 <= longer <= 28
        assert np.array_equal(made, np.pad(made[1:-1, 1:-1], 1))
    assert 0.9 * max(1, elongation / 2) < min(after) <= max(after) < 1.1 * max(elongation, 1.1)
    if elongation > 1.3:
        assert np.mean(after) < 0.9 * elongation


def test_a_hairline_stays_connected_when_it_is_squared() -> None:
    hairline = np.zeros((120, 120), np.float32)
    cv2.line(hairline, (20, 20), (100, 90), 1.0, 1)
    for seed in range(50):
        small = squared(hairline, np.random.default_rng(seed))
        assert cv2.connectedComponents((small > 0.2).astype(np.uint8))[0] == 2, seed


@pytest.mark.parametrize("side_px", [28, 100])
def test_a_strike_adds_a_line_from_edge_to_edge_and_removes_no_ink(side_px: int) -> None:
    for digit in range(10):
        drawing = alpha(digit, side_px)
        for seed in range(10):
            struck = strike(drawing, np.random.default_rng(seed))
            line = strike(np.zeros_like(drawing), np.random.default_rng(seed))  # does not depend on the drawing
            assert np.array_equal(struck, np.maximum(drawing, line))
            assert max(extent(np.where(struck > drawing, 1, 0).astype(np.float32))) > 0.6 * side_px


def test_a_strike_is_thinner_than_the_strokes_of_mnist() -> None:
    """They are three to four pixels wide."""
    lines = [strike(np.zeros((28, 28), np.float32), np.random.default_rng(seed)) > 0.3 for seed in range(200)]
    widths = [2 * cv2.distanceTransform(np.pad(line, 1).astype(np.uint8), cv2.DIST_L2, 5).max() for line in lines]
    assert max(widths) < 3


@pytest.mark.parametrize("side_px", [28, 100])
def test_a_photograph_is_grey_and_shows_the_digit_in_either_polarity(side_px: int) -> None:
    random = np.random.default_rng(side_px)
    inverted = []
    for digit in range(10):
        for _ in range(8):
            picture = photograph(alpha(digit, side_px), random)
            assert (picture.dtype, picture.ndim) == (np.dtype(np.uint8), 2)
            found = find_ink(picture)
            assert found.ink.any()
            inverted.append(found.inverted)
    assert 0.5 < np.mean(inverted) < 0.9
    assert photograph(np.zeros((28, 28), np.float32), random).shape == (28, 28)


def test_some_photographs_are_noisy_and_some_have_dead_pixels() -> None:
    """Without either distortion there are two at most: tiny pictures that are all stroke, specks of dirt."""
    noisy = dead = 0
    for seed in range(300):
        picture = photograph(alpha(5, 60), np.random.default_rng(seed))
        if np.median(np.abs(np.diff(picture.astype(int), axis=1))) > 12:
            noisy += 1
            continue
        isolated = cv2.absdiff(picture, cv2.medianBlur(picture, 3)) > 40
        dead += all(np.mean(isolated & (picture == level)) > 0.0005 for level in (0, 255))
    assert 12 < noisy < 45
    assert 6 < dead < 30
