"""The engines: ink in, logits out. They load, check and warm up the model; they know nothing about images or requests.

TensorFlow or LiteRT is imported when an engine is loaded, not with this module.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.imaging.preprocess import SIDE_PX, VERSION, Ink
from app.model.manifest import INT8_WEIGHTS, LITE_WEIGHTS, WEIGHTS, Manifest, check, read_manifest

Logits = NDArray[np.float32]


class Engine(ABC):
    """A network with a few batch sizes. One thread may call it at a time; two if it ``runs_inline``."""

    file_name: ClassVar[str]
    # Every call is padded to one of these. All are run at load, so that no request pays for the first of its size.
    batch_sizes: ClassVar[tuple[int, ...]]
    # The event loop runs a single picture: that takes less time than handing it to a thread.
    runs_inline: ClassVar[bool] = False
    # The same for many pictures, though a thread could run them on another core.
    runs_batches_inline: ClassVar[bool] = False

    def __init__(self, manifest: Manifest, run: Callable[[Ink], Logits]) -> None:
        self.manifest = manifest
        self._run = run

    @classmethod
    def load(cls, model_dir: Path) -> Self:
        """Check the files against the manifest, build, warm up. Raises ModelError with one clear line."""
        manifest = read_manifest(model_dir)
        path = check(manifest, model_dir, cls.file_name, VERSION)
        engine = cls(manifest, cls._function(path))
        check(manifest, model_dir, cls.file_name, VERSION)  # again: it may have changed while it was loaded
        for size in cls.batch_sizes:
            warm = engine.logits(np.zeros((size, SIDE_PX, SIDE_PX, 1), np.float32))
            extra = warm.shape[1] - len(manifest.classes)  # 1 for a network with a logit for no digit
            if extra not in {0, 1} or not np.isfinite(warm).all():
                raise ModelError(f"incompatible model: {path} does not answer {len(manifest.classes)} finite logits")
        return engine

    @staticmethod
    @abstractmethod
    def _function(path: Path) -> Callable[[Ink], Logits]:
        """The function from ink of one of the batch sizes to logits. Raises ModelError for any other network."""

    def logits(self, ink: Ink) -> Logits:
        """``ink``: float32 (n, 28, 28, 1) in [0, 1] -> float32 (n, 10 or 11), for any n."""
        if len(ink) == 1:
            return self._run(ink)
        largest = self.batch_sizes[-1]
        return np.concatenate(
            [self._padded(ink[start : start + largest]) for start in range(0, max(1, len(ink)), largest)]
        )

    def _padded(self, ink: Ink) -> Logits:
        size = next(size for size in self.batch_sizes if size >= len(ink))
        if size == len(ink):
            return self._run(ink)
        padded = np.zeros((size, *ink.shape[1:]), np.float32)
        padded[: len(ink)] = ink
        return self._run(padded)[: len(ink)]


class KerasEngine(Engine):
    """`models/digits.keras` behind one concrete TensorFlow function."""

    file_name = WEIGHTS
    batch_sizes = (1, 2, 4, 8, 16, 32, 64)

    @staticmethod
    def _function(path: Path) -> Callable[[Ink], Logits]:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on processors and missing GPUs
        try:
            with _without_stderr():
                import keras
                import tensorflow as tf

                # a network this small is slower with more threads
                with suppress(RuntimeError):  # too late in a process that has used TensorFlow before
                    tf.config.threading.set_intra_op_parallelism_threads(1)
                    tf.config.threading.set_inter_op_parallelism_threads(1)
        except ImportError as error:
            advice = "pip install '.[keras]', or set DIGITS_ENGINE=litert"
            raise ModelError(f"the engine keras needs TensorFlow: {advice}") from error

        try:
            with _without_stderr():
                model = keras.saving.load_model(path, compile=False, safe_mode=True)
                function = tf.function(
                    lambda ink: model(ink, training=False),
                    input_signature=[tf.TensorSpec((None, SIDE_PX, SIDE_PX, 1), tf.float32)],
                ).get_concrete_function()
        except Exception as error:  # Keras raises many types for invalid files
            raise ModelError(f"incompatible model: {path} is not a Keras model of 28x28x1 pictures") from error

        def run(ink: Ink) -> Logits:
            logits: Logits = function(tf.constant(ink)).numpy()
            return logits

        return run


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error; no log level silences all of it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class LiteRTEngine(Engine):
    """`models/digits.tflite`, the same weights without TensorFlow: a fifth of its memory and start time."""

    file_name = LITE_WEIGHTS
    batch_sizes = (1, 2, 4)  # one interpreter each; batches of eight no longer fit the processor's cache
    runs_inline = True
    _THREADS = 2  # the event loop, and the batcher's

    @staticmethod
    def _function(path: Path) -> Callable[[Ink], Logits]:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError("the engine litert needs ai-edge-litert: pip install '.[litert]'") from error

        free: SimpleQueue[dict[int, Any]] = SimpleQueue()
        try:
            content = path.read_bytes()  # not mapped: truncating a mapped file would crash the process
            with _without_stderr():
                for _ in range(LiteRTEngine._THREADS):
                    interpreters = {}
                    for size in LiteRTEngine.batch_sizes:
                        interpreter = Interpreter(model_content=content, num_threads=1)
                        [given], [answered] = interpreter.get_input_details(), interpreter.get_output_details()
                        interpreter.resize_tensor_input(given["index"], (size, SIDE_PX, SIDE_PX, 1), strict=True)
                        interpreter.allocate_tensors()
                        interpreter.invoke()
                        interpreters[size] = (interpreter, given["index"], answered["index"])
                    free.put(interpreters)
        except Exception as error:  # LiteRT raises many types for invalid files
            raise ModelError(f"incompatible model: {path} is not a LiteRT model of 28x28x1 pictures") from error

        def run(ink: Ink) -> Logits:
            interpreters = free.get()
            try:
                interpreter, given, answered = interpreters[len(ink)]
                interpreter.set_tensor(given, ink)
                interpreter.invoke()
                logits: Logits = interpreter.get_tensor(answered)
            finally:
                free.put(interpreters)
            return logits

        return run


class Int8Engine(LiteRTEngine):
    """`models/digits-int8.tflite`: the same weights in 8 bits, activations quantised dynamically.

    Each picture is quantised by itself, so that an answer does not depend on the others in the batch.
    """

    file_name = INT8_WEIGHTS
    runs_batches_inline = True


ENGINES: dict[str, type[Engine]] = {"keras": KerasEngine, "litert": LiteRTEngine, "litert-int8": Int8Engine}
