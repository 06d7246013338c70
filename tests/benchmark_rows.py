"""Rows of benchmarks for tests, and what the command says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judging import run_command


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def pandalm_row(idx: int, *votes: int, more: str = "") -> dict[str, Any]:
    names = {f"annotator{k}": vote for k, vote in enumerate(votes, start=1)}
    texts = {"instruction": f"Do {idx}.", "input": more, "response1": f"one {idx}", "response2": f"two {idx}"}
    return {"idx": idx, "motivation_app": "Maps", "cmp_key": "a_b", **texts, **names}


def pair(number: int, label: int | None, category: str = "easy") -> dict[str, Any]:
    return {
        "question_id": number,
        "question_body": f"Question {number}?",
        "answer1_body": f"The answer is {number}.",
        "answer2_body": f"It is {2 * number}.",
        "label": label,
        "category": category,
    }


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return document


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    capsys.readouterr()
    assert run_command(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("judgelm: fetching")]
    return line


def vote(winner: str, models: str = "mn", question: int = 81, turn: int = 1) -> dict[str, Any]:
    talks = [
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": f"by {m}"}, {"role": "user"}]
        for m in models
    ]
    sides = {"model_a": models[0], "model_b": models[1], "conversation_a": talks[0], "conversation_b": talks[1]}
    return {"question_id": question, "winner": winner, "judge": "expert_1", "turn": turn, **sides}


def judgebench_row(number: int) -> dict[str, Any]:
    fields = {"question": "Why?", "response_A": "a", "response_B": "b", "response_model": "gpt", "source": "mmlu"}
    return fields | {"pair_id": f"x{number}", "label": "B>A"}


def rewardbench_row(number: int, subset: str, prompt: Any = None) -> dict[str, Any]:
    texts = {"prompt": prompt or f"Question {number}?", "chosen": f"good {number}", "rejected": f"bad {number}"}
    return {**texts, "chosen_model": "gpt", "rejected_model": "alpaca", "subset": subset, "id": 100 + number}


def best_of_row(source: str, subset: str, right: int = 1, wrong: int = 3) -> dict[str, Any]:
    """A row of RewardBench 2, whose answers say what they are worth."""
    texts = {
        "chosen": [f"right {source} {k}" for k in range(right)],
        "rejected": [f"wrong {source} {k}" for k in range(wrong)],
    }
    counts = {"num_correct": right, "num_incorrect": wrong, "total_completions": right + wrong}
    return {"id": source, "prompt": f"Question {source}?", **texts, **counts, "subset": subset}


def prometheus_prompt(instruction: str, response: str, reference: str | None = None) -> str:
    """What Prometheus shows a grader, as its files hold it."""
    right = "" if reference is None else f"###Reference Answer (Score 5):\n{reference}\n\n"
    rubric = "[Is it right?]\n" + "\n".join(f"Score {n}: as {n}" for n in range(1, 6))
    shown = f"###The instruction to evaluate:\n{instruction}\n\n###Response to evaluate:\n{response}\n\n"
    return f"###Task Description:\nGrade.\n\n{shown}{right}###Score Rubrics:\n{rubric}\n\n###Feedback: "


def hhh_row(number: int, source: str = "honest") -> dict[str, Any]:
    both = {
        f"{which}_instruction": prometheus_prompt(f"Why {number}?", f"{which} {number}")
        for which in ("chosen", "rejected")
    }
    return {"source": source, **both}
