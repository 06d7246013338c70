"""Folders of grades (task grade): what is read of them, and their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_jsonl
from criteria_folders import criteria, expected, grade_folder, graded, judged, pair, said
from judging import run_command
from scipy.stats import kendalltau, pearsonr, spearmanr

from judgelm.criteria import Scale
from judgelm.errors import InputError
from judgelm.evaluation import evaluate_grades, judged_task, read_folder, read_grades
from judgelm.evaluation.grade_rates import RatedGrades
from judgelm.evaluation.grade_summary import GRADE_RATES, GradeSummary, summarize_grades
from judgelm.evaluation.grades import GradedSample
from judgelm.forms import Columns
from judgelm.judgement import ParseState
from judgelm.verdict import Reading

FIVE = criteria(Scale(1, 5), Depth=2, Style=1)


def value(summary: GradeSummary, name: str) -> float | None:
    return summary.rates[name].value


def test_grades_worked_by_hand(tmp_path: Path) -> None:
    said_and_true = [("7\nGood.", 8), ("3", 3), ("no idea", 5), ("9/10", 6)]
    rows = [(graded(k, score=true), text) for k, (text, true) in enumerate(said_and_true)]
    folder = grade_folder(tmp_path, None, rows)
    assert judged_task(folder) == "grade"
    found = evaluate_grades(folder)
    summary = found.summary
    assert (summary.samples, summary.labelled, summary.questions, summary.scale) == (4, 4, 4, [0, 10])
    assert value(summary, "mae") == pytest.approx(4 / 3), "an unread one has no error"
    assert value(summary, "within_one") == pytest.approx(2 / 3)
    assert value(summary, "bias") == pytest.approx(2 / 3)
    assert value(summary, "mean") == pytest.approx(19 / 3)
    assert value(summary, "mean_truth") == pytest.approx(22 / 4)
    assert value(summary, "spread") == pytest.approx(np.std([7, 3, 9], ddof=1))
    assert value(summary, "unparsed") == 0.25
    assert value(summary, "pearson") == pytest.approx(pearsonr([7, 3, 9], [8, 3, 6])[0])
    assert list(summary.rates) == list(GRADE_RATES), "in their order"
    for name, rate in summary.rates.items():
        assert rate.low is not None, name
        assert rate.high is not None, name
        assert rate.low <= (rate.value or 0) <= rate.high, name
    counts = {"total": 4, "labelled": 4, "unparsed_forward": 1, "repaired_forward": 1}
    assert counts.items() <= dict(found.numbers).items()
    assert found.numbers["mae"] == value(summary, "mae")


def test_the_truth_may_stand_in_columns_of_other_names(tmp_path: Path) -> None:
    folder = grade_folder(tmp_path, None, [(graded(k), text) for k, text in enumerate(("7", "3"))])
    (tmp_path / "people.csv").write_text("item,mean grade\n0,8.5\n1,\n")
    columns = Columns.parse("question_id=item,score=mean grade")
    found = evaluate_grades(folder, tmp_path / "people.csv", columns)
    assert found.summary.labelled == 1
    assert value(found.summary, "bias") == -1.5
    with pytest.raises(InputError, match=r"--columns: a teacher's file has no label .it has question_id, score, judge"):
        evaluate_grades(folder, tmp_path / "people.csv", Columns.parse("question_id=item,label=mean grade"))
    (tmp_path / "people.csv").write_text("item,mean grade\n0,good\n1,2\n")
    with pytest.raises(InputError, match=r"people.csv:2: field 'score' must be a number.* found 'good'"):
        evaluate_grades(folder, tmp_path / "people.csv", columns)


@pytest.mark.parametrize(
    ("given", "truths"),
    [(["3", "4.5"], [3, 4.5]), ([[3, 4, 5], [2]], [4, 2]), ([None, []], None), ([["4", "5"], None], [4.5, None])],
)
def test_a_named_column_may_hold_several_gradings_or_numbers_in_quotes(
    tmp_path: Path, given: list[Any], truths: list[float | None] | None
) -> None:
    folder = grade_folder(tmp_path, None, [(graded(k), "4") for k in (1, 2)])
    teacher, columns = write_jsonl(tmp_path / "t.jsonl", [{"gpt4": one} for one in given]), Columns.parse("score=gpt4")
    if truths is None:
        with pytest.raises(InputError, match="no row has a grade"):
            read_grades(folder, teacher, columns)
    else:
        assert [one.truth for one in read_grades(folder, teacher, columns)] == truths
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"gpt4": [3, "good"]}, {"gpt4": 1}])
    with pytest.raises(InputError, match=r"bad\.jsonl:1: field 'score' must be a number.* found 'good'"):
        read_grades(folder, bad, columns)
    # where no column is named two scores are those of a pair
    pairs = write_jsonl(tmp_path / "p.jsonl", [{"question_id": k, "score": [8, 7]} for k in (1, 2)])
    with pytest.raises(InputError, match="no row has a grade"):
        read_grades(folder, pairs)


def many(count: int = 300) -> list[GradedSample]:
    """Three answers a question, whose grades are near the truth."""
    draw = np.random.default_rng(3)
    found = []
    for key in range(count):
        truth = int(draw.integers(1, 11))
        grade = float(np.clip(truth + round(draw.normal(0.5, 2)), 1, 10))
        reading = Reading(f"{grade:g}", ParseState.OK, (grade,))
        question = f"Q{key // 3}"
        found.append(
            GradedSample(key=str(key), question=question, answer="a", reading=reading, truth=truth, model=f"m{key % 3}")
        )
    return found


def test_correlations_and_spread_are_those_of_scipy_and_their_intervals_draw_questions() -> None:
    samples = many()
    summary = summarize_grades(samples)
    pairs = [(one.grade, one.truth) for one in samples]
    for name, theirs in (("pearson", pearsonr), ("spearman", spearmanr), ("kendall", kendalltau)):
        assert value(summary, name) == pytest.approx(float(theirs(*zip(*pairs, strict=True))[0])), name
        rate = summary.rates[name]
        assert rate.count == 300
        assert 0.005 < (rate.high or 0) - (rate.low or 0) < 0.15
    assert value(summary, "spread") == pytest.approx(np.std([one.grade or 0 for one in samples], ddof=1))
    assert summary.questions == 100
    assert summary == summarize_grades(samples)
    together = [GradedSample(key=one.key, question="one", answer="", reading=one.reading, truth=1) for one in samples]
    alone = summarize_grades(together).rates
    assert alone["mean"].low is None or alone["mean"].low < 2, "one question says little"
    assert alone["pearson"].value is None, "the truth never varies"


def test_pearsons_interval_is_that_of_drawing_and_measuring_anew() -> None:
    rated = RatedGrades.of(many(90))
    statistic = rated.statistics["pearson"]
    draw = np.random.default_rng(0)
    for _ in range(20):
        counts = draw.integers(0, 3, 90)
        drawn = np.repeat(np.arange(90), counts)
        ours = statistic.formula(counts.astype(float) @ statistic.columns)
        assert float(ours) == pytest.approx(float(pearsonr(rated.grades[drawn], rated.truths[drawn])[0]))


def test_each_aspect_has_its_numbers_by_its_own_truth(tmp_path: Path) -> None:
    rows = [
        (graded(1, score=4, aspects={"Depth": 5, "Style": [2]}), said("5", "1")),
        (graded(2, score=[2]), said("no idea", "3")),
        (graded(3, text="4\nFine.", aspects={"Depth": None}), said("4")),
    ]
    found = evaluate_grades(grade_folder(tmp_path, FIVE, rows))
    assert found.summary.aspects is not None
    depth, style = found.summary.aspects
    assert found.summary.scale == [1, 5]
    # of the whole: (2 * 5 + 1) / 3 to the fourth decimal against 4, unread, 4 against 4
    assert value(found.summary, "mae") == pytest.approx((4 - 11 / 3) / 2, abs=1e-4)
    assert (depth.name, depth.weight, depth.samples, depth.labelled, depth.own_truths) == ("Depth", 2, 3, 2, 2)
    assert (style.samples, style.labelled, style.own_truths) == (2, 2, 1)
    assert depth.rates["mae"].value == 0
    assert depth.rates["mae"].count == 1
    assert depth.rates["unparsed"].value == pytest.approx(1 / 3)
    assert style.rates["mae"].value == 1
    assert style.rates["bias"].value == 0
    assert style.rates["mean"].value == 2


def test_grades_without_a_truth_have_means_by_model(tmp_path: Path) -> None:
    rows = [
        (graded(f"{k}-{m}", m, k, label=1, score=[8, 6]), text) for k in (1, 2) for m, text in (("a", "8"), ("b", "6"))
    ]
    found = evaluate_grades(grade_folder(tmp_path, None, rows))
    assert found.summary.labelled == 0, "a label and two scores are of a pair"
    assert list(found.summary.rates) == ["mean", "spread", "unparsed"]
    assert found.summary.by_model is not None
    first, second = found.summary.by_model
    assert [(one.name, one.samples, one.rates["mean"].value) for one in (first, second)] == [("a", 2, 8), ("b", 2, 6)]
    assert first.rates["spread"].value == 0


def test_expected_grades_count_where_there_are(tmp_path: Path) -> None:
    records = [expected(graded(k, score=3), FIVE, task="grade", lead=0) for k in range(2)]
    write_jsonl(tmp_path / "forward.jsonl", records)
    found = evaluate_grades(tmp_path)
    assert value(found.summary, "mean") == pytest.approx(3), "all five are as likely"
    assert value(found.summary, "mae") == pytest.approx(0)


def test_a_truth_on_another_scale_gives_correlations_and_no_errors(tmp_path: Path) -> None:
    rows = [(graded(k, score=20 * k), said(str(k), str(k))) for k in range(1, 6)]
    rates = evaluate_grades(grade_folder(tmp_path, FIVE, rows)).summary.rates
    assert rates["pearson"].value == pytest.approx(1)
    assert {"mae", "bias", "within_one"}.isdisjoint(rates)
    assert rates["mean_truth"].value == 60


@pytest.mark.parametrize(
    ("teacher", "problem"),
    [
        ([{"question_id": 1, "score": "good"}], r"teacher\.jsonl:1: field 'score' must be a number.*found 'good'"),
        ([{"question_id": 1, "score": True}], r"teacher\.jsonl:1: field 'score' must be a number"),
        ([{"question_id": 1, "aspects": {"Depth": "x"}}], r"teacher\.jsonl:1: field 'aspects: Depth' must be a number"),
        ([{"question_id": 1, "aspects": {"Deep": 1}}], "names none of those judged"),
        ([{"question_id": 1, "label": 1}], r"teacher\.jsonl: no row has a grade"),
        ([{"question_id": 2, "score": 1}], r"teacher\.jsonl has no teacher's grade for question_id 1"),
    ],
)
def test_a_truth_that_is_none_is_named(tmp_path: Path, teacher: list[dict[str, Any]], problem: str) -> None:
    folder = grade_folder(tmp_path / "out", FIVE, [(graded(1), said("5", "1"))])
    with pytest.raises(InputError, match=problem):
        evaluate_grades(folder, write_jsonl(tmp_path / "teacher.jsonl", teacher))


def test_grades_and_pairs_are_told_apart(tmp_path: Path) -> None:
    grades = grade_folder(tmp_path / "grades", None, [(graded(1), "7")])
    with pytest.raises(InputError, match=r"forward\.jsonl:1: expected a judgement of two answers, found a grade"):
        read_folder(grades)
    mixed = [judged(graded(1), None, "7", task="grade"), judged(pair(2), None, "7 8")]
    with pytest.raises(InputError, match=r"forward\.jsonl:2: expected a grade of one answer .*found task 'pair'"):
        read_grades(write_jsonl(tmp_path / "mixed" / "forward.jsonl", mixed).parent)
    assert judged_task(tmp_path / "nothing") is None


def test_the_command_prints_tables_and_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("<b>Depth|\x1b[31m", "Style")
    odd = criteria(Scale(0, 100), **dict.fromkeys(names, 1.0))
    rows = [(graded(k, f"m\x1b{k % 2}"), said("90", f"{10 * k}", names=names)) for k in range(6)]
    folder = grade_folder(tmp_path / "out", odd, rows)
    teacher = write_jsonl(tmp_path / "teacher.jsonl", [{"question_id": k, "score": 50 + k} for k in range(7)])
    summary = tmp_path / "summary.json"
    assert run_command(["evaluate", str(folder), "--teacher", str(teacher), "--output", str(summary)]) == 0
    out, err = capsys.readouterr()
    assert "6 grades of 6 questions, 6 with a truth; scale 0 to 100" in out
    assert "\x1b" not in out
    assert "<b>Depth|" in out
    assert "1 rows of" in err
    last = json.loads(out.splitlines()[-1])
    assert (last["total"], last["not_judged"]) == (6, 1)
    assert last["pearson"] == pytest.approx(1)
    written = GradeSummary.read(summary)
    assert [each.name for each in written.aspects or []] == list(names)
    assert written.task == "grade"
    for more in (["--against", str(folder)], ["--teacher", str(tmp_path / "nowhere.jsonl")]):
        assert run_command(["evaluate", str(folder), *more]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
