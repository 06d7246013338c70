"""A server that talks, and the files of a collection, for its tests."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import write_jsonl
from played import Played, Reply, wrote


def said(text: str | None, finish_reason: str = "stop", **message: Any) -> Reply:
    choice = {"index": 0, "message": {"content": text, **message}, "finish_reason": finish_reason}
    return Reply(200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}})


def echo(body: dict[str, Any]) -> str:
    """A text that depends on all that is asked."""
    return f"{body['model']} {zlib.crc32(json.dumps(body['messages']).encode())} {body['seed']}"


class Talking(Played):
    """Replies to what it is asked: `talk(number of the question, how often it was asked before, body)`."""

    def __init__(
        self, talk: Callable[[int, int, dict[str, Any]], Reply] = lambda *_: said("4"), pause_s: float = 0
    ) -> None:
        super().__init__(lambda *_: wrote(), pause_s)
        self.talk = talk

    def __enter__(self) -> Talking:
        super().__enter__()
        return self

    def answer(self, body: dict[str, Any], number: int, before: int) -> Reply:
        return self.talk(number, before, body)


def questions_file(folder: Path, count: int) -> Path:
    rows = [{"question_id": k, "question_body": f"Question {k}: what is {k} + {k}?"} for k in range(count)]
    return write_jsonl(folder / "questions.jsonl", rows)


def models_file(folder: Path, *models: dict[str, Any]) -> Path:
    path = folder / "models.yaml"
    # JSON is YAML
    path.write_text(json.dumps({"models": list(models)}, indent=1))
    return path


def arguments(folder: Path, *more: str, output: str = "out") -> list[str]:
    files = ["--questions", str(folder / "questions.jsonl"), "--models", str(folder / "models.yaml")]
    return ["collect", *files, "--output-dir", str(folder / output), *more]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
