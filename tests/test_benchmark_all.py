"""`judgelm benchmark all`: what is there, one after another, into one table and one page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_rows import best_of_row, fails, hhh_row, pair, pandalm_row, write_json
from conftest import write_jsonl
from judging import run_command
from played import Played, wrote
from test_audit import Planted, planted
from test_benchmark import mmvet_files, quick
from test_benchmark_rubrics import feedback_row

from judgelm.benchmark import run_benchmarks
from judgelm.benchmark.report import BenchmarksReport
from judgelm.errors import InputError
from judgelm.report.benchmarks_page import write_benchmarks_page


def several(tmp_path: Path) -> Path:
    """Data of five benchmarks; that of pandalm is broken."""
    data = tmp_path / "data"
    write_json(data / "pandalm" / "testset-v1.json", ["nothing"])
    write_jsonl(data / "pairs.jsonl", [pair(k, (1, 2, 0)[k % 3]) for k in range(6)])
    write_json(data / "hhh" / "hhh_alignment_eval.json", [hhh_row(k) for k in range(4)])
    write_jsonl(data / "rewardbench2.jsonl", [best_of_row(f"{k}", "Math") for k in range(2)])
    write_jsonl(data / "prometheus.jsonl", [feedback_row(k, str(1 + k % 5)) for k in range(6)])
    return data


def test_what_is_there_is_run_and_a_bad_set_does_not_end_the_others(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = several(tmp_path), tmp_path / "out"
    arguments = ["benchmark", "all", "--data", str(data), *quick(model_folder, output)]
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    problem = f"{data}/pandalm/testset-v1.json:1: expected a JSON object"
    assert f"judgelm: pandalm: could not be run: {problem}" in captured.err
    assert captured.err.splitlines()[-1].endswith("1 benchmarks could not be run: pandalm")
    report = json.loads(captured.out.splitlines()[-1])
    assert BenchmarksReport.read(output / "benchmarks.json").to_record() == report
    assert [(one["benchmark"], one["measure"]) for one in report["results"]] == [
        ("rewardbench2", "score"),
        ("hhh", "score"),
        ("prometheus", "pearson"),
        ("pairs", "agreement_both"),
    ]
    assert list(report["failed"]) == ["pandalm"]
    assert report["failed"]["pandalm"].startswith(problem)
    assert "rewardbench" in report["not_there"]
    assert "pairs" not in report["not_there"]
    for one in report["results"]:
        alone = json.loads((output / one["benchmark"] / "benchmark.json").read_text())
        measured = (
            alone["scores"]["score"]
            if "scores" in alone
            else alone["metrics"][one["benchmark"]]["rates"][one["measure"]]
        )
        assert one["value"] == measured
    table = [line.split("  ")[0] for line in captured.out.splitlines()]
    assert [name for name in table if name in output_names(output)] == [one["benchmark"] for one in report["results"]]
    for written in ("benchmarks.html", "benchmarks.md"):
        text = (output / written).read_text()
        assert all(one["benchmark"] in text for one in report["results"])
        assert "pandalm" in text
        assert "1 could not be run" in text
    # once the data is whole the same command does the rest, and judges nothing twice
    write_json(data / "pandalm" / "testset-v1.json", [pandalm_row(k, 1, 1, 2) for k in range(3)])
    before = {path: path.read_bytes() for path in output.rglob("forward.jsonl")}
    assert run_command(arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["failed"] == {}
    assert {path: path.read_bytes() for path in before} == before
    assert (output / "pandalm" / "forward.jsonl").exists()


def output_names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def test_mm_vet_finds_its_answers_and_grades_beside_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mm-vet"
    folder.mkdir(parents=True)
    mmvet_files(folder)
    found = run_benchmarks(tmp_path / "data", tmp_path / "out", planted(Planted(lambda seen: (9, 2))))
    assert [(one.benchmark, one.measure) for one in found.results] + list(found.failed.items()) == [("mm-vet", "grade")]
    (folder / "answers.json").unlink()
    found = run_benchmarks(tmp_path / "data", tmp_path / "other", planted(Planted(lambda seen: (9, 2))))
    assert found.failed == {
        "mm-vet": f"{folder}: mm-vet needs a folder in which answers.json has a vision model's answers"
    }
    assert found.results == []


def test_one_order_of_exchanged_answers_is_enough(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "pairs.jsonl", [pair(k, 1) for k in range(3)])
    judge = planted(Planted(lambda seen: (2, 9)))
    found = run_benchmarks(tmp_path / "data", tmp_path / "out", judge, orders="reversed")
    assert [(one.measure, one.value.value) for one in found.results] == [("agreement_reversed", 1)]


def test_a_part_of_a_score_has_its_own_name_and_is_a_share(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "rewardbench2.jsonl", [best_of_row("0", "bias"), best_of_row("1", "<b>")])
    judge = planted(Planted(lambda seen: (9, 2)))
    found = run_benchmarks(tmp_path / "data", tmp_path / "out", judge, by="pairs")
    page = write_benchmarks_page(found, tmp_path / "out").page.read_text()
    # each order prefers the answer shown first: a tie with all of the other three
    for name in ("bias", "&lt;b&gt;"):
        assert f'<bdi>{name}</bdi></th><td class="number">25.0 %</td>' in page


def test_what_each_benchmark_cost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pair(k, 1) | {"question_body": f"Question {k}: why?"} for k in range(3)]
    write_jsonl(tmp_path / "data" / "pairs.jsonl", rows)
    places = ["--data", str(tmp_path / "data"), "--output-dir", str(tmp_path / "out")]
    with Played(lambda *_: wrote()) as server:
        priced = [
            "--engine",
            "openai",
            "--base-url",
            server.url,
            "--model",
            "m",
            "--price-per-million-tokens",
            "2.5",
            "10",
        ]
        assert run_command(["benchmark", "all", *places, *priced]) == 0
    # 6 x 100 tokens for 2.5 and 6 x 20 for 10
    cost = "cost: 0.0027 (600 prompt tokens, 120 generated tokens)"
    assert f"judgelm: pairs: done, {cost}" in capsys.readouterr().err


def test_a_page_shows_names_as_text(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "pairs.jsonl", [pair(k, 1) for k in range(3)])
    judge = planted(Planted(lambda seen: (9, 2)))
    found = run_benchmarks(tmp_path / "data", tmp_path / "out", judge, model_id="<script>|x", limit=2)
    written = write_benchmarks_page(found, tmp_path / "out")
    page = written.page.read_text()
    assert "&lt;script&gt;|x" in page
    assert "<script>" not in page
    assert "<svg" in page
    assert "&lt;script>\\|x" in written.markdown.read_text()


def test_mistakes_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    two = tmp_path / "two"
    (two / "pairs").mkdir(parents=True)
    for name in ("pairs.jsonl", "pairs.csv"):
        (two / name).touch()
    here = ["--output-dir", str(tmp_path / "out")]
    for arguments, message in (
        (here, "all needs --data DIR"),
        (
            ["--data", str(tmp_path / "gone"), *here],
            "gone: no such folder, expected one with a folder or a file for each",
        ),
        (["--data", str(tmp_path / "empty"), *here], "holds no folder or file named as a benchmark (judgelm-val, "),
        (["--data", str(two), *here], "two: expected one of pairs, pairs.csv, pairs.jsonl, found all"),
        (["--data", str(tmp_path), "--predictions", "x", *here], "--predictions is for one benchmark, not for all"),
    ):
        assert message in fails(["benchmark", "all", *arguments], capsys)
    with pytest.raises(InputError, match="no such folder"):
        run_benchmarks(tmp_path / "gone", tmp_path / "out", planted(Planted(lambda seen: (9, 2))))
