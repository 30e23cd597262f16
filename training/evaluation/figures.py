"""Figures: everything that a report has measured of one model, None where there was nothing to measure on."""

from dataclasses import dataclass

from training.evaluation.rejection import RejectionScores
from training.evaluation.scoring import Scores


@dataclass(frozen=True)
class Figures:
    """``images``: of other people. ``outliers``: against these where there are, else against MNIST's test digits.

    ``corruptions``: accuracy by name, of ``corrupted`` images each.
    """

    test: Scores
    validation: Scores
    images: Scores | None
    semeion: Scores | None
    outliers: RejectionScores | None
    several: RejectionScores | None
    corrupted: int
    corruptions: dict[str, float] | None

    @property
    def sets(self) -> dict[str, Scores]:
        """The sets of digits that were measured, by name."""
        sets = {"test": self.test, "validation": self.validation, "images": self.images, "semeion": self.semeion}
        return {name: scores for name, scores in sets.items() if scores}

    @property
    def to_reject(self) -> dict[str, RejectionScores]:
        """The sets that should be rejected and were measured, by name."""
        return {name: scores for name, scores in (("outliers", self.outliers), ("several", self.several)) if scores}

    @property
    def corrupted_accuracy(self) -> float | None:
        """The mean over the corruptions."""
        return sum(self.corruptions.values()) / len(self.corruptions) if self.corruptions else None
