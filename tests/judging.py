"""Commands and engines for tests: what runs `judgelm` here, and judges that need no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from judgelm.cli import main
from judgelm.criteria import Aspect
from judgelm.encoding import EncodedPrompt
from judgelm.engine.interface import Generation
from judgelm.prompt_form import PUBLISHED_FORM
from judgelm.sample import Sample

VOLATILE = ("pred_id", "tstamp")


def judge_args(model: Path, questions: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--model", str(model), "--question-file", str(questions), "--output-dir", str(output)]
    return ["judge", *fixed, "--device", "cpu", "--max-new-token", "24", "--temperature", "0", *more]


def lasting(path: Path) -> list[dict[str, Any]]:
    """Records without what differs from run to run."""
    records = [json.loads(line) for line in path.read_bytes().decode().splitlines()]
    assert all(set(VOLATILE) < set(record) for record in records)
    return [{name: value for name, value in record.items() if name not in VOLATILE} for record in records]


def run_command(arguments: list[str]) -> int:
    """`judgelm ARGUMENTS` in this process: its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


class FakeEngine:
    """What an engine has and a judge never calls in this test raises; the rest is written by who inherits."""

    block = 2
    description: Mapping[str, Any] = {"engine": "fake"}

    def fit(
        self, sample: Sample, task: str, max_new_tokens: int, aspect: Aspect | None = None, form: Any = None
    ) -> EncodedPrompt:
        return EncodedPrompt((form or PUBLISHED_FORM).render(sample, task, aspect), [], None)

    def fit_followup(self, *_: Any) -> EncodedPrompt:
        raise NotImplementedError

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        raise NotImplementedError

    def score(self, requests: Any, lines: Sequence[str]) -> Any:
        raise NotImplementedError


class Scripted(FakeEngine):
    """An engine that writes what it is told to: the interface an engine has to fill, and no more."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.description = {"engine": "scripted"}

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in reversed(requests):
            if request.key not in done:
                yield Generation(request.key, self.texts[request.seed_key], len(request.input_ids), 3, "stop")
