"""What the teacher said of a row in both orders -> what a training row says, or why it says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from judgelm.evaluation.readings import read_reading
from judgelm.jsonl import Line
from judgelm.judge.judged import PROMPT_TOO_LONG
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.judgement import Judgement, ParseState
from judgelm.teaching.settings import Inconsistent
from judgelm.verdict import BothOrders

_NEVER_JUDGED = ("refused", "out_of_memory", PROMPT_TOO_LONG)


@dataclass(frozen=True, slots=True)
class Taught:
    """A judgement of the order that is written, as it is learnt."""

    text: str
    """a line of scores, then reasons"""
    scores: tuple[float, ...]


def read_taught(lines: Mapping[Order, Line], judging: JudgeSettings, rule: Inconsistent) -> Taught | str:
    """What a row says by the teacher's judgements in the orders that there are, or the reason for leaving it out.

    refused, out_of_memory, prompt_too_long: never judged; unread: no line of scores; cut: the reasons have no end;
    unread_reversed: what was said cannot be held against the other order; contradicted: it does not stand there.
    """
    line = lines["forward"]
    said, reason = _said(line, judging), line.record["pred_finish_reason"]
    with_reasons = not judging.scores_only and judging.scoring != "expected"
    if said.scores is None:
        return str(reason) if reason in _NEVER_JUDGED else "unread"
    if with_reasons and reason == "length":
        return "cut"
    taught = Taught(_text(said, said.scores, with_reasons), said.scores)
    if "reversed" not in lines or rule == "keep":
        return taught
    both = BothOrders(*(read_reading(lines[order], order=order) for order in ("forward", "reversed")))
    if both.consistent is None:
        return "unread_reversed"
    if both.consistent:
        return taught
    if rule == "drop":
        return "contradicted"
    level = _middle(both)
    return Taught(_text(said, level, with_reasons), level)


def _said(line: Line, judging: JudgeSettings) -> Judgement:
    """Of a judgement by an aspect what was written by it, below the mean of all."""
    text = str(line.record["pred_text"])
    if judging.criteria is not None:
        text = text.partition(f"[{judging.criteria.aspects[0].name}]\n")[2]
    return judging.read(text, 1 if judging.task == "grade" else 2)


def _text(said: Judgement, scores: tuple[float, ...], with_reasons: bool) -> str:
    """As it was written, where that is a line of these scores; else one is put in front of the reasons."""
    if with_reasons and said.state is ParseState.OK and said.scores == scores:
        return said.text.strip()
    line = " ".join(f"{score:.10g}" for score in scores)
    reasons = said.reasons.strip() if with_reasons else ""
    return f"{line}\n{reasons}" if reasons else line


def _middle(both: BothOrders) -> tuple[float, ...]:
    """One whole score for all answers, the mean of what both orders gave."""
    given = [score for reading in both.readings for score in reading.scores or ()]
    return (float(math.floor(sum(given) / len(given) + 0.5)),) * 2
