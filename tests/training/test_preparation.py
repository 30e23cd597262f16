import multiprocessing
from dataclasses import replace

import cv2
import keras
import numpy as np

from app.imaging.preprocess import find_ink
from training.data.mnist import Mnist
from training.data.samples import Samples
from training.data.sources import SOURCES
from training.data.strokes import Drawn, pack
from training.drawing.augmentation import Labels, augment
from training.drawing.pens import NOT_A_DIGIT
from training.preparation import Ink, Kept, epoch_inputs, epoch_order, prepare
from training.recipes import RECIPES

AUGMENTED = replace(RECIPES["compact"], distinct_epochs=None)


def test_each_preprocessing_gives_the_documented_input(mnist: Mnist) -> None:
    grey = mnist.x_test[:20]
    assert np.array_equal(prepare(grey, "unit")[..., 0], (grey / 255).astype(np.float32))
    expected = keras.utils.normalize(grey.astype(np.float32), axis=1)
    assert np.allclose(prepare(grey, "l2")[..., 0], expected, atol=1e-6)
    assert np.array_equal(prepare(grey, "auto"), np.stack([find_ink(image).ink for image in grey]))
    assert not prepare(np.zeros((1, 28, 28), np.uint8), "auto").any()


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_without_augmentation_inputs_are_the_shuffled_images_and_no_worker_starts(mnist: Mnist) -> None:
    recipe = RECIPES["yalcin"]
    with epoch_inputs(mnist.x_train, mnist.y_train, recipe) as inputs:
        order = epoch_order(len(mnist.x_train), recipe.seed, 3)
        ink, labels = inputs.of(3)
        assert not multiprocessing.active_children()
    assert np.array_equal(ink, prepare(mnist.x_train[order], "unit"))
    assert np.array_equal(labels, mnist.y_train[order])


def test_inputs_depend_on_neither_the_number_of_workers_nor_the_first_epoch(
    mnist: Mnist, sources: list[Samples]
) -> None:
    recipe = replace(RECIPES["compact"], epochs=4, distinct_epochs=2)

    def epochs(wanted: list[int], workers: int) -> list[tuple[bytes, bytes]]:
        grey, labels = mnist.x_train[:600], mnist.y_train[:600]  # two chunks
        with epoch_inputs(grey, labels, recipe, workers, sources) as inputs:
            made = [inputs.of(epoch) for epoch in wanted]
        return [(ink.tobytes(), labels.tobytes()) for ink, labels in made]

    whole = epochs([0, 1, 2, 3], workers=2)
    assert epochs([1, 2, 3], workers=1) == whole[1:]
    assert len(set(whole)) == 4


def _sorted_images(ink: Ink, labels: Labels) -> list[tuple[bytes, int]]:
    """The images in 256 levels with their labels, sorted: the same in any order."""
    levels = np.round(ink * 255).astype(np.uint8)
    return sorted((level.tobytes(), int(label)) for level, label in zip(levels, labels, strict=True))


def test_after_the_distinct_epochs_the_images_repeat_in_other_orders(mnist: Mnist) -> None:
    grey, given = mnist.x_train[:100], mnist.y_train[:100]
    with epoch_inputs(grey, given, replace(AUGMENTED, epochs=6, distinct_epochs=2), workers=1) as inputs:
        epochs = [inputs.of(epoch) for epoch in range(6)]
    images = [_sorted_images(*epoch) for epoch in epochs]
    assert images[0] == images[2] == images[4]
    assert images[1] == images[3] == images[5]
    assert images[0] != images[1]
    assert len({ink.tobytes() for ink, _ in epochs}) == 6
    for ink, labels in epochs[2:]:
        assert (ink.dtype, labels.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
    ink, labels = epochs[0]
    kept = labels != NOT_A_DIGIT
    assert np.array_equal(labels[kept], given[epoch_order(100, AUGMENTED.seed, 0)][kept])


def test_augmentation_does_not_depend_on_opencv_threads(mnist: Mnist) -> None:
    threads = cv2.getNumThreads()
    many, _ = augment(mnist.x_train[:50], mnist.y_train[:50], 1)
    cv2.setNumThreads(1)
    try:
        assert np.array_equal(augment(mnist.x_train[:50], mnist.y_train[:50], 1)[0], many)
    finally:
        cv2.setNumThreads(threads)


def test_an_epoch_is_drawn_from_the_samples_kept_for_it(mnist: Mnist) -> None:
    strokes = [[np.array([(0.0, 0.0), (9.0, 0.0)])], [np.array([(0.0, 0.0), (9.0, 9.0)]), np.array([(9, 0), (0, 9)])]]
    samples = Samples(SOURCES["quickdraw_strokes"], pack([Drawn("x", each) for each in strokes]), np.arange(2))
    kept: Kept = {"quickdraw_strokes": np.array([1])}
    inks = []
    for drawn_from in (Kept(), kept):
        grey, labels = mnist.x_train[:100], mnist.y_train[:100]
        with epoch_inputs(grey, labels, AUGMENTED, 1, [samples], {0: drawn_from, 1: drawn_from}.__getitem__) as inputs:
            inks.append(inputs.of(0)[0])
            assert inputs.draw_each(0, 2).shape == (2, 28, 28, 1)
    assert not np.array_equal(inks[0], inks[1])
