"""MNIST, read and verified, with a fixed validation split. Knows nothing about models."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.arrays import Arrays, Images, Labels, read_npz
from training.errors import DataError

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


def load_mnist(path: Path | None = None) -> Mnist:
    """MNIST from ``path``, an .npz in the layout of ``keras.datasets.mnist``; downloaded by Keras if ``path`` is None.

    Accepts other data sets in this layout; `Mnist.published` is False for them.
    Raises DataError if the file is missing, damaged or has the wrong layout.
    """
    arrays = _download() if path is None else read_npz(path, ARRAYS)
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


def _download() -> Arrays:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise DataError(f"MNIST cannot be downloaded ({error}); pass a local copy with --data FILE") from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


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
