"""What is measured: a classifier out of models/, out of a run directory or out of a .keras file in one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import DigitsError
from app.imaging.preprocess import Ink, Mode, Preprocessed, other_readings, preprocess
from app.model.decision import best_reading, outlier_scores, probabilities, rejection
from app.model.engine import KerasEngine
from app.model.manifest import MANIFEST, WEIGHTS, Manifest
from training.errors import RunError
from training.evaluation.answers import Answers
from training.evaluation.scoring import CLASSES
from training.preparation import normalise_columns
from training.recipes import Preprocessing, read_recipe
from training.run_directory import MODEL, RECIPE

BATCH = 1000


@dataclass(frozen=True)
class Classifier:
    """``logits``: ink (n, 28, 28, 1) -> (n, 10 or 11). ``preprocessing``: what it learnt to see.

    ``manifest``: of a model that was exported, its temperature and its thresholds; without one nothing is rejected.
    """

    logits: Callable[[Ink], NDArray[np.float32]]
    preprocessing: Preprocessing
    manifest: Manifest | None = None

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """The answers to encoded pictures, as the service would give them. See `training.evaluation.answers.Reader`."""
        seen: list[Preprocessed] = []
        unread: dict[int, str] = {}
        for place, picture in enumerate(pictures):
            try:
                if isinstance(picture, str):
                    unread[place] = picture
                else:
                    seen.append(preprocess(picture, mode))
            except DigitsError as error:
                unread[place] = error.code
        read = [place for place in range(len(pictures)) if place not in unread]
        rows = np.full((len(pictures), CLASSES), np.nan)
        scores = np.full(len(pictures), np.inf)
        rejections: list[str | None] = [unread.get(place) for place in range(len(pictures))]
        if read:
            logits = self._logits(np.stack([found.ink for found in seen]))
            rows[read] = probabilities(logits, self.manifest.temperature if self.manifest else 1.0)
            scores[read] = outlier_scores(logits)
        if self.manifest:
            for place, found in zip(read, seen, strict=True):
                if scores[place] > self.manifest.thresholds.not_a_digit and found.digits == 1:
                    rows[place] = self._reconsidered(self.manifest, found, rows[place], scores[place])
                why = rejection(self.manifest, float(scores[place]), float(rows[place].max()), found.digits)
                rejections[place] = why.reason if why else None
        return Answers(rows, scores, rejections if self.manifest else None, unread)

    def _reconsidered(
        self, manifest: Manifest, found: Preprocessed, row: NDArray[np.float64], outlier_score: float
    ) -> NDArray[np.float64]:
        """The probabilities of the best reading of a picture whose first one is no digit."""
        others = other_readings(found)
        if not others:
            return row
        logits = self._logits(np.stack([other.ink for other in others]))
        best = best_reading([outlier_score, *outlier_scores(logits)])
        return probabilities(logits[best - 1 : best], manifest.temperature)[0] if best else row

    def _logits(self, ink: Ink) -> NDArray[np.float32]:
        ink = normalise_columns(ink) if self.preprocessing == "l2" else ink
        return np.concatenate([self.logits(ink[start : start + BATCH]) for start in range(0, len(ink), BATCH)])


def load_classifier(path: Path) -> Classifier:
    """The classifier at ``path``, the served engine when that is a directory with a manifest.

    Raises RunError, or ModelError when the engine refuses the directory.
    """
    if path.name == WEIGHTS and (path.parent / MANIFEST).exists():
        path = path.parent
    if (path / MANIFEST).exists():
        engine = KerasEngine.load(path)
        return Classifier(engine.logits, "auto", engine.manifest)
    weights = path / MODEL if path.is_dir() else path
    recipe = weights.parent / RECIPE
    if not weights.is_file() or not recipe.is_file():
        raise RunError(f"{path} is no models directory, no finished run, and no .keras file beside its {RECIPE}")
    return Classifier(_read_network(weights), read_recipe(recipe).preprocessing)


def _read_network(path: Path) -> Callable[[Ink], NDArray[np.float32]]:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a file that is no model makes Keras raise
        raise RunError(f"{path} is not a Keras model") from error
    return lambda ink: np.asarray(model.predict(ink, batch_size=BATCH, verbose=0))
