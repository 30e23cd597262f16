"""The risk curve of the manifest: how often answers are wrong, by the model's own estimate. Independent of models."""

import numpy as np
from numpy.typing import NDArray

from app.model.decision import DIGITS, error_score, outlier_scores, probabilities
from app.model.manifest import RiskCurve
from training.data.arrays import Labels

NO_DIGIT = DIGITS  # the label of a picture without a digit
WITHOUT_DIGIT = 0.1  # share of pictures without a digit that the risk assumes; nobody knows that of real traffic
KNOTS = 30  # at most
_LOWEST_SCORE = 1e-12  # below it rounding decides


def fit_risk(
    logits: NDArray[np.float32], labels: Labels, temperature: float, weights: NDArray[np.float64] | None = None
) -> RiskCurve:
    """The risk that an answer is wrong, by its error score. ``logits``: (n, 11). ``labels``: (n,), with `NO_DIGIT`.

    ``weights``: (n,); by default, pictures without a digit count as `WITHOUT_DIGIT` of all. Isotonic regression by
    pool adjacent violators. Each pool counts one more picture, a wrong one: a few right ones do not make a low risk.
    Source: Zadrozny and Elkan 2002, Transforming Classifier Scores into Accurate Multiclass Probability Estimates.
    """
    none = labels == NO_DIGIT
    if weights is None:
        odds = WITHOUT_DIGIT / (1 - WITHOUT_DIGIT)
        weights = np.where(none, odds * int((~none).sum()) / max(1, int(none.sum())), 1.0)
    rows = probabilities(logits, temperature)
    pairs = np.stack([rows.max(axis=1), outlier_scores(logits)], axis=1).tolist()
    scores = np.clip([error_score(*pair) for pair in pairs], _LOWEST_SCORE, 1)
    summands = np.stack([weights, weights * (rows.argmax(axis=1) != labels), weights * np.log(scores)], axis=1)
    pools: list[NDArray[np.float64]] = []  # the weight of all, of the wrong; the weighted sum of log scores
    for pool in summands[np.lexsort((-summands[:, 1], scores))]:  # of equal scores, the wrong first: one pool
        while pools and pools[-1][1] * pool[0] >= pools[-1][0] * pool[1]:  # no more of them are wrong
            pool = pool + pools.pop()
        pools.append(pool)
    weight, wrong, log_score = np.array(pools).T
    risks = (wrong + weights.max()) / (weight + weights.max())
    risks = np.minimum.accumulate(risks[::-1])[::-1]  # a lower score has no higher risk
    kept = np.unique(np.searchsorted(risks, np.geomspace(risks[0], risks[-1], KNOTS - 1)))
    return RiskCurve(
        pictures=len(labels),
        without_digit=round(float(np.average(none, weights=weights)), 4),
        scores=(*[float(f"{score:.4g}") for score in np.exp(log_score / weight)[kept]], 1.0),
        risks=(*[float(f"{risk:.4g}") for risk in risks[kept]], 1.0),
    )
