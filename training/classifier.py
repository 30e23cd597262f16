"""What is measured: a classifier out of models/, out of a run directory or out of a .keras file in one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.decision import probabilities
from app.engine import KerasEngine
from app.manifest import MANIFEST
from app.preprocessing import Ink
from training.errors import RunError
from training.recipes import Preprocessing, read_recipe
from training.run_directory import MODEL, RECIPE

BATCH = 1000


@dataclass(frozen=True)
class Classifier:
    """``classify``: ink (n, 28, 28, 1) -> probabilities (n, 10). ``preprocessing``: what it learnt to see."""

    classify: Callable[[Ink], NDArray[np.float64]]
    preprocessing: Preprocessing


def load_classifier(path: Path) -> Classifier:
    """The classifier at ``path``, the served engine when that is a directory with a manifest.

    Raises RunError, or ModelError when the engine refuses the directory.
    """
    if (path / MANIFEST).exists():
        engine = KerasEngine.load(path)
        return Classifier(
            lambda ink: probabilities(engine.logits(ink), engine.manifest.temperature), preprocessing="auto"
        )
    weights = path / MODEL if path.is_dir() else path
    recipe = weights.parent / RECIPE
    if not weights.is_file() or not recipe.is_file():
        raise RunError(f"{path} is no models directory, no finished run, and no .keras file beside its {RECIPE}")
    network = _read_network(weights)
    return Classifier(
        lambda ink: probabilities(network(ink), temperature=1.0),
        preprocessing=read_recipe(recipe).preprocessing,
    )


def _read_network(path: Path) -> Callable[[Ink], NDArray[np.float32]]:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a file that is no model makes Keras raise
        raise RunError(f"{path} is not a Keras model") from error
    return lambda ink: np.asarray(model.predict(ink, batch_size=BATCH, verbose=0))
