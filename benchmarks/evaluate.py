"""How long `judgelm evaluate` takes for 100,000 judgements, and for twice as many.

    python -m benchmarks.evaluate --output benchmarks/evaluate.json

Seconds and memory are those of the whole command, start included. The judgements are drawn by a fixed seed: both
orders, with probabilities and expected scores, a teacher's scores and three annotators' votes, five pairs a question.
So all that the command can compute is computed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.provenance import current_commit, this_machine
from benchmarks.scale import WORDS
from judgelm.files import write_text
from judgelm.jsonl import Record, write_lines
from judgelm.judge.description import versions

PAIRS_A_QUESTION = 5
COMMON = 3
"""how far a judge's scores may be from the teacher's"""


def judgements(order: str, count: int) -> Iterator[Record]:
    """Answers of 10 to 40 words; 2 % of the judgements cannot be read."""
    texts, verdicts = random.Random(0), random.Random(order)
    for number in range(count):
        question = f"Question {number // PAIRS_A_QUESTION}: {' '.join(WORDS)}?"
        answers = [" ".join(texts.choices(WORDS, k=texts.randint(10, 40))) for _ in range(2)]
        teacher = [texts.randint(1, 10), texts.randint(1, 10)]
        votes = texts.choices([0, 1, 2], k=3)
        scores = [min(10, max(1, score + verdicts.randint(-COMMON, COMMON))) for score in teacher]
        shown, said = (answers, scores) if order == "forward" else (answers[::-1], scores[::-1])
        win, tie = sorted((verdicts.random(), verdicts.random()))
        yield {
            "question_id": number,
            "question_body": question,
            "answer1_body": shown[0],
            "answer2_body": shown[1],
            "category": WORDS[number // PAIRS_A_QUESTION % 10],
            "text": f"{teacher[0]} {teacher[1]}\nThe teacher's reasons.",
            "annotators": votes,
            "pred_task": "pair",
            "pred_order": order,
            "pred_text": "cannot say" if verdicts.random() < 0.02 else f"{said[0]} {said[1]}\nThe judge's reasons.",
            "pred_expected_scores": [min(10, score + verdicts.uniform(-0.4, 0.4)) for score in said],
            "pred_probabilities": {"win": win, "tie": tie - win, "lose": 1 - tie},
        }


def evaluate(folder: Path) -> dict[str, Any]:
    """Run the command that users run."""
    command = [sys.executable, "-m", "judgelm", "evaluate", str(folder), "--output", str(folder / "summary.json")]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mib": usage.ru_maxrss // 1024,
    }


def main() -> None:
    """Measure, then write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, nargs="+", default=[50_000, 100_000], help="each judged in both orders")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    commit = current_commit()
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.evaluate {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": this_machine(),
        "rounds": [],
    }
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory() as name:
            for order in ("forward", "reversed"):
                write_lines(Path(name) / f"{order}.jsonl", judgements(order, pairs))
            for _ in range(args.rounds):
                load = round(os.getloadavg()[0], 2)
                measured = {"judgements": 2 * pairs, **evaluate(Path(name)), "load_before": load}
                report["rounds"].append(measured)
                print(measured, flush=True)
                write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
