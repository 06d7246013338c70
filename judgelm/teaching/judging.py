"""The teacher's judgements: the rows of a folder, judged as `judgelm judge` does it, and what they teach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.evaluation.results import join_lines
from judgelm.evaluation.summary import summarize
from judgelm.jsonl import Line, Record, id_key
from judgelm.judge.choice import JudgeChoice
from judgelm.judge.folder import judge_folder
from judgelm.judge.kept import keep_questions
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.samples import read_samples
from judgelm.teaching.report import TeacherNumbers
from judgelm.teaching.rows import Row
from judgelm.teaching.settings import Inconsistent
from judgelm.teaching.verdicts import Taught, read_taught

if TYPE_CHECKING:
    from judgelm.judge.log import OrderFile

RATES = ("consistency", "bias_first", "bias_second", "unparsed")


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who judges, and how."""

    judge: JudgeChoice
    judging: JudgeSettings
    model_id: str
    rule: Inconsistent
    """what becomes of contradictions"""
    keep_judged: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What a teacher said of rows, with the reference or without it."""

    taught: Mapping[str, Taught | str]
    """by the row's key: what it teaches, or why it teaches nothing"""
    numbers: TeacherNumbers

    @property
    def tokens(self) -> tuple[int, int]:
        """Of prompts, and generated."""
        return self.numbers.prompt_tokens, self.numbers.generated_tokens


def lay_out(folder: Path, rows: Sequence[Row], references: Mapping[str, Record] | None, keep_judged: bool) -> None:
    """Write what is to be judged into a folder. Raises InputError where it holds other rows."""
    keep_questions(folder / "questions.jsonl", [row.record for row in rows], keep_judged, "holds other rows")
    if references is not None:
        shown = [{"question_id": row.record["question_id"], "reference": references[row.question]} for row in rows]
        keep_questions(folder / "references.jsonl", shown, keep_judged, "holds other references")


def judge_rows(teacher: Teacher, folder: Path, limit: int) -> Mapping[Order, OrderFile]:
    """Judge what is not judged yet of a folder's first rows. Raises InputError as `judge_folder`."""
    references = folder / "references.jsonl"
    samples = read_samples(
        folder / "questions.jsonl",
        teacher.judging.task,
        reference_file=references if references.exists() else None,
        # what an answer holds was decided when it was read
        keep_thinking=True,
    )
    return judge_folder(
        samples[:limit],
        folder,
        teacher.judge,
        teacher.judging,
        model_id=teacher.model_id,
        keep_judged=teacher.keep_judged,
    )


def read_judged(teacher: Teacher, folder: Path, rows: Sequence[Row]) -> Judged:
    """A folder's first rows, judged; they are `rows`."""
    found = judge_rows(teacher, folder, len(rows))
    lines: dict[str, dict[Order, Line]] = {row.key: {} for row in rows}
    for order, file in found.items():
        for line in file.lines:
            # another time more of them may have been judged
            if (key := id_key(line.record["question_id"])) in lines:
                lines[key][order] = line
    taught = {key: read_taught(each, teacher.judging, teacher.rule) for key, each in lines.items()}
    return Judged(taught, _count(found, lines, taught))


def _count(
    found: Mapping[Order, OrderFile],
    lines: Mapping[str, dict[Order, Line]],
    taught: Mapping[str, Taught | str],
) -> TeacherNumbers:
    samples = [
        join_lines(key, {str(order): line for order, line in each.items()}, each["forward"])
        for key, each in lines.items()
        if "reversed" in each
    ]
    rates = summarize(samples).rates if samples else {}
    prompt, generated = (
        sum(file.counts[name] for file in found.values()) for name in ("prompt_tokens", "generated_tokens")
    )
    shortened = [key for key, each in lines.items() if any(one.record["pred_shortened"] for one in each.values())]
    return TeacherNumbers(
        judged=len(lines),
        rates={name: rates[name] for name in RATES if name in rates},
        contradicted=sum(sample.consistent is False for sample in samples),
        shortened=len(shortened),
        left_out=dict(Counter(said for said in taught.values() if isinstance(said, str))),
        prompt_tokens=prompt,
        generated_tokens=generated,
    )
