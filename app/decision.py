"""Logits -> calibrated probabilities. Knows nothing of images or requests."""

import numpy as np
from numpy.typing import NDArray


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Softmax of ``logits / temperature``: float64 (n, classes), each row sums to 1.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float64)
