"""Scores: probabilities and labels -> figures. Knows no model and no image.

A row of nan is an image without an answer: it counts as wrong, and has no likelihood.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = 10

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Mistake:
    """One wrong answer. ``place`` is the index among the images, ``name`` what a reader finds the image by."""

    name: str
    place: int
    label: int
    digit: int
    confidence: float


@dataclass(frozen=True)
class TagScore:
    """How the images of one tag were read."""

    images: int
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """All figures of one set of images.

    ``nll``: mean over the answered, in nats, the loss with no smoothing. ``confusion``: counts (10, 10), row the
    label, column the digit answered. ``precision``, ``recall``: by digit, None where nothing can be divided.
    ``mistakes``: the most confident first. ``unread``: name -> reason.
    """

    images: int
    accuracy: float
    nll: float
    precision: list[float | None]
    recall: list[float | None]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    unread: dict[str, str]
    tags: dict[str, TagScore]

    @property
    def wrong(self) -> int:
        """Images misread or not read at all."""
        return len(self.mistakes) + len(self.unread)


def score(
    probabilities: Probabilities,
    labels: Labels,
    names: Sequence[str],
    *,
    unread: Mapping[int, str] | None = None,
    tags: Sequence[str] | None = None,
) -> Scores:
    """The figures of (n, 10) probabilities and n labels.

    ``unread``: place -> reason, of the rows of nan. ``tags``: one a image, empty for none.
    """
    unread = unread or {}
    answered = np.array([place not in unread for place in range(len(labels))], bool)
    digits = np.where(answered, np.nan_to_num(probabilities).argmax(axis=1), -1)
    right = digits == labels
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (labels[answered], digits[answered]), 1)
    wrong = np.flatnonzero(answered & ~right)
    confidences = probabilities.max(axis=1)
    return Scores(
        images=len(labels),
        accuracy=float(right.mean()),
        nll=nll(probabilities[answered], labels[answered]),
        precision=_ratio(counts.diagonal(), counts.sum(axis=0)),
        recall=_ratio(counts.diagonal(), np.bincount(labels, minlength=CLASSES)),
        confusion=counts.tolist(),
        mistakes=[
            Mistake(names[place], int(place), int(labels[place]), int(digits[place]), float(confidences[place]))
            for place in wrong[np.argsort(-confidences[wrong], kind="stable")]
        ],
        unread={names[place]: reason for place, reason in unread.items()},
        tags=_by_tag(right, tags or []),
    )


def nll(probabilities: Probabilities, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats; nan where there is none."""
    if not len(labels):
        return math.nan
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The share of labels that are the most probable digit."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def _by_tag(right: NDArray[np.bool_], tags: Sequence[str]) -> dict[str, TagScore]:
    column = np.array(tags, str)
    return {
        str(tag): TagScore(int((column == tag).sum()), float(right[column == tag].mean()))
        for tag in np.unique(column)
        if tag
    }


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> list[float | None]:
    return [int(right) / int(all_) if all_ else None for right, all_ in zip(part, whole, strict=True)]
