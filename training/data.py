"""Data sets: MNIST, read and verified, with a fixed validation split; folders of images. Knows nothing about models."""

import csv
import hashlib
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Arrays = dict[str, NDArray[np.generic]]

LABELS = "labels.csv"

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

# sha256 of the C-order bytes of the published uint8 arrays (LeCun, Cortes and Burges, the MNIST database)
PUBLISHED = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

# Independent of the recipe's seed, so that no seed trains on images that another validates on.
SPLIT_SEED = 1998


@dataclass(frozen=True)
class Mnist:
    """Grey images, uint8 (n, 28, 28), labels, int64 (n,) in 0..9, and the sha256 of each array in the file."""

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels
    hashes: dict[str, str]

    @cached_property
    def published(self) -> bool:
        """Whether the arrays are byte for byte those of the MNIST database."""
        return self.hashes == PUBLISHED


@dataclass(frozen=True)
class LabelledFile:
    """An image file and its label. ``group`` names the writer or camera; ``tag`` and ``group`` may be empty."""

    path: Path
    label: int
    tag: str
    group: str = ""


def load_mnist(path: Path | None = None) -> Mnist:
    """MNIST from ``path``, an .npz in the layout of ``keras.datasets.mnist``; downloaded by Keras if ``path`` is None.

    Accepts other data sets in this layout; `Mnist.published` is False for them.
    Raises DataError if the file is missing, damaged or has the wrong layout.
    """
    arrays = _download() if path is None else _read_npz(path, ARRAYS)
    for part in ("train", "test"):
        _check(part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    hashes = {name: hashlib.sha256(np.ascontiguousarray(arrays[name]).data).hexdigest() for name in ARRAYS}
    return Mnist(
        x_train=arrays["x_train"].astype(np.uint8, copy=False),
        y_train=arrays["y_train"].astype(np.int64),
        x_test=arrays["x_test"].astype(np.uint8, copy=False),
        y_test=arrays["y_test"].astype(np.int64),
        hashes=hashes,
    )


def split(count: int, validation_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices of the training and the validation images; depends on the two arguments only."""
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    validation = round(count * validation_share)
    return np.sort(order[validation:]), np.sort(order[:validation])


def read_labels(folder: Path, tags: Collection[str] = ()) -> list[LabelledFile]:
    """The images listed in ``folder``/labels.csv: columns file and label, optionally tag and group.

    ``tags``: only images with one of these tags. Raises DataError if the table is missing, lists no such image, or has
    a row without a file or a label from 0 to 9.
    """
    files: list[LabelledFile] = []
    for number, row in enumerate(_rows(folder), start=1):
        if not row["file"] or row.get("label", "") not in set("0123456789"):
            raise DataError(f"{folder / LABELS}: row {number} needs a file and a label from 0 to 9")
        if not tags or row.get("tag") in tags:
            files.append(
                LabelledFile(folder / row["file"], int(row["label"]), row.get("tag", ""), row.get("group", ""))
            )
    if not files:
        raise DataError(f"{folder / LABELS} lists no image{' with these tags' if tags else ''}")
    return files


def read_unlabelled(folder: Path) -> list[Path]:
    """The images listed in ``folder``/labels.csv that a model should reject.

    If there is a column pure_negative, only rows that say yes. Raises DataError.
    """
    paths = [folder / row["file"] for row in _rows(folder) if row["file"] and row.get("pure_negative", "yes") == "yes"]
    if not paths:
        raise DataError(f"{folder / LABELS} lists no image to reject")
    return paths


def read_arrays(path: Path) -> tuple[Images, Labels]:
    """Images uint8 (n, height, width), light ink on dark, and labels int64 (n,): the arrays x and y of an .npz file.

    Raises DataError.
    """
    images, labels = _read_npz(path, ("x", "y")).values()
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: x must be uint8 of shape (n, height, width), and y must have one digit per image")
    return images.astype(np.uint8, copy=False), labels.astype(np.int64)


def _rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``folder``/labels.csv, at least one, all values stripped."""
    table = folder / LABELS
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = [
                {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
                for row in csv.DictReader(lines)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    if not rows or "file" not in rows[0]:
        raise DataError(f"{table} lists no image; it needs the columns file and label")
    return rows


def _download() -> Arrays:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise DataError(f"MNIST cannot be downloaded ({error}); pass a local copy with --data FILE") from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _read_npz(path: Path, names: Sequence[str]) -> Arrays:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except KeyError as error:
        raise DataError(f"{path} must contain the arrays {', '.join(names)}") from error
    # TypeError and AttributeError: np.load returns a bare array for a .npy file
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or not an .npz file: {error}") from error


def _check(part: str, images: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise DataError(f"x_{part} must be uint8 of shape (n, 28, 28), not {images.dtype} of {images.shape}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"y_{part} must have one integer per image, {images.shape[:1]}, not {labels.dtype} of {labels.shape}"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > 9:
        raise DataError(f"y_{part} must hold digits from 0 to 9, not {lowest} to {highest}")
