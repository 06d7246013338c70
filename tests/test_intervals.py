from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from statsmodels.stats.proportion import proportion_confint

from judgelm.llm_judge.intervals import bootstrap, ratio, wilson


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (70, 100), (5, 5)])
def test_wilson_is_that_of_statsmodels(successes: int, count: int) -> None:
    found = wilson(successes, count)
    assert (found.low, found.high) == pytest.approx(proportion_confint(successes, count, method="wilson"))


def test_a_mean_of_independent_samples_has_scipys_percentile_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 300)
    found = ratio(values, [str(k) for k in range(300)], resamples=4000)
    oracle = scipy_bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(oracle), abs=0.03)


def test_a_ratio_and_the_general_bootstrap_agree() -> None:
    draw = np.random.default_rng(2)
    above, below = draw.random(120), draw.integers(0, 2, 120)
    clusters = [str(k % 40) for k in range(120)]
    quick = ratio(above * below, clusters, below)
    slow = bootstrap(lambda weights: float((weights * above * below).sum() / (weights * below).sum()), clusters)
    assert (quick.value, quick.low, quick.high) == pytest.approx((slow.value, slow.low, slow.high))
    assert quick.count == below.sum()


def test_one_question_gives_no_interval_and_nothing_is_no_share() -> None:
    assert ratio([1, 0], ["same", "same"]).low is None
    with pytest.raises(ValueError, match="share of nothing"):
        ratio([1], ["a"], [0])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Questions of five pairs each that mostly agree with one another: an interval that took pairs for independent
    would cover far too seldom.
    """
    draw = np.random.default_rng(3)
    clusters = [str(k // 5) for k in range(500)]
    covered = 0
    for seed in range(1000):
        chance = draw.beta(2, 1, 100).repeat(5)
        found = ratio(draw.random(500) < chance, clusters, resamples=400, seed=seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2 / 3 <= found.high
    # percentiles of 100 clusters cover a little too seldom: 94 % in 4,000 trials
    assert 0.92 <= covered / 1000 <= 0.97
