"""Runs that version 0.1.0 began go on: `data/begun-0.1` holds what it left when it was killed, and how it planned."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from judging import lasting, run_command

from judgelm.judge.description import read_description
from judgelm.judge.judge import plan_blocks
from judgelm.prompt import render_prompt
from judgelm.sample import Sample

BEGUN = ROOT / "tests" / "data" / "begun-0.1"
ORDERS = ("forward", "reversed")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def begun(folder: Path, model: Path) -> Path:
    """A copy in which the judge is a model of this machine: its files have other bytes elsewhere."""
    from judgelm.models.folder import find_model

    shutil.copytree(BEGUN, folder)
    run = json.loads((folder / "run.json").read_text())
    run["settings"] |= {"model": str(model), "model_fingerprint": find_model(str(model)).fingerprint()}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def arguments(model: Path, output: Path, *more: str) -> list[str]:
    inputs = ["--question-file", str(BEGUN / "questions.jsonl"), "--reference-file", str(BEGUN / "references.jsonl")]
    how = ["--device", "cpu", "--dtype", "float32", "--max-new-token", "6", "--temperature", "0.7"]
    return ["judge", "--model", str(model), *inputs, *how, "--output-dir", str(output), *more]


def test_a_run_begun_by_the_first_version_goes_on_behind_its_first_records(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tmp_path / "out", model_folder)
    assert run_command(arguments(model_folder, output)) == 0
    assert "25 of 140 judgements are there already and are skipped" in capsys.readouterr().err
    assert run_command(arguments(model_folder, tmp_path / "undisturbed")) == 0
    for order in ORDERS:
        first = (BEGUN / f"{order}.jsonl.partial").read_bytes().splitlines(keepends=True)
        now = (output / f"{order}.jsonl").read_bytes().splitlines(keepends=True)
        assert len(now) == 70
        assert set(first) < set(now)
        kept = {json.loads(line)["question_id"] for line in first}
        anew, expected = (
            [record for record in lasting(folder / f"{order}.jsonl") if record["question_id"] not in kept]
            for folder in (output, tmp_path / "undisturbed")
        )
        assert anew == expected
    described = read_description(output / "run.json")
    assert described is not None
    assert (described.format, described.finished, len(described.sessions)) == (1, True, 2)
    assert described.sessions[0].versions == rows_of_session()["versions"]
    assert [session.judged for session in described.sessions] == [0, 115]


def rows_of_session() -> dict[str, Any]:
    run = json.loads((BEGUN / "run.json").read_text())
    assert "format" not in run
    session: dict[str, Any] = run["sessions"][0]
    return session


def test_blocks_are_those_that_the_first_version_planned() -> None:
    """It sorted by whole prompts: also where one text is the beginning of another, or imitates the prompt."""
    planned = [
        Sample(row["question_id"], row["question"], row["answers"], row["reference"])
        for row in rows(BEGUN / "planned.jsonl")
    ]
    assert {len(sample.answers) for sample in planned} == {2, 3}
    assert {sample.reference is None for sample in planned} == {True, False}
    blocks = list(plan_blocks(planned[::-1], "multi", 7))
    assert [len(block) for block in blocks] == [7] * 26 + [2]
    found = [sample for block in blocks for sample in block]
    # some have the same texts, and so stay as they were given
    assert [(s.question, s.answers, s.reference) for s in found] == [
        (s.question, s.answers, s.reference) for s in planned
    ]
    assert sorted(planned, key=lambda sample: (sample.question, sample.answers)) != planned


@pytest.mark.parametrize("task", ["pair", "single", "multi", "mmvet"])
def test_blocks_are_sorted_as_prompts_sort(task: str) -> None:
    pieces = ["a", "b", " ", "\n", "\t", "\n\n", "[", "[System]\n", "é", "\n\n[The End of Assistant 2's Answer]\n\n"]
    draw = random.Random(0)

    def text() -> str:
        return "".join(draw.choices(pieces, k=draw.randint(0, 3)))

    samples = [
        Sample(k, text(), (text(), text()), text() if task == "mmvet" or draw.random() < 0.5 else None)
        for k in range(500)
    ]
    (block,) = plan_blocks(samples, task, 500)
    assert block == sorted(samples, key=lambda sample: render_prompt(sample, task))


def test_a_file_of_a_later_format_is_not_read_as_this_one(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tmp_path / "out", model_folder)
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps({**run, "format": 2}))
    assert run_command(arguments(model_folder, output)) == 2
    assert "run.json: not the description of a run (format: Input should be 1, found 2)" in capsys.readouterr().err


def test_fields_that_this_version_does_not_know_stay_with_their_session(model_folder: Path, tmp_path: Path) -> None:
    output = begun(tmp_path / "out", model_folder)
    run = json.loads((output / "run.json").read_text())
    run["sessions"][0]["weather"] = "rain"
    (output / "run.json").write_text(json.dumps(run))
    assert run_command(arguments(model_folder, output, "--orders", "forward", "--limit", "3")) == 0
    assert json.loads((output / "run.json").read_text())["sessions"][0] == run["sessions"][0]
