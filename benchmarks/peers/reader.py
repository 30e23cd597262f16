"""What every peer serves: the service's decoding, preprocessing, engine and calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.imaging.preprocess import Ink, preprocess
from app.model.decision import probabilities
from app.model.engine import LiteRTEngine

MODEL_DIR = Path(__file__).parents[2] / "models"


class Reader:
    """Loads `models/digits.tflite` on construction."""

    def __init__(self) -> None:
        self._engine = LiteRTEngine.load(MODEL_DIR)

    @staticmethod
    def ink(image: bytes) -> Ink:
        """The preprocessed image, float32 (28, 28, 1)."""
        return preprocess(image).ink

    def read(self, inks: Sequence[Ink]) -> list[dict[str, Any]]:
        """An answer for each, in one batch: the digit, its confidence and ten calibrated probabilities."""
        calibrated = probabilities(self._engine.logits(np.stack(inks)), self._engine.manifest.temperature)
        return [
            {"digit": int(row.argmax()), "confidence": float(row.max()), "probabilities": row.tolist()}
            for row in calibrated
        ]
