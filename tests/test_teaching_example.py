"""`examples/teach` from its first command to its last, as its page says them, with the embedded models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import PATIENCE_S, ROOT, write_jsonl
from test_launch import launched

EXAMPLE = ROOT / "examples" / "teach"
PORT = "21003"
"""of the API, on the page and in models.yaml"""


def commands() -> list[str]:
    """The second block of the page; the first one is the server."""
    block = (EXAMPLE / "README.md").read_text(encoding="utf-8").split("```")[3]
    return block.replace("\\\n", " ").strip().splitlines()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_commands_of_the_page_go_from_questions_to_a_measured_judge(tmp_path: Path) -> None:
    example = shutil.copytree(EXAMPLE, tmp_path / "examples" / "teach")
    # half of the questions: on one core even these models take their time
    rows = write_jsonl(example / "questions.jsonl", read(example / "questions.jsonl")[::2])
    questions = {str(row["question_id"]) for row in read(rows)}
    said = {}
    with launched(tmp_path, "--model", "tiny", "tiny-base") as server:
        models = example / "models.yaml"
        models.write_text(models.read_text(encoding="utf-8").replace(PORT, str(server.api)), encoding="utf-8")
        server.wait_until_ready()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for command in commands():
            done = subprocess.run(
                ["bash", "-c", command.replace(PORT, str(server.api))],
                cwd=tmp_path,
                env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            said[command.split()[1]] = done.stdout
    assert list(said) == ["collect", "teach", "train-data", "train", "judge", "evaluate"]
    taught = tmp_path / "taught"
    answers = {file.stem: read(file) for file in (taught / "collected" / "answers").iterdir()}
    assert {name: {str(row["question_id"]) for row in rows} for name, rows in answers.items()} == {
        "plain": questions,
        "brief": questions,
        "wild": questions,
    }
    train, validation = (read(taught / f"{name}.jsonl") for name in ("train", "validation"))
    assert train
    assert validation
    asked = [{row["question_body"] for row in rows} for rows in (train, validation)]
    assert not asked[0] & asked[1]
    assert all(row["text"].startswith("{:g} {:g}".format(*row["score"])) for row in [*train, *validation])
    assert (taught / "judge" / "adapter_model.safetensors").is_file()
    keys = [row["question_id"] for row in validation]
    assert [row["question_id"] for row in read(taught / "teacher.jsonl")] == keys
    judged = read(taught / "measured" / "forward.jsonl")
    assert sorted(row["question_id"] for row in judged) == sorted(keys)
    # read as probabilities, so that even this judge gives scores to each
    assert all(len(row["pred_scores"]) == 2 for row in judged)
    assert "agreement" in said["evaluate"].lower()
