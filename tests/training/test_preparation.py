from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from app.preprocessing import ink_from_grey
from training.augmentation import AUGMENTATIONS, Augmentation
from training.data import Mnist
from training.errors import RecipeError
from training.preparation import (
    EpochInputs,
    distort_and_prepare,
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


def test_drawings_are_distorted_before_preprocessing_and_strokes_after_it(mnist: Mnist) -> None:
    augmentation = Augmentation(drawings=lambda grey, _: 255 - grey, strokes=lambda ink, _: np.sqrt(ink))
    ink = distort_and_prepare(mnist.x_test[:5], "unit", augmentation, [0, 0])
    assert np.allclose(ink, np.sqrt(prepare(255 - mnist.x_test[:5], "unit")))


def test_drawings_and_strokes_get_different_seeds(mnist: Mnist) -> None:
    seeds = []

    def note_drawings(grey: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        seeds.append(seed)
        return grey

    def note_strokes(ink: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        seeds.append(seed)
        return ink

    distort_and_prepare(mnist.x_test[:5], "unit", Augmentation(note_drawings, note_strokes), [0, 0])
    assert len(set(seeds)) == 2


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_inputs_without_augmentation_are_the_images_in_the_order_of_the_epoch(mnist: Mnist) -> None:
    recipe = RECIPES["yalcin"]
    with epoch_inputs(mnist.x_train, recipe) as inputs:
        order = epoch_order(len(mnist.x_train), recipe.seed, 3)
        assert np.array_equal(inputs.of(3), prepare(mnist.x_train[order], "unit"))


def _epochs(mnist: Mnist, recipe: Recipe, epochs: list[int], workers: int) -> list[bytes]:
    with epoch_inputs(mnist.x_train, recipe, workers) as inputs:
        return [inputs.of(epoch).tobytes() for epoch in epochs]


def test_inputs_do_not_depend_on_the_number_of_workers_or_the_epoch_begun_with(mnist: Mnist, recipe: Recipe) -> None:
    recipe = replace(recipe, epochs=3)
    in_a_row = _epochs(mnist, recipe, [0, 1, 2], workers=2)
    assert _epochs(mnist, recipe, [1, 2], workers=1) == in_a_row[1:]
    assert len(set(in_a_row)) == 3


def test_workers_are_not_started_where_nothing_is_distorted(mnist: Mnist) -> None:
    with epoch_inputs(mnist.x_train, replace(RECIPES["compact"], augmentation=None)) as inputs:
        assert isinstance(inputs, EpochInputs)
        assert inputs.of(0).shape == (600, 28, 28, 1)


def test_an_unknown_augmentation_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=next(iter(AUGMENTATIONS))):
        find_augmentation("blur")


def test_opencv_distorts_the_same_on_one_thread_as_on_many(mnist: Mnist) -> None:
    strokes = AUGMENTATIONS["strokes"]
    threads = cv2.getNumThreads()
    many = distort_and_prepare(mnist.x_train[:50], "auto", strokes, [1])
    cv2.setNumThreads(1)
    try:
        assert np.array_equal(distort_and_prepare(mnist.x_train[:50], "auto", strokes, [1]), many)
    finally:
        cv2.setNumThreads(threads)
