"""Digits that code draws: whole, in the hands they were asked for, each time another."""

import cv2
import numpy as np
import pytest

from app.imaging.preprocess import ink_from_grey
from tests.drawings import difference
from training.drawing import digits
from training.drawing.digits import Alpha, arc, curve, draw, draw_digit

DIGITS = range(10)


def drawn(digit: int, seed: int, height_px: int = 56, pen_px: float = 3.0, *, smooth: bool = True) -> Alpha:
    return draw_digit(digit, np.random.default_rng(seed), height_px, pen_px, smooth)


@pytest.mark.parametrize("digit", DIGITS)
def test_every_drawing_is_alpha_with_room_around_its_ink(digit: int) -> None:
    random = np.random.default_rng(digit)
    for _ in range(40):
        height_px, smooth = int(random.choice([20, 28, 56, 100])), bool(random.random() < 0.5)
        alpha = draw_digit(digit, random, height_px, random.uniform(0.4, 12), smooth)

        assert alpha.dtype == np.float32
        assert alpha.min() == 0
        assert 0.8 < alpha.max() <= 1  # a hairline falls between two pixels
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert border.max() < 0.7  # what antialiasing leaves of a stroke's edge; a stroke that is cut off leaves 1


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawing_follows_its_seed_alone(digit: int) -> None:
    assert np.array_equal(drawn(digit, 1), drawn(digit, 1))
    assert len({drawn(digit, seed).tobytes() for seed in range(20)}) == 20


def test_no_two_digits_of_a_seed_look_alike() -> None:
    for seed in range(5):
        inks = [ink_from_grey((255 * drawn(digit, seed)).astype(np.uint8)) for digit in DIGITS]

        assert min(difference(inks[one], inks[other]) for one in DIGITS for other in range(one)) > 0.15


def test_without_antialiasing_a_pixel_is_ink_or_none() -> None:
    for digit in DIGITS:
        assert set(np.unique(drawn(digit, 0, smooth=False))) == {0, 1}
        assert len(np.unique(drawn(digit, 0, smooth=True))) > 2


@pytest.mark.parametrize("height_px", [20, 56, 200])
def test_a_drawing_is_as_large_as_it_was_asked_for(height_px: int) -> None:
    for digit in DIGITS:
        rows, columns = np.nonzero(drawn(digit, 3, height_px, 2.0) > 0.5)

        assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(height_px, abs=4)


def test_a_broader_pen_leaves_more_ink() -> None:
    for digit in DIGITS:
        ink = [float(drawn(digit, 2, 100, pen_px).sum()) for pen_px in (1, 3, 7)]

        assert ink[0] < ink[1] < ink[2]


def test_some_drawings_have_few_corners_as_a_mouse_leaves_them() -> None:
    """Of 400 rings; a smooth one takes 18 corners at least to be followed within a pixel and a half."""
    corners = []
    for seed in range(400):
        ring = (drawn(0, seed, 200, 6.0) > 0.5).astype(np.uint8)
        outline = max(cv2.findContours(ring, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        corners.append(len(cv2.approxPolyDP(outline, 1.5, True)))

    assert 10 < sum(count < 17 for count in corners) < 80


@pytest.mark.parametrize("digit", DIGITS)
def test_blocky_strokes_are_as_many_with_fewer_points_from_end_to_end(digit: int) -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        smooth = digits._DIGITS[digit](random)
        blocky = digits._blocky(smooth, random)

        assert len(blocky) == len(smooth)
        for before, after in zip(smooth, blocky, strict=True):
            assert len(after) == len(before) if len(before) < 8 else len(after) <= len(before) // 3 + 5
            assert np.abs(after[[0, -1]] - before[[0, -1]]).max() <= 0.15  # half of the coarsest grid


def test_a_blocky_stroke_keeps_the_ends_of_its_straight_parts() -> None:
    roof, belly = np.array([[0.08, 0.0], [0.85, 0.0]]), arc((0.5, 0.7), (0.35, 0.3), -90, 150)
    for step in range(3, 7):
        kept = digits._corners(np.vstack([roof, belly]), step).tolist()

        assert kept[:3] == [*roof.tolist(), belly[0].tolist()]
        assert len(kept) < len(belly) / 2


def test_a_stroke_without_extent_is_a_dot() -> None:
    alpha = draw([np.array([[0.5, 0.5], [0.5, 0.5]])], 20, 3.0)

    assert 0 < alpha.sum() < 30


def test_a_curve_goes_through_its_points() -> None:
    points = [(0.0, 0.0), (0.3, 0.5), (1.0, 0.2), (0.7, 1.0)]
    smooth = curve(*points)

    assert len(smooth) > len(points)
    for point in points:
        assert np.abs(smooth - point).sum(axis=1).min() < 1e-12


def test_a_curve_with_corners_is_its_points() -> None:
    points = [(0.0, 0.0), (0.3, 0.5), (1.0, 0.2)]

    assert curve(*points, corners=True).tolist() == [list(point) for point in points]


def test_an_arc_runs_clockwise_from_the_right() -> None:
    quarter = arc((1, 2), (3, 4), 0, 90)

    assert quarter[0] == pytest.approx([4, 2])
    assert quarter[-1] == pytest.approx([1, 6])
