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


def test_accuracy_is_the_share_of_correct_digits_and_the_loss_stays_finite() -> None:
    assert accuracy(np.eye(10)[[1, 2, 3, 4]], np.array([1, 2, 3, 5])) == 0.75
    assert math.isfinite(nll(np.eye(10)[[1]], np.array([2])))


def test_the_interval_of_a_share_is_that_of_wilson_and_stays_within_0_and_1() -> None:
    assert wilson_interval(9975, 10_000) == pytest.approx((0.99631, 0.99831), abs=1e-5)
    for count, total in ((0, 5), (5, 5), (0, 0)):
        low, high = wilson_interval(count, total)
        assert 0 <= low < high <= 1


def test_the_bootstrap_interval_contains_the_mean_and_is_reproducible() -> None:
    shares = [1.0] * 40 + [0.5] * 10
    low, high = bootstrap_interval(shares)
    assert low < 0.9 < high
    assert bootstrap_interval(shares) == (low, high)
    assert bootstrap_interval([0.8]) == (0.8, 0.8)


def test_the_calibration_error_is_weighted_by_images() -> None:
    bins = reliability(np.array([0.75] * 4 + [1.0] * 2), np.array([True, True, True, False, True, True]))
    assert [(each.images, each.confidence, each.accuracy) for each in bins] == [(4, 0.75, 0.75), (2, 1.0, 1.0)]
    assert ece(bins) == 0
    bins = reliability(np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, True, True, False]))
    assert ece(bins) == pytest.approx((3 * 0.1 + 0.5) / 4)
    assert math.isnan(ece([]))


def test_the_risk_is_the_error_rate_at_every_per_cent_of_coverage() -> None:
    risks = risk_coverage(np.linspace(1, 0.5, 200), np.arange(200) < 190)
    assert (len(risks), risks[94], risks[99]) == (100, 0, 0.05)
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
    ids=["separated", "reversed", "tied", "between", "unread"],
)
def test_auroc_is_the_chance_that_an_outlier_scores_higher(
    digits: list[float], outliers: list[float], area: float
) -> None:
    assert auroc(np.array(digits), np.array(outliers)) == area


def test_a_threshold_accepts_at_least_the_given_share() -> None:
    scores = np.append(np.arange(99.0), np.inf)
    assert threshold_accepting(scores, 0.98) == 98
    assert (scores <= threshold_accepting(scores, 0.975)).mean() >= 0.975
