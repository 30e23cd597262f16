"""Arrays in .npz files."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Arrays = dict[str, NDArray[np.generic]]


def read_arrays(path: Path) -> tuple[Images, Labels]:
    """Images uint8 (n, height, width), light ink on dark, and labels int64 (n,): the arrays x and y of an .npz file.

    Raises DataError.
    """
    images, labels = read_npz(path, ("x", "y")).values()
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: x must be uint8 of shape (n, height, width), and y must have one digit per image")
    return images.astype(np.uint8, copy=False), labels.astype(np.int64)


def read_npz(path: Path, names: Sequence[str] | None = None) -> Arrays:
    """The arrays called ``names``, all by default. Raises DataError."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except KeyError as error:
        raise DataError(f"{path} must contain the arrays {', '.join(names or ())}") from error
    # TypeError and AttributeError: np.load returns a bare array for a .npy file
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or not an .npz file: {error}") from error
