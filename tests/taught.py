"""Answers of three models, a scripted teacher behind a server, and `judgelm teach` with them; killed, as a program.

python taught.py TIMES SEED -- arguments of judgelm

runs the command so often at most, each time in a fork that is killed somewhere, and then once to its end.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
from pathlib import Path
from typing import Any

from conftest import write_jsonl
from played import Played, Reply, failed, wrote

ASKED = {
    1: "A recipe for four needs rice for two days: how much do ten guests eat?",
    2: "Why does ice float although most solids sink in their own melt?",
    3: "Write a function that finds the second largest number of a list.",
    4: "Which treaty ended the war of 1914, and in which palace was it signed?",
    5: "Please say politely that a report is late again.",
    6: "Name three long rivers of South America.",
}
WORTH = {"a": 8, "b": 6, "c": 3}


def question(key: int) -> str:
    return f"Question {key}: {ASKED[key]}"


def answer(model: str, key: int) -> str:
    """It tells the teacher what it is worth. To question 5 models a and b say the same, to 6 model c says nothing."""
    if (model, key) == ("c", 6):
        return " "
    return f"My answer to {key} is worth {WORTH['a' if key == 5 and model == 'b' else model]}."


def answer_files(folder: Path, models: str = "abc") -> list[Path]:
    def row(model: str, key: int) -> dict[str, Any]:
        said = {"question_id": key, "question_body": question(key), "text": answer(model, key)}
        return {**said, "model": f"m-{model}", "decoding_method": "greedy", "category": "even" if key % 2 else "odd"}

    return [write_jsonl(folder / f"{model}.jsonl", [row(model, key) for key in ASKED]) for model in models]


def reference_file(folder: Path) -> Path:
    """All but the first question's."""
    rows = [
        {"question_id": key, "reference": {"text": f"The reference of {key}.", "model": "r"}} for key in (2, 3, 4, 5, 6)
    ]
    return write_jsonl(folder / "references.jsonl", rows)


class Teacher(Played):
    """Gives each answer what it is worth, with a reference as without, but for

    question 2 without a reference: the answer shown first is better; 4 with one: the second is better; 3 without one:
    no scores. It writes references too: of question 1 none, as it refuses; 2 is empty, 3 is cut.
    """

    def __init__(self) -> None:
        super().__init__(lambda number, before: wrote())

    def answer(self, body: dict[str, Any], number: int, before: int) -> Reply:
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        worth = re.findall(r"is worth (\d+)", prompt)
        if not worth:
            return self.reference(number)
        with_reference = "reference of" in prompt
        if len(worth) == 1:
            return wrote(f"{worth[0]}\nThe answer is worth {worth[0]}.")
        if number == 3 and not with_reference:
            return wrote("I cannot say.")
        if (number, with_reference) in ((2, False), (4, True)):
            worth = ["3", "9"] if with_reference else ["9", "3"]
        said = f"Assistant 1 is worth {worth[0]}, Assistant 2 {worth[1]}" + (
            ", by the reference." if with_reference else "."
        )
        return wrote(f"{worth[0]} {worth[1]}\n{said}")

    def reference(self, number: int) -> Reply:
        if number == 1:
            return failed(400, "flagged by moderation")
        if number == 2:
            return wrote("<think>nothing comes of it</think> ")
        return wrote(f"The reference of {number}.", "length" if number == 3 else "stop")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def report_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "teach.json").read_text())
    return read


def arguments(server: Played, output: Path, answers: list[Path], *more: str | Path) -> list[str]:
    fixed = ["teach", "--answers", *answers, "--teacher", "gpt", "--engine", "openai", "--base-url", server.url]
    return [str(each) for each in (*fixed, "--output-dir", output, "--temperature", "0", *more)]


WRITTEN = (
    "train.jsonl",
    "validation.jsonl",
    "teacher.jsonl",
    "teacher_with_reference.jsonl",
    "references.jsonl",
    "teach.json",
)


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WRITTEN if (folder / name).exists()}


def kill_somewhere(run: list[str], output: Path, rng: random.Random) -> bool:
    """Whether it was killed: before it opens, renames or removes a file of its folder for the n-th time."""
    from judgelm.cli import main

    left = rng.randint(1, 120)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.truncate") and str(output) in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.addaudithook(hook)
        main(run)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    times, seed, run = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
    rng = random.Random(seed)
    output = Path(run[run.index("--output-dir") + 1])
    print(sum(kill_somewhere(run, output, rng) for _ in range(times)))
