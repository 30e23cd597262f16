"""Picture -> reading: the only place that reads, looks again and decides. Pure and synchronous.

`Reader.read` does it all with a model that answers at once. A caller that has to await the model takes the same steps:
`judge`, and for a reading that `needs_retry`, `settle` with the logits of its `alternative_inks`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.imaging.preprocess import Ink, Preprocessed, alternative_inks
from app.model.decision import Rejection, best_candidate, decide, rejection, risk_rejection
from app.model.engine import Logits
from app.model.manifest import RiskCurve, Thresholds

Run = Callable[[Ink], Logits]  # (n, 28, 28, 1) -> (n, 10 or 11)


class Reading(NamedTuple):
    """What was found in a picture, and what the model makes of it.

    ``found``: the ink that decided. ``probabilities``: of the ten digits, calibrated. ``outlier_score``: log-odds that
    the ink as found is not a digit. ``alternative``: 0 for the ink as found, n for the n-th of the alternatives.
    """

    found: Preprocessed
    probabilities: list[float]
    outlier_score: float
    rejection: Rejection | None
    alternative: int = 0

    def rejection_at(self, accept_risk: float, curve: RiskCurve) -> Rejection | None:
        """Why not to accept it if ``accept_risk`` decides instead of the thresholds."""
        if self.rejection is not None and self.rejection.reason == "several_digits":
            return self.rejection
        outlier_score = math.inf if self.alternative else self.outlier_score  # what `settle` rejects stays rejected
        return risk_rejection(curve, accept_risk, outlier_score, max(self.probabilities))


@dataclass(frozen=True)
class Reader:
    """Reads with the temperature and the thresholds of one model."""

    temperature: float
    thresholds: Thresholds

    def read(self, found: Preprocessed, run: Run) -> Reading:
        """The reading of one picture. Raises RuntimeError if the model gives a NaN."""
        return self.look_again(self.judge(found, run(found.ink[None])[0]), run)

    def look_again(self, first: Reading, run: Run) -> Reading:
        """The reading to answer with: ``first``, or that of another ink where ``first`` needs a retry."""
        inks = alternative_inks(first.found) if self.needs_retry(first) else []
        return self.settle(first, inks, run(np.stack([found.ink for found in inks]))) if inks else first

    def judge(self, found: Preprocessed, logits: Logits) -> Reading:
        """The reading of one ink, (10 or 11,) logits. Raises RuntimeError for a NaN."""
        probable, outlier_score = decide(logits.tolist(), self.temperature)
        if math.isnan(sum(probable)) or math.isnan(outlier_score):
            raise RuntimeError("the engine gave a NaN")
        why = rejection(self.thresholds, outlier_score, max(probable), found.digits)
        return Reading(found, probable, outlier_score, why)

    def needs_retry(self, first: Reading) -> bool:
        """Whether to try the alternative inks of the picture, because this one does not look like a digit."""
        return first.rejection is not None and first.rejection.reason == "not_a_digit"

    def settle(self, first: Reading, inks: Sequence[Preprocessed], logits: Iterable[Logits]) -> Reading:
        """The best of ``first`` and the alternative ``inks``, by their ``logits``.

        It stays rejected: which way up, or which polarity, was a guess.
        """
        others = [self.judge(found, row) for found, row in zip(inks, logits, strict=True)]
        place = best_candidate([first.outlier_score, *(other.outlier_score for other in others)])
        if place == 0:
            return first
        best = others[place - 1]
        return first._replace(found=best.found, probabilities=best.probabilities, alternative=place)
