"""How well the embedded judge judges, against baselines, on questions it was not trained on.

    python -m benchmarks.tiny --teacher DEV.jsonl --votes VOTES.jsonl .. --output OUT.json --work DIR

`--teacher` files are training rows (`text` is the teacher's judgement); `--votes` files have `label`: 1 first,
2 second, 0 tie, null no majority. Rows with `text_w_reference` are judged a second time with their references. Every
model judges both orders, scores only; what is judged lies in the work folder, and a second start goes on there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.provenance import current_commit
from judgelm.evaluation import evaluation
from judgelm.evaluation.published import Metrics
from judgelm.evaluation.rates import Rated
from judgelm.evaluation.results import JudgedSample, join_lines
from judgelm.files import write_text
from judgelm.jsonl import Line, Record, read_lines, write_lines
from judgelm.judge.description import versions
from judgelm.judgement import LABELS, Judgement, Outcome
from judgelm.sample import question_key

TEXTS = {Outcome.WIN: "2 1", Outcome.TIE: "1 1", Outcome.LOSE: "1 2"}
SHOWN = ("agreement", "agreement_reversed", "precision", "recall", "f1", "consistency", "bias_first", "bias_second")
ORDERS = ("forward", "reversed")
TAUGHT = ("text", "score", "text_w_reference", "score_w_reference")
"""fields of a row that hold the teacher's judgements"""
CALIBRATED = ("agreement_both_orders", "brier", "calibration_error")
"""of the mean of both orders"""


def read_set(path: Path, limit: int, excluded: set[str]) -> list[Record]:
    """Rows with a teacher's text or a vote, at most `limit`, drawn by a fixed seed; training questions are left out."""
    rows = []
    for line in read_lines(path):
        record = dict(line.record)
        if question_key(record["question_body"]) in excluded:
            continue
        if "label" in record:
            if record["label"] is None:
                continue
            record["text"] = TEXTS[LABELS[record["label"]]]
            record.pop("score", None)
        if Judgement.parse(record["text"]).outcome is not None:
            rows.append(record)
    random.Random(0).shuffle(rows)
    # ids of several sources may be the same
    return [record | {"question_id": number} for number, record in enumerate(rows[:limit])]


def with_references(rows: list[Record]) -> list[Record]:
    """The same, judged as the teacher did who saw the reference; none where a row has no such judgement."""
    if not all("text_w_reference" in row for row in rows):
        return []
    return [row | {"text": row["text_w_reference"], "score": row.get("score_w_reference")} for row in rows]


def by_rule(rows: list[Record], rule: Callable[[Record], Outcome]) -> Metrics:
    """Metrics of a rule that needs no model; in reversed order it sees the answers exchanged."""
    samples = []
    for row in rows:
        exchanged = row | {"answer1_body": row["answer2_body"], "answer2_body": row["answer1_body"]}
        samples.append(judged(row, {"pred_text": TEXTS[rule(row)]}, {"pred_text": TEXTS[rule(exchanged)]}))
    return measure(samples)


def judged(row: Record, forward: Record, reversed_: Record) -> JudgedSample:
    """A row with its judgements of both orders."""
    records = {"forward": forward, "reversed": reversed_}
    lines = {order: Line(record, Path(order), 1) for order, record in records.items()}
    return join_lines(str(row["question_id"]), lines, Line({"text": row["text"]}, Path("teacher"), 1))


def measure(samples: list[JudgedSample]) -> Metrics:
    """The usual metrics, and the agreement of the reversed run: that of one order alone moves with the bias."""
    rated = Rated.of(samples)
    back = rated.statistics["agreement_reversed"].over(rated.labelled)
    return evaluation.measure(rated) | {"agreement_reversed": back}


def longer(row: Record) -> Outcome:
    """The answer with more characters wins."""
    return Outcome.from_scores(len(row["answer1_body"]), len(row["answer2_body"]))


def baselines(rows: list[Record]) -> dict[str, Metrics]:
    """What needs no model."""
    outcomes = Counter(Judgement.parse(row["text"]).outcome for row in rows)
    most = outcomes.most_common(1)[0][0] or Outcome.TIE
    return {"majority class": by_rule(rows, lambda _: most), "longer answer wins": by_rule(rows, longer)}


def by_model(model: str, rows: list[Record], work: Path, scoring: str, references: bool = False) -> Metrics:
    """Judge with the command that users run, then evaluate; a greedy verdict counts as certain."""
    questions = work / "rows.jsonl"
    # the teacher's text stays out of what is judged: it is joined again below
    write_lines(questions, [{k: v for k, v in row.items() if k not in TAUGHT} for row in rows])
    output = work / f"{Path(model).name}-{scoring.replace(':', '-')}"
    command = [sys.executable, "-m", "judgelm", "judge", "--model", model, "--question-file", str(questions)]
    way, _, quantization = scoring.partition(":")
    command += ["--output-dir", str(output), "--scores-only", "--scoring", way, "--constrained"]
    if references:
        command += ["--reference-file", str(questions)]
    if quantization:
        command += ["--quantization", quantization]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    judged_rows = {
        order: {line.record["question_id"]: line.record for line in read_lines(output / f"{order}.jsonl")}
        for order in ORDERS
    }
    return measure(
        [judged(row, *(certain(judged_rows[order][row["question_id"]]) for order in ORDERS)) for row in rows]
    )


def certain(record: Record) -> Record:
    """A judgement with probabilities: without some, its outcome has all."""
    if "pred_probabilities" in record or record["pred_outcome"] is None:
        return record
    return record | {"pred_probabilities": {each.value: float(each == record["pred_outcome"]) for each in Outcome}}


def table(results: dict[str, dict[str, Any]]) -> str:
    """All sets and judges as Markdown, in per cent."""
    shown = (*SHOWN, *CALIBRATED)
    lines = ["| rows | judge | " + " | ".join(shown) + " |", "|---|---|" + "---|" * len(shown)]
    for name, result in results.items():
        for judge, metrics in result["judges"].items():
            cells = [f"{100 * metrics[key]:.1f}" if key in metrics else "" for key in shown]
            lines.append(f"| {name} ({result['rows']}) | {judge} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, then write raw numbers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "tiny-base"])
    parser.add_argument("--scorings", nargs="+", default=["greedy"], metavar="SCORING[:QUANTIZATION]")
    parser.add_argument("--teacher", nargs="*", type=Path, default=[])
    parser.add_argument("--votes", nargs="*", type=Path, default=[])
    parser.add_argument("--training-rows", nargs="*", type=Path, default=[], help="rows whose questions are left out")
    parser.add_argument("--limit", type=int, default=400, help="most rows of each file")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    excluded = {question_key(line.record["question_body"]) for path in args.training_rows for line in read_lines(path)}
    commit = current_commit()
    results: dict[str, dict[str, Any]] = {}
    report = {"command": "python -m benchmarks.tiny", "commit": commit, "versions": versions(), "sets": results}
    for path in [*args.teacher, *args.votes]:
        rows = read_set(path, args.limit, excluded)
        for name, shown in {path.stem: rows, f"{path.stem} with reference": with_references(rows)}.items():
            if not shown:
                continue
            judges = baselines(shown)
            outcomes = Counter(str(Judgement.parse(row["text"]).outcome) for row in shown)
            questions = len({row["question_body"] for row in shown})
            results[name] = {"rows": len(shown), "questions": questions, "outcomes": dict(outcomes), "judges": judges}
            for model, scoring in itertools.product(args.models, args.scorings):
                work = args.work / name.replace(" ", "_")
                judges[f"{Path(model).name}, {scoring}"] = by_model(model, shown, work, scoring, shown is not rows)
                write_text(args.output, json.dumps(report, indent=1) + "\n")
                print(table(results), flush=True)


if __name__ == "__main__":
    main()
