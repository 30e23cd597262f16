"""The reference of an exported model: what the service measures of its callers' pictures, measured of known ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.errors import DigitsError
from app.imaging.decode import encode_png
from app.imaging.preprocess import Preprocessed, preprocess
from app.model.decision import probabilities
from app.model.engine import Engine
from app.model.manifest import Manifest, Reference, Source
from app.telemetry.drift import FEATURES, histogram, shape
from training.data import Mnist, split
from training.errors import DataError

LEAST = 200  # pictures: fewer fill the tenths of a feature too unevenly


def validation_pictures(manifest: Manifest, mnist: Mnist) -> list[bytes]:
    """The images that the model was validated on, as PNG."""
    share = manifest.recipe["validation_share"]
    assert isinstance(share, float)
    _, held_out = split(len(mnist.x_train), share)
    return [encode_png(grey) for grey in mnist.x_train[held_out]]


def folder_pictures(folder: Path) -> list[bytes]:
    """All files of a folder. Raises DataError."""
    try:
        return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def make_reference(engine: Engine, manifest: Manifest, pictures: Sequence[bytes], source: Source) -> Reference:
    """How the features of encoded ``pictures`` are distributed. Raises DataError when none of them can be read."""
    seen: list[Preprocessed] = []
    for picture in pictures:
        try:
            seen.append(preprocess(picture))
        except DigitsError:  # the service counts none that it cannot read, either
            continue
    if not seen:
        raise DataError("no picture of the reference can be read")
    logits = engine.logits(np.stack([found.ink for found in seen]))
    rows = probabilities(logits, manifest.temperature).round(8)
    measured = [
        (*shape(found.ink), found.inverted, row.max(), row.argmax()) for found, row in zip(seen, rows, strict=True)
    ]
    histograms = {name: histogram(name, values) for name, values in zip(FEATURES, np.array(measured).T, strict=True)}
    return Reference(source=source, pictures=len(seen), **histograms)
