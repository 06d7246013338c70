"""What the tasks of this folder need: their rows, and what judgelm makes of the generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import DatasetDict, load_dataset

# importing these makes the filter known that the tasks name
from judgelm.adapters.lm_eval import process_results, score, score_high, score_low

__all__ = ["load_questions", "process_results", "score", "score_high", "score_low"]


def load_questions(questions: str = "", **_: Any) -> DatasetDict:
    """The questions beside this file, or with --metadata '{"questions": "mine.jsonl"}' those of another."""
    return load_dataset("json", data_files={"test": questions or str(Path(__file__).with_name("questions.jsonl"))})
