"""Probabilities and true outcomes -> the map between them, the share at which a tie is called, and parts to check on.

Probabilities are of win, tie and lose of answer 1 in the file's order [n, orders, 3], truths places in `OUTCOMES` [n].
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from judgelm.calibration import LEAST, Curve, Isotonic, Temperature
from judgelm.evaluation.metrics.agreement import OUTCOMES, Codes
from judgelm.evaluation.metrics.intervals import Floats
from judgelm.judgement import Outcome

_WIN, _TIE, _LOSE = (OUTCOMES.index(outcome) for outcome in (Outcome.WIN, Outcome.TIE, Outcome.LOSE))
TEMPERATURES = (0.05, 20.0)
"""the lowest and the highest that are tried"""
MOST_TIE = 10.0
"""the largest bias of ties, either way"""
_MOST_SHARE = 1e12
"""of P(tie) to the likelier answer's probability that a threshold is tried for, or to the other side"""


def fit_temperature(probabilities: Floats, truth: Codes) -> Temperature:
    """The temperature and the bias of ties by which the mean over the orders makes the truth likeliest (Guo et al.
    2017; the mean of several orders is what a verdict is taken from, so that is what is fitted).
    """
    from scipy.optimize import minimize

    logs = np.log(np.maximum(probabilities, LEAST))
    samples = np.arange(len(truth))

    def loss(values: Floats) -> float:
        scaled = logs * np.exp(-values[0])
        scaled[..., _TIE] += values[1]
        shares = np.exp(scaled - scaled.max(axis=2, keepdims=True))
        mean = (shares / shares.sum(axis=2, keepdims=True)).mean(axis=1)
        return float(-np.log(np.maximum(mean[samples, truth], LEAST)).mean())

    bounds = [(np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1])), (-MOST_TIE, MOST_TIE)]
    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=bounds)
    return Temperature(float(np.exp(found.x[0])), float(found.x[1]))


def fit_isotonic(probabilities: Floats, truth: Codes) -> Isotonic:
    """Two monotone regressions (Zadrozny & Elkan 2002): of "this answer wins" on P(win) and P(lose) together, of "tie"
    on P(tie). Each order is an observation of its own; of several, a temperature makes their mean as sure as it is
    right.
    """
    orders = probabilities.shape[1]
    true = np.repeat(truth, orders)
    win, tie, lose = (probabilities[:, :, place].ravel() for place in (_WIN, _TIE, _LOSE))
    decided = _curve(np.concatenate([win, lose]), np.concatenate([true == _WIN, true == _LOSE]))
    found = Isotonic(decided, _curve(tie, true == _TIE))
    if orders == 1:
        return found
    mapped = [[found(*order) for order in sample] for sample in probabilities.tolist()]
    return replace(found, mean=fit_temperature(np.array(mapped), truth))


def _curve(given: Floats, happened: NDArray[np.bool_]) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(given, happened.astype(np.float64))
    return Curve(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def fit_tie_threshold(probabilities: Floats, truth: Codes) -> float:
    """The threshold of `calibration.decide` nearest to 1, with which a tie is called where it is likeliest, that is not
    surely worse than the one with which most verdicts are right, of probabilities [n, 3].

    Surely is by more than a standard error of the difference, at most the root of the verdicts that differ; so what
    was gained by chance counts less (the rule of one standard error, Breiman et al. 1984).
    """
    win, tie, lose = (probabilities[:, place] for place in (_WIN, _TIE, _LOSE))
    most = np.maximum(win, lose)
    shares = np.divide(tie, most, out=np.full(len(tie), np.inf), where=most > 0)
    decided = np.where(win > lose, _WIN, np.where(win < lose, _LOSE, _TIE))
    order = np.argsort(shares)
    right_decided, right_ties = (
        np.concatenate([[0], np.cumsum(right[order])]) for right in (decided == truth, truth == _TIE)
    )
    seen = np.unique(shares[(shares < _MOST_SHARE) & (shares > 1 / _MOST_SHARE)])
    thresholds = np.concatenate([[1.0], seen[:1] / 2, np.sqrt(seen[1:] * seen[:-1]), seen[-1:] * 2])
    # so many are below a threshold, and decided
    below = np.searchsorted(shares[order], thresholds)
    right = right_decided[below] + right_ties[-1] - right_ties[below]
    differing = np.abs(below - below[right.argmax()])
    near = thresholds[right >= right.max() - np.sqrt(differing)]
    return float(near[np.abs(np.log(near)).argmin()])


def part_questions(questions: Sequence[str], parts: int, seed: int = 0) -> NDArray[np.int64]:
    """The part that each sample is in, from 0 [n]: all samples of a question in one, parts of as many questions, give
    or take one. A question's part depends on which others there are, not on their order.
    """
    ranked = sorted(
        set(questions), key=lambda each: hashlib.sha256(f"{seed}:{each}".encode(errors="surrogatepass")).digest()
    )
    part = {question: place % parts for place, question in enumerate(ranked)}
    return np.array([part[question] for question in questions], dtype=np.int64)
