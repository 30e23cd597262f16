"""The classifier to evaluate: from models/, a run directory, or a .keras file in a run directory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import DigitsError
from app.imaging.preprocess import Ink, Mode, Preprocessed, preprocess
from app.model.decision import DIGITS
from app.model.engine import KerasEngine
from app.model.manifest import MANIFEST, WEIGHTS, Manifest, Thresholds
from app.model.reader import Reader
from training.errors import RunError
from training.evaluation.scoring import Answers
from training.preparation import normalise_columns
from training.recipes import Preprocessing, read_recipe
from training.run_directory import MODEL, RECIPE

BATCH = 1000

_ACCEPTS_ALL = Reader(temperature=1.0, thresholds=Thresholds(not_a_digit=math.inf, low_confidence=0))


@dataclass(frozen=True)
class Classifier:
    """``logits``: ink (n, 28, 28, 1) -> (n, 10 or 11). ``preprocessing``: the input it was trained on.

    ``manifest``: has temperature and thresholds if the model was exported; without it nothing is rejected.
    """

    logits: Callable[[Ink], NDArray[np.float32]]
    preprocessing: Preprocessing
    manifest: Manifest | None = None

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """The answers the service would give. See `training.evaluation.scoring.Predictor`."""
        found: dict[int, Preprocessed] = {}
        unread: dict[int, str] = {}
        for place, picture in enumerate(pictures):
            try:
                if isinstance(picture, str):
                    unread[place] = picture
                else:
                    found[place] = preprocess(picture, mode)
            except DigitsError as error:
                unread[place] = error.code
        rows = np.full((len(pictures), DIGITS), np.nan)
        scores = np.full(len(pictures), np.inf)
        rejections: list[str | None] = [unread.get(place) for place in range(len(pictures))]
        reader = _ACCEPTS_ALL
        if self.manifest:
            reader = Reader(self.manifest.temperature, self.manifest.thresholds)
        if found:
            logits = self._logits(np.stack([each.ink for each in found.values()]))
            for (place, each), row in zip(found.items(), logits, strict=True):
                reading = reader.look_again(reader.judge(each, row), self._logits)
                rows[place], scores[place] = reading.probabilities, reading.outlier_score
                rejections[place] = reading.rejection and reading.rejection.reason
        return Answers(rows, scores, rejections if self.manifest else None, unread)

    def _logits(self, ink: Ink) -> NDArray[np.float32]:
        ink = normalise_columns(ink) if self.preprocessing == "l2" else ink
        return np.concatenate([self.logits(ink[start : start + BATCH]) for start in range(0, len(ink), BATCH)])


def load_classifier(path: Path) -> Classifier:
    """The classifier at ``path``; if that directory has a manifest, it uses the served engine.

    Raises RunError, or ModelError if the engine cannot load the directory.
    """
    if path.name == WEIGHTS and (path.parent / MANIFEST).exists():
        path = path.parent
    if (path / MANIFEST).exists():
        engine = KerasEngine.load(path)
        return Classifier(engine.logits, "auto", engine.manifest)
    weights = path / MODEL if path.is_dir() else path
    recipe = weights.parent / RECIPE
    if not weights.is_file() or not recipe.is_file():
        raise RunError(f"{path} is not a models directory, a finished run, or a .keras file beside its {RECIPE}")
    return Classifier(_read_network(weights), read_recipe(recipe).preprocessing)


def _read_network(path: Path) -> Callable[[Ink], NDArray[np.float32]]:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many types for invalid files
        raise RunError(f"{path} is not a Keras model") from error
    return lambda ink: np.asarray(model.predict(ink, batch_size=BATCH, verbose=0))
