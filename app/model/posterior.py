"""How probable a reading is: calibrated, or a posterior over what the number can be."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.model.lattice import log_sum

_CALIBRATION = (-0.92, 0.59, 0.28, 1.34, -1.92)  # of the log-odds: 1, share, worst digit, log of digits, ink beside
LEAST_DOUBT = 1e-4  # about a reading without rivals
_LISTED, _FEWEST_UNLISTED = 0.9, 100  # how probable it is that a number is on its list; numbers that are not on it
MOST_READINGS = 11  # of a number: the best and its alternatives


def calibrated(share: float, worst: float, digits: int, *, is_beside: bool) -> float:
    """The probability that a number is right. ``share``: of its reading among all; ``worst``: digit's score."""
    features = 1, math.log((share + LEAST_DOUBT) / (1 - share + LEAST_DOUBT)), worst, math.log(digits), is_beside
    return 1 / (1 + math.exp(-sum(weight * feature for weight, feature in zip(_CALIBRATION, features, strict=True))))


def posterior(
    texts: Sequence[str], fits: NDArray[np.float64], alike: float, masses: dict[str, float]
) -> tuple[dict[str, float], float]:
    """The probability of each candidate, and that the number is none of them (Bayes' rule).

    Before it is read, every candidate is as probable as another. So is every other number that has one of the
    candidates' digits in each place: there are few beside a dense list, and very many beside a random one.
    """
    prior = math.log(_LISTED / max(1, int((fits > -math.inf).sum())))
    unlisted = max(math.log(_FEWEST_UNLISTED), alike)
    listed = set(texts)
    others = [mass + math.log(1 - _LISTED) - unlisted for text, mass in masses.items() if text not in listed]
    rest = log_sum(others)
    total = log_sum([prior + float(np.logaddexp.reduce(fits)), rest])
    best = np.argsort(-fits)[:MOST_READINGS].tolist() if total > -math.inf else []
    probable = {texts[each]: math.exp(float(fits[each]) + prior - total) for each in best if fits[each] > -math.inf}
    return probable, math.exp(rest - total) if probable else 1.0
