"""How probable a reading is: calibrated, or a posterior over what the number can be."""

import math
from heapq import nlargest
from itertools import zip_longest

import numpy as np

from app.model.lattice import log_sum

_CALIBRATION = (-0.92, 0.59, 0.28, 1.34, -1.92)  # of the log-odds: 1, share, worst digit, log of digits, ink beside
LEAST_DOUBT = 1e-4  # about a reading without rivals
_LISTED, _FEWEST_UNLISTED = 0.9, 100  # how probable it is that a number is on its list; numbers that are not on it
MOST_READINGS = 11  # of a number: the best and its alternatives


def calibrated(share: float, worst: float, digits: int, *, is_beside: bool) -> float:
    """The probability that a number is right. ``share``: of its reading among all; ``worst``: digit's score."""
    features = 1, math.log((share + LEAST_DOUBT) / (1 - share + LEAST_DOUBT)), worst, math.log(digits), is_beside
    return 1 / (1 + math.exp(-sum(weight * feature for weight, feature in zip(_CALIBRATION, features, strict=True))))


def posterior(fits: dict[str, float], masses: dict[str, float]) -> tuple[dict[str, float], float]:
    """The probability of each candidate, and that the number is none of them (Bayes' rule).

    Before it is read, every candidate is as probable as another. So is every other number that has one of the
    candidates' digits in each place: there are few beside a dense list, and very many beside a random one.
    """
    if not fits:
        return {}, 1.0
    prior = math.log(_LISTED / len(fits))
    places = zip_longest(*fits)
    unlisted = max(math.log(_FEWEST_UNLISTED), sum(math.log(len(set(place) - {None})) for place in places))
    others = [mass + math.log(1 - _LISTED) - unlisted for text, mass in masses.items() if text not in fits]
    listed = prior + float(np.logaddexp.reduce(np.array(list(fits.values()))))
    rest = log_sum(others) if others else -math.inf
    total = log_sum([listed, rest])
    best = nlargest(MOST_READINGS, fits, key=fits.__getitem__)
    return {text: math.exp(fits[text] + prior - total) for text in best}, math.exp(rest - total)
