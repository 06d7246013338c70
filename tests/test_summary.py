from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar

from judgelm.errors import InputError
from judgelm.evaluation import comparison
from judgelm.evaluation import summary as typed
from judgelm.evaluation.evaluation import measure
from judgelm.evaluation.metrics.agreement import alpha, annotator_with_another, annotator_with_the_majority, count_votes
from judgelm.evaluation.metrics.correlation import correlate, kendall, spearman
from judgelm.evaluation.metrics.intervals import Statistic, bootstrap
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.rates import Rated
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.evaluation.summary import RATES, Summary, SummaryFile
from judgelm.judgement import Judgement, Outcome
from judgelm.report.terminal import summary_tables
from judgelm.verdict import Reading

WIN, TIE, LOSE = Outcome


def summarize(samples: Sequence[JudgedSample], **how: Any) -> dict[str, Any]:
    """As it is written."""
    return typed.summarize(samples, **how).to_record()


def tables(record: dict[str, Any]) -> str:
    """Of what was read again."""
    return summary_tables(Summary.model_validate(record))


def compare(*args: Any) -> dict[str, Any]:
    """As it is written."""
    return comparison.compare(*args).to_record()


Scores = tuple[float, ...]


def reading(scores: Scores | None, probabilities: Sequence[float] | None = None) -> Reading:
    """Of the answers in the order of the file; the text is what the judge would have written then."""
    text = "no idea" if scores is None else f"{scores[0]:g} {scores[1]:g}"
    given = None if probabilities is None else dict(zip(Outcome, probabilities, strict=True))
    return Reading(text, Judgement.parse(text).state, scores, given)


def sample(
    key: int,
    forward: Reading | None,
    back: Reading | None = None,
    truth: Scores | Outcome | None = None,
    question: str | None = None,
    answers: tuple[str, str] = ("a", "b"),
    category: str | None = None,
    votes: Sequence[Outcome] = (),
) -> JudgedSample:
    known: Truth | None = None
    if isinstance(truth, tuple):
        known = Truth(Outcome.from_scores(*truth), truth)
    elif truth is not None:
        known = Truth(truth)
    asked = f"question {key}" if question is None else question
    return JudgedSample(
        forward,
        back,
        key=str(key),
        question=asked,
        answers=answers,
        category=category,
        truth=known,
        published_truth=known.outcome.sign if known else None,
        votes=tuple(votes),
    )


def value(summary: dict[str, Any], name: str) -> float:
    return float(summary["rates"][name]["value"])


@pytest.fixture(scope="module")
def many() -> list[JudgedSample]:
    """400 samples of 200 questions whose judge is often right, with unread judgements, probabilities and votes."""
    draw = np.random.default_rng(5)

    def judged(truth: Scores) -> Reading:
        if draw.random() < 0.05:
            return reading(None)
        first, second = (float(np.clip(round(score + draw.normal(0, 1.5)), 1, 10)) for score in truth)
        return reading((first, second), draw.dirichlet([2, 1, 2]).tolist())

    found = []
    for key in range(400):
        truth = float(draw.integers(1, 11)), float(draw.integers(1, 11))
        votes = draw.choice(list(Outcome), size=draw.integers(0, 5)).tolist()
        length = ("x" * int(draw.integers(1, 40)), "y" * int(draw.integers(1, 40)))
        found.append(
            sample(
                key,
                judged(truth),
                judged(truth),
                truth,
                f"Q{key // 2}",
                length,
                "ab"[key % 2],
                [Outcome(vote) for vote in votes],
            )
        )
    return found


def test_a_judge_worked_by_hand() -> None:
    samples = [
        sample(1, reading((9, 2)), reading((8, 3)), (8, 4)),
        sample(2, reading((5, 5)), reading((4, 6)), (3, 6)),
        sample(3, reading(None), reading((2, 2)), (7, 7)),
        sample(4, reading((2, 9)), reading((7, 6)), (4, 8)),
    ]
    summary = summarize(samples)
    assert (summary["samples"], summary["labelled"], summary["questions"]) == (4, 4, 4)
    # right: 1 and 4 forward; 1, 2 and 3 reversed; 1 where both must say so (2 and 4 contradict, 3 is unread)
    assert value(summary, "agreement") == 2 / 4
    assert value(summary, "agreement_reversed") == 3 / 4
    assert value(summary, "agreement_both") == 1 / 4
    # mean scores: 8.5 2.5, 4.5 5.5, none, 4.5 7.5
    assert value(summary, "agreement_scores") == 3 / 4
    assert "agreement_probabilities" not in summary["rates"]
    assert value(summary, "consistency") == 1 / 4
    # shown first, answer 1 gets 5 5, and shown second 4 6; then 2 9 and 7 6
    assert (value(summary, "bias_first"), value(summary, "bias_second")) == (1 / 4, 1 / 4)
    assert value(summary, "unparsed") == 1 / 8
    assert value(summary, "mae") == pytest.approx((1 + 2 + 2 + 1 + 2 + 1) / 6)
    assert {name: summary["unparsed"][name]["value"] for name in ("as_tie", "as_error", "excluded")} == {
        "as_tie": 3 / 4,
        "as_error": 2 / 4,
        "excluded": 2 / 3,
    }
    assert summary["unparsed"]["count"] == 1
    assert summary["confusion"] == {
        "win": {"win": 1, "tie": 0, "lose": 0, "unparsed": 0},
        "tie": {"win": 0, "tie": 0, "lose": 0, "unparsed": 1},
        "lose": {"win": 0, "tie": 1, "lose": 1, "unparsed": 0},
    }
    assert summary["classes"]["lose"] == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert summary["reliability"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_without_truth_or_a_second_order_nothing_is_made_up() -> None:
    summary = summarize([sample(1, reading((8, 2))), sample(2, reading(None))])
    assert not {"agreement", "kappa", "mae", "consistency", "bias_first", "alpha", "brier"} & set(summary["rates"])
    for name in ("unparsed", "confusion", "classes", "by_gap", "by_length", "by_category", "reliability"):
        assert summary[name] is None
    with pytest.raises(ValueError, match="no sample"):
        summarize([])


def test_the_last_line_says_the_same_where_all_is_read(many: list[JudgedSample]) -> None:
    readable = [each for each in many if each.probabilities is not None]
    last, found = measure(Rated.of(readable)), summarize(readable, resamples=10)
    names = {"agreement_both_orders": "agreement_probabilities"}
    for name in ("agreement", "bias_first", "bias_second", "brier", "calibration_error", "agreement_both_orders"):
        assert value(found, names.get(name, name)) == pytest.approx(last[name]), name
    # all are read here, so the published rule says the same, and scikit-learn that we count as it does
    for name in ("precision", "recall", "f1"):
        assert value(found, name) == pytest.approx(last[name]), name


def test_kappa_and_classes_are_those_of_scikit_learn(many: list[JudgedSample]) -> None:
    truth = [each.truth.outcome.value for each in many if each.truth]
    said = [str(each.forward.outcome or "unread") for each in many if each.forward]
    summary = summarize(many, resamples=50)
    assert value(summary, "kappa") == pytest.approx(cohen_kappa_score(truth, said))
    outcomes = [outcome.value for outcome in Outcome]
    table = precision_recall_fscore_support(truth, said, labels=outcomes, zero_division=0)
    for place, outcome in enumerate(outcomes):
        row = summary["classes"][outcome]
        found = row["precision"], row["recall"], row["f1"], row["support"]
        assert found == pytest.approx(tuple(column[place] for column in table))
    for name, column in zip(("precision", "recall", "f1"), table, strict=False):
        assert value(summary, name) == pytest.approx(np.mean(column))


def test_an_interval_of_kappa_is_that_of_weighted_scikit_learn(many: list[JudgedSample]) -> None:
    truth = [each.truth.outcome.value for each in many if each.truth]
    said = [str(each.forward.outcome or "unread") for each in many if each.forward]
    found = summarize(many, resamples=60)["rates"]["kappa"]
    slow = bootstrap(
        lambda weights: float(cohen_kappa_score(truth, said, sample_weight=weights)),
        [each.cluster for each in many],
        resamples=60,
    )
    assert found == pytest.approx(Rate.of(slow).to_record())


def test_rank_correlations_are_those_of_scipy(many: list[JudgedSample]) -> None:
    pairs = [
        (ours, theirs)
        for each in many
        if each.forward and each.forward.scores and each.truth and each.truth.scores
        for ours, theirs in zip(each.forward.scores, each.truth.scores, strict=True)
    ]
    summary = summarize(many, resamples=20)
    assert value(summary, "spearman") == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert value(summary, "kendall") == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
    assert value(summary, "mae") == pytest.approx(np.mean([abs(a - b) for a, b in pairs]))


def test_a_resample_is_ranked_as_if_its_samples_were_written_out() -> None:
    draw = np.random.default_rng(6)
    first, second, weights = draw.integers(1, 6, 40), draw.integers(1, 6, 40), draw.integers(0, 4, 40)
    table = np.zeros((5, 5))
    np.add.at(table, (first - 1, second - 1), weights)
    written = first.repeat(weights), second.repeat(weights)
    assert spearman(table) == pytest.approx(spearmanr(*written).statistic)
    assert kendall(table) == pytest.approx(kendalltau(*written).statistic)
    assert np.isnan(correlate(spearman, np.ones(3), np.arange(3.0), ["a", "b", "c"], 10, 0).value)


def ratio_of(statistic: Statistic) -> float:
    return float(statistic.formula(statistic.columns.sum(axis=0)))


def test_alpha_is_worked_by_hand_and_that_of_the_library_where_votes_are_missing() -> None:
    # units WW, WL, LL: coincidences WW 2, LL 2, WL and LW 1 each; alpha = 1 - (6 - 1) (6 - 4) / (36 - 9 - 9)
    small = count_votes([[WIN, WIN], [WIN, LOSE], [LOSE, LOSE]])
    assert ratio_of(alpha(small)) == pytest.approx(1 - 5 * 2 / 18)
    raters = [
        [1, 2, 3, 3, 2, 1, 3, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 3, 1, 2, 0, 0, 3],
        [0, 3, 3, 3, 2, 3, 3, 2, 2, 0, 1, 0],
        [1, 2, 3, 3, 2, 1, 3, 1, 2, 0, 1, 0],
    ]
    labels = {1: WIN, 2: TIE, 3: LOSE}
    votes = count_votes([[labels[vote] for vote in unit if vote] for unit in zip(*raters, strict=True)])
    oracle = krippendorff.alpha(
        [[vote or math.nan for vote in rater] for rater in raters], level_of_measurement="nominal"
    )
    assert ratio_of(alpha(votes)) == pytest.approx(oracle)


def test_annotators_who_never_differ_have_no_alpha() -> None:
    nothing = {"value": None, "low": None, "high": None, "count": 1}
    assert summarize([sample(1, None, None, WIN, votes=[WIN, WIN])])["rates"]["alpha"] == nothing
    assert "alpha" not in summarize([sample(1, None, None, WIN, votes=[WIN])])["rates"]


def test_annotators_agree_with_each_other_and_with_the_rest() -> None:
    votes = count_votes([[WIN, WIN, WIN], [WIN, WIN, LOSE], [TIE, LOSE, WIN], [TIE]])
    assert ratio_of(annotator_with_another(votes)) == pytest.approx((1 + 1 / 3 + 0) / 3)
    # in the second only the third annotator faces a majority, and differs
    assert ratio_of(annotator_with_the_majority(votes)) == pytest.approx(3 / 4)
    random_votes = np.random.default_rng(7).choice(list(Outcome), size=(20_000, 3))
    assert ratio_of(annotator_with_the_majority(count_votes([list(map(Outcome, row)) for row in random_votes]))) == (
        pytest.approx(1 / 3, abs=0.01)
    )


def test_votes_without_a_majority_count_among_the_annotators(many: list[JudgedSample]) -> None:
    contested = [sample(1, reading((8, 2)), None, None, votes=[WIN, LOSE]), sample(2, reading((8, 2)), None, WIN)]
    assert summarize(contested)["rates"]["human_agreement"]["value"] == 0
    summary = summarize(many, resamples=20)
    units = [[list(Outcome).index(vote) for vote in each.votes] + [math.nan] * (4 - len(each.votes)) for each in many]
    oracle = krippendorff.alpha(np.array(units).T, level_of_measurement="nominal")
    assert value(summary, "alpha") == pytest.approx(oracle)
    assert value(summary, "alpha") == pytest.approx(ratio_of(alpha(count_votes([each.votes for each in many]))))


def test_reliability_says_how_often_each_confidence_is_right() -> None:
    rows = [((0.7, 0.2, 0.1), WIN), ((0.75, 0.25, 0), LOSE), ((0.1, 0, 0.9), LOSE), ((0.5, 0, 0.5), TIE)]
    summary = summarize([sample(k, reading((8, 2), p), None, truth) for k, (p, truth) in enumerate(rows)])
    found = [(row["low"], row["confidence"], row["right"], row["count"]) for row in summary["reliability"]]
    # two outcomes that share the highest probability are a tie
    assert found == [
        (0.5, 0.5, 1.0, 1),
        (0.7, pytest.approx(0.725), 0.5, 2),
        (0.9, 0.9, 1.0, 1),
    ]
    assert value(summary, "calibration_error") == pytest.approx((0.5 + 2 * 0.225 + 0.1) / 4)


def test_agreement_by_group_adds_up(many: list[JudgedSample]) -> None:
    summary = summarize(many, resamples=50)
    for name in ("by_gap", "by_length", "by_category"):
        rows = [row["agreement"] for row in summary[name]]
        assert sum(row["count"] for row in rows) == 400
        agreed = sum(row["value"] * row["count"] for row in rows)
        assert agreed / 400 == pytest.approx(value(summary, "agreement"))
    assert [row["label"] for row in summary["by_gap"]][:2] == ["teacher's gap 0", "teacher's gap up to 1"]
    people = summarize([sample(1, reading((8, 5)), None, WIN, answers=("long" * 9, ""))])
    assert [row["label"] for row in people["by_gap"]] == ["judge's gap up to 4"]
    assert [row["label"] for row in people["by_length"]] == ["answer 1 more than twice as long"]


def test_every_rate_has_a_label_an_interval_around_it_and_the_same_value_again(many: list[JudgedSample]) -> None:
    summary = summarize(many, resamples=200)
    elsewhere = {"mean_first", "mean_second", "agreement_calibrated"}
    assert set(summary["rates"]) == set(RATES) - elsewhere
    for name, rate in summary["rates"].items():
        assert rate["low"] <= rate["high"], name
        assert rate["low"] <= rate["value"] <= rate["high"], name
    assert summarize(many, resamples=200) == summary


def test_what_divides_nothing_by_nothing_is_null_and_a_dash() -> None:
    """Answer 1 is always better, and the judge says so: no tie and no loss is said or true."""
    summary = summarize([sample(k, reading((8, 2)), None, (9, 1)) for k in range(4)])
    assert summary["classes"]["win"] == {"precision": 1, "recall": 1, "f1": 1, "support": 4}
    for outcome in ("tie", "lose"):
        assert summary["classes"][outcome] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert summary["rates"]["kappa"] == {"value": None, "low": None, "high": None, "count": 4}
    for name in ("agreement", "precision", "recall", "f1"):
        assert value(summary, name) == 1
        assert (summary["rates"][name]["low"], summary["rates"][name]["high"]) == pytest.approx((0.510109, 1), abs=1e-5)
    assert value(summary, "spearman") == 1
    assert summary["rates"]["spearman"]["low"] is None, "nothing varied"
    lines = {line.split("  ")[0]: line.split() for line in tables(summary).splitlines()}
    assert lines["tie"] == ["tie", *"0000", *"---"]
    assert lines["Cohen's kappa with the truth"][-3:] == ["-", "-", "4"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_precision_of_what_is_never_said_and_recall_of_what_is_never_true_are_undefined() -> None:
    """Once answer 1 is better and once there is a tie; the judge says twice that answer 2 is."""
    summary = summarize([sample(1, reading((2, 8)), None, WIN), sample(2, reading((2, 8)), None, TIE)])
    assert summary["classes"] == {
        "win": {"precision": None, "recall": 0, "f1": 0, "support": 1},
        "tie": {"precision": None, "recall": 0, "f1": 0, "support": 1},
        "lose": {"precision": 0, "recall": None, "f1": 0, "support": 0},
    }
    # the mean counts what is not defined as 0, as scikit-learn and so the paper's script do
    assert (value(summary, "precision"), value(summary, "recall"), value(summary, "f1")) == (0, 0, 0)


def test_a_perfect_macro_f1_is_as_sure_as_its_rarest_class() -> None:
    truths = [WIN] * 30 + [LOSE] * 3
    summary = summarize([sample(k, reading((8, 2) if t is WIN else (2, 8)), None, t) for k, t in enumerate(truths)])
    assert summary["rates"]["f1"]["value"] == 1
    assert summary["rates"]["f1"]["low"] == pytest.approx(0.438494, abs=1e-5), "three of three, by Wilson"
    assert summary["rates"]["agreement"]["low"] == pytest.approx(0.895730, abs=1e-5), "33 of 33"


NUMBERS = st.sampled_from([None, (8.0, 2.0), (5.0, 5.0), (1.0, 9.0)])
CHANCES = st.sampled_from([None, (1.0, 0.0, 0.0), (0.2, 0.3, 0.5), (1 / 3, 1 / 3, 1 / 3)])
READINGS = st.none() | st.builds(reading, NUMBERS, CHANCES)
TRUTHS = st.sampled_from([None, WIN, TIE, LOSE, (9.0, 1.0), (3.0, 3.0)])


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(READINGS, READINGS, TRUTHS, st.integers(0, 3), st.lists(st.sampled_from(list(Outcome)))),
        min_size=1,
        max_size=12,
    )
)
def test_every_summary_is_strict_json_and_every_value_lies_in_its_interval(rows: Any) -> None:
    """Of one sample, of none with a truth, of unread ones alone: without a warning."""
    samples = [sample(k, f, b, t, f"Q{q}", votes=v) for k, (f, b, t, q, v) in enumerate(rows)]
    summary = summarize(samples, resamples=30)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert tables(summary)
    for name, rate in summary["rates"].items():
        assert rate["count"] > 0
        if rate["low"] is None:
            assert rate["high"] is None
            # a mean over samples always has an interval
            assert name in ("kappa", "alpha", "spearman", "kendall", "calibration_error"), name
        else:
            assert rate["low"] <= rate["value"] <= rate["high"], name
            assert rate["low"] < rate["high"], name


def test_samples_without_a_question_are_independent() -> None:
    alone = [sample(k, reading((8, 2)), None, WIN if k % 2 else LOSE, question="") for k in range(20)]
    summary = summarize(alone)
    assert summary["questions"] == 20
    assert summary["rates"]["agreement"]["low"] is not None


def test_two_judges_are_compared_on_the_same_samples(many: list[JudgedSample]) -> None:
    draw = np.random.default_rng(8)
    other = [
        sample(int(each.key), reading(each.truth.scores if draw.random() < 0.8 else None), None, each.truth.scores)
        for each in many
        if each.truth
    ]
    mine = [sample(int(each.key), each.forward, None, each.truth.scores if each.truth else None) for each in many]
    found = compare(mine, other[::-1])
    table = [[found["both"], found["only_first"]], [found["only_second"], found["neither"]]]
    assert found["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert sum(map(sum, table)) == found["samples"] == 400
    assert found["first"]["value"] == value(summarize(mine, resamples=1), "agreement")
    assert found["difference"]["value"] == pytest.approx(found["second"]["value"] - found["first"]["value"])
    assert found["difference"]["low"] < found["difference"]["value"] < found["difference"]["high"]
    alike = compare(mine, mine)
    # no question of 400 has a difference: at most 0.95 % of all could, by Wilson's interval, to either side
    bounds = alike["difference"]["low"], alike["difference"]["high"]
    assert (alike["p"], *bounds) == pytest.approx((1, -0.009512, 0.009512), abs=1e-5)
    # two unread judgements do not say the same
    assert alike["same_outcome"]["value"] == pytest.approx(
        sum(each.forward is not None and each.forward.outcome is not None for each in mine) / 400
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([], "second has no judgement for question_id 1"),
        (
            [sample(1, reading((1, 2)), None, WIN), sample(2, reading((1, 2)))],
            "first has no judgement for question_id 2",
        ),
        ([sample(1, reading((1, 2)), None, LOSE)], "have different truths for question_id 1"),
        ([sample(1, reading((1, 2)), None, WIN, answers=("b", "a"))], "have different answers for question_id 1"),
        ([sample(1, None, reading((1, 2)), WIN)], "second has no forward judgement for question_id 1"),
    ],
)
def test_other_samples_cannot_be_compared(other: list[JudgedSample], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare([sample(1, reading((2, 1)), None, WIN)], other, ("first", "second"))


def test_without_truth_there_is_nothing_to_compare_by() -> None:
    with pytest.raises(InputError, match="no truth"):
        compare([sample(1, reading((2, 1)))], [sample(1, reading((2, 1)))])


def test_a_summary_of_version_0_1_is_read_and_a_damaged_one_named(tmp_path: Path) -> None:
    record = summarize([sample(1, reading((8, 2)), None, WIN)])
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(record))
    assert SummaryFile.read(path).rates["agreement"].value == 1
    path.write_text(json.dumps(record | {"rates": {"agreement": {"value": "all"}}}))
    with pytest.raises(InputError, match=r"summary\.json: not a summary .*\(rates\.agreement\.value: .* found all\)"):
        SummaryFile.read(path)
