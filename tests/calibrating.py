"""A judge that errs as it is told, for tests of its calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from judgelm.evaluation.metrics.agreement import OUTCOMES
from judgelm.judgement import Outcome

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CODE = {outcome: place for place, outcome in enumerate(OUTCOMES)}


def judge_that_errs(
    count: int, temperature: float, tie: float = 0.0, orders: int = 2, seed: int = 0
) -> tuple[Floats, np.ndarray[Any, Any]]:
    """Probabilities of a judge whose logits are too large by a temperature, and truths drawn from the right ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, 3)) - np.array([0, 1, 0])
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([random.choice(3, p=row) for row in right])
    given = np.exp(logits * temperature - np.array([0, tie, 0]) * temperature)
    given /= given.sum(axis=1, keepdims=True)
    return np.repeat(given[:, None], orders, axis=1), truth


def shares(win: float, tie: float, lose: float) -> dict[Outcome, float]:
    return {Outcome.WIN: win, Outcome.TIE: tie, Outcome.LOSE: lose}
