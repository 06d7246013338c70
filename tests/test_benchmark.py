from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import fails, judgebench_row, last_json, pair, pandalm_row, vote, write_json
from conftest import write_jsonl
from judging import run_command
from snippets import run_snippet
from test_audit import Planted, planted

from judgelm.benchmark import read_benchmark, run_benchmark
from judgelm.benchmark.files import find_files
from judgelm.benchmark.readers import majority
from judgelm.benchmark.report import BenchmarkReport, measure_grades
from judgelm.benchmark.sets import BENCHMARKS
from judgelm.errors import InputError
from judgelm.jsonl import Line
from judgelm.prompt import render_prompt
from judgelm.report.benchmark_tables import grades_table
from judgelm.sample import Sample


def read(name: str, *paths: Path) -> Any:
    """The one part's records, and what was dropped."""
    names = list(BENCHMARKS[name].homes)
    files = dict(zip(names, paths, strict=False)) if names else {path.name: path for path in paths}
    found = BENCHMARKS[name].read(files)
    (part,) = found.splits
    return part.records, found.dropped


def test_pandalm_takes_the_majority_of_three_and_counts_rows_without_one(tmp_path: Path) -> None:
    rows = [pandalm_row(0, 1, 1, 2), pandalm_row(1, 0, 2, 0, more="3 + 4"), pandalm_row(2, 0, 1, 2)]
    records, dropped = read("pandalm", write_json(tmp_path / "testset-v1.json", rows))
    assert [(r["question_id"], r["label"], r["annotators"]) for r in records] == [(0, 1, [1, 1, 2]), (1, 0, [0, 2, 0])]
    assert [r["question_body"] for r in records] == ["Do 0.", "Do 1.\n3 + 4"]
    assert (records[0]["answer1_body"], records[0]["answer2_body"], records[0]["category"]) == (
        "one 0",
        "two 0",
        "Maps",
    )
    assert dropped == {"no majority": 1}


@pytest.mark.parametrize(("votes", "label"), [([1], 1), ([1, 2], None), ([2, 2, 0, 1], None), ([0, 0, 0, 1], 0)])
def test_a_majority_is_more_than_half(votes: list[int], label: int | None) -> None:
    assert majority(votes) == label


def test_judgebench_llmbar_and_autoj_are_read_in_their_own_words(tmp_path: Path) -> None:
    fields = {"question": "Why?", "response_A": "a", "response_B": "b", "response_model": "gpt", "source": "mmlu"}
    path = write_jsonl(tmp_path / "bench.jsonl", [fields | {"pair_id": "x1", "label": "B>A"}])
    (record,), _ = read("judgebench", path)
    assert (record["question_id"], record["label"], record["category"]) == ("x1", 2, "mmlu")
    assert record["answer1_model_id"] == record["answer2_model_id"] == "gpt"
    row = {"input": "Why?", "output_1": "a", "output_2": "b", "label": 1}
    path = write_json(tmp_path / "Natural" / "dataset.json", [row, row | {"label": 2}])
    records, _ = read("llmbar", path)
    assert [(r["question_id"], r["label"], r["category"]) for r in records] == [
        ("Natural-0", 1, "Natural"),
        ("Natural-1", 2, "Natural"),
    ]
    rows = [{"prompt": "Why?", "response 1": "a", "response 2": "b", "scenario": "chat", "label": k} for k in (0, 1, 2)]
    records, _ = read("autoj", write_jsonl(tmp_path / "autoj.jsonl", rows))
    assert [(r["question_id"], r["label"], r["category"]) for r in records] == [
        (0, 1, "chat"),
        (1, 2, "chat"),
        (2, 0, "chat"),
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_mt_bench_votes_on_a_pair_are_counted_together_in_either_order(tmp_path: Path, ending: str) -> None:
    rows = [
        vote("model_a"),
        vote("model_b", "nm"),
        vote("tie"),
        vote("model_b", turn=2),
        vote("model_a", question=125),
        vote("model_a", "nm", question=125),
    ]
    path = tmp_path / f"human{ending}"
    if ending == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    elif ending == ".json":
        write_json(path, rows)
    else:
        write_jsonl(path, rows)
    (record,), dropped = read("mt-bench-human", path)
    assert (record["question_id"], record["label"], record["annotators"]) == ("81-m-n", 1, [1, 1, 0])
    assert (record["question_body"], record["answer1_body"], record["answer2_body"]) == ("Why?", "by m", "by n")
    assert record["category"] == "writing"
    assert dropped == {"second turn": 1, "no majority": 1}


def second_vote(winner: str, models: str = "mn", asked: str = "And then?") -> dict[str, Any]:
    row = vote(winner, models, turn=2)
    for side, model in zip("ab", models, strict=True):
        talk = row[f"conversation_{side}"]
        talk[2]["content"] = asked
        talk.append({"role": "assistant", "content": f"more by {model}"})
    return row


@pytest.mark.parametrize(
    ("turn", "keys", "left_out"),
    [
        (None, ["81-m-n"], {"second turn": 3, "no majority": 0}),
        ("1", ["81-m-n"], {"second turn": 3, "no majority": 0}),
        ("2", ["81-m-n-turn2"], {"first turn": 1, "no majority": 0}),
        ("both", ["81-m-n", "81-m-n-turn2"], {"other turn": 0, "no majority": 0}),
    ],
)
def test_votes_on_second_turns_are_of_whole_conversations(
    tmp_path: Path, turn: str | None, keys: list[str], left_out: dict[str, int]
) -> None:
    rows = [vote("model_a"), second_vote("model_b"), second_vote("model_a", "nm"), second_vote("model_a")]
    found = read_benchmark("mt-bench-human", write_jsonl(tmp_path / "human.jsonl", rows), turn=turn)
    assert found.turn == (turn or "1")
    (split,) = found.labelled.splits
    assert found.labelled.dropped == left_out
    assert [record["question_id"] for record in split.records] == keys
    if turn in ("2", "both"):
        record = split.records[-1]
        assert (record["label"], record["annotators"], record["turn"]) == (2, [2, 2, 1], 2)
        talk = [("user", "Why?"), ("assistant", "by n"), ("user", "And then?"), ("assistant", "more by n")]
        assert record["conversation2"] == [{"role": role, "content": text} for role, text in talk]
        sample = Sample.from_record(record)
        assert (sample.question, sample.answers) == ("And then?", ("more by m", "more by n"))
        assert sample.dialogue is not None
        assert render_prompt(sample).count("[User]\nAnd then?") == 2


def test_a_turn_that_is_none_or_for_others_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "human.jsonl", [vote("model_a", turn=2)])
    with pytest.raises(InputError, match=r"human.jsonl:1: conversation_a: message 3: expected content to be a text"):
        read_benchmark("mt-bench-human", path, turn="2")
    with pytest.raises(InputError, match="unknown turn '3', expected one of 1, 2, both"):
        read_benchmark("mt-bench-human", path, turn="3")
    assert run_command(["benchmark", "pairs", "--turn", "2", "--data", str(path), "--output-dir", "x"]) == 2
    assert "--turn is for mt-bench-human, not for pairs" in capsys.readouterr().err


def test_pairs_keep_their_ids_unless_one_is_missing_or_double(tmp_path: Path) -> None:
    records, dropped = read("pairs", write_jsonl(tmp_path / "a.jsonl", [pair(7, 1), pair(8, None), pair(9, 0)]))
    assert [(r["question_id"], r["label"]) for r in records] == [(7, 1), (9, 0)]
    assert dropped == {"no label": 1}
    records, _ = read("pairs", write_jsonl(tmp_path / "b.jsonl", [pair(7, 1), pair(7, 2)]))
    assert [(r["question_id"], r["source_id"]) for r in records] == [(0, 7), (1, 7)]
    for row, message in (
        (pair(1, 3), "b.jsonl:1: expected label 1, 2 or 0"),
        ({**pair(1, 1), "answer2_body": [5]}, "b.jsonl:1: field 'answer2_body' must be str"),
        ({"question_body": "?", "answer1_body": "", "answer2_body": ""}, "field 'label' is missing"),
    ):
        with pytest.raises(InputError, match=message):
            read("pairs", write_jsonl(tmp_path / "b.jsonl", [row]))


def odd_file(tmp_path: Path, name: str, rows: list[dict[str, Any]], field: str) -> Path:
    """The rows of a benchmark's file between others that cannot be read: no JSON, no object, not finite, null."""
    texts = [json.dumps(rows[0]), "{broken", "[7]", *map(json.dumps, rows[1:])]
    texts += [json.dumps(rows[0] | {field: None}), json.dumps(rows[0])[:-1] + ', "more": NaN}']
    path = tmp_path / name
    path.write_text("\n".join(texts) + "\n")
    return path


ODD: dict[str, tuple[Callable[[int], dict[str, Any]], str]] = {
    "pandalm": (lambda k: pandalm_row(k, 1, 1, 2), "response1"),
    "judgebench": (judgebench_row, "response_A"),
    "llmbar": (lambda k: {"input": "Why?", "output_1": "a", "output_2": "b", "label": 1}, "output_2"),
    "autoj": (lambda k: {"prompt": "Why?", "response 1": "a", "response 2": "b", "label": 1}, "prompt"),
    "mt-bench-human": (lambda k: vote("model_a", question=81 + k), "winner"),
    "pairs": (lambda k: pair(k, 1), "answer1_body"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_row_is_set_aside_with_its_line_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    make, field = ODD[name]
    path = odd_file(tmp_path, "set.jsonl", [make(k) for k in range(3)], field)
    found = BENCHMARKS[name].read({(list(BENCHMARKS[name].homes) or ["set.jsonl"])[0]: path})
    (part,) = found.splits
    assert (len(part.records), found.rows) == (3, 7)
    assert [error.removeprefix(f"{path}:")[:2] for error in found.odd] == ["2:", "3:", "6:", "7:"]
    assert part.places in ([0, 3, 4], ())
    path.write_text("{broken\n[7]\n")
    with pytest.raises(InputError, match=r"set.jsonl:1: not JSON"):
        BENCHMARKS[name].read({(list(BENCHMARKS[name].homes) or ["set.jsonl"])[0]: path})


def test_rows_set_aside_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pandalm_row(k, 1, 1, 2) for k in range(3)]
    path = write_json(tmp_path / "set.json", [*rows, rows[2], pandalm_row(4, 1, 7, 1), 5])
    results = [{"idx": k, "gpt_result": 1} for k in range(3)]
    verdicts = write_json(tmp_path / "v.json", [*results, {"gpt_result": 2}, []])
    output = tmp_path / "out"
    arguments = ["benchmark", "pandalm", "--data", str(path), "--predictions", str(verdicts)]
    assert run_command([*arguments, "--output-dir", str(output)]) == 0
    out = capsys.readouterr().out
    report = json.loads((output / "benchmark.json").read_text())
    assert report["rows"] == {"pandalm": 3}
    assert report["odd_rows"]["count"] == 3
    assert report["odd_rows"]["first"][0] == f"{path}:4: question_id 2 stands already in {path}:3"
    assert "set.json:5: expected annotator2 to be 1 first, 2 second, Tie or 0 tie, found 7" in out
    assert "rows left out because they cannot be read: 3" in out
    assert report["predictions"]["odd_rows"]["count"] == 2
    assert f"{verdicts}:4: field 'idx' is missing" in out
    assert report["metrics"]["pandalm"]["rates"]["agreement"]["value"] == 1.0


@pytest.mark.parametrize(("answer", "text"), [(True, "True"), (False, "False"), (12, "12")])
def test_an_answer_that_is_no_text_in_json_is_its_text(answer: Any, text: str, tmp_path: Path) -> None:
    rows = [{**pandalm_row(0, 1, 1, 2), "response1": answer, "input": answer}, pandalm_row(1, 1, 1, 1)]
    records, _ = read("pandalm", write_json(tmp_path / "testset-v1.json", rows))
    assert [record["answer1_body"] for record in records] == [text, "one 1"]
    assert records[0]["question_body"] == f"Do 0.\n{text}"
    row = {"input": answer, "output_1": answer, "output_2": "b", "label": 1}
    records, _ = read("llmbar", write_json(tmp_path / "Natural" / "dataset.json", [row]))
    assert (records[0]["question_body"], records[0]["answer1_body"]) == (text, text)
    records, _ = read("pairs", write_jsonl(tmp_path / "p.jsonl", [{**pair(0, 1), "answer2_body": answer}]))
    assert records[0]["answer2_body"] == text


@pytest.mark.parametrize("word", ["tie (bothbad)", "Tie (Inconsistent)", "both_bad", "tie"])
def test_human_votes_are_read_in_all_their_spellings(word: str, tmp_path: Path) -> None:
    rows = [vote("Model A"), vote(word, question=82), vote("[[MODEL_B]]", question=83), vote("model_c", question=84)]
    path = write_jsonl(tmp_path / "human.jsonl", rows)
    found = BENCHMARKS["mt-bench-human"].read({"human.parquet": path})
    assert [record["label"] for record in found.splits[0].records] == [1, 0, 2, 0]


def test_a_folder_must_hold_what_a_benchmark_needs(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "judgelm_val_5k.jsonl", [{}])
    with pytest.raises(InputError, match=r"needs judgelm_val_5k_gpt4\.jsonl and judgelm_val"):
        find_files("judgelm-val", str(tmp_path))
    natural = write_json(tmp_path / "Natural" / "dataset.json", [])
    assert find_files("llmbar", str(tmp_path)) == {"Natural/dataset.json": natural}
    assert find_files("llmbar", str(natural)) == {"dataset.json": natural}


def test_mistakes_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl(tmp_path / "pairs.jsonl", [pair(0, 1), pair(1, 2)])
    verdicts = write_jsonl(tmp_path / "v.jsonl", [{"question_id": 0, "verdict": 0}, {"question_id": 1, "verdict": 1}])
    strange = write_jsonl(tmp_path / "s.jsonl", [{"question_id": 70, "verdict": "A"}])
    double = write_jsonl(tmp_path / "d.jsonl", [{"question_id": 0, "verdict": "A"}] * 2)
    pairs = ["benchmark", "pairs", "--data", str(data)]
    for arguments, message in (
        (["benchmark", "nothing"], "unknown benchmark 'nothing', expected one of judgelm-val, pandalm"),
        (["benchmark", "pairs", "--predictions", str(verdicts)], "--data FILE names your pairs"),
        (["benchmark", "pairs", "--data", "gone.jsonl", "--predictions", str(verdicts)], "gone.jsonl: no such file"),
        (pairs, "--output-dir DIR is needed"),
        ([*pairs, "--vocabulary", "sign"], "--vocabulary says how --predictions FILE is read"),
        ([*pairs, "--predictions", str(verdicts)], "say which with --vocabulary"),
        ([*pairs, "--predictions", str(strange)], "none of its ids is one of the data's (0, 1, ..)"),
        ([*pairs, "--predictions", str(double)], "d.jsonl:2: question_id 0 stands in the file already"),
        ([*pairs, "--answers", "x", "--output-dir", "y"], "--answers is for mm-vet"),
        (["benchmark", "mm-vet", "--predictions", str(verdicts)], "mm-vet has no verdicts to score"),
    ):
        assert message in fails(arguments, capsys)
    assert run_command([*pairs, "--predictions", str(verdicts), "--vocabulary", "from-zero"]) == 0
    assert last_json(capsys)["metrics"]["pairs"]["rates"]["agreement"]["value"] == 1.0


def test_the_python_of_the_docs_measures_a_judge_and_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "my-pairs.jsonl", [pair(k, (1, 2, 0)[k % 3]) for k in range(6)])
    write_jsonl(tmp_path / "verdicts.jsonl", [{"question_id": k, "verdict": v} for k, v in enumerate((1, -1, "?"))])
    judge = planted(Planted(lambda seen: (9, 2)))
    made = run_snippet("evaluation.md", "judgelm.benchmark", judge)
    written = tmp_path / "out" / "pairs" / "benchmark.json"
    assert BenchmarkReport.read(written) == made["found"].report
    assert made["found"].report.metrics["pairs"].samples == 4
    assert made["report"].metrics["pairs"].rates["agreement"].value == pytest.approx(2 / 3)
    assert made["report"].predictions.not_predicted == {"pairs": 3}
    # as version 0.1 wrote it
    write_json(written, {name: each for name, each in json.loads(written.read_text()).items() if name != "format"})
    assert BenchmarkReport.read(written) == made["found"].report
    with pytest.raises(InputError, match="unknown benchmark 'nothing'"):
        run_benchmark("nothing", tmp_path, judge)
    with pytest.raises(InputError, match="--answers is for mm-vet, not for pairs"):
        read_benchmark("pairs", "my-pairs.jsonl", answers="answers.json")


def quick(model: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--model", str(model), "--output-dir", str(output), "--device", "cpu", "--scores-only", "--constrained"]
    return [*fixed, "--scoring", "expected", *more]


def test_a_judge_is_measured_and_the_same_command_goes_on(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(k, (1, 2, 0)[k % 3], "even" if k % 2 == 0 else "odd") for k in range(6)]
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    output = tmp_path / "out"
    arguments = ["benchmark", "pairs", "--data", str(data), *quick(model_folder, output)]
    assert run_command([*arguments, "--limit", "2"]) == 0
    assert last_json(capsys)["metrics"]["pairs"]["samples"] == 2
    assert run_command(arguments) == 0
    captured = capsys.readouterr()
    assert "4 of 12 judgements are there already" in captured.err
    report = json.loads(captured.out.splitlines()[-1])
    measured = report["metrics"]["pairs"]
    assert sorted(path.name for path in output.iterdir() if not path.name.startswith(".")) == [
        "benchmark.json",
        "forward.jsonl",
        "questions.jsonl",
        "reversed.jsonl",
        "run.json",
    ]
    forward, back = (
        [json.loads(line) for line in (output / f"{order}.jsonl").read_text().splitlines()]
        for order in ("forward", "reversed")
    )
    says = {1: "win", 2: "lose", 0: "tie"}
    right = [record["pred_outcome"] == says[record["label"]] for record in forward]
    assert measured["rates"]["agreement"]["value"] == pytest.approx(sum(right) / 6)
    turned = {"win": "lose", "lose": "win", "tie": "tie"}
    same = [f["pred_outcome"] == turned[b["pred_outcome"]] for f, b in zip(forward, back, strict=True)]
    assert measured["rates"]["consistency"]["value"] == pytest.approx(sum(same) / 6)
    shift = measured["rates"]["bias_first"]["value"] + measured["rates"]["bias_second"]["value"]
    assert shift == pytest.approx(1 - measured["rates"]["consistency"]["value"])
    assert {each["label"] for each in measured["by_category"]} == {"even", "odd"}
    assert "agreement_probabilities" in measured["rates"]
    write_jsonl(data, rows[:5])
    assert "questions.jsonl is of other data" in fails(arguments, capsys)


def test_the_papers_four_runs_stand_beside_the_published_numbers(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "val"
    samples = [{name: value for name, value in pair(k, None).items() if name != "label"} for k in range(3)]
    write_jsonl(folder / "judgelm_val_5k.jsonl", samples)
    plain, informed = ["9 1\nwhy", "1 9", "oops"], ["1 9", "5 5", "9 1"]
    for name, texts in (("gpt4", plain), ("gpt4_with_reference", informed)):
        rows = [{"question_id": k, "text": text} for k, text in enumerate(texts)]
        write_jsonl(folder / f"judgelm_val_5k_{name}.jsonl", rows)
    references = [{"question_id": k, "reference": {"text": f"reference {k}"}} for k in range(3)]
    write_jsonl(folder / "judgelm_val_5k_references.jsonl", references)
    output = tmp_path / "out"
    assert run_command(["benchmark", "judgelm-val", "--data", str(folder), *quick(model_folder, output)]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "JudgeLM-7B (published) with reference 84.08 75.92 82.55 78.28 84.46 5k" in lines
    assert "JudgeLM-33B (published) without reference 89.03 80.97 84.76 82.64 91.36 5k" in lines
    report = json.loads(out.splitlines()[-1])
    assert report["dropped"] == {"teacher unparsed, without_reference": 1, "teacher unparsed, with_reference": 0}
    assert len(report["files"]) == 4
    for part, count, labels in (("without_reference", 2, [1, 2, None]), ("with_reference", 3, [2, 0, 1])):
        judged = [json.loads(line) for line in (output / part / "forward.jsonl").read_text().splitlines()]
        assert [record["label"] for record in judged] == labels
        assert [record.get("reference") for record in judged] == [
            f"reference {k}" if part == "with_reference" else None for k in range(3)
        ]
        measured = report["metrics"][part]
        assert measured["samples"] == measured["published"]["total_num"] == count
        assert measured["published"]["agreement"] == pytest.approx(measured["rates"]["agreement"]["value"])
        assert (output / part / "reversed.jsonl").exists()


def mmvet_files(tmp_path: Path) -> list[str]:
    truth = {
        f"v1_{k}": {
            "imagename": f"v1_{k}.png",
            "question": f"What {k}?",
            "answer": f"{k}",
            "capability": list("ab"[k:]),
        }
        for k in range(2)
    }
    grades = {"v1_0": {"model": "gpt-4", "score": [1.0, 0.5]}, "v1_1": 0.25}
    paths = [
        write_json(tmp_path / name, document)
        for name, document in (
            ("mm-vet.json", truth),
            ("answers.json", {"v1_0": "zero", "v1_1": "one"}),
            ("grades.json", grades),
        )
    ]
    flags = ("--data", "--answers", "--grades")
    return [text for flag, path in zip(flags, paths, strict=True) for text in (flag, str(path))]


def test_mm_vet_grades_a_vision_models_answers_beside_given_grades(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["benchmark", "mm-vet", *mmvet_files(tmp_path), *quick(model_folder, output)]
    assert run_command(arguments) == 0
    measured = last_json(capsys)["metrics"]["mm-vet"]
    judged = [json.loads(line) for line in (output / "forward.jsonl").read_text().splitlines()]
    ours = [record["pred_scores"][1] / 10 for record in judged]
    assert [record["grade"] for record in judged] == [0.75, 0.25]
    assert measured["grade"]["value"] == pytest.approx(sum(ours) / 2)
    assert measured["grade_given"] == pytest.approx(0.5)
    assert measured["difference"] == pytest.approx((abs(ours[0] - 0.75) + abs(ours[1] - 0.25)) / 2)
    assert {name: group["rows"] for name, group in measured["by_category"].items()} == {"a": 1, "b": 2}
    without = [text for text in arguments if text != "--answers" and not text.endswith("answers.json")]
    assert "--answers FILE names them" in fails(without, capsys)


def test_a_grade_that_cannot_be_read_is_counted_and_left_out() -> None:
    rows = [{"question": "Q", "pred_task": "mmvet", "pred_text": text, "grade": 1.0} for text in (" 5", " 8", "?")]
    found = measure_grades([Line(row, Path("forward.jsonl"), k) for k, row in enumerate(rows, start=1)])
    measured = found.to_record()
    assert (measured["rows"], measured["unparsed"]) == (3, 1)
    assert measured["grade"]["value"] == pytest.approx(0.65)
    assert measured["difference"] == pytest.approx(0.35)
    assert measured["correlation"] is None, "those that were given are all the same"
    nothing = measure_grades([Line(rows[2], Path("forward.jsonl"), 1)])
    assert nothing.to_record()["grade"] == {"value": None, "low": None, "high": None, "count": 0}
    for shown in (grades_table(found), grades_table(nothing)):
        assert any(line.split()[-1] == "-" for line in shown.splitlines())
