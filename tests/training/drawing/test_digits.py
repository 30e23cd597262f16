import numpy as np
import pytest

from app.imaging.preprocess import find_ink
from tests.drawings import difference
from training.drawing.digits import arc, curve, draw_digit
from training.drawing.pens import Alpha

DIGITS = range(10)


def drawn(digit: int, seed: int, height_px: int = 56, pen_px: float = 3.0, *, smooth: bool = True) -> Alpha:
    return draw_digit(digit, np.random.default_rng(seed), height_px, pen_px, smooth)


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawing_is_alpha_with_a_margin_and_depends_on_its_seed_only(digit: int) -> None:
    random = np.random.default_rng(digit)
    for _ in range(40):
        height_px, smooth = int(random.choice([20, 28, 56, 100])), bool(random.random() < 0.5)
        alpha = draw_digit(digit, random, height_px, random.uniform(0.4, 12), smooth)
        assert alpha.dtype == np.float32
        assert alpha.min() == 0
        assert 0.8 < alpha.max() <= 1  # a hairline can fall between two pixels
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert border.max() < 0.7  # antialiasing at most; a stroke that is cut off has 1
    assert np.array_equal(drawn(digit, 1), drawn(digit, 1))
    assert len({drawn(digit, seed).tobytes() for seed in range(20)}) == 20
    assert set(np.unique(drawn(digit, 0, smooth=False))) == {0, 1}
    assert len(np.unique(drawn(digit, 0, smooth=True))) > 2


def test_different_digits_look_different() -> None:
    for seed in range(5):
        inks = [find_ink((255 * drawn(digit, seed)).astype(np.uint8)).ink for digit in DIGITS]
        assert min(difference(inks[one], inks[other]) for one in DIGITS for other in range(one)) > 0.15


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawing_has_the_given_height_and_a_broader_pen_leaves_more_ink(digit: int) -> None:
    for height_px in (20, 56, 200):
        rows, columns = np.nonzero(drawn(digit, 3, height_px, 2.0) > 0.5)
        assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(height_px, abs=4)
    ink = [float(drawn(digit, 2, 100, pen_px).sum()) for pen_px in (1, 3, 7)]
    assert ink == sorted(ink)


def test_curves_and_arcs_pass_through_their_points() -> None:
    points = [(0.0, 0.0), (0.3, 0.5), (1.0, 0.2), (0.7, 1.0)]
    smooth = curve(*points)
    assert len(smooth) > len(points)
    assert all(np.abs(smooth - point).sum(axis=1).min() < 1e-12 for point in points)
    assert curve(*points, corners=True).tolist() == [list(point) for point in points]
    quarter = arc((1, 2), (3, 4), 0, 90)
    assert quarter[[0, -1]] == pytest.approx(np.array([[4, 2], [1, 6]]))
