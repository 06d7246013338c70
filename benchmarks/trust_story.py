"""What the story of docs/trust.md begins with, from PandaLM's test set: pairs of three models, 100 labels, a judge.

    git clone https://github.com/WeOpenML/PandaLM; git clone https://github.com/NuoJohnChen/JudgeLRM
    python -m benchmarks.trust_story --pandalm PandaLM/data --judgelrm JudgeLRM/results --work build/story

writes pairs.jsonl, labels.jsonl, of which the set's first annotator gives those that come first to "anna" on the page,
and judgelrm/forward.jsonl; and prints what all labels of this annotator say. The commands of the story are run there.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from judgelm.benchmark.benchmark import read_benchmark
from judgelm.files import write_text
from judgelm.jsonl import Record, dump_line
from judgelm.labelling import LabelSettings, open_labelling
from judgelm.labelling.votes import Choice

MODELS = {"bloom-7b", "llama-7b", "opt-7b"}
LABELS = 100
POINTS = {1: 1.0, 0: 0.5, 2: 0.0}
EXCHANGED: dict[int, Choice] = {1: 2, 2: 1, 0: 0}


def main() -> None:
    """Write the files, print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pandalm", required=True, type=Path, help="folder of PandaLM's data")
    parser.add_argument("--judgelrm", required=True, type=Path, help="folder of JudgeLRM's results")
    parser.add_argument("--work", required=True, type=Path, help="empty folder for what is made of them")
    args = parser.parse_args()
    pairs, people = read_pairs(args.pandalm / "testset-v1.json")
    write_text(args.work / "pairs.jsonl", map(dump_line, pairs))
    label(args.work / "pairs.jsonl", args.work / "labels.jsonl", people)
    said = read_scores(args.judgelrm / "results_judgelrm7b.json")
    judged = {"pred_model_id": "JudgeLRM-7B", "pred_order": "forward", "pred_task": "pair"}
    rows = ({**pair, "pred_text": said[str(pair["question_id"])], **judged} for pair in pairs)
    write_text(args.work / "judgelrm" / "forward.jsonl", map(dump_line, rows))
    points = defaultdict(list)
    for pair in pairs:
        points[pair["answer1_model_id"], pair["answer2_model_id"]].append(POINTS[people[pair["question_id"]]])
    for (first, second), won in sorted(points.items()):
        print(f"{first} against {second}: {100 * sum(won) / len(won):.1f} % of {len(won)} pairs")


def read_pairs(path: Path) -> tuple[list[Record], dict[Any, int]]:
    """Pairs of two of the models, by their names, and what the first annotator says of each."""
    (split,) = read_benchmark("pandalm", path).splits.values()
    names = {str(row["idx"]): row["cmp_key"].split("_") for row in json.loads(path.read_text(encoding="utf-8"))}
    pairs, people = [], {}
    for record in split.records:
        first, second = names[str(record["question_id"])]
        if {first, second} <= MODELS:
            people[record["question_id"]] = record["annotators"][0]
            shown = {name: value for name, value in record.items() if name not in ("annotators", "label")}
            pairs.append({**shown, "answer1_model_id": first, "answer2_model_id": second})
    return pairs, people


def label(pairs: Path, output: Path, people: dict[Any, int]) -> None:
    """Votes as the page takes them, on the rows that come first to this person."""
    with open_labelling(LabelSettings(pairs, output)) as labelling:
        for _ in range(LABELS):
            place = labelling.open_row("anna")
            assert place is not None
            said = people[place.row.sample.question_id]
            labelling.save("anna", place, said if place.order == "forward" else EXCHANGED[said], "")


def read_scores(path: Path) -> dict[str, str]:
    """By id, the two scores that the judge wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {str(row["idx"]): " ".join(re.findall(r"<answer>\s*([\d.]+)\s*</answer>", row["output"])) for row in rows}


if __name__ == "__main__":
    main()
