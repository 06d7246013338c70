"""Maps of probabilities: what is computed, and that what is fitted is not what is checked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from calibrating import CODE, Floats, judge_that_errs, shares
from sklearn.isotonic import IsotonicRegression

from judgelm.calibration import Calibration, Curve, Isotonic, Temperature, decide
from judgelm.errors import InputError
from judgelm.evaluation.calibrate import (
    PARTS,
    Labelled,
    calibrate,
    cross_fit,
    default_method,
    fit,
    make_map,
    mapped,
)
from judgelm.evaluation.metrics.agreement import OUTCOMES
from judgelm.evaluation.metrics.maps import fit_isotonic, fit_temperature, fit_tie_threshold, part_questions
from judgelm.judgement import Outcome


def labelled(given: Floats, truth: Any, per_question: int = 1) -> Labelled:
    return Labelled(given, truth, [f"question {place // per_question}" for place in range(len(truth))])


# what is computed


@pytest.mark.parametrize(
    "found",
    [
        Temperature(2.5, -0.4),
        Temperature(0.3),
        Isotonic(Curve((0.1, 0.5, 0.9), (0.0, 0.4, 0.7)), Curve((0.2, 0.6), (0.1, 0.8)), Temperature(0.7, 0.1)),
    ],
)
def test_exchanged_answers_give_exchanged_probabilities_bit_for_bit(found: Temperature | Isotonic) -> None:
    random = np.random.default_rng(3)
    for win, tie, lose in random.dirichlet([1, 1, 1], 200).tolist():
        there = found(win, tie, lose)
        assert found(lose, tie, win) == there[::-1]
        assert sum(there) == pytest.approx(1)
    whole = Calibration(found, 0.8, {}).apply(shares(0.6, 0.1, 0.3))
    assert Calibration(found, 0.8, {}).apply(shares(0.3, 0.1, 0.6)) == whole.swapped()


def test_a_temperature_is_what_it_says() -> None:
    # by hand: square roots of 0.64, 0.04 and 0.32, the middle one times 3
    found = Temperature(2.0, float(np.log(3)))(0.64, 0.04, 0.32)
    parts = np.array([0.8, 0.2 * 3, 0.32**0.5])
    assert found == pytest.approx(parts / parts.sum())
    assert Temperature(1.0)(0.5, 0.2, 0.3) == pytest.approx((0.5, 0.2, 0.3))
    # a judge that was sure and wrong can be made less sure
    assert Temperature(20.0)(1.0, 0.0, 0.0)[2] > 0.1


def test_curves_are_straight_between_points_and_flat_beyond() -> None:
    curve = Curve((0.2, 0.4, 0.8), (0.1, 0.3, 0.3))
    given = [0.0, 0.2, 0.25, 0.4, 0.6, 0.8, 1.0]
    assert [curve(each) for each in given] == pytest.approx(np.interp(given, curve.x, curve.y))
    nothing = Isotonic(Curve((0.5,), (0.0,)), Curve((0.5,), (0.0,)))
    assert nothing(0.5, 0.2, 0.3) == (0.5, 0.2, 0.3)


@pytest.mark.parametrize(
    ("given", "threshold", "said"),
    [
        ((0.5, 0.2, 0.3), 1.0, Outcome.WIN),
        ((0.5, 0.2, 0.3), 0.4, Outcome.TIE),
        ((0.3, 0.2, 0.5), 0.41, Outcome.LOSE),
        ((0.45, 0.1, 0.45), 1.0, Outcome.TIE),
        ((0.3, 0.4, 0.3), 2.0, Outcome.TIE),
        ((0.35, 0.4, 0.25), 2.0, Outcome.WIN),
    ],
)
def test_a_tie_is_called_by_its_share_of_the_likelier_answer(
    given: tuple[float, float, float], threshold: float, said: Outcome
) -> None:
    assert decide(shares(*given), threshold) is said
    assert decide(shares(*given[::-1]), threshold) is said.swapped()


@pytest.mark.parametrize(("temperature", "tie", "orders"), [(2.0, 0.0, 2), (0.5, 0.0, 1), (3.0, 1.0, 2), (1.0, 0.0, 1)])
def test_a_planted_temperature_is_found_again(temperature: float, tie: float, orders: int) -> None:
    given, truth = judge_that_errs(4000, temperature, tie, orders)
    found = fit_temperature(given, truth)
    # of 4,000 labels: the standard error is about 3 %
    assert found.temperature == pytest.approx(temperature, rel=0.12)
    assert found.tie == pytest.approx(tie, abs=0.2)


def test_a_temperature_is_fitted_to_the_mean_of_both_orders() -> None:
    # an order alone is right half of the time that it is sure; both together say so already
    given = np.array([[[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]]] * 100 + [[[0.9, 0.05, 0.05]] * 2] * 100)
    truth = np.array([0, 2] * 50 + [0] * 95 + [2] * 5)
    assert fit_temperature(given, truth).temperature == pytest.approx(1, abs=0.2)
    assert fit_temperature(given[:, :1], truth).temperature > 1.5


def test_isotonic_steps_of_two_orders_are_right_in_their_mean() -> None:
    # by itself each order is right as often as it says; both together know more
    random = np.random.default_rng(1)
    first, second = random.random((2, 3000)) < 0.8
    truth = np.where(random.random(3000) < 0.5, 0, 2)
    right, wrong = [0.79, 0.01, 0.2], [0.2, 0.01, 0.79]
    given = np.where(np.stack([first, second], axis=1)[:, :, None], right, wrong)
    given = np.where((truth == 0)[:, None, None], given, given[:, :, ::-1])
    found = fit_isotonic(given, truth)
    both = mapped(found, given)[first & second]
    # 0.8 * 0.8 against 0.2 * 0.2
    assert both.max(axis=1).mean() == pytest.approx(0.64 / 0.68, abs=0.03)
    assert fit_isotonic(given[:, :1], truth).mean == Temperature(1.0)
    assert found.mean.temperature < 0.9


def test_isotonic_steps_are_those_of_scikit_learn() -> None:
    given, truth = judge_that_errs(300, 2.0)
    given[:, 1] = given[::-1, 0]
    found = fit_isotonic(given, truth)
    wins = [(order[0], code == 0) for sample, code in zip(given, truth, strict=True) for order in sample]
    losses = [(order[2], code == 2) for sample, code in zip(given, truth, strict=True) for order in sample]
    ties = [(order[1], code == 1) for sample, code in zip(given, truth, strict=True) for order in sample]
    asked = np.linspace(0, 1, 101)
    for curve, pairs in ((found.decided, wins + losses), (found.tie, ties)):
        theirs = IsotonicRegression(out_of_bounds="clip").fit(*np.array(pairs, dtype=float).T)
        assert [curve(each) for each in asked] == pytest.approx(theirs.predict(asked))
        assert all(low <= high for low, high in pairwise(curve.y))


def verdicts_of(given: Floats, threshold: float) -> Any:
    said = [CODE[decide(dict(zip(OUTCOMES, row, strict=True)), threshold)] for row in given.tolist()]
    return np.array(said)


def test_the_threshold_for_ties_is_not_surely_worse_than_any() -> None:
    random = np.random.default_rng(5)
    grid = np.exp(np.linspace(-5, 5, 401))
    moved = 0
    for _ in range(10):
        given, truth = random.dirichlet([3, 1, 3], 60), random.choice(3, 60, p=[0.3, 0.4, 0.3])
        found = fit_tie_threshold(given, truth)
        said = verdicts_of(given, found)
        others = [verdicts_of(given, threshold) for threshold in grid]
        best = max(others, key=lambda each: (each == truth).sum())
        assert (best == truth).sum() - (said == truth).sum() <= (best != said).sum() ** 0.5
        # none that is as good is nearer to 1
        for threshold, other in zip(grid, others, strict=True):
            if (other == truth).sum() == (best == truth).sum():
                assert abs(np.log(found)) <= abs(np.log(threshold)) + 0.03
        moved += found != 1.0
    assert moved >= 3


def test_a_tie_is_called_where_it_is_likeliest_unless_another_threshold_is_surely_better() -> None:
    sure = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert fit_tie_threshold(sure, np.array([0, 1])) == 1.0
    # one label more among nine is chance, nine are not; never a tie, always one
    leaning = np.array([[0.5, 0.4, 0.1]] * 9)
    assert fit_tie_threshold(leaning, np.array([0] * 4 + [1] * 5)) == 1.0
    assert fit_tie_threshold(leaning, np.ones(9, int)) <= 0.8
    assert fit_tie_threshold(np.array([[0.4, 0.5, 0.1]] * 9), np.zeros(9, int)) > 1.25
    assert fit_tie_threshold(np.array([[0.0, 1.0, 0.0]]), np.array([1])) == 1.0
    # no threshold that a map's file could not hold, though it would be right
    assert fit_tie_threshold(np.array([[1e-20, 1.0, 0.0]] * 40), np.zeros(40, int)) == 1.0
    assert fit_tie_threshold(np.array([[1e-200, 1.0, 0.0], [1e-201, 1.0, 0.0]] * 20), np.zeros(40, int)) == 1.0


# what is fitted is not what is checked


def test_no_question_is_on_both_sides_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    given, truth = judge_that_errs(200, 2.0)
    whole = labelled(given, truth, per_question=2)
    fitted: list[set[str]] = []

    def spy(some: Labelled, method: str) -> Temperature | Isotonic:
        fitted.append(set(some.questions))
        return fit(some, method)

    monkeypatch.setattr("judgelm.evaluation.calibrate.fit", spy)
    cross_fit(whole, "temperature")
    part = part_questions(whole.questions, PARTS)
    held_out = [{q for q, one in zip(whole.questions, part, strict=True) if one == each} for each in range(PARTS)]
    assert [used & kept for used, kept in zip(fitted, held_out, strict=True)] == [set()] * PARTS
    assert [len(used | kept) for used, kept in zip(fitted, held_out, strict=True)] == [100] * PARTS


def test_parts_hold_whole_questions_alike_many_and_in_any_order() -> None:
    questions = [f"q{place % 41}" for place in range(200)]
    part = part_questions(questions, 5)
    of = {
        question: {int(each) for q, each in zip(questions, part, strict=True) if q == question}
        for question in questions
    }
    assert all(len(each) == 1 for each in of.values())
    sizes = [sum(each == {number} for each in of.values()) for number in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert part_questions(questions[::-1], 5)[::-1].tolist() == part.tolist()
    assert part_questions(questions, 5, seed=1).tolist() != part.tolist()


def test_a_label_changes_no_verdict_on_its_own_question() -> None:
    given, truth = judge_that_errs(120, 2.0)
    after, verdicts = cross_fit(labelled(given, truth), "isotonic")
    part = part_questions(labelled(given, truth).questions, PARTS)
    changed = np.where(part == 0, (truth + 1) % 3, truth)
    again, said = cross_fit(labelled(given, changed), "isotonic")
    assert again[part == 0].tolist() == after[part == 0].tolist()
    assert said[part == 0].tolist() == verdicts[part == 0].tolist()
    assert again[part == 1].tolist() != after[part == 1].tolist()


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_map_helps_a_judge_that_errs_on_questions_that_it_never_saw(method: str) -> None:
    found = make_map(labelled(*judge_that_errs(600, 3.0, seed=1)), method, {})
    for name in ("brier", "calibration_error"):
        checked = found.checked[name]
        assert checked.difference.high is not None
        assert checked.difference.high < 0, name
        assert checked.difference.value == pytest.approx((checked.after.value or 0) - (checked.before.value or 0))
    # what it promises holds for others
    given, truth = judge_that_errs(4000, 3.0, seed=2)
    after = mapped(found.map.function, given)
    score = ((after - np.eye(3)[truth]) ** 2).sum(axis=1).mean()
    promised = found.checked["brier"].after
    assert promised.low is not None
    assert promised.high is not None
    assert promised.low - 0.02 < score < promised.high + 0.02


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_calibrated_judge_stays_as_it_is_within_noise(method: str) -> None:
    given, truth = judge_that_errs(3000, 1.0)
    found = make_map(labelled(given, truth), method, {})
    assert np.abs(mapped(found.map.function, given) - given[:, 0]).mean() < 0.03
    gained = found.checked["brier"].difference
    assert gained.low is not None
    assert gained.low < 0.01
    assert gained.high is not None
    assert abs(gained.high) < 0.01


def test_a_judge_that_never_calls_a_tie_learns_when_one_is_meant() -> None:
    # people call a tie where the orders contradict each other; the judge says one in a hundred
    random = np.random.default_rng(0)
    agreeing = random.random(600) < 0.6
    first = np.where(random.random(600)[:, None] < 0.5, [0.89, 0.01, 0.10], [0.10, 0.01, 0.89])
    second = np.where(first == 0.89, 0.85, np.where(first == 0.10, 0.14, first))
    given = np.stack([first, np.where(agreeing[:, None], second, second[:, ::-1])], axis=1)
    truth = np.where(agreeing, np.where(first[:, 0] > 0.5, 0, 2), 1)
    checked = make_map(labelled(given, truth), "temperature", {}).checked
    assert checked["agreement"].before.value == pytest.approx(agreeing.mean())
    assert checked["agreement"].after.value == 1.0


def test_the_method_without_one_named_goes_by_the_labels() -> None:
    assert [default_method(count) for count in (50, 999, 1000)] == ["temperature", "temperature", "isotonic"]
    with pytest.raises(InputError, match=r"^method 'platt': expected one of temperature, isotonic$"):
        calibrate("nowhere", method="platt")
