"""Answers: what a model or a service said of some pictures. Knows neither the pictures nor their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import Mode


@dataclass(frozen=True)
class Answers:
    """One row a picture, in the order asked.

    ``probabilities``: (n, 10), a row of nan where there is no answer. ``outlier_scores``: (n,), infinite where there is
    no answer; None where they are not told. ``rejections``: None for what is accepted, else the reason; None as a whole
    where no threshold is known. ``unread``: place -> why there is no answer.
    """

    probabilities: NDArray[np.float64]
    outlier_scores: NDArray[np.float64] | None
    rejections: list[str | None] | None
    unread: dict[int, str]


class Reader(Protocol):
    """What can be asked: a classifier, or a running service."""

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """The answers to encoded pictures. A string is a picture that could not be opened: the reason."""
