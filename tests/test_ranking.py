from __future__ import annotations

import itertools
import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import evalica
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from judgelm.ranking import Match, RankSettings, rank_matches
from judgelm.ranking.field import Field
from judgelm.ranking.ranking import Ranking
from judgelm.ranking.ratings import ELO_K, elo, fit_ratings
from judgelm.ranking.standings import more_needed
from judgelm.report.ranking_table import matrix_svg, matrix_text

WIN, TIE, LOSE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
POINTS = 400 / math.log(10)


def rank(matches: list[Match], **settings: Any) -> Ranking:
    return rank_matches(matches, RankSettings(**settings))


def bouts(first: str, second: str, outcomes: list[tuple[float, float, float]], tag: str = "") -> list[Match]:
    return [Match(first, second, outcome, f"{tag}q{k}") for k, outcome in enumerate(outcomes)]


def drawn(
    strengths: dict[str, float], questions: int, seed: int, tie: float = 0.0, length_effect: float = 0.0
) -> list[Match]:
    """All pairs of models on each question, by Bradley-Terry, with a share of ties and an effect of lengths."""
    draw = np.random.default_rng(seed)
    found = []
    for k in range(questions):
        lengths = {name: int(draw.integers(50, 1000)) for name in strengths}
        for first in strengths:
            for second in strengths:
                if first < second:
                    longer = length_effect * (lengths[first] - lengths[second]) / 400
                    chance = 1 / (1 + math.exp(strengths[second] - strengths[first] - longer))
                    outcome = TIE if draw.random() < tie else (WIN if draw.random() < chance else LOSE)
                    found.append(Match(first, second, outcome, f"q{k}", (lengths[first], lengths[second])))
    return found


def ratings(ranking: Ranking, kind: str = "bradley_terry") -> dict[str, float]:
    return {model.name: getattr(model, kind).value for model in ranking.models}


def oracle(matches: list[Match], names: list[str]) -> np.ndarray[Any, Any]:
    """Log odds by statsmodels: a binomial regression on aggregated rows and half a tie for each pair that met, one
    model's strength being 0.
    """
    wins = np.zeros((len(names), len(names)))
    for each in matches:
        one, other = names.index(each.first), names.index(each.second)
        wins[one, other] += each.outcomes[0] + each.outcomes[1] / 2
        wins[other, one] += each.outcomes[2] + each.outcomes[1] / 2
    pairs = [(i, j) for i in range(len(names)) for j in range(i) if wins[i, j] + wins[j, i]]
    design = np.array([[(k == i) - (k == j) for k in range(1, len(names))] for i, j in pairs], dtype=float)
    counts = np.array([[wins[i, j], wins[j, i]] for i, j in pairs]) + 0.25
    fitted = sm.GLM(counts, design, family=sm.families.Binomial()).fit()
    strengths = np.append(0, np.asarray(fitted.params, dtype=float))
    return np.asarray(strengths - strengths.mean())


def test_two_models_have_the_rating_that_their_odds_say() -> None:
    """Three wins, a loss and half a tie: odds 3.25 to 1.25, so 400 log10(2.6) = 165.99 points, around 1000."""
    ranking = rank(bouts("b", "a", [WIN, WIN, WIN, LOSE]))
    assert ratings(ranking) == pytest.approx({"b": 1082.99, "a": 917.01}, abs=0.01)
    assert [model.name for model in ranking.models] == ["b", "a"]


def test_win_rates_count_a_tie_as_half() -> None:
    matches = [*bouts("a", "b", [WIN, TIE, LOSE, WIN]), *bouts("c", "a", [TIE, TIE]), *bouts("b", "c", [LOSE, WIN])]
    ranking = rank(matches)
    rates = {model.name: (model.win_rate.value, model.judged) for model in ranking.models}
    assert rates == {"a": (3.5 / 6, 6), "b": (2.5 / 6, 6), "c": (2 / 4, 4)}
    pairs = {(pair.first, pair.second): pair for pair in ranking.pairs}
    assert (pairs["a", "b"].wins, pairs["a", "b"].ties, pairs["a", "b"].losses) == (2, 1, 1)
    assert pairs["a", "b"].win_rate.value == 2.5 / 4
    assert len(pairs) == 3


def test_bradley_terry_is_that_of_a_binomial_regression() -> None:
    names = ["a", "b", "c", "d", "e"]
    matches = drawn(dict(zip(names, [1, 0.5, 0, -0.2, -1.5], strict=True)), 40, seed=1, tie=0.2)
    found = ratings(rank(matches, resamples=10))
    expected = 1000 + POINTS * oracle(matches, names)
    assert [found[name] for name in names] == pytest.approx(expected.tolist(), abs=0.01)


def test_probabilities_enter_as_weights() -> None:
    draw = np.random.default_rng(2)
    chances = draw.dirichlet([1, 1, 1], 90)
    sides = [("a", "b"), ("b", "c"), ("c", "a")]
    matches = [Match(*sides[k % 3], tuple(each), f"q{k}") for k, each in enumerate(chances.tolist())]
    ranking = rank(matches, outcomes="soft", resamples=10)
    expected = 1000 + POINTS * oracle(matches, ["a", "b", "c"])
    assert [ratings(ranking)[name] for name in "abc"] == pytest.approx(expected.tolist(), abs=0.01)
    pair = next(each for each in ranking.pairs if {each.first, each.second} == {"a", "b"})
    assert pair.wins + pair.ties + pair.losses == pytest.approx(30, abs=1e-3)


def test_elo_is_evalicas() -> None:
    """One after another, each judgement once, ties too."""
    draw = np.random.default_rng(3)
    sides = np.array([draw.choice(4, 2, replace=False) for _ in range(200)])
    points = draw.choice([0.0, 0.5, 1.0], 200)
    found = elo(sides, points, np.ones((1, 1)), np.zeros(200, dtype=np.int64), 4, np.zeros(200))[:, 0]
    winner = {0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw, 1.0: evalica.Winner.X}
    said = evalica.elo(sides[:, 0].tolist(), sides[:, 1].tolist(), [winner[p] for p in points.tolist()], k=ELO_K)
    assert found.tolist() == pytest.approx([said.scores[model] for model in range(4)])


def test_elo_moves_as_worked_by_hand() -> None:
    """Equals: K / 2 = 2 points for a win. Then 1002 against 998: expected 1 / (1 + 10^(-4 / 400)) = 0.505756."""
    sides, questions = np.array([[0, 1], [0, 1]]), np.array([0, 1])
    found = elo(sides, np.array([1.0, 0.0]), np.array([[1, 1], [1, 0]]), questions, 2, np.zeros(2))
    assert found[:, 1].tolist() == [1002, 998]
    assert found[:, 0].tolist() == pytest.approx([1002 - 4 * 0.505756, 998 + 4 * 0.505756], abs=1e-4)


def test_neither_the_order_of_lines_nor_of_answers_changes_anything() -> None:
    """Elo depends on the order in which it reads; so that order is drawn from the seed, from sorted judgements."""
    matches = drawn({"a": 1, "b": 0, "c": -1}, 20, seed=4, tie=0.1)
    other = [Match(c.second, c.first, c.outcomes[::-1], c.question, c.lengths[::-1]) for c in matches[::-1]]
    assert rank(matches, resamples=50) == rank(other, resamples=50)
    controlled = rank(matches, length_control=True, resamples=50)
    assert controlled == rank(other, length_control=True, resamples=50)
    assert ratings(rank(matches, resamples=2), "elo") != ratings(rank(matches, resamples=2, seed=1), "elo")


def test_intervals_of_ratings_cover_the_truth_as_often_as_they_say() -> None:
    strengths = {"a": 0.8, "b": 0.2, "c": -0.2, "d": -0.8}
    covered = []
    for seed in range(100):
        for model in rank(drawn(strengths, 60, seed), resamples=150, seed=seed).models:
            interval = model.bradley_terry
            assert interval.low is not None
            assert interval.high is not None
            covered.append(interval.low <= 1000 + POINTS * strengths[model.name] <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_length_control_recovers_a_planted_preference_for_length() -> None:
    """Equal models, of which one writes more: by itself it wins, at equal length it does not."""
    draw = np.random.default_rng(5)
    matches = []
    for k in range(3000):
        lengths = (int(draw.normal(900, 300)), int(draw.normal(500, 300)))
        longer = math.tanh((lengths[0] - lengths[1]) / 583)
        outcome = WIN if draw.random() < 1 / (1 + math.exp(-1.5 * longer)) else LOSE
        matches.append(Match("long", "short", outcome, f"q{k}", lengths))
    (plain,) = rank(matches, resamples=50).pairs
    controlled = rank(matches, length_control=True, resamples=200)
    (pair,) = controlled.pairs
    assert plain.win_rate.value > 0.6
    assert plain.told_apart
    assert not pair.told_apart
    rate = pair.win_rate.value if pair.first == "long" else 1 - pair.win_rate.value
    assert rate == pytest.approx(0.5, abs=0.03)
    odds = math.exp(1.5 * math.tanh(1))
    said = float(next(note for note in controlled.notes if "times the odds" in note).split("has ")[1].split(" ")[0])
    assert said == pytest.approx(odds, rel=0.1)


def test_length_control_is_a_logistic_regression() -> None:
    matches = drawn({"a": 1, "b": 0, "c": -0.5}, 150, seed=6, length_effect=1)
    found = ratings(rank(matches, length_control=True, resamples=2))
    difference = np.array([each.lengths[0] - each.lengths[1] for each in matches])
    longer = np.tanh(difference / np.sqrt(np.mean(difference**2)))
    design = np.array([[(n == c.first) - (n == c.second) for n in "abc"] for c in matches], dtype=float)
    design = np.column_stack([design, longer])
    won = np.array([c.outcomes[0] for c in matches])

    def loss(weights: np.ndarray[Any, Any]) -> float:
        odds = design @ weights
        half_ties = sum(np.logaddexp(0, d) - d / 2 for d in (weights[0] - weights[1], weights[0] - weights[2]))
        half_ties += np.logaddexp(0, weights[1] - weights[2]) - (weights[1] - weights[2]) / 2
        return float(np.sum(np.logaddexp(0, odds) - won * odds) + half_ties / 2 + weights[:3].sum() ** 2)

    expected = 1000 + POINTS * minimize(loss, np.zeros(4), method="BFGS").x[:3]
    # lengths are rounded before they are added up
    assert [found[name] for name in "abc"] == pytest.approx(expected.tolist(), abs=1.5)


@pytest.mark.parametrize(
    ("rate", "questions", "more"),
    [
        (0.6, 50, 47),  # 1.96^2 / 0.2^2 = 96.04: 97 do
        (0.4, 50, 47),
        (0.75, 10, 6),  # 1.96^2 / 0.5^2 = 15.4: 16 do
        (1.0, 1, 3),
        (0.6, 500, 1),
        (0.5, 50, None),
    ],
)
def test_more_needed_is_worked_by_hand(rate: float, questions: int, more: int | None) -> None:
    assert more_needed(rate, questions) == more


def test_as_many_judgements_as_are_said_to_be_needed_do() -> None:
    """Wilson's interval leaves out one half from the same number on as the formula says."""
    for wins, count in ((58, 97), (59, 97)):
        (pair,) = rank(bouts("a", "b", [WIN] * wins + [LOSE] * (count - wins)), resamples=2).pairs
        assert pair.told_apart is (pair.more_needed == 0)
        assert pair.told_apart is (more_needed(wins / count, 0) <= count)  # type: ignore[operator]


def test_a_model_that_wins_all_gets_a_finite_rating_and_a_note() -> None:
    ranking = rank([*bouts("best", "b", [WIN] * 5), *bouts("best", "c", [WIN] * 5), *bouts("b", "c", [WIN, LOSE])])
    assert ranking.models[0].name == "best"
    assert 1200 < ranking.models[0].bradley_terry.value < 2000
    assert ranking.models[0].win_rate.value == 1
    assert ranking.models[0].win_rate.low == pytest.approx(0.566, abs=0.01), "five questions, by Wilson"
    assert any("best won all" in note and "no finite value" in note for note in ranking.notes)
    assert any("0.5 of a tie" in note for note in ranking.notes)


def star(wins: dict[str, int], judged: int = 100, question: str = "q{k}") -> list[Match]:
    """Each model against the same `base`, on the same questions, or on ones of its own."""
    return [
        Match(name, "base", WIN if k < won else LOSE, question.format(k=k, name=name))
        for name, won in wins.items()
        for k in range(judged)
    ]


def test_half_a_tie_of_each_pair_that_met_makes_a_rating_that_is_worked_by_hand() -> None:
    """100 wins and half a tie: odds 100.25 to 0.25, which are 400 log10(401) = 1041.26 points; 99: 759.93."""
    for won, points in ((100, 1041.26), (99, 759.93), (50, 0)):
        found = ratings(rank(star({"top": won}), resamples=2))
        assert found["top"] - found["base"] == pytest.approx(points, abs=0.01)


def test_the_hundredth_win_raises_a_rating_and_leaves_the_others_where_they_are() -> None:
    others = {"m97": 97, "m80": 80, "m50": 50, "m20": 20, "m03": 3}
    before, after = (ratings(rank(star({"top": won, **others}), resamples=2)) for won in (99, 100))
    assert after["top"] - after["base"] > before["top"] - before["base"] + 200
    assert after["top"] > before["top"]
    for name in others:
        assert after[name] - after["base"] == pytest.approx(before[name] - before["base"], abs=1e-6)


def test_a_value_lies_in_its_own_interval_also_in_a_chain_of_nearly_certain_wins() -> None:
    chain = [Match(f"m{k}", f"m{k + 1}", LOSE if n == 0 else WIN, f"{k} {n}") for k in range(6) for n in range(100)]
    for model in rank(chain, resamples=200).models:
        rating = model.bradley_terry
        assert rating.low is not None
        assert rating.high is not None
        assert rating.low < rating.value < rating.high, model.name


outcomes = st.sampled_from([WIN, TIE, LOSE, (0.7, 0.1, 0.2)])
meetings = st.lists(
    st.tuples(st.sampled_from([(i, j) for i in range(5) for j in range(i)]), outcomes, st.integers(0, 6)),
    min_size=1,
    max_size=25,
)


def compare_all(met: list[tuple[tuple[int, int], tuple[float, float, float], int]]) -> list[Match]:
    return [Match(f"m{i}", f"m{j}", outcome, f"q{k}", (k * 97 % 50, 20)) for (i, j), outcome, k in met]


@settings(max_examples=25)
@given(meetings, st.data())
def test_one_more_win_never_lowers_a_rating(met: Any, data: Any) -> None:
    """Over a model that was met before, be it a further judgement or another outcome of one that was there."""
    chosen = data.draw(st.integers(0, len(met) - 1))
    sides, _, question = met[chosen]
    winner, loser = (f"m{side}" for side in sides)
    before = ratings(rank(compare_all(met), resamples=1))
    for changed in ([*met, (sides, WIN, question)], [*met[:chosen], (sides, WIN, question), *met[chosen + 1 :]]):
        after = ratings(rank(compare_all(changed), resamples=1))
        assert after[winner] >= before[winner] - 1e-6
        assert after[winner] - after[loser] >= before[winner] - before[loser] - 1e-6


@settings(max_examples=25)
@given(meetings, st.booleans(), st.sampled_from(["hard", "soft"]))
# the middle one of three has the same rating in every draw, though not the same win rate
@example([((1, 0), (0.0, 1.0, 0.0), 0), ((2, 0), (1.0, 0.0, 0.0), 0), ((2, 0), (1.0, 0.0, 0.0), 1)], False, "hard")
def test_every_value_lies_in_its_interval_and_every_interval_has_a_width(met: Any, control: bool, rule: str) -> None:
    ranking = rank(compare_all(met), outcomes=rule, length_control=control, resamples=40)
    for model in ranking.models:
        one_question = len({each[2] for each in met}) == 1
        for estimate in (model.win_rate, model.bradley_terry, model.elo):
            if one_question and estimate is not model.win_rate:
                assert estimate.low is estimate.high is None
                continue
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.high - estimate.low > 1e-6
    for pair in ranking.pairs:
        assert pair.win_rate.low is not None
        assert pair.win_rate.high is not None
        assert pair.win_rate.low <= pair.win_rate.value <= pair.win_rate.high
    json.dumps(ranking.to_record(), allow_nan=False)


@settings(max_examples=15)
@given(meetings, meetings)
def test_groups_that_never_met_are_rated_as_if_each_were_alone(left: Any, right: Any) -> None:
    """Their questions differ too, so that win rates and ratings follow from the group's own judgements."""
    ours = compare_all(left)
    theirs = [Match(f"n{c.first}", f"n{c.second}", c.outcomes, f"n{c.question}") for c in compare_all(right)]
    alone = ratings(rank(ours, resamples=1)) | ratings(rank(theirs, resamples=1))
    assert ratings(rank([*ours, *theirs], resamples=1)) == pytest.approx(alone, abs=1e-6)


def test_a_model_that_won_all_reaches_down_to_what_its_win_rate_could_be() -> None:
    """Ten of ten: at least 72.2 % by Wilson, which with half a tie are 7.47 to 3.03 points, and 157.1 rating points."""
    ranking = rank(bouts("best", "b", [WIN] * 10))
    best, other = ranking.models
    assert best.win_rate.low == pytest.approx(0.7225, abs=1e-4)
    assert best.bradley_terry.low == pytest.approx(1000 + 157.1 / 2, abs=0.1)
    assert other.bradley_terry.high == pytest.approx(1000 - 157.1 / 2, abs=0.1)
    assert best.bradley_terry.high == best.bradley_terry.value == pytest.approx(1000 + 200 * math.log10(41))
    assert best.elo.low is not None
    assert 1000 < best.elo.low < best.elo.value


def test_nothing_but_ties_is_no_proof_that_models_are_equal() -> None:
    for control in (False, True):
        ranking = rank(bouts("a", "b", [TIE] * 30), length_control=control, resamples=50)
        for estimate in (ranking.models[0].win_rate, ranking.models[0].bradley_terry, ranking.models[0].elo):
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low < estimate.value < estimate.high
        assert not ranking.pairs[0].told_apart


def test_two_wins_at_any_length_tell_no_models_apart() -> None:
    pair = rank(bouts("a", "b", [WIN, WIN]), length_control=True, resamples=50).pairs[0]
    assert not pair.told_apart
    assert pair.win_rate.low is not None


def test_a_million_wins_along_a_chain_are_fitted_exactly() -> None:
    """Each pair alone decides its distance: ln((10^6 + 1/4) / (1/4)) in log odds, five times in a row."""
    names = [f"m{k}" for k in range(6)]
    chain = [Match(one, other, (1e6, 0.0, 0.0), "q") for one, other in itertools.pairwise(names)]
    sums = [replace(each, outcomes=(1.0, 0.0, 0.0)) for each in chain]
    field = Field.of(sums, length_control=False)
    won = np.array([[each.outcomes[0] for each in chain]])
    log_odds, _ = fit_ratings(won, np.zeros_like(won), field)
    steps = -np.diff(log_odds[0])
    assert steps.tolist() == pytest.approx([math.log(4e6 + 1)] * 5, abs=1e-7)


def test_groups_that_never_met_are_named() -> None:
    ranking = rank([*bouts("a", "b", [WIN, LOSE]), *bouts("c", "d", [WIN, LOSE, TIE])])
    assert any("a, b; c, d" in note and "one group only" in note for note in ranking.notes)
    assert not any("finite value by themselves" in note for note in ranking.notes)
    assert "." in matrix_text(ranking)
    assert all(np.isfinite(list(ratings(ranking).values())))


def test_one_question_gives_ratings_without_intervals() -> None:
    ranking = rank(bouts("a", "b", [TIE]))
    assert any("1 questions only" in note for note in ranking.notes)
    model = ranking.models[0]
    assert (model.bradley_terry.value, model.bradley_terry.low) == (1000, None)


def test_nothing_and_a_model_against_itself_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="no match"):
        rank([])
    with pytest.raises(ValueError, match="with itself"):
        rank(bouts("a", "a", [WIN]))


def test_the_matrix_is_whole_in_picture_and_text() -> None:
    ranking = rank(drawn({"<a & b>": 1, "b": 0, "c": -1}, 30, seed=7), resamples=10)
    root = ET.fromstring(matrix_svg(ranking))
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in matrix_svg(ranking)
    assert "".join(root.itertext()).count(" of 30") == 6
    rows = matrix_text(ranking).splitlines()
    assert [row.split()[0] for row in rows[2:5]] == ["1", "2", "3"]
