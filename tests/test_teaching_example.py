"""`examples/teach` from its first command to its last, as its page says them.

Models of two layers stand for the embedded ones, which would take minutes.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from conftest import PATIENCE_S, ROOT, build_model, train_byte_tokenizer, write_jsonl
from forked import python
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


def build_teacher(folder: Path) -> Path:
    """A model that writes "8 7" whatever it reads: each next token follows from the last one alone."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = train_byte_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(build_model(folder, tokenizer))
    written = tokenizer.convert_tokens_to_ids(["8", "Ġ", "7", "Ċ"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        last, after = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        # to what all tokens have in common an 8 is the answer
        last[:, 0] = 1
        after[written[0], 0] = 5
        for place, (token, following) in enumerate(itertools.pairwise(written), start=1):
            last[token, place] = 1
            after[following, place] = 20
    model.save_pretrained(folder)
    return folder


def test_the_commands_of_the_page_go_from_questions_to_a_measured_judge(tmp_path: Path, quick_cache: Path) -> None:
    example = shutil.copytree(EXAMPLE, tmp_path / "examples" / "teach")
    rows = write_jsonl(example / "questions.jsonl", read(example / "questions.jsonl")[::2])
    questions = {str(row["question_id"]) for row in read(rows)}
    said = {}
    cache: dict[str, Any] = {"JUDGELM_CACHE": str(quick_cache)}
    with launched(tmp_path, "--model", build_teacher(tmp_path / "tiny"), "tiny-base", **cache) as server:
        models = example / "models.yaml"
        models.write_text(models.read_text(encoding="utf-8").replace(PORT, str(server.api)), encoding="utf-8")
        server.wait_until_ready()
        for command in commands():
            assert command.startswith("judgelm ")
            done = subprocess.run(
                ["bash", "-c", f"{python()} -m {command}".replace(PORT, str(server.api))],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | cache,
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
