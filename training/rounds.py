"""Rounds: the network itself looks for hard outliers among the sources. Independent of where the pictures come from.

Source of the idea: Shrivastava, Gupta and Girshick 2016, Training Region-based Object Detectors with Online Hard
Example Mining.
"""

import numpy as np
from numpy.typing import NDArray

from app.model.decision import outlier_scores

LOOKALIKE = 0.95  # more probably a digit than this, though learnt as an outlier: it looks like one to people, too
EASY = 0.1  # weight of an outlier that is surely no digit, against 1.1 for the hardest


def resampled(kept: NDArray[np.int64], logits: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """As many of the ``kept`` samples, sorted, the hard ones several times. ``logits``: (n, 11) of each of them.

    Lookalikes are left out, unless all are.
    """
    digit = 1 / (1 + np.exp(outlier_scores(logits)))
    weights = np.where(digit > LOOKALIKE, 0, EASY + digit)
    if not weights.any():
        return kept
    return np.sort(np.random.default_rng(seed).choice(kept, len(kept), p=weights / weights.sum()))
