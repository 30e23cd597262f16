import numpy as np
import pytest

from app.imaging.preprocess import find_ink
from tests.drawings import difference
from training.data.mnist import Mnist
from training.drawing import hands
from training.drawing.augmentation import Labels, augment
from training.drawing.hands import MIX
from training.drawing.pens import NOT_A_DIGIT, Alpha


@pytest.fixture(scope="module")
def distorted(mnist: Mnist) -> tuple[Alpha, Labels]:
    return augment(mnist.x_train, mnist.y_train, 1)


def test_the_result_is_model_input_with_ink_in_every_digit(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    ink, labels = distorted
    assert (ink.shape, ink.dtype) == ((len(mnist.x_train), 28, 28, 1), np.dtype(np.float32))
    assert (labels.shape, labels.dtype) == (mnist.y_train.shape, mnist.y_train.dtype)
    assert 0 <= ink.min() <= ink.max() <= 1 + 1e-6
    assert np.isfinite(ink).all()
    assert (ink[labels != NOT_A_DIGIT].sum(axis=(1, 2, 3)) > 5).all()


def test_the_result_depends_on_the_seed_only_and_the_arguments_are_unchanged(mnist: Mnist) -> None:
    grey, labels = np.repeat(mnist.x_train[:5], 12, axis=0), np.repeat(mnist.y_train[:5], 12)
    before = grey.copy(), labels.copy()
    first, again, other = (augment(grey, labels, seed) for seed in (7, 7, 8))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert len({image.tobytes() for image in first[0]}) == 60
    assert np.array_equal(grey, before[0])
    assert np.array_equal(labels, before[1])


def test_most_digits_remain_recognisable(distorted: tuple[Alpha, Labels], mnist: Mnist) -> None:
    """Four of five stay more similar to themselves than to another digit."""
    ink, labels = distorted
    places = np.flatnonzero(labels != NOT_A_DIGIT)[:100]
    originals = np.stack([find_ink(mnist.x_train[place]).ink for place in places])
    own = [difference(ink[place], same) for place, same in zip(places, originals, strict=True)]
    foreign = [difference(ink[place], other) for place, other in zip(places, np.roll(originals, 7, 0), strict=True)]
    assert np.mean(np.less(own, foreign)) > 0.8


def test_a_digit_that_distortions_erase_is_used_undistorted(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "warp", lambda drawing, *_, **__: np.zeros_like(drawing))
    monkeypatch.setattr(hands, "MIX", {"mnist": MIX["mnist"]})
    ink, labels = augment(mnist.x_train[:60], mnist.y_train[:60], 1)
    assert np.array_equal(labels, mnist.y_train[:60])
    originals = [find_ink(grey).ink for grey in mnist.x_train[:60]]
    assert sum(np.array_equal(one, other) for one, other in zip(ink, originals, strict=True)) > 10
    assert ink.any(axis=(1, 2, 3)).all()
