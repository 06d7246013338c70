"""Rows that an engine without a model has judged, for tests of their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conftest import make_samples, write_jsonl
from judging import FakeEngine

from judgelm.engine.interface import Generation
from judgelm.files import hash_file
from judgelm.judge.judge import Judge
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.samples import Samples, read_samples

Records = list[dict[str, Any]]


class Engine(FakeEngine):
    """Writes at once, and remembers for what it was asked."""

    def __init__(self, before_each: Callable[[int], None] = lambda count: None) -> None:
        self.description = {"engine": "at once"}
        self.asked: list[str] = []
        self._before_each = before_each

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Iterator[Generation]:
        for request in requests:
            if request.key not in done:
                self._before_each(len(self.asked))
                self.asked.append(request.key)
                yield Generation(request.key, "8 7\nfuller", 5, 3, "stop")


def judge(
    questions: Path,
    folder: Path,
    *,
    keep: bool | None = False,
    engine: Engine | None = None,
    orders: tuple[Order, ...] = ("forward",),
    references: Path | None = None,
    samples: Samples | None = None,
    task: str = "pair",
    **described: Any,
) -> list[str]:
    """Judge a file into a folder; for which samples and orders the engine was asked."""
    engine = engine or Engine()
    samples = samples or read_samples(questions, task, reference_file=references)
    settings = {
        "question_file_sha256": hash_file(questions),
        "reference_file_sha256": hash_file(references) if references else None,
        **described,
    }
    files = RunFiles.in_folder(folder, orders)
    run_judge(lambda: Judge(engine), samples, JudgeSettings(task), files, settings, "m", keep)
    return sorted(engine.asked)


def rows(count: int = 5) -> Records:
    return [{**sample.to_record(), "source": f"s{sample.key}"} for sample in make_samples(count)]


def records_of(path: Path) -> Records:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".run.json.lock"}


def interrupted(folder: Path, change: Callable[[Records], Any] = lambda records: None) -> Path:
    """Turn a folder into one of a run that was killed: the partial file."""
    partial = folder / "forward.jsonl.partial"
    found = records_of(folder / "forward.jsonl")
    change(found)
    write_jsonl(partial, found)
    (folder / "forward.jsonl").unlink()
    return partial


def edit(questions: Path) -> None:
    """Row 1 goes, row 2 gets another answer, row 3 another source, row 5 comes, and the order is another."""
    records = rows(6)
    records[2]["answer2_body"] = "another answer"
    records[3]["source"] = "corrected"
    write_jsonl(questions, [records[5], *records[2:5], records[0]])
