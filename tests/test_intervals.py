from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from statsmodels.stats.proportion import proportion_confint

from judgelm.llm_judge.intervals import bootstrap, percentiles, ratio, wilson


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


def test_few_questions_give_wider_intervals_than_plain_percentiles() -> None:
    """By hand for 5 clusters: t(0.025, 4) = -2.776, times sqrt(5 / 4) = -3.104, below which lies 0.00095."""
    drawn = np.linspace(0, 1, 100_001)
    assert percentiles(drawn, 5) == pytest.approx((0.00095, 0.99905), abs=2e-5)
    assert percentiles(drawn, 10_000) == pytest.approx((0.025, 0.975), abs=1e-3)


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
        found = ratio(draw.random(500) < chance, clusters, resamples=500, seed=seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2 / 3 <= found.high
    assert 0.93 <= covered / 1000 <= 0.97
