"""Rates that people's labels of a part correct: the formulas, against ppi-python, jackknives and simulated truths."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.multitest import multipletests

from judgelm.evaluation.corrected import (
    POINTS,
    Corrected,
    Part,
    difference,
    invert_confusion,
    invert_line,
    more_labels,
    power,
    worth_in_labels,
)
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Mask, constant_interval, share_interval
from judgelm.evaluation.shift import Trait, find_shifts, holm
from judgelm.ranking.corrected import power_ratings

WORTH = np.array([1.0, 0.5, 0.0])
"""of the outcomes win, tie and lose"""


@pytest.fixture(scope="module")
def ppi() -> ModuleType:
    """The library of the authors of prediction-powered inference; importing it silences warnings for good, and to
    compile its loops takes far longer than to run them once.
    """
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("numba").config, "DISABLE_JIT", True)
        return importlib.import_module("ppi_py")


class World:
    """Pairs of which a judge finds the outcome in a share `right` of them, and else likes answer 1."""

    def __init__(self, seed: int, right: float, count: int = 1000, labels: int = 100, a_question: int = 1) -> None:
        random = np.random.default_rng(seed)
        questions = np.repeat(np.arange(count // a_question), a_question)
        # half of what happens in a question happens in all of its samples
        common = random.random(count) < (0.5 if a_question > 1 else 0)
        luck = np.where(common, random.random(count)[questions], random.random(count))
        skill = np.where(common, random.random(count)[questions], random.random(count))
        self.outcomes = np.searchsorted([0.45, 0.65], luck)
        self.said = np.where(skill < right, self.outcomes, random.choice(3, count, p=[0.5, 0.1, 0.4]))
        asked = np.zeros(count, dtype=np.bool_)
        asked[random.choice(count, labels, replace=False)] = True
        self.part = Part(asked, questions)
        self.truth = np.where(asked, self.outcomes, -1)
        self.people = np.where(asked, WORTH[self.outcomes], np.nan)
        self.judge = WORTH[self.said]

    TRUE = float(np.array([0.45, 0.2, 0.35]) @ WORTH)


def holds(found: Corrected, true: float) -> bool:
    estimate = found.estimate(SHARE, 1)
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= true <= estimate.high


@pytest.mark.parametrize("right", [0.0, 0.5, 0.9])
def test_value_weight_and_error_are_those_of_ppi_python(right: float, ppi: ModuleType) -> None:
    world = World(1, right, labels=80)
    asked, found = world.part.asked, power(world.people, world.judge, world.part)
    data = world.people[asked], world.judge[asked], world.judge[~asked]
    assert found.value == pytest.approx(ppi.ppi_mean_pointestimate(*data, lam=found.weight).item(), abs=1e-12)
    low, high = (end.item() for end in ppi.ppi_mean_ci(*data, alpha=0.05))
    # theirs, with the weight that it tunes: a normal quantile, and no correction for mean and weight that are estimated
    theirs, degrees = (high - low) / 2 / 1.959964, 78 if found.weight else 79
    assert found.value == pytest.approx((low + high) / 2, abs=1e-9)
    assert found.variance**0.5 == pytest.approx(theirs * (80 / degrees) ** 0.5, rel=1e-6)
    assert found.half == pytest.approx(theirs * (80 / degrees) ** 0.5 * t.ppf(0.975, degrees), rel=1e-6)


def test_people_alone_are_the_mean_of_labels() -> None:
    world = World(2, 0.8)
    alone = power(world.people, world.judge, world.part, 0.0)
    given = world.people[world.part.asked]
    assert alone.value == pytest.approx(given.mean())
    assert alone.variance == pytest.approx(given.var(ddof=1) / len(given))


def test_samples_of_one_question_that_are_the_same_say_nothing_new() -> None:
    """Each sample twice in its question: the same value, the same variance."""
    world = World(3, 0.7, labels=60)
    twice = Part(np.repeat(world.part.asked, 2), np.repeat(world.part.questions, 2))
    once = power(world.people, world.judge, world.part, 0.4)
    doubled = power(np.repeat(world.people, 2), np.repeat(world.judge, 2), twice, 0.4)
    assert doubled.value == pytest.approx(once.value)
    assert doubled.variance == pytest.approx(once.variance)
    inverted = invert_confusion(world.truth, world.said, world.people, world.part)
    again = invert_confusion(np.repeat(world.truth, 2), np.repeat(world.said, 2), np.repeat(world.people, 2), twice)
    assert inverted is not None
    assert again is not None
    assert (again.value, again.variance) == pytest.approx((inverted.value, inverted.variance))


def test_two_outcomes_are_corrected_as_rogan_and_gladen_did() -> None:
    """(apparent + specificity - 1) / (sensitivity + specificity - 1), with the variance of their delta method."""
    asked = np.arange(10_000) < 100
    truth = np.repeat([0, 2, -1], [40, 60, 9900])
    said = np.repeat([0, 2, 0, 2, 0, 2], [36, 4, 12, 48, 5952, 3948])
    found = invert_confusion(truth, said, POINTS[truth], Part(asked, np.arange(10_000)))
    sensitivity, specificity, apparent = 36 / 40, 48 / 60, 6000 / 10_000
    youden = sensitivity + specificity - 1
    true = (apparent + specificity - 1) / youden
    assert found is not None
    assert found.value == pytest.approx(true)
    of_labels = true**2 * sensitivity * (1 - sensitivity) / 40 + (1 - true) ** 2 * specificity * (1 - specificity) / 60
    # theirs takes all samples for others than those with labels; ours knows that 1 % are the same
    apart = apparent * (1 - apparent) / 10_000 / youden**2 + of_labels / youden**2
    assert found.variance == pytest.approx(apart, rel=0.03)


Formula = Callable[[World, Mask], Corrected]


def of_power(world: World, kept: Mask) -> Corrected:
    return power(world.people[kept], world.judge[kept], world.part.among(kept), 0.5)


def of_confusion(world: World, kept: Mask) -> Corrected:
    found = invert_confusion(world.truth[kept], world.said[kept], world.people[kept], world.part.among(kept))
    assert found is not None
    return found


def of_agreement(world: World, kept: Mask) -> Corrected:
    agrees = (world.said == world.outcomes).astype(np.float64)
    found = invert_confusion(world.truth[kept], world.said[kept], agrees[kept], world.part.among(kept))
    assert found is not None
    return found


def of_line(world: World, kept: Mask) -> Corrected:
    found = invert_line(world.people[kept], world.judge[kept], world.part.among(kept))
    assert found is not None
    return found


def of_difference(world: World, kept: Mask) -> Corrected:
    """Of two models that answered each second sample."""
    first = np.arange(len(world.said)) % 2 == 0
    ours, theirs = (
        power(world.people[side & kept], world.judge[side & kept], world.part.among(side & kept), 0.5)
        for side in (first, ~first)
    )
    return difference(ours, theirs, first[kept], ~first[kept], world.part.among(kept))


@pytest.mark.parametrize("untold", [0, 60])
@pytest.mark.parametrize("formula", [of_power, of_confusion, of_agreement, of_line, of_difference])
def test_variances_are_those_of_leaving_out_one_question_at_a_time(formula: Formula, untold: int) -> None:
    """The jackknife knows no formula. With labels of which some are null, too."""
    world = World(4, 0.75, count=600, labels=300, a_question=3)
    nobody_knows = np.flatnonzero(world.part.asked)[:untold]
    world.truth[nobody_knows], world.people[nobody_knows] = -1, np.nan
    everything = np.ones(600, dtype=np.bool_)
    found = formula(world, everything)
    drops = np.array([formula(world, world.part.questions != question).value for question in range(200)])
    jackknife = 199 / 200 * ((drops - drops.mean()) ** 2).sum()
    assert found.variance == pytest.approx(jackknife, rel=0.06)
    assert found.influence.sum() == pytest.approx(0, abs=1e-9)


def test_null_labels_do_not_bend_what_is_said_of_the_others() -> None:
    """People cannot tell of half of the ties: the rate is that of the other samples."""
    values: dict[str, list[float]] = {"power": [], "confusion": []}
    for seed in range(60):
        world = World(seed, 0.9, labels=300)
        random = np.random.default_rng(seed)
        lost = (world.truth == 1) & (random.random(1000) < 0.5)
        world.truth[lost], world.people[lost] = -1, np.nan
        values["power"].append(power(world.people, world.judge, world.part).value)
        values["confusion"].append(of_confusion(world, np.ones(1000, dtype=np.bool_)).value)
    true = (0.45 + 0.05) / 0.9
    assert np.mean(values["power"]) == pytest.approx(true, abs=0.006)
    assert np.mean(values["confusion"]) == pytest.approx(true, abs=0.006)


@pytest.mark.parametrize("a_question", [1, 5])
@pytest.mark.parametrize("right", [0.0, 0.6, 0.95, 1.0])
def test_intervals_hold_the_truth_whatever_the_judge_is_worth(right: float, a_question: int) -> None:
    """400 data sets; benchmarks/corrected.py has 1,000 of more kinds."""
    held, narrower = [], []
    for seed in range(400):
        world = World(seed, right, labels=200, a_question=a_question)
        alone, powered = (power(world.people, world.judge, world.part, weight) for weight in (0.0, None))
        held.append((holds(alone, World.TRUE), holds(powered, World.TRUE)))
        narrower.append(powered.half / alone.half)
    assert np.all((np.mean(held, axis=0) >= 0.92) & (np.mean(held, axis=0) <= 0.985))
    if right == 0:
        assert np.mean(narrower) == pytest.approx(1, abs=0.03)
    assert np.mean(narrower) < (1.01 if right == 0 else 0.9 if right < 0.9 else 0.65)


def test_a_judge_that_says_the_opposite_is_not_listened_to() -> None:
    world = World(5, 1.0)
    found = power(world.people, 1 - world.judge, world.part)
    assert found.weight == 0
    assert found.value == pytest.approx(np.nanmean(world.people))


def test_a_perfect_judge_leaves_the_doubt_of_labels_that_could_differ() -> None:
    """With 100 labels that all agree, one in a hundred samples could still be judged wrong: the variance says so."""
    world = World(6, 1.0, count=100_000)
    powered = power(world.people, world.judge, world.part)
    assert powered.weight == pytest.approx(1, abs=0.05)
    assert powered.variance == pytest.approx(1 / 100**2, rel=0.05)


def test_a_judge_that_says_the_same_of_all_is_worth_nothing() -> None:
    world = World(7, 0.5)
    alone, powered = (power(world.people, np.ones(1000), world.part, weight) for weight in (0.0, None))
    assert (powered.value, powered.variance, worth_in_labels(alone, powered)) == (alone.value, alone.variance, 0)
    same = np.zeros(1000, dtype=np.int64)
    assert invert_confusion(world.truth, same, world.people, world.part) is None
    assert invert_line(world.people, np.ones(1000), world.part) is None


def test_a_useless_judge_leaves_rogan_and_gladen_wide_open() -> None:
    found = of_confusion(World(8, 0.0), np.ones(1000, dtype=np.bool_))
    assert found.half > 0.5


def test_labels_that_are_all_the_same_have_the_interval_of_a_constant() -> None:
    part = Part(np.arange(50) < 12, np.arange(50))
    people = np.where(part.asked, 1.0, np.nan)
    found = power(people, np.arange(50) / 50, part)
    assert found.weight == 0
    estimate = found.estimate(SHARE, 12)
    assert (estimate.low, estimate.high) == constant_interval(1.0, 12)
    assert invert_confusion(np.where(part.asked, 0, -1), np.arange(50) % 3, people, part) is None


def test_what_nobody_could_tell_makes_nothing_surer() -> None:
    """Of 40 samples that people were asked about, 3 have a label: it is those that count."""
    part, people = Part(np.arange(100) < 40, np.arange(100)), np.full(100, np.nan)
    people[:3] = 1.0
    same = power(people, np.arange(100) / 100, part).estimate(SHARE, 3)
    assert (same.low, same.high) == constant_interval(1.0, 3)
    people[3:6] = 0.0
    differing = power(people, np.arange(100) / 100, part, 0.0)
    assert differing.variance == pytest.approx(np.nanvar(people, ddof=1) / 6)
    assert differing.half == pytest.approx(differing.variance**0.5 * t.ppf(0.975, 5))
    twelve = np.where(np.arange(100) < 12, np.arange(100) % 2, np.nan)
    rated = power_ratings([("a", "b")] * 100, twelve, np.zeros(100), part, 0.0)
    assert rated.degrees == 11
    alone = power_ratings([("a", "b")] * 12, twelve[:12], np.zeros(12), part.among(np.arange(100) < 12), 0.0)
    assert rated.errors == pytest.approx(alone.errors)


def test_labels_of_one_question_have_no_interval_unless_they_are_the_same() -> None:
    one = Part(np.arange(20) < 2, np.arange(20) // 2)
    estimate = power(np.array([1.0, 0.0] + [np.nan] * 18), np.zeros(20), one).estimate(SHARE, 2)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, None, None)
    same = power(np.array([1.0, 1.0] + [np.nan] * 18), np.zeros(20), one).estimate(SHARE, 2)
    assert (same.low, same.high) == constant_interval(1.0, 1)
    with pytest.raises(ValueError, match="there is no label"):
        power(np.full(20, np.nan), np.zeros(20), one)


def test_where_all_samples_have_labels_the_judge_says_nothing() -> None:
    people = World(9, 0.5).judge
    part = Part(np.ones(1000, dtype=np.bool_), np.arange(1000))
    found = power(people, 1 - people, part)
    assert found.weight == 0
    assert found.value == pytest.approx(people.mean())
    estimate = found.estimate(SHARE, 1000)
    assert (estimate.low, estimate.high) == pytest.approx(share_interval(people.mean(), 1000), abs=0.006)


def test_what_a_judge_is_worth_is_what_as_many_labels_would_do() -> None:
    """The variance of people alone, with as many labels more, is that of people and judge."""
    ratios = []
    for seed in range(40):
        world = World(seed, 0.8, count=4000, labels=100)
        alone, powered = (power(world.people, world.judge, world.part, weight) for weight in (0.0, None))
        more = World(seed, 0.8, count=4000, labels=100 + worth_in_labels(alone, powered))
        ratios.append(power(more.people, more.judge, more.part, 0.0).variance / powered.variance)
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_more_labels_are_as_many_as_it_takes() -> None:
    """With the labels that it says, the interval just leaves out what is even."""
    halves = []
    for seed in range(20):
        world = World(seed, 0.7, count=20_000, labels=400)
        alone, powered = (power(world.people, world.judge, world.part, weight) for weight in (0.0, None))
        more = more_labels(alone, powered, powered.value - 0.02)
        assert more is not None
        then = World(seed, 0.7, count=20_000, labels=400 + more)
        halves.append(1.959964 * power(then.people, then.judge, then.part).variance ** 0.5)
    assert np.mean(halves) == pytest.approx(0.02, rel=0.05)
    assert more_labels(alone, powered, powered.value) is None
    small = World(10, 0.7, count=150, labels=100)
    few = [power(small.people, small.judge, small.part, weight) for weight in (0.0, None)]
    assert more_labels(few[0], few[1], few[1].value - 0.02) is None


def ratings_data(seed: int, count: int, labels: int) -> tuple[list[tuple[str, str]], Floats, Floats, Part]:
    """Four models of known strength, and a judge that is right in 70 %."""
    random = np.random.default_rng(seed)
    strengths = np.array([0.8, 0.3, -0.2, -0.9])
    first = random.integers(0, 4, count)
    second = (first + random.integers(1, 4, count)) % 4
    won = random.random(count) < 1 / (1 + np.exp(strengths[second] - strengths[first]))
    judge = np.where(random.random(count) < 0.7, won, random.choice([1.0, 0.0], count, p=[0.7, 0.3]))
    asked = np.arange(count) < labels
    models = [("abcd"[one], "abcd"[other]) for one, other in zip(first, second, strict=True)]
    return models, np.where(asked, won, np.nan), judge, Part(asked, np.arange(count))


@pytest.mark.parametrize("names", ["ab", "abcd"])
@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning", "ignore:Setting penalty=None")
def test_ratings_are_those_of_ppi_pythons_logistic_regression(names: str, ppi: ModuleType) -> None:
    """But for the half tie that each pair gets, which counts for little beside so many labels."""
    models, people, judge, part = ratings_data(0, 8000, 2000)
    among = np.array([set(pair) <= set(names) for pair in models])
    models = [pair for pair, there in zip(models, among.tolist(), strict=True) if there]
    people, judge, part = people[among], judge[among], part.among(among)
    found = power_ratings(models, people, judge, part)
    # the first model's strength is what the others' are held against
    places = np.array([[names.index(one), names.index(other)] for one, other in models])
    design = (np.eye(len(names))[places[:, 0]] - np.eye(len(names))[places[:, 1]])[:, 1:]
    asked = part.asked
    data = design[asked], people[asked], judge[asked], design[~asked], judge[~asked]
    theirs = ppi.ppi_logistic_pointestimate(*data, lam=found.weight)
    assert found.log_odds[1:] - found.log_odds[0] == pytest.approx(theirs, abs=0.01)
    low, high = ppi.ppi_logistic_ci(*data, alpha=0.05)
    assert (low + high) / 2 == pytest.approx(theirs, abs=0.03)
    if names == "ab":
        # of two models either's error is half of that of the difference
        assert 2 * found.errors[0] == pytest.approx((high - low) / 2 / 1.959964, rel=0.01)


def test_ratings_errors_are_those_of_leaving_out_one_question_at_a_time() -> None:
    models, people, judge, part = ratings_data(1, 400, 200)
    found = power_ratings(models, people, judge, part, 0.5)
    drops = []
    for question in range(400):
        kept = part.questions != question
        some = [each for each, there in zip(models, kept.tolist(), strict=True) if there]
        drops.append(power_ratings(some, people[kept], judge[kept], part.among(kept), 0.5).log_odds)
    jackknife = (399 / 400 * ((np.array(drops) - np.mean(drops, axis=0)) ** 2).sum(axis=0)) ** 0.5
    assert found.errors == pytest.approx(jackknife, rel=0.06)


def test_ratings_by_labels_alone_take_no_notice_of_the_judge() -> None:
    models, people, judge, part = ratings_data(2, 400, 100)
    alone, other = (power_ratings(models, people, each, part, 0.0) for each in (judge, 1 - judge))
    assert alone.log_odds == pytest.approx(other.log_odds)
    with pytest.raises(ValueError, match="there is no label"):
        power_ratings(models, np.full(400, np.nan), judge, part)


def test_holm_is_that_of_statsmodels() -> None:
    values = [0.04, 0.001, 0.3, 0.02, 0.02]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def traits(random: np.random.Generator, count: int, a_question: int) -> list[Trait]:
    """Lengths, categories and models that samples of a question have in common, or nearly."""
    questions = np.repeat(np.arange(count // a_question), a_question)
    lengths = np.exp(random.normal(6, 1, count)[questions] + random.normal(0, 0.3, count))
    categories = random.integers(0, 5, count)[questions]
    pairs = zip(random.integers(0, 3, count), random.integers(3, 6, count), strict=True)
    found = [
        Trait.length(lengths.astype(int).tolist()),
        Trait.groups("category", [(str(each),) for each in categories], 0.2),
        Trait.groups("model", [(str(one), str(other)) for one, other in pairs], 0.2),
    ]
    return [each for each in found if each is not None]


@pytest.mark.parametrize("by_question", [False, True])
def test_a_random_part_is_seldom_called_another(by_question: bool) -> None:
    """In at most about 5 % of 200 data sets, whether samples are drawn or whole questions."""
    random, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        questions = np.repeat(np.arange(100), 4)
        drawn = random.random(100)[questions] < 0.2 if by_question else random.random(400) < 0.2
        alarms += any(shift.adjusted < 0.05 for shift in find_shifts(Part(drawn, questions), traits(random, 400, 4)))
    assert alarms <= 20


def test_a_part_of_longer_answers_is_told_with_its_means() -> None:
    random = np.random.default_rng(1)
    lengths = np.exp(random.normal(6, 1, 500)).astype(int)
    asked = random.random(500) < np.where(lengths > 403, 0.3, 0.1)
    part = Part(asked, np.arange(500))
    (shift,) = find_shifts(part, [Trait.length(lengths.tolist())])
    assert shift.adjusted < 1e-4
    means = [np.exp(np.log1p(lengths[those]).mean()) - 1 for those in (asked, ~asked)]
    assert f"{means[0]:.0f} characters where there are labels and of {means[1]:.0f} elsewhere" in shift.found


def test_a_part_of_one_category_is_told_with_its_share() -> None:
    random = np.random.default_rng(2)
    categories = random.choice(["code", "maths", "prose"], 500)
    asked = random.random(500) < np.where(categories == "code", 0.5, 0.1)
    trait = Trait.groups("category", [(each,) for each in categories.tolist()], float(asked.mean()))
    assert trait is not None
    (shift,) = find_shifts(Part(asked, np.arange(500)), [trait])
    shares = [100 * (categories[those] == "code").mean() for those in (asked, ~asked)]
    assert shift.found == (
        f"category code: {shares[0]:.0f} % of the labelled samples and {shares[1]:.0f} % of the others"
    )
    assert Trait.groups("category", [("all",)] * 500, 0.2) is None
    few = Part(np.arange(500) < 5, np.arange(500))
    assert find_shifts(few, [trait]) == []


def test_of_many_groups_the_largest_are_tested() -> None:
    members = [(f"g{number % 400}",) if number % 2 else ("large",) for number in range(20_000)]
    found = Trait.groups("category", members, 0.5)
    assert found is not None
    assert found.columns.shape == (20_000, 50)
    assert found.columns[:, 0].mean() == 0.5
