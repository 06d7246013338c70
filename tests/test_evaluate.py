"""The command that evaluates, and the same from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judging import Scripted, run_command

from judgelm import Judge
from judgelm.evaluation import evaluate, evaluate_files
from judgelm.evaluation.results import read_files
from judgelm.evaluation.summary import SummaryFile
from judgelm.jsonl import read_lines
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder, write_beside
from judgelm.judgement import Outcome
from judgelm.report import write_report
from judgelm.samples import read_samples

WIN, TIE, LOSE = Outcome


def write_run(
    folder: Path,
    texts: Sequence[tuple[str, str]],
    labels: Sequence[int | None] | None = None,
    bodies: Sequence[str] = ("left", "right"),
) -> Path:
    """As `judgelm judge` writes it; texts of the reversed order speak of the exchanged answers."""
    for place, order in enumerate(("forward", "reversed")):
        shown = bodies[:: 1 if order == "forward" else -1]
        records: list[dict[str, Any]] = [
            {
                "question_id": key,
                "question_body": f"Question {key}?",
                **{f"answer{side}_body": body for side, body in enumerate(shown, start=1)},
                "pred_text": text[place],
                "pred_order": order,
                "pred_task": "pair",
            }
            for key, text in enumerate(texts)
        ]
        for record, label in zip(records, labels or (), strict=False):
            record["label"] = label
        write_jsonl(folder / f"{order}.jsonl", records)
    return folder


def test_evaluate_reads_a_folder_with_labels_of_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [("9 1", "1 9"), ("2 8", "8 2"), ("5 5", "4 6"), ("7 3", "6 4")]
    folder = write_run(tmp_path / "a", texts, [1, 2, 0, None])
    output = tmp_path / "out" / "summary.json"
    assert run_command(["evaluate", str(folder), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    last = json.loads(printed.splitlines()[-1])
    # the row without a majority is dropped, as one whose teacher cannot be read
    assert (last["accuracy"], last["total_num"], last["dropped_teacher"]) == (1.0, 3, 1)
    assert "agreement with the truth" in printed
    assert "agreement by length of the answers" in printed
    summary = json.loads(output.read_text(encoding="utf-8"))
    assert (summary["samples"], summary["labelled"]) == (4, 3)
    assert summary["rates"]["consistency"]["value"] == 2 / 4

    teacher = [{"question_id": key, "label": 2, "annotators": [2, 2, 1]} for key in range(5)]
    labels = write_jsonl(tmp_path / "labels.jsonl", teacher)
    assert run_command(["evaluate", str(folder), "--teacher", str(labels)]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["accuracy"], last["not_judged"]) == (1 / 4, 1)


def test_evaluate_compares_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "a", [("9 1", "1 9"), ("2 8", "8 2")], [1, 1])
    second = write_run(tmp_path / "b", [("9 1", "1 9"), ("8 2", "2 8")], [1, 1])
    output = tmp_path / "summary.json"
    assert run_command(["evaluate", str(first), "--against", str(second), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "difference (second - first)" in printed
    assert "agreement" in json.loads(printed.splitlines()[-1])
    against = json.loads(output.read_text(encoding="utf-8"))["against"]
    assert (against["only_first"], against["only_second"], against["p"]) == (0, 1, 1.0)


def test_evaluate_from_python_is_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "a", [("9 1", "1 9"), ("2 8", "8 2")], [1, 1])
    second = write_run(tmp_path / "b", [("9 1", "1 9"), ("8 2", "2 8")], [1, 1])
    output = tmp_path / "summary.json"
    assert run_command(["evaluate", str(first), "--against", str(second), "--output", str(output)]) == 0
    found = evaluate(first, against=second)
    assert found.published == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.to_record() == json.loads(output.read_text(encoding="utf-8"))
    assert SummaryFile.read(output) == found.document
    assert found.against is not None
    assert (found.summary.rates["agreement"].value, found.against.only_second) == (0.5, 1)
    assert "against" not in evaluate(first).to_record()


def test_empty_answers_are_counted_and_their_models_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "a", [("9 1", "1 9"), ("2 8", "8 2"), ("5 5", "4 6")])
    bodies = [("a", ""), (" \n", "b"), ("a", "\t")]
    models = {"forward": ("x", "y"), "reversed": ("y", "x")}
    for order, names in models.items():
        records = [json.loads(line) for line in (folder / f"{order}.jsonl").read_text().splitlines()]
        for record, texts in zip(records, bodies, strict=True):
            first, second = texts if order == "forward" else texts[::-1]
            record |= {"answer1_body": first, "answer2_body": second}
            record |= {f"answer{side}_model_id": name for side, name in enumerate(names, start=1)}
        write_jsonl(folder / f"{order}.jsonl", records)
    assert run_command(["evaluate", str(folder)]) == 0
    assert "with a truth\n3 empty answers: y 2, x 1\n" in capsys.readouterr().out
    # in the file's order of answers, whichever order is read
    for files in ((folder / "forward.jsonl", None), (None, folder / "reversed.jsonl")):
        samples = read_files(*files)
        assert [each.empty for each in samples] == [("y",), ("x",), ("y",)]
    unnamed = write_run(tmp_path / "b", [("9 1", "1 9")], bodies=("a", ""))
    assert evaluate(unnamed).summary.empty_answers == {"answer 2": 1}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_judgements_are_written_as_a_table_that_evaluates_to_the_same(tmp_path: Path, kind: str) -> None:
    questions = [
        {
            **{"question_id": f"q{k}", "question_body": "=2+2", "answer1_body": "-4", "answer2_body": text},
            **{"label": label, "meta": {"a": [k]}, "answer1_model_id": "@x"},
        }
        for k, (text, label) in enumerate((("<think>hm</think>5", 1), ("", 2), ("'six", None)))
    ]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", questions))
    texts = {f"q{k}": text for k, text in enumerate(("8 7\nGood.", "none", "6, 6"))}
    choice = JudgeChoice("scripted", lambda: Judge(Scripted(texts)), {})
    found = judge_folder(samples, tmp_path / "out", choice, JudgeSettings())
    assert write_beside(found, "jsonl") == []
    for again in range(2):
        # also of a run that is finished already
        found = judge_folder(samples, tmp_path / "out", choice, JudgeSettings()) if again else found
        forward, back = write_beside(found, kind)
        assert (forward, back) == tuple(tmp_path / "out" / f"{order}.{kind}" for order in ("forward", "reversed"))
    wanted = evaluate(tmp_path / "out")
    tables = evaluate_files(forward, back)
    assert (tables.published, tables.summary) == (wanted.published, wanted.summary)
    assert wanted.summary.empty_answers == {"answer 2": 1}
    for path in (forward, back):
        records = [line.record for line in read_lines(path.with_suffix(".jsonl"))]
        fields = dict.fromkeys(name for record in records for name in record)
        assert [line.record for line in read_lines(path)] == [{**fields, **record} for record in records]


def test_a_folder_is_evaluated_and_reported_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("out", "other"):
        write_run(tmp_path / name, [("9 1", "1 9"), ("2 8", "8 2")], [1, 1])
    monkeypatch.chdir(tmp_path)
    found = evaluate("out", against="other")
    assert found.summary.rates["agreement"].count == 2
    assert found.published["accuracy"] == 0.5
    assert found.against is not None
    assert found.against.p == 1
    found.document.write("summary.json")
    assert SummaryFile.read("summary.json").to_record() == found.to_record()
    assert write_report("out", output="out/report.html", most_samples=50).markdown == Path("out/report.md")
    assert (tmp_path / "out" / "report.html").exists()


def test_mistakes_of_evaluate_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "a", [("9 1", "1 9")], None)
    other = write_run(tmp_path / "b", [("9 1", "1 9"), ("1 1", "1 1")], None)
    (tmp_path / "c").mkdir()
    (folder / "reversed.jsonl").rename(tmp_path / "c" / "reversed.jsonl")
    wrong = write_jsonl(tmp_path / "wrong.jsonl", [{"question_id": 0, "label": "left"}])
    for arguments, message in (
        ([], "takes either a folder"),
        ([str(folder), "--forward", str(wrong)], "takes either a folder"),
        ([str(folder), "--reversed", str(wrong)], "--reversed goes with --forward"),
        ([str(tmp_path)], "no forward.jsonl or reversed.jsonl there"),
        ([str(tmp_path / "c")], "there is no forward judgement"),
        ([str(folder), "--teacher", str(wrong)], "wrong.jsonl:1: expected label 1, 2 or 0 (tie), found 'left'"),
        ([str(folder), "--against", str(other)], "has no judgement for question_id 1"),
        ([str(folder), "--against", str(folder)], "there is no truth"),
    ):
        assert run_command(["evaluate", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
