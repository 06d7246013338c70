"""Folders of judges for tests: each verdict as a letter that stands for what a judge said in one order or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import write_jsonl

_SCORES = {"w": (8, 2), "t": (5, 5), "l": (2, 8), "?": None}
_EXCHANGED = {"w": "l", "t": "t", "l": "w", "?": "?"}
Three = tuple[float, float, float]
"""P(win), P(tie), P(lose) of answer 1"""


def write_judge(
    folder: Path,
    said: Sequence[str],
    name: str | None = None,
    labels: Sequence[int | None] = (),
    probabilities: Sequence[Three] = (),
    **fields: Any,
) -> Path:
    """As `judgelm judge` writes it. `said` has a word a sample: "w" for a win of answer 1 in forward order alone, "ww"
    for both orders, "wl" for a judge that flips, always of the answers in the file's order. `probabilities` hold in
    both orders.
    """
    orders = ("forward", "reversed")[: len(said[0])]
    for place, order in enumerate(orders):
        records = []
        for key, word in enumerate(said):
            shown = word[place] if order == "forward" else _EXCHANGED[word[place]]
            scores = _SCORES[shown]
            bodies = ("left", "right") if order == "forward" else ("right", "left")
            record: dict[str, Any] = {
                "question_id": key,
                "question_body": f"Question {key}?",
                "answer1_body": f"{bodies[0]} {key}",
                "answer2_body": f"{bodies[1]} {key}",
                **({"label": labels[key]} if labels else {}),
                **fields,
                "pred_text": "nothing" if scores is None else f"{scores[0]} {scores[1]}\nreasons",
                "pred_order": order,
                "pred_task": fields.get("pred_task", "pair"),
                "pred_model_id": name or folder.name,
            }
            if probabilities:
                win, tie, lose = probabilities[key][:: 1 if order == "forward" else -1]
                record["pred_probabilities"] = {"win": win, "tie": tie, "lose": lose}
            records.append(record)
        write_jsonl(folder / f"{order}.jsonl", records)
    return folder
