"""Runs of a judge that writes at once, killed at any moment, the end included, while the question file changes.

python killed_runs.py FOLDER TIMES SEED

Each run is a fork. Prints how many runs were killed, and after how many the folder was whole.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from judging import FakeEngine

from judgelm.engine.interface import Generation, Request, Sampling
from judgelm.files import hash_file
from judgelm.judge.judge import Judge
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt import render_prompt
from judgelm.samples import read_samples

ORDERS = ("forward", "reversed")


class Prompt(FakeEngine):
    """An engine that needs no model."""

    def __init__(self) -> None:
        self.description = {"engine": "prompt"}
        self.block = 4

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, done: Any = (), on_text: Any = None) -> Any:
        return self._write(requests, done)

    def _write(self, requests: Sequence[Request], done: Any) -> Iterator[Generation]:
        for request in requests:
            if request.key not in done:
                time.sleep(0.0005)
                yield Generation(request.key, text_for(request.prompt), 1, 3, "stop")


def text_for(prompt: str) -> str:
    """A judgement that tells which prompt it is of."""
    return f"8 7\n{zlib.crc32(prompt.encode())}"


def judge(questions: Path, folder: Path, keep: bool = True) -> None:
    """Judge a file into a folder in both orders."""
    files = RunFiles.in_folder(folder, ("forward", "reversed"))
    described = {"question_file_sha256": hash_file(questions), "reference_file_sha256": None}
    run_judge(lambda: Judge(Prompt()), read_samples(questions), JudgeSettings(), files, described, "m", keep)


def write_questions(path: Path, rng: random.Random) -> None:
    """Twelve rows of sixteen, one of them another than before."""
    rows = rng.sample(range(16), 12)
    records = [
        {"question_id": k, "question_body": f"Question {k}?", "answer1_body": f"a{k}", "answer2_body": "b"}
        for k in rows
    ]
    records[0]["answer2_body"] = f"b{rng.randint(0, 3)}"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def kill_at(step: int, folder: Path) -> None:
    """Kill this process before the step-th time that it opens, renames or removes a file of the folder."""
    left = step

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.truncate") and str(folder) in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_at_random(questions: Path, folder: Path, rng: random.Random) -> bool:
    """Whether the run was killed before it ended."""
    step = rng.choice([0, rng.randint(1, 40), rng.randint(1, 200)])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kill_at(step, folder)
            judge(questions, folder)
            code = 0
        finally:
            os._exit(code)
    if not step:
        time.sleep(rng.random() * 0.1)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"status {status}")
    return os.WIFSIGNALED(status)


def paid(folder: Path) -> set[str]:
    """pred_id of every judgement that stands anywhere in the folder; half lines are none."""
    found = set()
    for path in folder.glob("[!.]*.jsonl*"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            found.add(json.loads(line)["pred_id"])
    return found


def check(questions: Path, folder: Path) -> None:
    """Each sample has one judgement an order, of its own text."""
    wanted = {str(sample.key): sample for sample in read_samples(questions)}
    for order in ORDERS:
        records = [json.loads(line) for line in (folder / f"{order}.jsonl").read_bytes().splitlines()]
        assert sorted(str(r["question_id"]) for r in records) == sorted(wanted), order
        for record in records:
            sample = wanted[str(record["question_id"])]
            shown = sample.swapped() if order == "reversed" else sample
            assert record["pred_text"] == text_for(render_prompt(shown)), record
            assert (record["answer1_body"], record["answer2_body"]) == shown.answers
    assert not [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".unfinished"))]


def main() -> None:
    folder, times, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    questions, output = folder / "q.jsonl", folder / "out"
    write_questions(questions, rng)
    killed = whole = 0
    before: set[str] = set()
    for _ in range(times):
        if rng.random() < 0.3:
            write_questions(questions, rng)
        killed += kill_at_random(questions, output, rng)
        if output.exists():
            now = paid(output)
            assert before <= now, f"lost: {before - now}"
            before = now
        if rng.random() < 0.2:
            judge(questions, output)
            check(questions, output)
            whole += 1
    judge(questions, output)
    check(questions, output)
    assert before <= paid(output)
    print(json.dumps({"killed": killed, "whole": whole, "judged": len(paid(output))}))


if __name__ == "__main__":
    main()
