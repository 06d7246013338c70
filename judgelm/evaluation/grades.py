"""Grades of single answers and a truth, joined by question_id: what task grade left in a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from judgelm.criteria import READABLE, Scale
from judgelm.dialogue import shown_question
from judgelm.errors import InputError, in_short, one_line
from judgelm.evaluation.images import labelled
from judgelm.evaluation.readings import check_one_scale, is_number, read_category, read_reading, read_scale
from judgelm.evaluation.results import find_line, forward_file, index_teacher, model_name, read_aspects
from judgelm.forms import Columns
from judgelm.jsonl import Line, index_by_id, read_lines, require
from judgelm.judgement import Judgement
from judgelm.sample import question_key
from judgelm.samples import PathLike
from judgelm.verdict import Reading

_MODELS = ("answer_model_id", "answer1_model_id", "model")
"""fields that name whose answer was graded, the first that is there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedSample:
    """A question with one answer, its grade, and the truth where there is one."""

    key: str
    question: str
    answer: str
    reading: Reading
    model: str | None = None
    category: str | None = None
    truth: float | None = None
    scale: Scale | None = None
    """of the criteria, where it was graded by some"""
    aspect_truths: Mapping[str, float | None] | None = None
    """of aspects that have one of their own, or that nobody could tell (None); the others have that of the whole"""

    @property
    def cluster(self) -> str:
        """As `JudgedSample.cluster`."""
        return question_key(self.question) or self.key

    @property
    def grade(self) -> float | None:
        """The expected one where there is, else the one that was written; None for one that could not be read."""
        return None if self.reading.points is None else self.reading.points[0]


def read_grades(place: PathLike, teacher: PathLike | None = None, columns: Columns | None = None) -> list[GradedSample]:
    """What `judgelm judge --task grade` wrote into a folder, or into a file.

    The truth comes from `teacher` (`score`, or `text` that begins with a score, and `aspects`), else from the rows
    themselves; a row without one has None. Where `columns` name the score it may be a list of several gradings, whose
    mean it is, and a number in quotes. Raises InputError for a double id, a judgement of another task, rows on
    different scales, and a teacher's file without any grade.
    """
    path = forward_file(place)
    lines = index_by_id(read_lines(path, finite=False))
    teachers = None if teacher is None else index_teacher(teacher, columns, "score")
    named = teacher is not None and columns is not None and "score" in columns.names
    samples: list[GradedSample] = []
    for key, line in lines.items():
        source = line if teachers is None else find_line(teachers, key, teacher, line, "teacher's grade")
        samples.append(_join(key, line, with_mean(source) if named else source))
        check_one_scale(line, samples[-1].scale, samples[0].scale)
    if not samples:
        raise InputError(f"{path}: there is no grade in it")
    if teacher is not None and all(one.truth is None and not one.aspect_truths for one in samples):
        raise InputError(f"{teacher}: no row has a grade (score: a number, text: a score and reasons, or aspects)")
    return samples


def _join(key: str, line: Line, source: Line) -> GradedSample:
    record = labelled(line.record)
    if record.get("pred_task") != "grade":
        task = in_short(record.get("pred_task", "none"))
        raise InputError(f"{line.where}: expected a grade of one answer (task grade), found task {task}")
    reading, scale = read_reading(line, 1), read_scale(line)
    given = None if scale is None else read_aspects(source, {each.name for each in reading.aspects})
    return GradedSample(
        key=key,
        question=shown_question(record, 1),
        answer=str(record.get("answer_body", record.get("answer1_body", ""))),
        reading=reading,
        model=next((name for field in _MODELS if (name := model_name(record.get(field))) is not None), None),
        category=read_category(record),
        truth=read_grade(source, scale),
        scale=scale,
        aspect_truths=given and {name: _number(source, f"aspects: {name}", said) for name, said in given.items()},
    )


def with_mean(line: Line) -> Line:
    """With one number for its `score`. Raises InputError where that has another form."""
    given = line.record.get("score")
    if given is None or given == []:
        return line._replace(record={**line.record, "score": None})
    scores = [_number(line, "score", _unquoted(one)) for one in (given if isinstance(given, list) else [given])]
    known = [score for score in scores if score is not None]
    return line._replace(record={**line.record, "score": math.fsum(known) / len(known) if known else None})


def _unquoted(given: Any) -> Any:
    """A text that is a number, as some files have their grades, is that."""
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given


def read_grade(line: Line, scale: Scale | None) -> float | None:
    """What `score`, else `text` says; None where a row has neither, or those of a pair."""
    given = line.record.get("score")
    if given is not None:
        # two scores and more are of two answers and more
        return None if isinstance(given, list) and len(given) != 1 else _number(line, "score", given)
    if line.record.get("text") is None:
        return None
    most = max(READABLE.most, scale.most if scale else 0)
    scores = Judgement.parse(require(line, "text", str), 1, Scale(0, most)).scores
    return None if scores is None else scores[0]


def _number(line: Line, field: str, given: Any) -> float | None:
    """A number, or a list of one. Raises InputError for anything else but null."""
    one = given[0] if isinstance(given, list) and len(given) == 1 else given
    if one is None:
        return None
    if not is_number(one):
        what = f"field {one_line(field)!r} must be a number, or a list of one"
        raise InputError(f"{line.where}: {what}, found {in_short(given)}")
    return float(one)


def split_graded(samples: Sequence[GradedSample]) -> dict[str, list[GradedSample]]:
    """By each aspect the samples that were graded by it, as graded by it alone; aspects as they first come.

    The truth is the aspect's own, else the whole one's.
    """
    found: dict[str, list[GradedSample]] = {}
    for sample in samples:
        for each in sample.reading.aspects:
            truth = (sample.aspect_truths or {}).get(each.name, sample.truth)
            found.setdefault(each.name, []).append(replace(sample, reading=each.reading, truth=truth))
    return found
