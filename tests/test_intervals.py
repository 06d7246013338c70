from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from statsmodels.stats.proportion import proportion_confint

from judgelm.evaluation.metrics.intervals import (
    Statistic,
    bootstrap,
    constant_interval,
    estimates,
    percentiles,
    quotient,
    share_interval,
)
from judgelm.evaluation.rate import Rate, mean_rate


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (70, 100), (5, 5), (1, 1), (0, 1)])
def test_wilson_is_that_of_statsmodels(successes: int, count: int) -> None:
    found = share_interval(successes / count, count)
    assert found == pytest.approx(proportion_confint(successes, count, method="wilson"), abs=1e-6)
    if successes in (0, count):
        assert constant_interval(successes / count, count) == pytest.approx(found)


@pytest.mark.parametrize("questions", [1, 2, 4, 100])
def test_where_all_agree_the_interval_is_wilsons_over_the_questions(questions: int) -> None:
    clusters = [str(k % questions) for k in range(3 * questions)]
    for share in (0, 1):
        found = mean_rate([share] * len(clusters), clusters)
        expected = proportion_confint(share * questions, questions, method="wilson")
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-6), "samples of a question count once"


def test_questions_that_a_share_is_not_of_do_not_make_it_surer() -> None:
    """Two of fifty questions have a denominator: Wilson of two."""
    asked = [1, 1] + [0] * 48
    found = estimates({"share": quotient(asked, asked)}, [str(k) for k in range(50)])["share"]
    assert (found.value, found.low, found.high) == pytest.approx((1, 0.342380, 1), abs=1e-5)


def test_what_is_the_same_in_all_questions_could_be_anything_in_the_others() -> None:
    """Twenty questions: at most 16.11 % of all could differ, to either end of what a sample can be."""
    clusters = [str(k) for k in range(20)]
    most = 0.161125
    for value, span in ((0.0, (-1.0, 1.0)), (0.5, (0.0, 1.0)), (0.3, (0.0, 1.0)), (1.5, (0.0, 2.0))):
        found = mean_rate([value] * 20, clusters, span=span)
        expected = [value + most * (end - value) for end in span]
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


def test_a_number_that_is_no_mean_has_no_interval_where_all_draws_are_the_same() -> None:
    statistic = Statistic(np.ones((5, 1)), lambda sums: np.sign(sums[..., 0]), 5)
    found = estimates({"sign": statistic}, list("abcde"))["sign"]
    assert (found.value, found.low, found.high) == (1, None, None)
    slow = bootstrap(lambda weights: 1.0, list("abcde"))
    assert (slow.value, slow.low, slow.high) == (1, None, None)


def test_a_number_that_nearly_all_draws_give_alike_is_not_certain() -> None:
    """Two confidences of one half, once right and once wrong: calibrated, by two samples."""
    gaps = Statistic(np.array([[-0.5], [0.5]]), lambda sums: np.abs(sums[..., 0]) / 2, 2, biased=True)
    for seed in range(20):
        found = estimates({"gap": gaps}, ["a", "b"], resamples=31, seed=seed)["gap"]
        assert found.value == 0
        assert found.low is None or found.low < (found.high or 0)
    # of 200 questions one differs: most draws say 0 or little more
    rare = quotient([1] + [0] * 199, [1] * 200)
    for seed in range(20):
        found = estimates({"rare": rare}, [str(k) for k in range(200)], resamples=5, seed=seed)["rare"]
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high


def test_an_undefined_number_is_null_and_has_no_interval() -> None:
    found = estimates({"nothing": quotient([0, 0], [0, 0])}, ["a", "b"])["nothing"]
    assert Rate.of(found).to_record() == {"value": None, "low": None, "high": None, "count": 0}


def test_what_drawing_alone_raises_is_taken_back() -> None:
    """The absolute mean of fair coins: its draws are larger than itself, so that plain percentiles would miss it."""
    coins = np.tile([1.0, -1.0], 50)
    columns = np.stack([coins, np.ones(100)], axis=1)
    statistic = Statistic(columns, lambda sums: np.abs(sums[..., 0]) / sums[..., 1], 100, biased=True)
    found = estimates({"gap": statistic}, [str(k) for k in range(100)])["gap"]
    assert found.low == found.value == 0
    assert found.high is not None
    assert 0.05 < found.high < 0.3


def test_a_mean_of_independent_samples_has_scipys_percentile_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 300)
    found = mean_rate(values, [str(k) for k in range(300)], resamples=4000)
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
    quick = estimates({"ratio": quotient(above * below, below)}, clusters)["ratio"]
    slow = bootstrap(lambda weights: float((weights * above * below).sum() / (weights * below).sum()), clusters)
    assert (quick.value, quick.low, quick.high) == pytest.approx((slow.value, slow.low, slow.high))
    assert quick.count == below.sum()


def test_one_question_is_hardly_an_interval_and_nothing_is_no_share() -> None:
    found = mean_rate([1, 0], ["same", "same"])
    assert (found.low, found.high) == pytest.approx((0.5 - 0.793450 / 2, 0.5 + 0.793450 / 2), abs=1e-6)
    with pytest.raises(ValueError, match="mean of nothing"):
        mean_rate([], [])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Questions of five pairs each that mostly agree with one another: an interval that took pairs for independent
    would cover far too seldom.
    """
    draw = np.random.default_rng(3)
    clusters = [str(k // 5) for k in range(500)]
    covered = 0
    for seed in range(1000):
        chance = draw.beta(2, 1, 100).repeat(5)
        found = mean_rate(draw.random(500) < chance, clusters, resamples=500, seed=seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2 / 3 <= found.high
    assert 0.93 <= covered / 1000 <= 0.97
