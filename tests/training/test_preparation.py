import multiprocessing
from concurrent.futures import Future
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from app.imaging.preprocess import ink_from_grey
from training.data import Mnist
from training.drawing.augmentation import AUGMENTATIONS, NOT_A_DIGIT, Labels, distort
from training.errors import RecipeError
from training.preparation import (
    EpochInputs,
    Ink,
    epoch_inputs,
    epoch_order,
    find_augmentation,
    prepare,
)
from training.recipes import RECIPES, Recipe


def test_unit_input_is_grey_by_255(mnist: Mnist) -> None:
    assert np.array_equal(prepare(mnist.x_test, "unit")[..., 0], (mnist.x_test / 255).astype(np.float32))


def test_l2_input_is_that_of_keras(mnist: Mnist) -> None:
    expected = keras.utils.normalize(mnist.x_test.astype(np.float32), axis=1)
    assert np.allclose(prepare(mnist.x_test, "l2")[..., 0], expected, atol=1e-6)


def test_auto_input_is_what_the_service_would_see(mnist: Mnist) -> None:
    expected = np.stack([ink_from_grey(grey) for grey in mnist.x_test[:20]])
    assert np.array_equal(prepare(mnist.x_test[:20], "auto"), expected)


def test_a_blank_image_stays_blank() -> None:
    assert not prepare(np.zeros((1, 28, 28), np.uint8), "auto").any()


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_inputs_without_augmentation_are_the_images_in_the_order_of_the_epoch(mnist: Mnist) -> None:
    recipe = RECIPES["yalcin"]
    with epoch_inputs(mnist.x_train, mnist.y_train, recipe) as inputs:
        order = epoch_order(len(mnist.x_train), recipe.seed, 3)
        ink, labels = inputs.of(3)
    assert np.array_equal(ink, prepare(mnist.x_train[order], "unit"))
    assert np.array_equal(labels, mnist.y_train[order])


def _epochs(mnist: Mnist, recipe: Recipe, epochs: list[int], workers: int) -> list[tuple[bytes, bytes]]:
    with epoch_inputs(mnist.x_train, mnist.y_train, recipe, workers) as inputs:
        made = [inputs.of(epoch) for epoch in epochs]
    return [(ink.tobytes(), labels.tobytes()) for ink, labels in made]


def test_inputs_do_not_depend_on_the_number_of_workers_or_the_epoch_begun_with(mnist: Mnist, recipe: Recipe) -> None:
    recipe = replace(recipe, epochs=3)
    in_a_row = _epochs(mnist, recipe, [0, 1, 2], workers=2)
    assert _epochs(mnist, recipe, [1, 2], workers=1) == in_a_row[1:]
    assert len(set(in_a_row)) == 3


def _contents(ink: Ink, labels: Labels) -> list[tuple[bytes, int]]:
    """Each image in 256 levels with its label, sorted: the same in any order."""
    levels = np.round(ink * 255).astype(np.uint8)
    return sorted((level.tobytes(), int(label)) for level, label in zip(levels, labels, strict=True))


def test_after_the_distinct_epochs_the_same_images_come_again_in_other_orders(mnist: Mnist, recipe: Recipe) -> None:
    """Every other epoch the same ones, within half a level of what they were."""
    recipe = replace(recipe, epochs=6, distinct_epochs=2)
    with epoch_inputs(mnist.x_train[:200], mnist.y_train[:200], recipe, workers=1) as inputs:
        epochs = [inputs.of(epoch) for epoch in range(6)]

    contents = [_contents(*epoch) for epoch in epochs]
    assert contents[0] == contents[2] == contents[4]
    assert contents[1] == contents[3] == contents[5]
    assert contents[0] != contents[1]
    assert len({ink.tobytes() for ink, _ in epochs}) == 6
    for ink, labels in epochs[2:]:
        assert (ink.dtype, labels.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
        assert np.array_equal(ink, np.round(ink * 255).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("distinct", [2, 3, 9])
def test_the_distinct_epochs_are_what_they_would_be_without_a_bound(
    mnist: Mnist, recipe: Recipe, distinct: int
) -> None:
    recipe = replace(recipe, epochs=3)
    within = list(range(min(distinct, 3)))
    some = replace(mnist, x_train=mnist.x_train[:150], y_train=mnist.y_train[:150])

    bounded = _epochs(some, replace(recipe, distinct_epochs=distinct), within, workers=1)
    assert bounded == _epochs(some, recipe, within, workers=1)


def test_epochs_that_come_again_depend_on_neither_workers_nor_the_epoch_begun_with(
    mnist: Mnist, recipe: Recipe
) -> None:
    recipe = replace(recipe, epochs=5, distinct_epochs=2)
    in_a_row = _epochs(mnist, recipe, [0, 1, 2, 3, 4], workers=2)
    assert _epochs(mnist, recipe, [3, 4], workers=1) == in_a_row[3:]
    assert len(set(in_a_row)) == 5


@pytest.mark.parametrize("distinct", [1, 3])
def test_images_that_come_again_are_made_once(
    mnist: Mnist, recipe: Recipe, distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    submit = EpochInputs._submit

    def counted(inputs: EpochInputs, epoch: int) -> list[Future[tuple[Ink, Labels]]]:
        made.append(epoch)
        return submit(inputs, epoch)

    monkeypatch.setattr(EpochInputs, "_submit", counted)
    some = replace(mnist, x_train=mnist.x_train[:20], y_train=mnist.y_train[:20])
    _epochs(some, replace(recipe, epochs=7, distinct_epochs=distinct), list(range(7)), workers=1)

    assert made == list(range(distinct))


def test_inputs_and_labels_of_an_epoch_belong_together(mnist: Mnist, recipe: Recipe) -> None:
    with epoch_inputs(mnist.x_train, mnist.y_train, recipe, workers=1) as inputs:
        ink, labels = inputs.of(0)
    order = epoch_order(len(mnist.x_train), recipe.seed, 0)
    assert ink.shape == (600, 28, 28, 1)
    kept = labels != NOT_A_DIGIT
    assert np.array_equal(labels[kept], mnist.y_train[order][kept])


def test_workers_are_not_started_where_nothing_is_distorted(mnist: Mnist) -> None:
    with epoch_inputs(mnist.x_train, mnist.y_train, replace(RECIPES["compact"], augmentation=None)) as inputs:
        assert isinstance(inputs, EpochInputs)
        assert inputs.of(0)[0].shape == (600, 28, 28, 1)
        assert not multiprocessing.active_children()


def test_an_unknown_augmentation_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=next(iter(AUGMENTATIONS))):
        find_augmentation("blur")


def test_opencv_distorts_the_same_on_one_thread_as_on_many(mnist: Mnist) -> None:
    threads = cv2.getNumThreads()
    many, _ = distort(mnist.x_train[:50], mnist.y_train[:50], 1)
    cv2.setNumThreads(1)
    try:
        assert np.array_equal(distort(mnist.x_train[:50], mnist.y_train[:50], 1)[0], many)
    finally:
        cv2.setNumThreads(threads)
