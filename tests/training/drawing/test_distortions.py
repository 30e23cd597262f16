"""Distortions of drawings: what comes out is a picture of the same digit."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.preprocess import find_ink
from tests.drawings import Grey, digit_drawn, enlarged
from training.drawing.digits import Alpha
from training.drawing.distortions import _add_noise, change_pen, outline, photograph, squared, strike, warp


def alpha(digit: int = 5, side_px: int = 28) -> Alpha:
    grey = digit_drawn(digit) if side_px == 28 else enlarged(digit_drawn(digit), side_px)
    return grey.astype(np.float32) / np.float32(255)


DISTORTIONS: dict[str, Callable[[Alpha, np.random.Generator], Alpha | Grey]] = {
    "warp": warp,
    "half a warp": lambda drawing, random: warp(drawing, random, strength=0.5),
    "another pen": change_pen,
    "an outline": outline,
    "squared": squared,
    "a strike": strike,
    "a photograph": photograph,
}


@pytest.mark.parametrize("how", DISTORTIONS)
def test_a_distortion_follows_its_seed_alone(how: str) -> None:
    distort = DISTORTIONS[how]
    made = [distort(alpha(), np.random.default_rng(seed)) for seed in range(20)]

    assert np.array_equal(made[3], distort(alpha(), np.random.default_rng(3)))
    assert len({each.tobytes() for each in made}) > 10


@pytest.mark.parametrize("how", DISTORTIONS)
def test_a_distortion_leaves_its_input_as_it_was(how: str) -> None:
    drawing = alpha()
    for seed in range(20):
        DISTORTIONS[how](drawing, np.random.default_rng(seed))

    assert np.array_equal(drawing, alpha())


@pytest.mark.parametrize("side_px", [28, 60])
@pytest.mark.parametrize("how", [how for how in DISTORTIONS if how != "a photograph"])
def test_a_distorted_drawing_is_alpha(how: str, side_px: int) -> None:
    random = np.random.default_rng(0)
    for digit in range(10):
        for _ in range(10):
            made = DISTORTIONS[how](alpha(digit, side_px), random)

            assert made.dtype == np.float32
            assert 0 <= made.min() <= made.max() <= 1
            assert made.any()


def test_a_warp_has_room_for_what_it_bends() -> None:
    random = np.random.default_rng(0)
    ink = alpha().sum()
    kept = [float(warp(alpha(), random).sum() / ink) for _ in range(200)]

    assert warp(alpha(), random).shape == (28 + 14, 28 + 14)
    assert 0.4 < min(kept) <= max(kept) < 2.2
    assert 0.9 < np.mean(kept) < 1.1


def test_a_weaker_warp_moves_less_ink() -> None:
    def moved(strength: float) -> float:
        still = warp(alpha(), np.random.default_rng(0), strength=0.0)
        warped = [warp(alpha(), np.random.default_rng(seed), strength) for seed in range(50)]
        return float(np.mean([np.abs(each - still).sum() for each in warped]))

    assert 0 < moved(0.3) < moved(1.0)


def test_pens_become_thicker_and_thinner() -> None:
    random = np.random.default_rng(0)
    area = float((alpha() > 0.5).sum())
    changes = [float((change_pen(alpha(), random) > 0.5).sum()) / (9 * area) for _ in range(100)]

    assert change_pen(alpha(), random).shape == (84, 84)
    assert min(changes) < 0.8
    assert max(changes) > 1.3


def extent(drawing: Alpha) -> tuple[int, int]:
    """Height and width of its ink."""
    rows, columns = np.nonzero(drawing > 0.2)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def areas(mask: NDArray[np.bool_]) -> int:
    """How many connected areas it has; what touches at a corner is not connected."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1


@pytest.mark.parametrize("digit", range(10))
def test_an_outline_has_paper_within_the_strokes(digit: int) -> None:
    drawing = alpha(digit, 60)
    within = cv2.erode(cv2.resize(drawing, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.ones((5, 5))) > 0.6
    assert within.sum() > 250
    for seed in range(20):
        outlined = outline(drawing, np.random.default_rng(seed))

        assert outlined.shape == (188, 188)
        assert set(np.unique(outlined)) == {0, 1}
        assert not outlined[4:-4, 4:-4][within].any()
        assert areas(outlined == 0) > areas(drawing < 0.5)


@pytest.mark.parametrize("digit", range(10))
def test_a_squared_drawing_is_nearer_to_a_square_but_no_more_than_twice(digit: int) -> None:
    """Lengths are whole pixels, of which the shorter side has six at least."""
    before = sorted(extent(alpha(digit)))
    elongated = before[1] / before[0]
    after = []
    for seed in range(100):
        made = squared(alpha(digit), np.random.default_rng(seed))
        shorter, longer = sorted(np.subtract(made.shape, 2))  # the paper around is one pixel wide
        after.append(longer / shorter)

        assert 12 <= longer <= 28
        assert np.array_equal(made, np.pad(made[1:-1, 1:-1], 1))
    assert 0.9 * max(1, elongated / 2) < min(after) <= max(after) < 1.1 * max(elongated, 1.1)
    if elongated > 1.3:
        assert np.mean(after) < 0.9 * elongated


def test_half_of_the_squared_drawings_are_black_and_white() -> None:
    drawings = [squared(alpha(), np.random.default_rng(seed)) for seed in range(200)]

    assert 60 < sum(set(np.unique(drawing)) == {0, 1} for drawing in drawings) < 140


@pytest.mark.parametrize("side_px", [28, 100])
@pytest.mark.parametrize("digit", range(10))
def test_a_strike_adds_a_line_from_edge_to_edge_and_takes_no_ink(digit: int, side_px: int) -> None:
    drawing = alpha(digit, side_px)
    for seed in range(50):
        struck = strike(drawing, np.random.default_rng(seed))

        assert struck.shape == drawing.shape
        assert (struck >= drawing).all()
        line = np.maximum(struck, strike(np.zeros_like(drawing), np.random.default_rng(seed)))
        assert np.array_equal(line, struck)  # the same line, whatever it crosses
        assert max(extent(np.where(struck > drawing, 1, 0).astype(np.float32))) > 0.6 * side_px


def test_a_strike_is_thinner_than_a_pen() -> None:
    """MNIST's strokes are three to four pixels wide."""
    lines = [strike(np.zeros((28, 28), np.float32), np.random.default_rng(seed)) > 0.3 for seed in range(200)]
    widths = [2 * cv2.distanceTransform(np.pad(line, 1).astype(np.uint8), cv2.DIST_L2, 5).max() for line in lines]

    assert max(widths) < 3


def test_strikes_are_straight_dotted_and_saws() -> None:
    lines = [strike(np.zeros((56, 56), np.float32), np.random.default_rng(seed)) for seed in range(200)]
    masks = [line > line.max() / 2 for line in lines]
    pieces = [areas(cv2.dilate(mask.astype(np.uint8), np.ones((2, 2))) > 0) for mask in masks]
    bends = [_away_from_a_straight_line(mask) for mask, count in zip(masks, pieces, strict=True) if count == 1]

    assert sum(count > 4 for count in pieces) > 20
    assert sum(bend < 2 for bend in bends) > 20
    assert sum(bend > 2 for bend in bends) > 40


def _away_from_a_straight_line(line: NDArray[np.bool_]) -> float:
    """How far its farthest pixel lies from the straight line through it, in pixels."""
    points = np.argwhere(line).astype(np.float64)
    points -= points.mean(axis=0)
    across = np.linalg.svd(points, full_matrices=False)[2][1]
    return float(np.abs(points @ across).max())


@pytest.mark.parametrize("how", ["an outline", "squared", "another pen", "warp"])
def test_an_empty_drawing_stays_empty(how: str) -> None:
    for seed in range(10):
        assert not DISTORTIONS[how](np.zeros((28, 28), np.float32), np.random.default_rng(seed)).any()


@pytest.mark.parametrize("side_px", [28, 100])
def test_a_photograph_is_grey_and_shows_the_digit_in_either_polarity(side_px: int) -> None:
    random = np.random.default_rng(side_px)
    inverted = []
    for digit in range(10):
        for _ in range(15):
            picture = photograph(alpha(digit, side_px), random)

            assert picture.dtype == np.dtype(np.uint8)
            assert picture.ndim == 2
            found = find_ink(picture)
            assert found.ink.any()
            inverted.append(found.inverted)
    assert 0.5 < np.mean(inverted) < 0.9


def test_some_photographs_are_noisy_and_some_have_dead_pixels() -> None:
    """Few of 300: strong noise in every pixel, or single black and white pixels on a picture that is quiet elsewhere.

    Without either distortion there are two at most: tiny pictures that are all stroke, specks of dirt.
    """
    noisy = dead = 0
    for seed in range(300):
        picture = photograph(alpha(5, 60), np.random.default_rng(seed))
        if np.median(np.abs(np.diff(picture.astype(int), axis=1))) > 12:
            noisy += 1
            continue
        alone = cv2.absdiff(picture, cv2.medianBlur(picture, 3)) > 40
        dead += all(np.mean(alone & (picture == level)) > 0.0005 for level in (0, 255))

    assert 12 < noisy < 45
    assert 6 < dead < 30


def test_an_empty_drawing_is_photographed_as_paper() -> None:
    for seed in range(20):
        picture = photograph(np.zeros((28, 28), np.float32), np.random.default_rng(seed))

        assert picture.shape == (28, 28)


def test_a_hairline_stays_whole_when_it_is_squared() -> None:
    hairline = np.zeros((120, 120), np.float32)
    cv2.line(hairline, (20, 20), (100, 90), 1.0, 1)
    for seed in range(50):
        small = squared(hairline, np.random.default_rng(seed))

        assert cv2.connectedComponents((small > 0.2).astype(np.uint8))[0] == 2, seed


def test_a_strike_across_a_large_drawing_is_a_line() -> None:
    empty = np.zeros((140, 140), np.float32)
    covered = [(strike(empty, np.random.default_rng(seed)) > 0.2).mean() for seed in range(100)]

    assert max(covered) < 0.2


def test_noise_of_few_photons_is_on_the_ink_alone() -> None:
    half = np.full((40, 40), 255, np.uint8)
    half[:, :20] = 60
    for seed in range(40):
        grey = half.copy()
        _add_noise(grey, np.random.default_rng(seed), 195.0)
        if (grey[:, 20:] == 255).all():
            assert grey[:, :20].std() > 15
            assert float(grey[:, :20].mean()) < 110
            return
    raise AssertionError("no noise of photons in 40 seeds")
