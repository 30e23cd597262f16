"""Distortions of drawings: what comes out is a picture of the same digit."""

from collections.abc import Callable

import numpy as np
import pytest

from app.preprocessing import find_ink
from tests.drawings import Grey, digit_drawn, enlarged
from training.drawings import change_pen, photograph, warp
from training.strokes import Alpha


def alpha(digit: int = 5, side_px: int = 28) -> Alpha:
    grey = digit_drawn(digit) if side_px == 28 else enlarged(digit_drawn(digit), side_px)
    return grey.astype(np.float32) / np.float32(255)


DISTORTIONS: dict[str, Callable[[Alpha, np.random.Generator], Alpha | Grey]] = {
    "warp": warp,
    "half a warp": lambda drawing, random: warp(drawing, random, strength=0.5),
    "another pen": change_pen,
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
@pytest.mark.parametrize("how", ["warp", "half a warp", "another pen"])
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


def test_an_empty_drawing_is_photographed_as_paper() -> None:
    for seed in range(20):
        picture = photograph(np.zeros((28, 28), np.float32), np.random.default_rng(seed))

        assert picture.shape == (28, 28)
