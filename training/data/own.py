"""Your own pictures: what is learnt from them, and which are kept aside to compare models on.

A picture's content decides whether it is kept aside, so that later runs do not learn from it either. The readers are
functions of one folder, in a list.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from app.errors import DigitsError, NoInk
from app.imaging.decode import decode
from app.imaging.formats import inspect
from app.imaging.strokes import find_strokes
from training.data.arrays import Arrays, Labels
from training.data.folders import read_labels, read_unlabelled
from training.data.pictures import squared, stacked
from training.errors import DataError

SIDE_PX = 112
ASIDE = 5  # one picture in so many is kept aside
NO_DIGIT = -1  # the label of an outlier


def digits(paths: Sequence[Path]) -> Arrays:
    """The strokes that the service finds in the pictures listed in labels.csv, without those kept aside."""
    return _strokes(_pictures(paths[0], None))


def outliers(paths: Sequence[Path]) -> Arrays:
    """The same of a folder without digits. What is rejected whatever the model says is left out."""
    return _strokes(_pictures(None, paths[0]))


def aside(images: Path, others: Path | None) -> tuple[list[bytes], Labels]:
    """The pictures kept aside and their labels. Raises DataError if no digit is."""
    kept = [(content, label) for _, content, label in _pictures(images, others) if _is_aside(content)]
    if not any(label != NO_DIGIT for _, label in kept):
        raise DataError(f"{images}: add pictures; too few to keep a fifth of them aside")
    return [content for content, _ in kept], np.array([label for _, label in kept])


def _pictures(images: Path | None, others: Path | None) -> list[tuple[Path, bytes, int]]:
    files = [(file.path, file.label) for file in read_labels(images)] if images else []
    files += [(path, NO_DIGIT) for path in read_unlabelled(others)] if others else []
    try:
        return [(path, path.read_bytes(), label) for path, label in files]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error


def _is_aside(content: bytes) -> bool:
    return int(hashlib.sha256(content).hexdigest(), 16) % ASIDE == 0


def _strokes(pictures: Sequence[tuple[Path, bytes, int]]) -> Arrays:
    """``x`` uint8 (n, side, side), light on dark, and ``label``. Raises DataError if a picture cannot be read."""
    found = []
    for path, content, label in pictures:
        try:
            strokes = find_strokes(decode(inspect(content)).grey)
        except DigitsError as error:
            if label == NO_DIGIT and isinstance(error, NoInk):
                continue
            raise DataError(f"{path}: {error}") from error
        if not _is_aside(content) and (label != NO_DIGIT or strokes.digits == 1):
            sure = strokes.contrast[(strokes.contrast > strokes.sure) & (strokes.strokes > 0)]  # as the preprocessing
            ink = cv2.convertScaleAbs(strokes.contrast * strokes.strokes, alpha=255 / float(np.median(sure)))
            found.append((squared(np.pad(ink, 1), SIDE_PX), str(label), ""))
    return stacked(found)
