import multiprocessing
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from app.preprocessing import ink_from_grey
from training.augmentation import AUGMENTATIONS, NOT_A_DIGIT, distort
from training.data import Mnist
from training.errors import RecipeError
from training.preparation import (
    EpochInputs,
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
