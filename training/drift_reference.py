"""The drift reference in the manifest: feature histograms of known images, which the service compares requests with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import DigitsError
from app.imaging.decode import encode_png
from app.imaging.preprocess import Preprocessed, preprocess
from app.model.engine import Engine
from app.model.manifest import Histogram, Manifest, Reference, Source
from app.model.reader import Reader
from app.telemetry.drift import FEATURES, shape, shares
from training.data.mnist import Mnist
from training.errors import DataError
from training.evaluation.evaluate import validation_set

MIN_IMAGES = 200  # fewer fill the deciles of a feature too unevenly

# Fixed bin edges; the other features are cut at the deciles of the reference.
_EDGES = {
    "polarity": (0.5,),
    "confidence": (0.5, 0.8, 0.9, 0.95, 0.99, 0.999),
    "digit": tuple(digit + 0.5 for digit in range(9)),
}


def validation_images(manifest: Manifest, mnist: Mnist) -> list[bytes]:
    """The model's validation images, as PNG."""
    images, _ = validation_set(manifest, mnist)
    return [encode_png(grey) for grey in images]


def folder_images(folder: Path) -> list[bytes]:
    """The contents of all files in ``folder``. Raises DataError."""
    try:
        return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def make_reference(engine: Engine, manifest: Manifest, images: Sequence[bytes], source: Source) -> Reference:
    """Histograms of the drift features over the encoded ``images``. Raises DataError if none can be read."""
    readable: list[Preprocessed] = []
    for image in images:
        try:
            readable.append(preprocess(image))
        except DigitsError:  # the service does not count unreadable images either
            continue
    if not readable:
        raise DataError("none of the reference images can be read")
    reader = Reader(manifest.temperature, manifest.thresholds)
    logits = engine.logits(np.stack([image.ink for image in readable]))
    first = map(reader.judge, readable, logits)
    readings = [reader.look_again(reading, engine.logits) for reading in first]  # as the service does
    features = [
        (*shape(found.ink), found.inverted, max(probable), probable.index(max(probable)))
        for found, probable, *_ in readings
    ]
    histograms = {name: histogram(name, values) for name, values in zip(FEATURES, np.array(features).T, strict=True)}
    return Reference(source=source, pictures=len(readable), **histograms)


def histogram(feature: str, values: NDArray[np.float64]) -> Histogram:
    """The histogram of a feature's ``values``, (n,)."""
    edges = _EDGES.get(feature) or tuple(np.unique(np.quantile(values, np.arange(1, 10) / 10).round(4)).tolist())
    return Histogram(edges=edges, shares=tuple(shares(values, edges).round(6).tolist()))
