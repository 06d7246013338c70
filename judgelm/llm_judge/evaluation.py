"""Judgement files -> joined pairs -> metrics."""

from __future__ import annotations

import os

from judgelm.jsonl import InputError, index_by_id, read_lines, require
from judgelm.llm_judge.judged import check_order, find_line, judgement_text, read_probabilities
from judgelm.llm_judge.metrics import JudgedPair, Metrics, evaluate_pairs

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
            find_line(forward_by_id, key, forward, line, "forward judgement")
            check_order(line, "reversed")
    pairs = []
    for key, line in forward_by_id.items():
        check_order(line, "forward")
        back = None if reversed_by_id is None else find_line(reversed_by_id, key, reversed_, line, "reversed judgement")
        truth = None if teacher_by_id is None else find_line(teacher_by_id, key, teacher, line, "teacher judgement")
        pair = JudgedPair(
            forward=judgement_text(line),
            reversed=back and judgement_text(back),
            teacher=truth and require(truth, "text", str),
            forward_outcomes=read_probabilities(line),
            reversed_outcomes=back and read_probabilities(back),
        )
        pairs.append(pair)
    try:
        metrics = evaluate_pairs(pairs)
    except ValueError as error:
        raise InputError(f"{teacher or forward}: {error}") from None
    if teacher_by_id is not None:
        metrics["not_judged"] = len(teacher_by_id.keys() - forward_by_id.keys())
    return metrics
