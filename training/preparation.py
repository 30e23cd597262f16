"""Preparation: grey images -> model input for each epoch, made in worker processes. Knows nothing about models.

The result depends on images, recipe and epoch only, not on the number of workers. Worker processes import this
module, so it imports neither TensorFlow nor Keras.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.preprocess import find_ink
from training.data.samples import Samples
from training.drawing.augmentation import Labels, augment, draw_each
from training.recipes import Preprocessing, Recipe

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]
Kept = dict[str, NDArray[np.int64]]  # by source: the samples to draw from, see `Samples`
KeptBefore = Callable[[int], Kept]  # by what the rounds before this epoch found

CHUNK = 500  # images per task: small enough to balance the load, large enough that the overhead is negligible
MAX_WORKERS = 16

_sources: Sequence[Samples] = ()  # in a worker process: sent once, not with every task


def prepare(grey: Grey, preprocessing: Preprocessing) -> Ink:
    """Model input, float32 (n, 28, 28, 1), from grey images, uint8 (n, 28, 28), without augmentation."""
    if preprocessing == "unit":
        return grey.astype(np.float32)[..., np.newaxis] / np.float32(255)
    if preprocessing == "l2":
        return normalise_columns(grey.astype(np.float32)[..., np.newaxis])
    ink = np.zeros((*grey.shape, 1), np.float32)
    for image, target in zip(grey, ink, strict=True):
        try:
            target[:] = find_ink(image).ink
        except NoInk:  # leave blank images blank
            continue
    return ink


def normalise_columns(images: Ink) -> Ink:
    """Images (n, 28, 28, 1), each pixel column scaled to unit length, as by `keras.utils.normalize(images, axis=1)`."""
    norm = np.linalg.norm(images, axis=1, keepdims=True)
    return (images / np.where(norm == 0, 1, norm)).astype(np.float32, copy=False)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in that epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class EpochInputs:
    """Model input and labels per epoch, shuffled. Prepares the next epoch while the current one trains."""

    def __init__(
        self, grey: Grey, labels: Labels, recipe: Recipe, pool: ProcessPoolExecutor | None, kept: KeptBefore
    ) -> None:
        self._grey = grey
        self._labels = labels
        self._recipe = recipe
        self._pool = pool
        self._kept_before = kept
        self._unaugmented = prepare(grey, recipe.preprocessing) if pool is None else None
        self._pending: dict[int, list[Future[tuple[Ink, Labels]]]] = {}
        self._cache: dict[int, tuple[Grey, Labels]] = {}

    def of(self, epoch: int) -> tuple[Ink, Labels]:
        """Ink float32 (n, 28, 28, 1) and labels int64 (n,), in the order of `epoch_order`.

        After the recipe's `distinct_epochs`: the images of an earlier epoch, reshuffled.
        """
        if self._unaugmented is not None:
            order = self._order(epoch)
            return self._unaugmented[order], self._labels[order]
        distinct = self._recipe.distinct_epochs or self._recipe.epochs
        source, next_source = epoch % distinct, (epoch + 1) % distinct
        chunks = self._pending.pop(source, None) or ([] if source in self._cache else self._submit(source))
        if epoch + 1 < self._recipe.epochs and next_source not in {source, *self._cache}:
            self._pending[next_source] = self._submit(next_source)
        if chunks:
            ink, labels = (np.concatenate(parts) for parts in zip(*(chunk.result() for chunk in chunks), strict=True))
            if source + distinct < self._recipe.epochs:  # will be reused: uint8 takes a quarter of the memory
                self._cache[source] = (np.round(ink * 255).astype(np.uint8), labels)
        if epoch < distinct:
            return ink, labels
        cached, labels = self._cache[source]
        order = self._order(epoch)
        return cached[order].astype(np.float32) / np.float32(255), labels[order]

    def draw_each(self, source: int, count: int) -> Ink:
        """All ``count`` samples of a source, drawn once: (count, 28, 28, 1)."""
        assert self._pool is not None
        starts = range(0, count, CHUNK)
        chunks = [self._pool.submit(_draw_each, source, start, self._recipe.seed + start) for start in starts]
        return np.concatenate([chunk.result() for chunk in chunks])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return epoch_order(len(self._grey), self._recipe.seed, epoch)

    def _submit(self, epoch: int) -> list[Future[tuple[Ink, Labels]]]:
        assert self._pool is not None
        order, kept = self._order(epoch), self._kept_before(epoch)
        return [
            self._pool.submit(
                _augment,
                self._grey[order[start : start + CHUNK]],
                self._labels[order[start : start + CHUNK]],
                int(np.random.SeedSequence([self._recipe.seed, epoch, start]).generate_state(1)[0]),
                kept,
            )
            for start in range(0, len(order), CHUNK)
        ]


@contextmanager
def epoch_inputs(
    grey: Grey,
    labels: Labels,
    recipe: Recipe,
    workers: int | None = None,
    sources: Sequence[Samples] = (),
    kept: KeptBefore = lambda _: {},
) -> Iterator[EpochInputs]:
    """The inputs of a training run. Worker processes run within the context, if the recipe has an augmentation.

    ``kept``: the samples of the sources to draw an epoch from, where they are not all.
    """
    if recipe.augmentation is None:
        yield EpochInputs(grey, labels, recipe, None, kept)
        return
    pool = ProcessPoolExecutor(
        workers or min(os.cpu_count() or 1, MAX_WORKERS),
        # fork would copy a process that already runs TensorFlow's threads
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(sources,),
    )
    try:
        yield EpochInputs(grey, labels, recipe, pool, kept)
    finally:
        pool.shutdown(cancel_futures=True)


def _augment(grey: Grey, labels: Labels, seed: int, kept: Kept) -> tuple[Ink, Labels]:
    sources = [replace(each, kept=kept.get(each.source.name, each.kept)) for each in _sources]
    return augment(grey, labels, seed, sources)


def _draw_each(source: int, start: int, seed: int) -> Ink:
    samples = _sources[source]
    return draw_each(samples, range(start, min(start + CHUNK, len(samples))), seed)[0]


def _start_worker(sources: Sequence[Samples]) -> None:
    global _sources
    _sources = sources
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent is killed; otherwise the worker would wait for its next task forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
