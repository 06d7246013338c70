"""Juries of published judges on PandaLM's test set, and cascades from a folder of ours to each of them.

    git clone https://github.com/WeOpenML/PandaLM; git clone https://github.com/NuoJohnChen/JudgeLRM
    python -m benchmarks.jury --pandalm PandaLM/data --judgelrm JudgeLRM/results --work build/jury \
        --output benchmarks/jury.json

With `--first FOLDER`, cascades instead: FOLDER is what `judgelm judge --scoring expected` made of
build/jury/some.jsonl, 300 rows of questions as if by chance.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.provenance import current_commit
from judgelm.benchmark.benchmark import read_benchmark
from judgelm.evaluation.jury import drawn
from judgelm.files import hash_file, write_text
from judgelm.jsonl import dump_line
from judgelm.judge.description import versions
from judgelm.jury import METHODS, replay_cascade, run_jury
from judgelm.report.juries import cascade_tables, jury_tables

SOME = 300


def main() -> None:
    """Print tables, write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pandalm", required=True, type=Path, help="folder of PandaLM's data")
    parser.add_argument("--judgelrm", required=True, type=Path, help="folder of JudgeLRM's results")
    parser.add_argument("--work", required=True, type=Path, help="folder for what is made of them")
    parser.add_argument("--first", type=Path, help="folder of the cascades' first judge")
    parser.add_argument("--output", required=True, help="raw numbers, JSON")
    args = parser.parse_args()
    questions, judges, sources = prepare(args.pandalm, args.judgelrm, args.work)
    found = measure_juries(questions, judges, args.work) if args.first is None else replay(args.first, judges)
    commit = current_commit()
    report = {
        "command": f"python -m benchmarks.jury {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "sha256": {path.name: hash_file(path) for path in sources},
        "found": found,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")


def measure_juries(questions: Path, judges: list[Path], work: Path) -> dict[str, Any]:
    """All four by each method; and the two weaker ones as the first judge of a cascade, the strongest behind them."""
    found: dict[str, Any] = {}
    for method in METHODS:
        # verdicts alone have no probabilities
        if method != "mean":
            jury = run_jury(judges, work / method, method, question_file=questions, vocabulary="number")
            print(f"{jury_tables(jury)}\n")
            found[method] = jury.to_record()
    two = work / "two"
    run_jury(judges[:2], two, "dawid-skene", question_file=questions, vocabulary="number")
    return found | replay(two, judges[3:])


def replay(first: Path, judges: list[Path]) -> dict[str, Any]:
    """Cascades from a folder to each of the judges, with a threshold that is chosen and with one that is given."""
    found = {}
    for judge in judges:
        for sure in (None, 0.9):
            cascade = replay_cascade(first, judge, sure=sure, vocabulary="number")
            print(f"{cascade_tables(cascade)}\n")
            found[f"{first.name}, then {judge.stem}, sure {sure or 'auto'}"] = cascade.to_record()
    return found


def prepare(pandalm: Path, judgelrm: Path, work: Path) -> tuple[Path, list[Path], list[Path]]:
    """The labelled samples, each judge's verdicts in a file of its name, and the files that they come from."""
    data = pandalm / "testset-v1.json"
    (split,) = read_benchmark("pandalm", data).splits.values()
    questions = work / "questions.jsonl"
    write_text(questions, map(dump_line, split.records))
    by_question = sorted(split.records, key=lambda record: drawn(record["question_body"]))
    write_text(work / "some.jsonl", map(dump_line, by_question[:SOME]))
    published = {
        "gpt-3.5-turbo": (pandalm / "gpt-3.5-turbo-testset-v1.json", "gpt_result"),
        "PandaLM-7B": (pandalm / "pandalm-7b-testset-v1.json", "pandalm_result"),
        "JudgeLRM-3B": (judgelrm / "results_judgelrm3b.json", "result"),
        "JudgeLRM-7B": (judgelrm / "results_judgelrm7b.json", "result"),
    }
    judges = []
    for name, (path, field) in published.items():
        rows = json.loads(path.read_text(encoding="utf-8"))
        judges.append(work / f"{name}.jsonl")
        write_text(judges[-1], (dump_line({"question_id": row["idx"], "verdict": row[field]}) for row in rows))
    return questions, judges, [data, *(path for path, _ in published.values())]


if __name__ == "__main__":
    main()
