import math

import numpy as np
import pytest

from training.evaluation.measures import (
    accuracy,
    auroc,
    bootstrap_interval,
    ece,
    nll,
    reliability,
    risk_coverage,
    threshold_accepting,
    wilson_interval,
)


def test_certainty_of_the_wrong_digit_has_a_finite_loss() -> None:
    assert math.isfinite(nll(np.eye(10)[[1]], np.array([2])))


def test_accuracy_is_the_share_of_the_most_probable() -> None:
    assert accuracy(np.eye(10)[[1, 2, 3, 4]], np.array([1, 2, 3, 5])) == 0.75


def test_the_interval_of_a_share_is_that_of_wilson() -> None:
    assert wilson_interval(9975, 10_000) == pytest.approx((0.99631, 0.99831), abs=1e-5)


@pytest.mark.parametrize(("right", "of"), [(0, 5), (5, 5), (0, 0)])
def test_the_interval_of_all_and_of_none_stays_a_share(right: int, of: int) -> None:
    low, high = wilson_interval(right, of)
    assert 0 <= low < high <= 1


def test_the_bootstrap_gives_the_same_interval_each_time_with_the_mean_inside() -> None:
    shares = [1.0] * 40 + [0.5] * 10
    low, high = bootstrap_interval(shares)
    assert low < 0.9 < high
    assert bootstrap_interval(shares) == (low, high)


def test_one_group_has_an_interval_of_no_width() -> None:
    assert bootstrap_interval([0.8]) == (0.8, 0.8)


def test_what_is_as_right_as_it_is_sure_has_no_calibration_error() -> None:
    confidences = np.array([0.75] * 4 + [1.0] * 2)
    right = np.array([True, True, True, False, True, True])
    bins = reliability(confidences, right)
    assert [(each.images, each.confidence, each.accuracy) for each in bins] == [(4, 0.75, 0.75), (2, 1.0, 1.0)]
    assert ece(bins) == 0


def test_the_calibration_error_is_weighted_by_images() -> None:
    bins = reliability(np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, True, True, False]))
    assert ece(bins) == pytest.approx((3 * 0.1 + 0.5) / 4)


def test_nothing_answered_has_no_calibration_error() -> None:
    assert math.isnan(ece([]))


def test_the_risk_grows_as_the_less_sure_are_answered() -> None:
    confidences = np.linspace(1, 0.5, 200)
    right = np.arange(200) < 190
    risks = risk_coverage(confidences, right)
    assert len(risks) == 100
    assert risks[94] == 0
    assert risks[99] == 0.05


def test_the_risk_of_a_few_images_is_told_at_every_per_cent() -> None:
    assert risk_coverage(np.array([0.9, 0.8]), np.array([True, False])) == [0.0] * 74 + [0.5] * 26


@pytest.mark.parametrize(
    ("digits", "outliers", "area"),
    [
        ([0.0, 1.0], [2.0, 3.0], 1.0),
        ([2.0, 3.0], [0.0, 1.0], 0.0),
        ([1.0], [1.0], 0.5),
        ([0.0, 2.0], [1.0], 0.5),
        ([0.0, np.inf], [np.inf], 0.75),
    ],
    ids=["apart", "the wrong way round", "tied", "between", "unread"],
)
def test_the_area_is_the_chance_that_an_outlier_scores_higher(
    digits: list[float], outliers: list[float], area: float
) -> None:
    assert auroc(np.array(digits), np.array(outliers)) == area


def test_a_threshold_accepts_at_least_the_share_asked_for() -> None:
    scores = np.append(np.arange(99.0), np.inf)
    assert threshold_accepting(scores, 0.98) == 98
    assert (scores <= threshold_accepting(scores, 0.975)).mean() >= 0.975
