"""What a network learns from: MNIST as other people would send it, and what is no digit."""

import numpy as np
import pytest

from app.imaging.preprocess import ink_from_grey
from tests.drawings import difference
from training.data import Mnist
from training.drawing import augmentation
from training.drawing.augmentation import DRAWN, NOT_A_DIGIT, OUTLIERS, Labels, distort
from training.drawing.digits import Alpha


@pytest.fixture(scope="module")
def distorted(mnist: Mnist) -> tuple[Alpha, Labels]:
    return distort(mnist.x_train, mnist.y_train, 1)


def test_what_comes_out_is_model_input_and_labels(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    ink, labels = distorted

    assert ink.shape == (len(mnist.x_train), 28, 28, 1)
    assert ink.dtype == np.dtype(np.float32)
    assert 0 <= ink.min() <= ink.max() <= 1 + 1e-6
    assert np.isfinite(ink).all()
    assert (labels.shape, labels.dtype) == (mnist.y_train.shape, mnist.y_train.dtype)


def test_the_seed_decides_and_nothing_else(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    ink, labels = distort(mnist.x_train[:100], mnist.y_train[:100], 7)
    again = distort(mnist.x_train[:100], mnist.y_train[:100], 7)

    assert np.array_equal(ink, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(ink, distorted[0][:100])


def test_the_images_and_labels_given_stay_as_they_were(mnist: Mnist) -> None:
    grey, labels = mnist.x_train[:50].copy(), mnist.y_train[:50].copy()

    distort(grey, labels, 3)

    assert np.array_equal(grey, mnist.x_train[:50])
    assert np.array_equal(labels, mnist.y_train[:50])


def test_a_label_is_kept_or_says_that_it_is_no_digit(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    labels = distorted[1]

    assert set(labels[labels != mnist.y_train]) == {NOT_A_DIGIT}


def test_about_the_stated_share_is_no_digit(distorted: tuple[Alpha, Labels]) -> None:
    share = float(np.mean(distorted[1] == NOT_A_DIGIT))
    deviation = float(np.sqrt(OUTLIERS * (1 - OUTLIERS) / len(distorted[1])))

    assert abs(share - OUTLIERS) < 4 * deviation


def test_what_is_no_digit_comes_in_place_of_every_digit(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    assert set(mnist.y_train[distorted[1] == NOT_A_DIGIT]) == set(range(10))


def test_every_digit_has_ink(distorted: tuple[Alpha, Labels]) -> None:
    ink, labels = distorted

    assert (ink[labels != NOT_A_DIGIT].sum(axis=(1, 2, 3)) > 5).all()


def test_the_same_image_comes_out_differently_each_time(mnist: Mnist) -> None:
    ink, _ = distort(np.repeat(mnist.x_train[:1], 60, axis=0), np.repeat(mnist.y_train[:1], 60), 1)

    assert len({each.tobytes() for each in ink}) == 60


def test_most_digits_remain_recognisable(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    """Nearer to themselves than to any other digit drawn in its place, for four of five that are not drawn anew."""
    ink, labels = distorted
    places = np.flatnonzero(labels != NOT_A_DIGIT)[:100]
    undistorted = np.stack([ink_from_grey(mnist.x_train[place]) for place in places])
    own = [difference(ink[place], same) for place, same in zip(places, undistorted, strict=True)]
    foreign = [difference(ink[place], other) for place, other in zip(places, np.roll(undistorted, 7, 0), strict=True)]

    assert np.mean(np.less(own, foreign)) > 0.8 * (1 - DRAWN)


def test_a_digit_that_a_distortion_wiped_out_is_learnt_undistorted(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "warp", lambda drawing, *_, **__: np.zeros_like(drawing))
    monkeypatch.setattr(augmentation, "OUTLIERS", 0.0)

    ink, labels = distort(mnist.x_train[:60], mnist.y_train[:60], 1)

    assert np.array_equal(labels, mnist.y_train[:60])
    undistorted = [ink_from_grey(grey) for grey in mnist.x_train[:60]]
    assert sum(np.array_equal(one, other) for one, other in zip(ink, undistorted, strict=True)) > 10
    assert ink.any(axis=(1, 2, 3)).all()


def test_hundreds_of_draws_raise_nothing(mnist: Mnist) -> None:
    for seed in range(100, 106):
        distort(mnist.x_train[:100], mnist.y_train[:100], seed)
