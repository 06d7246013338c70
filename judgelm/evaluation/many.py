"""Judgements of many answers, joined by question_id: what task multi left in a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from judgelm.criteria import READABLE, Scale
from judgelm.dialogue import shown_question
from judgelm.errors import InputError, in_short, one_line
from judgelm.evaluation.images import labelled
from judgelm.evaluation.readings import is_number, read_scale
from judgelm.evaluation.results import answer_text, model_name
from judgelm.jsonl import Line, index_by_id, read_lines, require
from judgelm.sample import MAX_ANSWERS, question_key, unshow, unshow_fields
from judgelm.samples import PathLike

ORDERS = ("forward", "reversed", *(f"rotated{steps}" for steps in range(1, MAX_ANSWERS)))
Scores = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyAnswers:
    """A question with its answers, and what was said of them in the orders that were judged."""

    key: str
    question: str
    answers: tuple[str, ...]
    """as the judge was shown them, in the file's order"""
    models: tuple[str | None, ...]
    """of the answers; None where none is named"""
    shown: Mapping[str, Scores | None]
    """order -> scores in the places that were shown, None where they could not be read"""
    texts: Mapping[str, str]
    """order -> what the judge wrote"""
    scale: Scale | None = None
    """of the criteria, where they were judged by some"""

    @property
    def cluster(self) -> str:
        """As `JudgedSample.cluster`."""
        return question_key(self.question) or self.key

    @property
    def names(self) -> tuple[str, ...]:
        """The models', "answer 2" where none is named."""
        return tuple(model or f"answer {k}" for k, model in enumerate(self.models, start=1))

    @property
    def scores(self) -> dict[str, Scores]:
        """Those that were read, in the file's order of answers."""
        return {order: unshow(scores, order) for order, scores in self.shown.items() if scores is not None}

    @property
    def means(self) -> Scores | None:
        """Each answer's mean score over the orders that were read; None where none was."""
        read = list(self.scores.values())
        return tuple(math.fsum(each) / len(read) for each in zip(*read, strict=True)) if read else None

    @property
    def rotated(self) -> list[Scores]:
        """Scores in the places that were shown, where each answer was read in each place; else nothing."""
        found = [scores for order, scores in self.shown.items() if order != "reversed" and scores is not None]
        return found if len(found) == len(self.models) else []

    @property
    def is_consistent(self) -> bool:
        """All orders were read, and find the same answers best."""
        scores = self.scores
        best = {tuple(k for k, score in enumerate(each) if score == max(each)) for each in scores.values()}
        return len(scores) == len(self.shown) and len(best) == 1


def read_many(place: PathLike) -> list[ManyAnswers]:
    """What `judgelm judge --task multi` wrote into a folder, joined by question_id, or into a file in forward order.

    Raises InputError for other files.
    """
    return list(index_many(place).values())


def index_many(place: PathLike) -> dict[str, ManyAnswers]:
    """The same by the samples' keys."""
    folder = Path(place).expanduser()
    paths = {"forward": folder} if folder.is_file() else {order: folder / f"{order}.jsonl" for order in ORDERS}
    lines = {order: index_by_id(read_lines(path, finite=False)) for order, path in paths.items() if path.exists()}
    keys = dict.fromkeys(key for by_id in lines.values() for key in by_id)
    return {key: _join(key, {order: by_id[key] for order, by_id in lines.items() if key in by_id}) for key in keys}


def _join(key: str, lines: Mapping[str, Line]) -> ManyAnswers:
    shown = {order: _read_scores(line, order) for order, line in lines.items()}
    order, line = next(iter(lines.items()))
    counts = {len(scores) for scores in shown.values() if scores is not None} or {_count_answers(line)}
    if len(counts) > 1:
        raise InputError(f"{line.where}: expected scores of as many answers in each order, found {sorted(counts)}")
    (count,) = counts
    if count < 2:
        raise InputError(f"{line.where}: expected 2 answers or more, found {count}")
    seen, places = labelled(line.record), range(1, count + 1)
    return ManyAnswers(
        key=key,
        question=shown_question(unshow_fields(seen, order, count), count),
        # what was hidden of answers is said by the places in which they were shown
        answers=unshow(tuple(str(answer_text(seen, place, count)) for place in places), order),
        models=unshow(tuple(model_name(seen.get(f"answer{place}_model_id")) for place in places), order),
        shown=shown,
        texts={order: str(line.record.get("pred_text") or "").strip() for order, line in lines.items()},
        scale=read_scale(line),
    )


def _count_answers(line: Line) -> int:
    count = 0
    while f"answer{count + 1}_body" in line.record:
        count += 1
    return count


def _read_scores(line: Line, order: str) -> Scores | None:
    """Expected ones where there are."""
    found = line.record.get("pred_order", "forward")
    if found != order:
        raise InputError(f"{line.where}: expected a {order} judgement, found a {one_line(str(found))} one")
    if require(line, "pred_task", str) != "multi":
        raise InputError(f"{line.where}: expected a judgement of task multi, found {line.record['pred_task']!r}")
    field = "pred_scores" if line.record.get("pred_expected_scores") is None else "pred_expected_scores"
    if require(line, field) is None:
        return None
    scores, most = require(line, field, list), (read_scale(line) or READABLE).most
    for score in scores:
        if not is_number(score) or not 0 <= score <= most * (1 + 1e-6):
            said = in_short(score)
            raise InputError(f"{line.where}: field {field!r} must hold numbers from 0 to {most:g}, found {said}")
    return tuple(map(float, scores))
