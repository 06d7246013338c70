"""The alternative annotator test, against the paper's own words written anew, and against numbers worked by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import run_command
from scipy.stats import ttest_1samp
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from test_evaluate import write_run

from judgelm.evaluation import JudgedSample, evaluate
from judgelm.evaluation.alternative import EPSILONS, AltTest, alternative_test
from judgelm.evaluation.metrics.alternative import leave_out, p_value
from judgelm.evaluation.rates import Rated
from judgelm.evaluation.summary import Summary, summarize
from judgelm.judgement import LABELS, Judgement, Outcome
from judgelm.report import write_report
from judgelm.verdict import Reading

TEXTS = {1: "9 1", 2: "1 9", 0: "5 5", None: "no idea"}
"""of a judge that says a label"""
Labels = Mapping[int, int]
"""one person's, by row"""


def sample(row: int, said: int | None, votes: Mapping[str, int], question: str | None = None) -> JudgedSample:
    return JudgedSample(
        Reading.of(Judgement.parse(TEXTS[said])),
        None,
        key=str(row),
        question=question or f"Question {row}",
        answers=("a", "b"),
        votes=tuple(LABELS[vote] for vote in votes.values()),
        voters=tuple(votes),
    )


def found_in(samples: Sequence[JudgedSample]) -> AltTest:
    found = alternative_test(Rated.of(samples))
    assert found is not None
    return found


def by_the_paper(judge: Labels, people: Mapping[str, Labels], epsilon: float) -> tuple[list[float], float, float]:
    """P values, winning rate and advantage probability as the paper has them: leave one out, agreement with the others,
    indicators, a t-test of their differences, Benjamini and Yekutieli.
    """
    p_values, advantages = [], []
    for left_out, labels in people.items():
        judge_better, person_better = [], []
        for row, label in labels.items():
            others = [theirs[row] for name, theirs in people.items() if name != left_out and row in theirs]
            if not others or row not in judge:
                continue
            judge_agrees = sum(other == judge[row] for other in others) / len(others)
            person_agrees = sum(other == label for other in others) / len(others)
            judge_better.append(float(judge_agrees >= person_agrees))
            person_better.append(float(person_agrees >= judge_agrees))
        differences = np.array(person_better) - np.array(judge_better)
        p_values.append(ttest_1samp(differences, epsilon, alternative="less").pvalue)
        advantages.append(float(np.mean(judge_better)))
    rejected = multipletests(p_values, 0.05, method="fdr_by")[0]
    return [float(p) for p in p_values], float(np.mean(rejected)), float(np.mean(advantages))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 0.6]), st.sampled_from([0.05, 0.3, 0.6]))
def test_rates_are_those_of_the_paper_where_each_row_has_its_question(seed: int, people: float, judge: float) -> None:
    draw = random.Random(seed)
    truth = [draw.choice([0, 1, 2]) for _ in range(90)]

    def label(noise: float, share: float) -> dict[int, int]:
        rows = [row for row in range(len(truth)) if draw.random() < share]
        return {row: draw.choice([0, 1, 2]) if draw.random() < noise else truth[row] for row in rows}

    # not everybody labels every row, and the judge's is there always
    persons = {f"p{k}": label(people, 0.8) for k in range(4)}
    said = label(judge, 1)
    votes = [{name: labels[row] for name, labels in persons.items() if row in labels} for row in range(len(truth))]
    found = found_in([sample(row, said[row], votes[row]) for row in range(len(truth))])
    for level in found.levels:
        p_values, rate, advantage = by_the_paper(said, persons, level.epsilon)
        assert level.p == pytest.approx(p_values)
        assert level.winning_rate == pytest.approx(rate)
        assert level.passed == (rate >= 0.5)
        assert np.mean([one.judge for one in found.annotators]) == pytest.approx(advantage)


def test_an_annotator_is_measured_by_the_others_alone() -> None:
    # of thirty questions: the judge is with bert and carl always, anna never
    votes = {"anna": 2, "bert": 1, "carl": 1}
    samples = [sample(row, 1, votes) for row in range(30)]
    found = found_in(samples)
    anna, bert, carl = found.annotators
    assert (anna.name, anna.rows, anna.questions, anna.judge, anna.annotator) == ("anna", 30, 30, 1.0, 0.0)
    # one of the other two agrees with each of them
    assert (bert.judge, bert.annotator, carl.judge, carl.annotator) == (1.0, 1.0, 1.0, 1.0)
    # nothing differs between rows: falling behind by less than epsilon is certain
    assert [level.p for level in found.levels] == [[0.0] * 3] * 3
    summary = summarize(samples)
    assert (summary.rates["advantage"].value, summary.rates["advantage"].count) == (1.0, 30)
    assert summary.rates["advantage"].low is not None
    assert summary.rates["advantage"].low < 1

    # who cannot be read speaks for nobody
    unread = found_in([sample(row, None, votes) for row in range(30)])
    assert [(one.judge, one.annotator) for one in unread.annotators] == [(1.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
    assert [level.won for level in unread.levels] == [[True, False, False]] * 3
    assert not any(level.passed for level in unread.levels)


def test_rows_of_one_question_are_not_independent() -> None:
    draw = random.Random(1)
    once = [sample(row, draw.choice([0, 1, 2]), {n: draw.choice([0, 1, 2]) for n in "abc"}) for row in range(40)]
    # each row twice says no more than once
    twice = [
        sample(100 * copy + row, _label(one.forward.outcome), _votes(one), one.question)  # type: ignore[union-attr]
        for row, one in enumerate(once)
        for copy in (0, 1)
    ]
    first, second = found_in(once), found_in(twice)
    assert [one.questions for one in second.annotators] == [40] * 3
    assert [one.rows for one in second.annotators] == [80] * 3
    for level, again in zip(first.levels, second.levels, strict=True):
        assert level.p == pytest.approx(again.p)
    # of questions of different sizes: the sandwich of another library
    clusters = [str(min(int(each.key) % 37, 20)) for each in once]
    labels = np.array([[int(vote) for vote in _votes(each).values()] for each in once])
    judged = np.array([_label(each.forward.outcome) for each in once])  # type: ignore[union-attr]
    counts = np.stack([(labels == code).sum(axis=1) for code in range(3)], axis=1).astype(np.float64)
    one = leave_out(judged, labels, counts)[0]
    fitted = OLS((one.annotator - one.judge), np.ones(40)).fit(
        cov_type="cluster", cov_kwds={"groups": np.array([int(c) for c in clusters])}, use_t=True
    )
    # its error has a factor of (n - 1) / (n - 1) beside ours for a mean alone
    tail = fitted.t_test("const = 0.15").pvalue / 2
    expected = tail if fitted.params[0] < 0.15 else 1 - tail
    assert p_value(one, clusters, 0.15) == pytest.approx(float(expected))


def _label(outcome: Outcome | None) -> int:
    return next(label for label, each in LABELS.items() if each is outcome)


def _votes(one: JudgedSample) -> dict[str, int]:
    return {name: _label(vote) for name, vote in zip(one.voters, one.votes, strict=True)}


@pytest.mark.parametrize("names", [("anna", "bert"), ("anna", "bert", "rare")])
def test_few_people_or_few_rows_give_no_test(names: tuple[str, ...]) -> None:
    rows = []
    for row in range(60):
        there = names if row < 29 else names[:2]
        rows.append(sample(row, 1, dict.fromkeys(there, 1)))
    found = found_in(rows)
    assert (found.annotators, found.levels) == ([], [])
    assert (
        found.missing == "it needs 3 annotators with 30 different questions each, the same people in all of their rows"
    )
    assert "advantage" not in summarize(rows).rates
    assert alternative_test(Rated.of([sample(row, 1, {"anna": 1}) for row in range(40)])) is None


def test_people_without_names_are_their_places_in_full_rows() -> None:
    rows = [sample(row, 1, {"x": 1, "y": 1, "z": 2}) for row in range(31)]
    unnamed = [
        JudgedSample(one.forward, None, key=one.key, question=one.question, answers=one.answers, votes=votes)
        for one in rows
        for votes in [one.votes if one.key != "7" else one.votes[:2]]
    ]
    found = found_in(unnamed)
    assert [(one.name, one.rows) for one in found.annotators] == [("1", 30), ("2", 30), ("3", 30)]


def test_the_command_says_and_writes_whether_the_judge_may_stand_for_an_annotator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(5)
    folder = write_run(tmp_path / "D", [("9 1", "1 9")] * 50)
    people = ["anna", "bert", "<b>carl</b>\n"]
    rows: list[dict[str, Any]] = []
    for key in range(50):
        labels = [1 if draw.random() < 0.9 else 2 for _ in people]
        rows.append({"question_id": key, "label": 1, "annotators": labels, "annotator_names": people})
    labels_file = write_jsonl(tmp_path / "labels.jsonl", rows)
    output = tmp_path / "summary.json"
    assert run_command(["evaluate", str(folder), "--teacher", str(labels_file), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "May the judge stand for an annotator? (alt-test)" in printed
    assert "epsilon 0.2, experts: wins against 3 of 3: it may stand for one" in printed
    assert "judge agrees with the others as well as one annotator" in printed
    written = json.loads(output.read_text(encoding="utf-8"))
    again = Summary.model_validate(written)
    assert again.alternative == evaluate(folder, labels_file).summary.alternative
    assert [level["epsilon"] for level in written["alternative"]["levels"]] == list(EPSILONS)
    assert "alternative" not in evaluate(folder).to_record()
    report = write_report(folder, labels_file)
    page, plain = report.page.read_text(encoding="utf-8"), report.markdown.read_text(encoding="utf-8")
    for text in (page, plain):
        assert "May the judge stand for an annotator?" in text
        assert "wins against 3 of 3" in text
        assert "<b>carl" not in text

    few = write_jsonl(
        tmp_path / "few.jsonl", [{**row, "annotators": [1, 2], "annotator_names": ["a", "b"]} for row in rows]
    )
    assert run_command(["evaluate", str(folder), "--teacher", str(few)]) == 0
    assert "alt-test: it needs 3 annotators with 30 different questions each" in capsys.readouterr().out
    for names in (["a"], ["a", "a"], ["a", 1], "ab"):
        wrong = write_jsonl(
            tmp_path / "wrong.jsonl", [{**row, "annotators": [1, 2], "annotator_names": names} for row in rows]
        )
        assert run_command(["evaluate", str(folder), "--teacher", str(wrong)]) == 2
        assert "wrong.jsonl:1: field 'annotator_names'" in capsys.readouterr().err


def test_gpt4_beside_the_annotators_of_vicunas_questions() -> None:
    path = SHARED / "data" / "human" / "vicuna80_human_votes.jsonl"
    if not path.is_file():
        pytest.skip("the development data (../shared/data) is not on this machine")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row["annotators"]) == 3]
    samples = [
        sample(place, row["gpt4_same_order"][0], dict(zip("123", row["annotators"], strict=True)), row["question_body"])
        for place, row in enumerate(rows)
    ]
    found = found_in(samples)
    people = {name: {place: row["annotators"][k] for place, row in enumerate(rows)} for k, name in enumerate("123")}
    judge = {
        place: -1 if row["gpt4_same_order"][0] is None else row["gpt4_same_order"][0] for place, row in enumerate(rows)
    }
    _, _, advantage = by_the_paper(judge, people, 0.1)
    assert np.mean([one.judge for one in found.annotators]) == pytest.approx(advantage)
    assert [one.questions for one in found.annotators] == [62] * 3
