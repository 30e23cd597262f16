"""Scores: answers and labels -> figures. Knows no model and no image.

An image without an answer counts as wrong, and has no likelihood and no confidence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Labels
from training.evaluation.answers import Answers
from training.evaluation.measures import (
    ConfidenceBin,
    bootstrap_interval,
    ece,
    nll,
    reliability,
    risk_coverage,
    wilson_interval,
)

CLASSES = 10

Interval = tuple[float, float]  # 95 %


@dataclass(frozen=True)
class Mistake:
    """One wrong answer. ``place`` is the index among the images, ``name`` what a reader finds the image by."""

    name: str
    place: int
    label: int
    digit: int
    confidence: float
    rejection: str | None = None


@dataclass(frozen=True)
class TagScore:
    """How the images of one tag were read."""

    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class GroupScore:
    """The mean over groups of their accuracy: a hand that sent a hundred images counts no more than another."""

    groups: int
    accuracy: float
    interval: Interval
    lowest: float


@dataclass(frozen=True)
class Acceptance:
    """``share`` accepted; ``wrong`` and ``accuracy`` of these. ``reasons``: counts of the rest."""

    share: float
    wrong: int
    accuracy: float | None
    reasons: dict[str, int]


@dataclass(frozen=True)
class Scores:
    """All figures of one set of images.

    ``nll``: mean over the answered, in nats, the loss with no smoothing; ``ece`` and ``reliability`` are theirs too.
    ``confusion``: counts (10, 10), row the label, column the digit answered. ``precision``, ``recall``: by digit, None
    where nothing can be divided. ``mistakes``: the most confident first. ``unread``: name -> reason.
    ``risk_coverage``: 100 shares, see `training.evaluation.measures`.
    """

    images: int
    accuracy: float
    interval: Interval
    nll: float
    ece: float
    acceptance: Acceptance | None
    tags: dict[str, TagScore]
    groups: GroupScore | None
    precision: list[float | None]
    recall: list[float | None]
    confusion: list[list[int]]
    reliability: list[ConfidenceBin]
    risk_coverage: list[float]
    mistakes: list[Mistake]
    unread: dict[str, str]

    @property
    def wrong(self) -> int:
        """Images misread or not read at all."""
        return len(self.mistakes) + len(self.unread)


def score(
    answers: Answers,
    labels: Labels,
    names: Sequence[str],
    *,
    tags: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Scores:
    """The figures of n answers and n labels. ``tags``, ``groups``: one an image, empty for none."""
    answered = np.array([place not in answers.unread for place in range(len(labels))], bool)
    probabilities = np.nan_to_num(answers.probabilities)
    digits = np.where(answered, probabilities.argmax(axis=1), -1)
    confidences = probabilities.max(axis=1)
    right = digits == labels
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (labels[answered], digits[answered]), 1)
    wrong = np.flatnonzero(answered & ~right)
    bins = reliability(confidences[answered], right[answered])
    rejections = answers.rejections or [None] * len(labels)
    return Scores(
        images=len(labels),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(labels)),
        nll=nll(probabilities[answered], labels[answered]),
        ece=ece(bins),
        acceptance=_acceptance(answers.rejections, right),
        tags={tag: _tag_score(of_tag) for tag, of_tag in _parts(right, tags).items()},
        groups=_group_score(_parts(right, groups)),
        precision=_ratio(counts.diagonal(), counts.sum(axis=0)),
        recall=_ratio(counts.diagonal(), np.bincount(labels, minlength=CLASSES)),
        confusion=counts.tolist(),
        reliability=bins,
        risk_coverage=risk_coverage(confidences, right),
        mistakes=[
            Mistake(
                names[place],
                int(place),
                int(labels[place]),
                int(digits[place]),
                float(confidences[place]),
                rejections[place],
            )
            for place in wrong[np.argsort(-confidences[wrong], kind="stable")]
        ],
        unread={names[place]: reason for place, reason in answers.unread.items()},
    )


def _acceptance(rejections: list[str | None] | None, right: NDArray[np.bool_]) -> Acceptance | None:
    if rejections is None:
        return None
    accepted = np.array([reason is None for reason in rejections], bool)
    return Acceptance(
        share=float(accepted.mean()),
        wrong=int((accepted & ~right).sum()),
        accuracy=float(right[accepted].mean()) if accepted.any() else None,
        reasons=dict(Counter(reason for reason in rejections if reason)),
    )


def _parts(right: NDArray[np.bool_], column: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """What was read rightly, by the value in the column."""
    values = np.array(column, str)
    return {str(value): right[values == value] for value in np.unique(values) if value}


def _tag_score(right: NDArray[np.bool_]) -> TagScore:
    return TagScore(len(right), float(right.mean()), wilson_interval(int(right.sum()), len(right)))


def _group_score(groups: dict[str, NDArray[np.bool_]]) -> GroupScore | None:
    if not groups:
        return None
    shares = [float(right.mean()) for right in groups.values()]
    return GroupScore(len(shares), float(np.mean(shares)), bootstrap_interval(shares), min(shares))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> list[float | None]:
    return [int(right) / int(all_) if all_ else None for right, all_ in zip(part, whole, strict=True)]
