"""What training reads of a source: the arrays of NAME.npz in a folder, without what looks like a digit."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.model.manifest import TrainingSource
from training.data.arrays import Arrays, Images, read_npz
from training.data.sources import Source
from training.errors import DataError

_BLOCK = 64

STROKES = ("points", "stroke_start", "sample_start")


def default_cache() -> Path:
    """Where sources are downloaded to: digits in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "digits"


@dataclass(frozen=True)
class Samples:
    """The samples of ``source`` that can be learnt from: pen strokes or pictures, each with a label.

    ``arrays``: the layout of `training.data.strokes` or `training.data.pictures`. ``kept``: the samples in it that are
    no lookalikes.
    """

    source: Source
    arrays: Arrays
    kept: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def has_strokes(self) -> bool:
        return "points" in self.arrays

    @property
    def labels(self) -> NDArray[np.str_]:
        """As the source has them: "7", "A", "snail"; (n,)."""
        return self.arrays["label"][self.kept].astype(np.str_)

    def label(self, place: int) -> str:
        """Of one sample."""
        return str(self.arrays["label"][self.kept[place]])

    def strokes(self, place: int) -> list[NDArray[np.generic]]:
        """The pen strokes of a sample, (n, 2) each: x to the right and y down, the longest side 1000."""
        points, starts, samples = (self.arrays[name] for name in STROKES)
        first, last = samples[self.kept[place]], samples[self.kept[place] + 1]
        return [points[starts[stroke] : starts[stroke + 1]] for stroke in range(first, last)]

    def picture(self, place: int) -> Images:
        """A sample as grey levels, (side, side). Ink is dark or light."""
        picture: Images = self.arrays["x"][self.kept[place]]
        return picture

    def split(self) -> tuple["Samples", "Samples"]:
        """For training, and a twelfth held out: in blocks, so that most writers, words and fonts are in one part."""
        held_out = self.kept // _BLOCK % 12 == 11
        return replace(self, kept=self.kept[~held_out]), replace(self, kept=self.kept[held_out])

    @cached_property
    def record(self) -> TrainingSource:
        """What manifest and card say of it."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return TrainingSource(
            name=self.source.name, licence=self.source.licence, samples=len(self), sha256=digest.hexdigest()
        )


def find(source: Source, folders: Sequence[Path]) -> Path | None:
    """The first of ``folders`` that has NAME.npz or all official files; None if there is none."""
    for folder in folders:
        if (folder / f"{source.name}.npz").exists() or all(path.exists() for path in source.paths(folder)):
            return folder
    return None


def load(source: Source, folder: Path) -> Samples:
    """The samples in ``folder``: of NAME.npz, or of the official files. Raises DataError."""
    path = folder / f"{source.name}.npz"
    arrays = read_npz(path) if path.exists() else source.read(folder)
    if "y" in arrays:  # as Fashion-MNIST and others call it
        arrays["label"] = arrays.pop("y")
    if "label" not in arrays or not ("x" in arrays or arrays.keys() >= set(STROKES)):
        raise DataError(f"{path} must contain label, and either x or {', '.join(STROKES)}")
    labels = arrays["label"].astype(np.str_)
    if len(labels) != (len(arrays["x"]) if "x" in arrays else len(arrays["sample_start"]) - 1):
        raise DataError(f"{path}: every sample must have a label")
    if source.kind == "digits" and not set(labels.tolist()) <= set("0123456789"):
        raise DataError(f"{path}: every label must be a digit")
    return Samples(source, arrays, np.flatnonzero(~np.isin(labels, sorted(source.lookalikes))))


def load_all(sources: Sequence[Source], folders: Sequence[Path]) -> tuple[Samples, ...]:
    """The samples of all ``sources``, from the first folder that has them.

    Raises DataError, which names every source that is missing.
    """
    found = [(source, find(source, folders)) for source in sources]
    missing = [source.name for source, folder in found if folder is None]
    if missing:
        raise DataError(
            f"not in {' or '.join(map(str, folders))}: {', '.join(missing)}. "
            f"To get them: python -m training data --fetch {' '.join(missing)}. "
            f"To train without them:{''.join(f' --without {name}' for name in missing)}"
        )
    return tuple(load(source, folder) for source, folder in found if folder is not None)
