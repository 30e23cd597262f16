import numpy as np
import pytest
from numpy.typing import NDArray

from training.augmentation import distort_strokes
from training.data import Mnist
from training.preparation import prepare

Ink = NDArray[np.float32]


@pytest.fixture(scope="module")
def ink(mnist: Mnist) -> Ink:
    return prepare(mnist.x_train[:100], "unit")[..., 0]


def test_distortion_keeps_shape_dtype_and_range(ink: Ink) -> None:
    distorted = distort_strokes(ink, 1)
    assert distorted.shape == ink.shape
    assert distorted.dtype == np.float32
    assert 0 <= distorted.min() <= distorted.max() <= 1


def test_distortion_follows_the_seed_alone(ink: Ink) -> None:
    assert np.array_equal(distort_strokes(ink, 1), distort_strokes(ink, 1))
    assert not np.array_equal(distort_strokes(ink, 1), distort_strokes(ink, 2))


def test_distortion_leaves_its_input_as_it_was(ink: Ink) -> None:
    before = ink.copy()
    distort_strokes(ink, 1)
    assert np.array_equal(ink, before)


def test_every_image_is_distorted_differently(ink: Ink) -> None:
    distorted = distort_strokes(np.repeat(ink[:1], 10, axis=0), 1)
    assert len(np.unique(distorted.reshape(10, -1), axis=0)) == 10


def test_the_digit_stays_in_the_frame_with_about_as_much_ink(ink: Ink) -> None:
    kept = distort_strokes(ink, 1).sum(axis=(1, 2)) / ink.sum(axis=(1, 2))
    assert 0.5 < kept.min() <= kept.max() < 1.8
    assert 0.95 < kept.mean() < 1.1
