"""What is measured of a picture, and how far pictures are from a reference."""

import numpy as np
import pytest

from app.imaging.preprocess import Ink
from app.model.manifest import Histogram
from app.telemetry.drift import FEATURES, histogram, shape, stability_index


def stroke(width_px: int) -> Ink:
    """An upright bar, 20 pixels long."""
    ink = np.zeros((28, 28, 1), np.float32)
    ink[4:24, 14 - width_px // 2 : 14 - width_px // 2 + width_px] = 1
    return ink


@pytest.mark.parametrize("width_px", [2, 3, 4, 6])
def test_a_stroke_is_as_wide_as_it_was_drawn(width_px: int) -> None:
    ink_fraction, stroke_width = shape(stroke(width_px))

    assert ink_fraction == pytest.approx(20 * width_px / 784)
    assert stroke_width == pytest.approx(width_px, abs=0.6)  # its ends are near, too


def test_a_curved_stroke_is_as_wide_as_a_straight_one() -> None:
    rows, columns = np.mgrid[:28, :28]
    ring = (np.abs(np.hypot(rows - 13.5, columns - 13.5) - 8) < 1.5).astype(np.float32)

    assert shape(ring[:, :, None])[1] == pytest.approx(3, abs=0.35)


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0], ids=["blank", "nowhere surely ink", "all ink"])
def test_any_ink_that_can_be_sent_has_finite_features(level: float) -> None:
    ink_fraction, stroke_width = shape(np.full((28, 28, 1), level, np.float32))

    assert ink_fraction == pytest.approx(level)
    assert 0 <= stroke_width <= 28


def test_the_distribution_of_the_reference_itself_is_no_drift() -> None:
    values = np.random.default_rng(0).normal(3, 0.5, 5000)

    assert stability_index(histogram("stroke_width", values), values) < 1e-6


def test_the_index_is_that_of_its_formula() -> None:
    reference = Histogram(edges=(0.5,), shares=(0.5, 0.5))

    drifted = stability_index(reference, np.array([0.0, 0, 0, 1]))
    assert drifted == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2))


def test_a_value_on_an_edge_belongs_below_it() -> None:
    assert stability_index(Histogram(edges=(0.5,), shares=(1, 0)), np.array([0.5])) == 0


def test_pictures_drawn_alike_are_no_drift_and_pictures_of_a_wider_pen_are() -> None:
    random = np.random.default_rng(0)
    reference = histogram("stroke_width", random.normal(3, 0.5, 5000))

    assert stability_index(reference, random.normal(3, 0.5, 1000)) < 0.1
    assert stability_index(reference, random.normal(3.5, 0.5, 1000)) > 0.25


def test_a_bin_that_the_reference_has_not_seen_is_a_large_but_finite_distance() -> None:
    dark_on_light = histogram("polarity", np.ones(1000))

    assert 5 < stability_index(dark_on_light, np.zeros(1000)) < 50


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_that_is_always_the_same_has_a_reference(feature: str) -> None:
    made = histogram(feature, np.ones(300))

    assert sum(made.shares) == pytest.approx(1)
    assert stability_index(made, np.ones(10)) < 1e-6
