"""Answers of many models and a teacher -> training rows and validation rows, in the published format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.engine.loading import free_memory
from judgelm.errors import InputError
from judgelm.files import PathLike, locked
from judgelm.judge.choice import AnyJudge, prepare
from judgelm.judge.settings import JudgeSettings
from judgelm.teaching.judging import Teacher, judge_rows, lay_out, read_judged
from judgelm.teaching.lesson import FILES, REPORT, Lesson
from judgelm.teaching.questions import read_answered
from judgelm.teaching.references import References, read_references, write_references
from judgelm.teaching.report import TeachReport
from judgelm.teaching.rows import Plan, make_rows
from judgelm.teaching.settings import TeachSettings, check_judging

if TYPE_CHECKING:
    from judgelm.forms import Columns

WITHOUT, WITH = "judged/without_reference", "judged/with_reference"


def teach(
    answer_files: Sequence[PathLike],
    output_dir: PathLike,
    teacher: AnyJudge,
    settings: TeachSettings | None = None,
    judging: JudgeSettings | None = None,
    *,
    references: PathLike | AnyJudge | None = None,
    model_id: str | None = None,
    limit: int | None = None,
    keep_judged: bool = False,
    columns: Columns | None = None,
    question_file: PathLike | None = None,
    keep_thinking: bool = False,
) -> TeachReport:
    """Have a teacher judge the answers of several models and write what a judge learns from; see docs/teaching.md.

    Args:
        answer_files: one of each model; see `read_answered`.
        output_dir: gets train.jsonl, validation.jsonl, teacher.jsonl, references.jsonl and teach.json, and what was
            judged in folders below `judged`; a teaching that was ended goes on there.
        settings: how rows are made.
        judging: how the teacher judges, tasks pair and grade; its seed draws pairs and validation questions too.
        references: a file of them (`read_references`), or the model that writes them.
        model_id: name of the teacher in the rows (default: the model's).
        limit: judge the first rows only.
        keep_judged: go on though answers or references were changed or added; what was judged of the same texts counts.
        columns: of answer files whose fields have other names.
        question_file: the questions of answer files that have none, MT-bench's.
        keep_thinking: thoughts at the beginning of an answer are part of it.

    Raises InputError as `judge_folder`, and before anything is judged for what cannot be, or overwrites others' files.
    """
    settings, judging = settings or TeachSettings(), judging or JudgeSettings()
    check_judging(judging)
    answered = read_answered(answer_files, columns, question_file, keep_thinking, 1 if judging.task == "grade" else 2)
    rows = make_rows(answered, judging.task, settings.pairs_per_question, judging.seed)
    plan = Plan(answered, rows, settings, judging.seed, limit)
    plan.split(None)
    folder = _find_folder(output_dir, [*answer_files, references, question_file])
    chosen = prepare(teacher)
    asked = Teacher(chosen, judging, model_id or chosen.model_id, settings.inconsistent, keep_judged)
    given: References | AnyJudge | None = None
    if isinstance(references, str | os.PathLike):
        given = read_references(references, answered.questions)
    elif references is not None:
        prepare(references)
        given = references
    with locked(folder / REPORT):
        return _judge(plan, asked, given, folder)


def _find_folder(output_dir: PathLike, read: Iterable[object]) -> Path:
    """Raises InputError where a file that would be written is one that is read, or was there before any teaching."""
    folder = Path(output_dir).expanduser()
    begun = (folder / REPORT).exists() or (folder / WITHOUT).exists()
    sources = {Path(each).expanduser().resolve() for each in read if isinstance(each, str | os.PathLike)}
    for path in (folder / name for name in FILES):
        if path.resolve() in sources:
            raise InputError(f"{path} is read, and would be written: name another folder")
        if path.exists() and not begun:
            raise InputError(f"{path} exists already, and is of no teaching: move it, or name another folder")
    return folder


def _judge(plan: Plan, asked: Teacher, given: References | AnyJudge | None, folder: Path) -> TeachReport:
    """What a folder holds already is looked at before anything is judged there."""
    lay_out(folder / WITHOUT, plan.rows, None, asked.keep_judged)
    found = given if given is None or isinstance(given, References) else _write_references(given, plan, asked, folder)
    texts = found.texts if found else {}
    split = plan.split(texts if found else None)
    if missing := len(plan.answered.questions) - len(texts) if found else 0:
        said = f"{missing} of {len(plan.answered.questions)} questions have no reference: they are judged without one"
        print(f"judgelm: {said}, and not kept for validation", file=sys.stderr)
    shown = [row for row in plan.rows if row.question in texts]
    if shown:
        lay_out(folder / WITH, shown, texts, asked.keep_judged)
    without = read_judged(asked, folder / WITHOUT, plan.judged)
    shown = [row for row in plan.judged if row.question in texts]
    with_ = read_judged(asked, folder / WITH, shown) if shown else None
    return Lesson(plan, split, asked, found, without, with_).write(folder)


def _write_references(writer: AnyJudge, plan: Plan, asked: Teacher, folder: Path) -> References:
    """By a model; one in this process is let go before the teacher is loaded."""
    if asked.judge.described.get("engine") == "openai":
        # whether a server takes the teacher's name and key shows at its first row, before references are paid for
        judge_rows(asked, folder / WITHOUT, 1)
    place, chosen = folder / "references", prepare(writer)
    found = write_references(plan.answered.questions, place, chosen, asked.judging, asked.keep_judged)
    del chosen
    free_memory()
    return found
