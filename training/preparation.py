"""Preparation: grey images -> what a network learns from, epoch by epoch, in worker processes. Knows no model.

What comes out depends on the images, the recipe and the epoch alone, never on the number of workers. The workers
import this module: numpy and OpenCV, no TensorFlow and no Keras.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.preprocess import ink_from_grey
from training.drawing.augmentation import AUGMENTATIONS, Augmentation, Labels
from training.errors import RecipeError
from training.recipes import Preprocessing, Recipe

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]

CHUNK = 500  # images: small enough to share the work evenly, large enough that sending it costs nothing
MAX_WORKERS = 16


def prepare(grey: Grey, preprocessing: Preprocessing) -> Ink:
    """Model input, float32 (n, 28, 28, 1), of grey images, uint8 (n, 28, 28), undistorted."""
    if preprocessing == "unit":
        return grey.astype(np.float32)[..., np.newaxis] / np.float32(255)
    if preprocessing == "l2":
        return normalise_columns(grey.astype(np.float32)[..., np.newaxis])
    ink = np.zeros((*grey.shape, 1), np.float32)
    for image, target in zip(grey, ink, strict=True):
        try:
            target[:] = ink_from_grey(image)
        except NoInk:  # a blank image stays blank
            continue
    return ink


def normalise_columns(images: Ink) -> Ink:
    """The images, (n, 28, 28, 1), each column of pixels scaled to length 1; an empty one stays empty.

    The same as `keras.utils.normalize(images, axis=1)`.
    """
    length = np.linalg.norm(images, axis=1, keepdims=True)
    return (images / np.where(length == 0, 1, length)).astype(np.float32, copy=False)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which that epoch learns the images."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class EpochInputs:
    """Model input and labels, epoch by epoch, each in its order; the next is made while one is learnt from."""

    def __init__(self, grey: Grey, labels: Labels, recipe: Recipe, pool: ProcessPoolExecutor | None) -> None:
        self._grey = grey
        self._labels = labels
        self._recipe = recipe
        self._pool = pool
        self._augmentation = find_augmentation(recipe.augmentation)
        self._undistorted = prepare(grey, recipe.preprocessing) if pool is None else None
        self._ahead: dict[int, list[Future[tuple[Ink, Labels]]]] = {}
        self._kept: dict[int, tuple[Grey, Labels]] = {}

    def of(self, epoch: int) -> tuple[Ink, Labels]:
        """Float32 (n, 28, 28, 1) and int64 (n,), image i being the one at place i of `epoch_order`.

        From the recipe's `distinct_epochs` on: what an earlier epoch held, in another order.
        """
        if self._undistorted is not None:
            order = self._order(epoch)
            return self._undistorted[order], self._labels[order]
        distinct = self._recipe.distinct_epochs or self._recipe.epochs
        made, following = epoch % distinct, (epoch + 1) % distinct
        chunks = self._ahead.pop(made, None) or ([] if made in self._kept else self._submit(made))
        if epoch + 1 < self._recipe.epochs and following not in {made, *self._kept}:
            self._ahead[following] = self._submit(following)
        if chunks:
            ink, labels = (np.concatenate(parts) for parts in zip(*(chunk.result() for chunk in chunks), strict=True))
            if made + distinct < self._recipe.epochs:  # to be learnt again: kept at a quarter of the size
                self._kept[made] = (np.round(ink * 255).astype(np.uint8), labels)
        if epoch < distinct:
            return ink, labels
        kept, labels = self._kept[made]
        again = self._order(epoch)
        return kept[again].astype(np.float32) / np.float32(255), labels[again]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return epoch_order(len(self._grey), self._recipe.seed, epoch)

    def _submit(self, epoch: int) -> list[Future[tuple[Ink, Labels]]]:
        assert self._pool is not None
        assert self._augmentation is not None
        order = self._order(epoch)
        return [
            self._pool.submit(
                self._augmentation,
                self._grey[order[start : start + CHUNK]],
                self._labels[order[start : start + CHUNK]],
                int(np.random.SeedSequence([self._recipe.seed, epoch, start]).generate_state(1)[0]),
            )
            for start in range(0, len(order), CHUNK)
        ]


@contextmanager
def epoch_inputs(grey: Grey, labels: Labels, recipe: Recipe, workers: int | None = None) -> Iterator[EpochInputs]:
    """The inputs of a training; worker processes live as long as the context, and only if the recipe distorts."""
    if recipe.augmentation is None:
        yield EpochInputs(grey, labels, recipe, None)
        return
    pool = ProcessPoolExecutor(
        workers or min(os.cpu_count() or 1, MAX_WORKERS),
        # fork would copy a process in which TensorFlow already runs threads
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    try:
        yield EpochInputs(grey, labels, recipe, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def find_augmentation(name: str | None) -> Augmentation | None:
    """The augmentation of that name, None for None. Raises RecipeError."""
    if name is None:
        return None
    try:
        return AUGMENTATIONS[name]
    except KeyError as error:
        raise RecipeError(f"no augmentation is called {name!r}; there are {', '.join(AUGMENTATIONS)}") from error


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
