"""Question file and reference file -> samples, joined on question_id; needs the standard library alone."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from judgelm.jsonl import InputError, Line, id_key, index_by_id, read_lines, require
from judgelm.prompt import TASKS, Task
from judgelm.sample import MAX_ANSWERS, Sample

PathLike = str | os.PathLike[str]
_ANSWER_BODY = re.compile(r"answer([0-9]+)_body")


def read_samples(
    question_file: PathLike,
    task: str = "pair",
    *,
    reference_file: PathLike | None = None,
    num_answers: int | None = None,
    begin: int | None = None,
    end: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """The samples of a question file, `begin` to `end` of its rows, with references attached where a file is given.

    `num_answers` counts for the task multi only; without it every record's own answers are used. `seed` picks among
    MM-Vet's alternatives. Raises InputError for anything that does not fit, naming file and line.
    """
    spec = find_task(task)
    if num_answers is not None and task != "multi":
        raise InputError(
            f"a number of answers ({num_answers}) can be asked for with task multi only, found task {task}"
        )
    lines = list(read_lines(question_file))
    index_by_id(lines)
    references = _read_references(reference_file) if reference_file is not None else None
    samples = []
    for row, line in list(enumerate(lines))[begin:end]:
        sample = _to_sample(line, spec, num_answers, seed)
        if references is not None:
            sample = replace(sample, reference=references.find(line, row))
        samples.append(sample)
    if not samples:
        raise InputError(f"{question_file}: no rows left of {len(lines)} between row {begin or 0} and {end}")
    return samples


def find_task(name: str) -> Task:
    """The task of that name; raises InputError for an unknown one."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]


def _to_sample(line: Line, task: Task, num_answers: int | None, seed: int) -> Sample:
    try:
        if task.name == "mmvet":
            return Sample.from_mmvet_line(line, seed)
        return Sample.from_line(line, _count_answers(line, num_answers) if task.name == "multi" else 2)
    except ValueError as error:
        raise InputError(f"{line.where}: {error}") from None


def _count_answers(line: Line, asked: int | None) -> int:
    given = {int(match[1]) for name in line.record if (match := _ANSWER_BODY.fullmatch(name))}
    count = 0
    while count + 1 in given:
        count += 1
    if asked is None:
        asked = count
    if not 2 <= asked <= MAX_ANSWERS:
        raise InputError(f"{line.where}: a judge takes 2 to {MAX_ANSWERS} answers, found {asked}")
    if count < asked:
        raise InputError(f"{line.where}: {asked} answers asked for, found {count} (answer{count + 1}_body is missing)")
    return asked


class _References:
    """Reference texts by question_id, or by row where an old file has no ids at all."""

    def __init__(self, lines: list[Line]) -> None:
        self.path = lines[0].path
        self.by_row = None if any("question_id" in line.record for line in lines) else lines
        self.by_id = {} if self.by_row else index_by_id(lines)

    def find(self, question: Line, row: int) -> str:
        key = id_key(question.record["question_id"])
        if self.by_row is not None:
            line = self.by_row[row] if row < len(self.by_row) else None
        else:
            line = self.by_id.get(key)
        if line is None:
            raise InputError(f"{self.path} has no reference for question_id {key} (needed by {question.where})")
        reference = require(line, "reference", dict)
        text: str = require(Line(reference, line.path, line.number), "text", str)
        return text


def _read_references(path: PathLike) -> _References:
    return _References(list(read_lines(path)))
