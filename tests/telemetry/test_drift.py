"""The features of an image, and how far their distribution is from a reference."""

from collections.abc import Callable

import numpy as np
import pytest

from app.imaging.preprocess import Ink
from app.model.manifest import Histogram, Reference
from app.telemetry.drift import FEATURES, LEAST, WINDOW, DriftWindow, shape, stability_index


def stroke(width_px: int) -> Ink:
    """An upright bar, 20 pixels long."""
    ink = np.zeros((28, 28, 1), np.float32)
    ink[4:24, 14 - width_px // 2 : 14 - width_px // 2 + width_px] = 1
    return ink


@pytest.mark.parametrize("width_px", [2, 3, 4, 6])
def test_the_stroke_width_is_the_width_of_the_pen(width_px: int) -> None:
    ink_fraction, stroke_width = shape(stroke(width_px))

    assert ink_fraction == pytest.approx(20 * width_px / 784)
    assert stroke_width == pytest.approx(width_px, abs=0.6)  # pixels near its ends count, too


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0], ids=["blank", "grey", "all ink"])
def test_extreme_ink_has_finite_features(level: float) -> None:
    ink_fraction, stroke_width = shape(np.full((28, 28, 1), level, np.float32))

    assert ink_fraction == pytest.approx(level)
    assert 0 <= stroke_width <= 28


def test_the_index_follows_its_formula_and_a_value_on_an_edge_falls_in_the_bin_below() -> None:
    drifted = stability_index(Histogram(edges=(0.5,), shares=(0.5, 0.5)), np.array([0.0, 0, 0.5, 1]))

    assert drifted == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2))


def window(now: Callable[[], float] = lambda: 0) -> DriftWindow:
    """Against a reference with ones and sevens in equal parts."""
    any_value = Histogram(edges=(), shares=(1,))
    features = dict.fromkeys(FEATURES, any_value) | {"digit": Histogram(edges=(1.5,), shares=(0.5, 0.5))}
    return DriftWindow(Reference.model_validate({"source": "mnist", "pictures": 9, **features}), now)


def add(images: DriftWindow, digit: int, times: int) -> None:
    for _ in range(times):
        images.add(stroke(2), inverted=False, confidence=1, digit=digit)


def test_at_most_one_image_in_ten_milliseconds_is_due() -> None:
    time_s = [0.0]
    images = window(lambda: time_s[0])
    due = []
    for step in range(30):
        time_s[0] = step * 0.004
        due.append(images.is_due())
        if due[-1]:
            add(images, 7, 1)

    assert due == [True, False, False] * 10


def test_the_indices_need_enough_images_and_forget_old_ones() -> None:
    images = window()
    add(images, 1, LEAST - 1)
    assert images.indices() == {}

    add(images, 1, 1)
    assert set(images.indices()) == set(FEATURES)
    assert images.indices()["digit"] > 1

    add(images, 7, WINDOW // 2)
    assert images.indices()["digit"] == 0
