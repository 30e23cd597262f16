"""Answers of a model or service, and answers + labels -> scores. Knows nothing about models or images.

An unanswered image counts as wrong and is left out of loss and calibration.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.imaging.preprocess import Mode
from app.model.decision import DIGITS
from training.data.arrays import Labels
from training.evaluation.measures import (
    ConfidenceBin,
    bootstrap_interval,
    ece,
    nll,
    reliability,
    risk_coverage,
    wilson_interval,
)

Interval = tuple[float, float]  # 95 % confidence interval


@dataclass(frozen=True)
class Answers:
    """One row per image, in the order of the request.

    ``probabilities``: (n, 10); a row is NaN if unanswered. ``outlier_scores``: (n,), infinite if unanswered; None if
    the service does not report them. ``rejections``: the reason, or None if accepted; None as a whole if no thresholds
    are known. ``unread``: index -> reason why there is no answer.
    """

    probabilities: NDArray[np.float64]
    outlier_scores: NDArray[np.float64] | None
    rejections: list[str | None] | None
    unread: dict[int, str]


class Predictor(Protocol):
    """A classifier or a running service."""

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """Answers to encoded images. A string stands for an unreadable image and is the reason."""


@dataclass(frozen=True)
class Mistake:
    """One wrong answer. ``place`` is the index among the images, ``name`` identifies the image in reports."""

    name: str
    place: int
    label: int
    digit: int
    confidence: float
    rejection: str | None = None


@dataclass(frozen=True)
class TagScore:
    """Accuracy on the images with one tag."""

    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class GroupScore:
    """Mean accuracy over groups (writers), each with equal weight however many images it has."""

    groups: int
    accuracy: float
    interval: Interval
    lowest: float


@dataclass(frozen=True)
class Acceptance:
    """``share`` accepted; ``wrong`` and ``accuracy`` among those; ``reasons``: counts of the rejected."""

    share: float
    wrong: int
    accuracy: float | None
    reasons: dict[str, int]


@dataclass(frozen=True)
class Scores:
    """All scores of one set of images.

    ``nll`` (in nats, without label smoothing), ``ece``, ``reliability``: over the answered images.
    ``confusion``: counts (10, 10), row = label, column = predicted digit. ``precision``, ``recall``: by digit, None if
    undefined. ``mistakes``: most confident first. ``unread``: name -> reason. ``risk_coverage``: 100 shares, see
    `training.evaluation.measures`.
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
        """Number of misread and unread images."""
        return len(self.mistakes) + len(self.unread)


def score(
    answers: Answers,
    labels: Labels,
    names: Sequence[str],
    *,
    tags: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Scores:
    """The scores of n answers with n labels. ``tags``, ``groups``: one per image, may be empty strings."""
    answered = np.array([place not in answers.unread for place in range(len(labels))], bool)
    probabilities = np.nan_to_num(answers.probabilities)
    digits = np.where(answered, probabilities.argmax(axis=1), -1)
    confidences = probabilities.max(axis=1)
    correct = digits == labels
    counts = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(counts, (labels[answered], digits[answered]), 1)
    wrong = np.flatnonzero(answered & ~correct)
    bins = reliability(confidences[answered], correct[answered])
    rejections = answers.rejections or [None] * len(labels)
    return Scores(
        images=len(labels),
        accuracy=float(correct.mean()),
        interval=wilson_interval(int(correct.sum()), len(labels)),
        nll=nll(probabilities[answered], labels[answered]),
        ece=ece(bins),
        acceptance=_acceptance(answers.rejections, correct),
        tags={tag: _tag_score(of_tag) for tag, of_tag in _parts(correct, tags).items()},
        groups=_group_score(_parts(correct, groups)),
        precision=_ratio(counts.diagonal(), counts.sum(axis=0)),
        recall=_ratio(counts.diagonal(), np.bincount(labels, minlength=DIGITS)),
        confusion=counts.tolist(),
        reliability=bins,
        risk_coverage=risk_coverage(confidences, correct),
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


def _acceptance(rejections: list[str | None] | None, correct: NDArray[np.bool_]) -> Acceptance | None:
    if rejections is None:
        return None
    accepted = np.array([reason is None for reason in rejections], bool)
    return Acceptance(
        share=float(accepted.mean()),
        wrong=int((accepted & ~correct).sum()),
        accuracy=float(correct[accepted].mean()) if accepted.any() else None,
        reasons=dict(Counter(reason for reason in rejections if reason)),
    )


def _parts(correct: NDArray[np.bool_], column: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The part of ``correct`` for each non-empty value of ``column``."""
    values = np.array(column, str)
    return {str(value): correct[values == value] for value in np.unique(values) if value}


def _tag_score(correct: NDArray[np.bool_]) -> TagScore:
    return TagScore(len(correct), float(correct.mean()), wilson_interval(int(correct.sum()), len(correct)))


def _group_score(groups: dict[str, NDArray[np.bool_]]) -> GroupScore | None:
    if not groups:
        return None
    shares = [float(correct.mean()) for correct in groups.values()]
    return GroupScore(len(shares), float(np.mean(shares)), bootstrap_interval(shares), min(shares))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> list[float | None]:
    return [int(count) / int(total) if total else None for count, total in zip(part, whole, strict=True)]
