"""Cascades of two judges that need no model, killed at any moment, while the threshold changes.

python killed_cascades.py FOLDER TIMES SEED

Each run is a fork. Prints how many were killed, and how many judgements each judge has made in the end.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import write_jsonl
from judging import FakeEngine
from killed_runs import kill_at, paid

from judgelm.engine.interface import Generation, LineScores
from judgelm.judge import Judge, JudgeChoice, JudgeSettings
from judgelm.judge.cascade import CascadeRun, Then, judge_cascade
from judgelm.samples import read_samples

ORDERS = ("forward", "reversed")
EXPECTED, GREEDY = JudgeSettings(scoring="expected"), JudgeSettings(scoring="greedy")


def number(prompt: str) -> int:
    """Of the question."""
    return int(re.findall(r"Question (\d+)\?", prompt)[-1])


def better_first(prompt: str) -> bool:
    """Whether the answer "a .." is shown first."""
    return prompt.rindex("a is right") < prompt.rindex("b is wrong")


class Cheap(FakeEngine):
    """Of three questions it is sure of the first, unsure of the second, and of the third prefers what it sees first."""

    block = 4

    def __init__(self) -> None:
        self.description = {"engine": "cheap"}
        self.asked: list[str] = []

    def score(self, requests: Any, lines: Sequence[str]) -> Any:
        for request in requests:
            self.asked.append(request.key)
            kind = number(request.prompt) % 3
            sure = 0.6 if kind == 1 else 0.95
            likely = "9 1\n" if kind == 2 or better_first(request.prompt) else "1 9\n"
            shares = {likely: sure, "5 5\n": 1 - sure}
            found = tuple(math.log(shares[line]) if line in shares else -math.inf for line in lines)
            yield LineScores(request.key, found, 50)


class Dear(FakeEngine):
    """Finds the better answer."""

    block = 4

    def __init__(self) -> None:
        self.description = {"engine": "dear"}
        self.asked: list[str] = []

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key not in done:
                self.asked.append(request.key)
                yield Generation(request.key, "8 3\nwhy" if better_first(request.prompt) else "3 8\nwhy", 60, 5, "stop")


def write_questions(path: Path, count: int, labels: bool = True) -> Path:
    """Answer 1 is the better one in all."""
    rows = [
        {
            "question_id": k,
            "question_body": f"Question {k}?",
            "answer1_body": "a is right",
            "answer2_body": "b is wrong",
            **({"label": 1} if labels else {}),
        }
        for k in range(count)
    ]
    return write_jsonl(path, rows)


def run_cascade(
    questions: Path, folder: Path, sure: float | None, cheap: Cheap, dear: Dear, limit: int | None = None, **more: Any
) -> CascadeRun:
    """Both judges on a file's first rows."""
    first = JudgeChoice("cheap", lambda: Judge(cheap), {"model": "cheap"})
    second = JudgeChoice("dear", lambda: Judge(dear), {"model": "dear"})
    return judge_cascade(read_samples(questions)[:limit], folder, first, EXPECTED, Then(second, GREEDY, sure), **more)


def kill_at_random(questions: Path, folder: Path, sure: float | None, rng: random.Random) -> bool:
    """Whether the run was killed before it ended."""
    step = rng.randint(1, 120)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kill_at(step, folder)
            run_cascade(questions, folder, sure, Cheap(), Dear())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"status {status}")
    return os.WIFSIGNALED(status)


def main() -> None:
    folder, times, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    questions, output = write_questions(folder / "q.jsonl", 24), folder / "out"
    killed, before = 0, set[str]()
    for _ in range(times):
        killed += kill_at_random(questions, output, rng.choice([0.5, 0.5, 0.9]), rng)
        now = {each for name in ("first", "second") if (output / name).exists() for each in paid(output / name)}
        assert before <= now, f"lost: {before - now}"
        before = now
    run_cascade(questions, output, 0.9, Cheap(), Dear())
    counts = [len(paid(output / name)) for name in ("first", "second")]
    print(json.dumps({"killed": killed, "first": counts[0], "second": counts[1]}))


if __name__ == "__main__":
    main()
