"""Samples as they are read from files with these texts."""

from __future__ import annotations

from pathlib import Path

from judgelm.evaluation.evaluation import measure
from judgelm.evaluation.published import Metrics
from judgelm.evaluation.rates import Rated
from judgelm.evaluation.results import JudgedSample, join_lines
from judgelm.jsonl import Line

Texts = tuple[str, str | None, str | None]
"""forward, of the exchanged answers, the teacher's"""


def judged_texts(forward: str, reversed_: str | None = None, teacher: str | None = None) -> JudgedSample:
    """One question's, joined."""
    lines = {"forward": Line({"pred_text": forward}, Path("forward.jsonl"), 1)}
    if reversed_ is not None:
        lines["reversed"] = Line({"pred_text": reversed_}, Path("reversed.jsonl"), 1)
    source = Line({} if teacher is None else {"text": teacher}, Path("teacher.jsonl"), 1)
    return join_lines("1", lines, source)


def measured(*rows: Texts) -> Metrics:
    """The last line of `judgelm evaluate`; either every row has a teacher or none."""
    return measure(Rated.of([judged_texts(*row) for row in rows]), rows[0][2] is not None)
