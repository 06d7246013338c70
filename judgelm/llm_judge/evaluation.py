"""Judgement files -> joined pairs -> metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping

from judgelm.jsonl import InputError, Line, index_by_id, read_lines, require
from judgelm.llm_judge.metrics import JudgedPair, Metrics, evaluate_pairs
from judgelm.prompt import TASKS
from judgelm.verdict import Outcome

PathLike = str | os.PathLike[str]


def evaluate_files(forward: PathLike, reversed_: PathLike | None = None, teacher: PathLike | None = None) -> Metrics:
    """Metrics of judgement files joined by question_id; `not_judged` counts teacher rows without a judgement.

    Raises InputError for a double id, for an id that one file has and another lacks, and where nothing can be read.
    """
    forward_by_id = index_by_id(read_lines(forward))
    reversed_by_id = index_by_id(read_lines(reversed_)) if reversed_ is not None else None
    teacher_by_id = index_by_id(read_lines(teacher)) if teacher is not None else None
    if reversed_by_id is not None:
        for key, line in reversed_by_id.items():
            _find(forward_by_id, key, forward, line, "forward judgement")
            _check_order(line, "reversed")
    pairs = []
    for key, line in forward_by_id.items():
        _check_order(line, "forward")
        back = None if reversed_by_id is None else _find(reversed_by_id, key, reversed_, line, "reversed judgement")
        truth = None if teacher_by_id is None else _find(teacher_by_id, key, teacher, line, "teacher judgement")
        pair = JudgedPair(
            forward=_judgement(line),
            reversed=back and _judgement(back),
            teacher=truth and require(truth, "text", str),
            forward_outcomes=_outcomes(line),
            reversed_outcomes=back and _outcomes(back),
        )
        pairs.append(pair)
    try:
        metrics = evaluate_pairs(pairs)
    except ValueError as error:
        raise InputError(f"{teacher or forward}: {error}") from None
    if teacher_by_id is not None:
        metrics["not_judged"] = len(teacher_by_id.keys() - forward_by_id.keys())
    return metrics


def _find(index: Mapping[str, Line], key: str, path: PathLike | None, needed_by: Line, what: str) -> Line:
    if key not in index:
        raise InputError(f"{path} has no {what} for question_id {key} (needed by {needed_by.where})")
    return index[key]


def _judgement(line: Line) -> str:
    """Prefill and generation, without white space around, as the original wrote its files; those have no task."""
    task = TASKS.get(line.record.get("pred_task", "pair"))
    if task is None or task.name == "multi":
        raise InputError(f"{line.where}: evaluation compares two answers, found task {line.record['pred_task']!r}")
    text: str = require(line, "pred_text", str)
    return (task.prefill + text).strip() if "pred_task" in line.record else text


def _outcomes(line: Line) -> dict[Outcome, float] | None:
    """The probabilities that scoring `expected` wrote down."""
    if "pred_probabilities" not in line.record:
        return None
    given = Line(require(line, "pred_probabilities", dict), line.path, line.number)
    return {outcome: float(require(given, outcome.value, (int, float))) for outcome in Outcome}


def _check_order(line: Line, order: str) -> None:
    found = line.record.get("pred_order", order)
    if found != order:
        raise InputError(f"{line.where}: expected a {order} judgement, found a {found} one (are the files exchanged?)")
