"""The engine: ink in, logits out. Loads and checks the model, warms it up; knows nothing of images or requests.

TensorFlow is imported when an engine is loaded, never with this module.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.manifest import WEIGHTS, Manifest, check, read_manifest
from app.preprocessing import SIDE_PX, VERSION, Ink

Logits = NDArray[np.float32]

# Every call is padded to one of these, all met at load: the first batch of a new size costs 150 ms.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class KerasEngine:
    """`models/digits.keras` behind one concrete TensorFlow function. Not for two threads at once."""

    def __init__(self, manifest: Manifest, run: Callable[[Ink], Logits]) -> None:
        self.manifest = manifest
        self._run = run

    @classmethod
    def load(cls, model_dir: Path) -> Self:
        """Check the files against the manifest, build, warm up. Raises ModelError with one clear line."""
        manifest = read_manifest(model_dir)
        path = check(manifest, model_dir, WEIGHTS, VERSION)
        engine = cls(manifest, _concrete_function(path))
        for size in BATCH_SIZES:
            warm = engine.logits(np.zeros((size, SIDE_PX, SIDE_PX, 1), np.float32))
            extra = warm.shape[1] - len(manifest.classes)  # one, where the network knows what is no digit
            if extra not in {0, 1} or not np.isfinite(warm).all():
                raise ModelError(f"foreign model: {path} does not answer {len(manifest.classes)} finite logits")
        return engine

    def logits(self, ink: Ink) -> Logits:
        """``ink``: float32 (n, 28, 28, 1) in [0, 1] -> float32 (n, 10 or 11), for any n."""
        largest = BATCH_SIZES[-1]
        return np.concatenate(
            [self._padded(ink[start : start + largest]) for start in range(0, max(1, len(ink)), largest)]
        )

    def _padded(self, ink: Ink) -> Logits:
        size = next(size for size in BATCH_SIZES if size >= len(ink))
        if size == len(ink):
            return self._run(ink)
        padded = np.zeros((size, *ink.shape[1:]), np.float32)
        padded[: len(ink)] = ink
        return self._run(padded)[: len(ink)]


def _concrete_function(path: Path) -> Callable[[Ink], Logits]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on processors and missing GPUs
    import keras
    import tensorflow as tf

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        function = tf.function(
            lambda ink: model(ink, training=False),
            input_signature=[tf.TensorSpec((None, SIDE_PX, SIDE_PX, 1), tf.float32)],
        ).get_concrete_function()
    except Exception as error:  # whatever a file that is no model of ours makes Keras raise
        raise ModelError(f"foreign model: {path} is not a Keras model of 28x28x1 pictures") from error

    def run(ink: Ink) -> Logits:
        logits: Logits = function(tf.constant(ink)).numpy()
        return logits

    return run
