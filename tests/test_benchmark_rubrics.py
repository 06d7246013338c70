"""Prometheus's graded answers: read in both forms, graded by each row's own rubric, and compared as its authors do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import fails, prometheus_prompt, write_json
from conftest import write_jsonl
from judging import FakeEngine, run_command
from scipy.stats import kendalltau, pearsonr, spearmanr
from test_benchmark import quick

from judgelm.benchmark import read_benchmark, run_benchmark
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.evaluation.grade_summary import GradeSummary
from judgelm.judge import Judge, JudgeChoice, JudgeSettings


def graded_row(number: int, scores: Any, field: str = "gpt4_score") -> dict[str, Any]:
    text = prometheus_prompt(f"Do {number}.", f"done {number}", f"best {number}")
    return {"idx": number, "response_source": "vicuna", "category": "writing", "instruction": text, field: scores}


def feedback_row(number: int, score: str) -> dict[str, Any]:
    rubric = {f"orig_score{n}_description": f"as {n}" for n in range(1, 6)}
    texts = {"orig_instruction": f"Do {number}.", "orig_response": f"done {number}", "orig_criteria": "Is it right?"}
    return {**texts, **rubric, "orig_reference_answer": f"best {number}", "orig_score": score}


class Grader(FakeEngine):
    """Grades by what it reads, and keeps it."""

    block = 8

    def __init__(self, grades: list[int | str]) -> None:
        self.grades = grades
        self.seen: list[str] = []
        self.description = {"engine": "grader"}

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key not in done:
                self.seen.append(request.prompt)
                number = next(k for k in range(len(self.grades)) if f"done {k}\n" in request.prompt)
                yield Generation(request.key, f"{self.grades[number]}\nwhy", 0, 3, "stop")


def test_both_forms_of_rows_are_the_same_samples(tmp_path: Path) -> None:
    one = read_benchmark("prometheus", write_json(tmp_path / "vicuna_eval.json", [graded_row(0, [3, 2, 4])]))
    other = read_benchmark("prometheus", write_jsonl(tmp_path / "bench.jsonl", [feedback_row(0, "3")]))
    ((first,), (second,)) = (found.labelled.splits[0].records for found in (one, other))
    texts = ("question_id", "question_body", "answer_body", "score")
    assert [first[name] for name in texts] == [second[name] for name in texts]
    assert first["question_body"].endswith(
        "Score rubric:\n[Is it right?]\nScore 1: as 1\nScore 2: as 2\nScore 3: as 3\nScore 4: as 4\nScore 5: as 5"
    )
    assert (first["answer_model_id"], first["category"], first["source_id"]) == ("vicuna", "writing", 0)
    for found in (one, other):
        assert found.labelled.splits[0].references == [{"question_id": 0, "reference": {"text": "best 0"}}]


def test_a_row_without_the_reference_that_others_have_is_left_out_and_said(tmp_path: Path) -> None:
    bare = {**graded_row(1, 3), "instruction": prometheus_prompt("Do 1.", "done 1")}
    found = read_benchmark("prometheus", write_jsonl(tmp_path / "some.jsonl", [graded_row(0, 3), bare])).labelled
    assert [record["question_id"] for record in found.splits[0].records] == [0]
    assert [each["question_id"] for each in found.splits[0].references] == [0]
    assert found.odd == [f"{tmp_path}/some.jsonl:2: has no reference answer, which other rows of the file have"]
    none = read_benchmark("prometheus", write_jsonl(tmp_path / "none.jsonl", [bare])).labelled
    assert (len(none.splits[0].records), none.splits[0].references, none.odd) == (1, [], [])


def test_peoples_grades_go_before_gpt4s_and_each_file_is_a_run(tmp_path: Path) -> None:
    write_json(tmp_path / "vicuna_eval.json", [graded_row(0, [1, 2])])
    write_json(tmp_path / "flask_eval.json", [{**graded_row(0, [5, 5, 5]), "human_score": [2, 3]}])
    found = read_benchmark("prometheus", tmp_path)
    assert {name: [record["score"] for record in split.records] for name, split in found.splits.items()} == {
        "vicuna": [1.5],
        "flask": [2.5],
    }


def test_correlations_are_those_that_prometheus_reports(tmp_path: Path) -> None:
    truths, grades = [[1], [2, 3, 3], [3], [4], [5], [4]], [1, 2, 4, 4, 5, 3]
    rows = [graded_row(k, truth) for k, truth in enumerate(truths)]
    engine = Grader([*grades])
    judge = JudgeChoice("grader", lambda: Judge(engine), {"model": "grader"})
    data = write_json(tmp_path / "vicuna_eval.json", rows)
    found = run_benchmark("prometheus", tmp_path / "out", judge, JudgeSettings(scoring="greedy"), data=data)
    measured = found.report.metrics["prometheus"]
    assert isinstance(measured, GradeSummary)
    means = [sum(each) / len(each) for each in truths]
    for name, formula in (("pearson", pearsonr), ("spearman", spearmanr), ("kendall", kendalltau)):
        rate = measured.rates[name]
        assert rate.value == pytest.approx(formula(grades, means)[0])
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < formula(grades, means)[0] < rate.high
    # 8/3 is nearer to 3 than to the 2 that was given
    assert measured.rates["exact"].value == pytest.approx(3 / 6)
    assert measured.scale == [1, 5]
    prompt = engine.seen[0]
    for text in (
        "Score rubric:\n[Is it right?]",
        "best 0",
        "on a scale of 1 to 5",
        "by the score rubric that stands below",
    ):
        assert text in prompt
    assert json.loads((tmp_path / "out" / "forward.jsonl").read_text().splitlines()[0])["reference"] == "best 0"


def test_the_command_grades_and_goes_on(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl(tmp_path / "bench.jsonl", [feedback_row(k, str(1 + k % 5)) for k in range(6)])
    arguments = ["benchmark", "prometheus", "--data", str(data), *quick(model_folder, tmp_path / "out")]
    assert run_command([*arguments, "--limit", "2"]) == 0
    capsys.readouterr()
    assert run_command(arguments) == 0
    captured = capsys.readouterr()
    assert "2 of 6 judgements are there already" in captured.err
    assert "Pearson's r with the truth" in captured.out
    report = json.loads(captured.out.splitlines()[-1])
    assert report["metrics"]["prometheus"]["labelled"] == 6
    assert "has no verdicts to score" in fails(["benchmark", "prometheus", "--predictions", str(data)], capsys)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (graded_row(0, [6]), "expected gpt4_score to be a grade from 1 to 5, or a list of some, found [6]"),
        (graded_row(0, []), "or a list of some, found []"),
        (graded_row(0, 10**400), "or a list of some, found 1000"),
        (feedback_row(0, "nan"), "or a list of some, found 'nan'"),
        ({**feedback_row(0, "3"), "orig_reference_answer": "\ud800"}, "the reference answer has half a surrogate pair"),
        (graded_row(0, [3, True]), "or a list of some, found [3, True]"),
        (feedback_row(0, "good"), "expected orig_score to be a grade from 1 to 5, or a list of some, found 'good'"),
        ({**graded_row(0, 3), "instruction": "Do it."}, "expected instruction to have the parts"),
        ({"instruction": graded_row(0, 3)["instruction"]}, "field 'orig_score' is missing"),
        ({**feedback_row(0, "3"), "orig_criteria": None}, "field 'orig_criteria' must be str"),
    ],
)
def test_a_row_of_another_form_is_named(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set\.jsonl:1: ") as error:
        read_benchmark("prometheus", write_jsonl(tmp_path / "set.jsonl", [row]))
    assert problem in str(error.value)
