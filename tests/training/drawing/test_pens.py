import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.drawing.pens import Alpha, draw_strokes

SEVEN = [np.array([(0, 0), (600, 0), (250, 1000)]), np.array([(200, 500), (600, 480)])]
STROKES = {
    "strokes": SEVEN,
    "many points": [np.stack([np.arange(400), 300 * np.sin(np.arange(400) / 40)], axis=1)],
    "a dash": [np.array([(0, 0), (1000, 0)])],
    "a dot": [np.array([(5, 5)])],
    "a pen that stood still": [np.array([(5, 5), (5, 5), (5, 5)]), np.array([(900, 5), (900, 900)])],
}


def _drawn(strokes: list[NDArray[np.generic]], size_px: int) -> list[Alpha]:
    return [draw_strokes(strokes, np.random.default_rng(seed), size_px) for seed in range(150)]


@pytest.mark.parametrize("name", STROKES)
def test_strokes_are_drawn_with_a_margin_and_depend_on_the_seed_only(name: str) -> None:
    drawn = _drawn(STROKES[name], 60)
    for alpha in drawn:
        assert alpha.dtype == np.float32
        assert alpha.min() == 0
        assert 0.4 < alpha.max() <= 1  # a hairline can fall between two pixels
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert border.max() < 0.7  # antialiasing at most; a stroke that is cut off has 1
    assert all(np.array_equal(*pair) for pair in zip(drawn, _drawn(STROKES[name], 60), strict=True))
    assert len({alpha.tobytes() for alpha in drawn}) > 10


@pytest.mark.parametrize("size_px", [24, 224])
def test_drawings_have_the_given_size_and_pens_from_hairline_to_marker(size_px: int) -> None:
    drawn = _drawn(SEVEN, size_px)
    sides = [max(cv2.boundingRect((alpha > 0.3).astype(np.uint8))[2:]) for alpha in drawn]
    assert 0.9 * size_px < np.median(sides) < 1.5 * size_px
    covered = [float(alpha.sum()) / size_px**2 for alpha in drawn]
    assert max(covered) > 5 * min(covered)
