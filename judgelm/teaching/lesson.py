"""All that a teacher said -> the files of a teaching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from judgelm.appended import writing
from judgelm.errors import InputError
from judgelm.jsonl import Record, write_lines
from judgelm.teaching.judging import Judged, Teacher
from judgelm.teaching.references import References
from judgelm.teaching.report import Half, TaughtModel, TeachReport, WrittenReferences
from judgelm.teaching.rows import Plan, Row, training_row
from judgelm.teaching.split import Split
from judgelm.teaching.verdicts import Taught

REPORT = "teach.json"
FILES = ("train.jsonl", "validation.jsonl", "teacher.jsonl", "teacher_with_reference.jsonl", "references.jsonl")
"""in the order in which they are written, before the report"""


@dataclass(frozen=True)
class Lesson:
    """What was judged, and what is made of it."""

    plan: Plan
    split: Split
    teacher: Teacher
    references: References | None
    without: Judged
    with_reference: Judged | None
    """None: no row has a reference"""

    @cached_property
    def train(self) -> list[Record]:
        return [record for row, record in self._taught if not self._is_validation(row)]

    @cached_property
    def validation(self) -> list[Record]:
        """Where there are references, each row holds what was said with one: so all its files are of the same rows."""
        return [record for record in self._held if self.references is None or "text_w_reference" in record]

    @cached_property
    def _held(self) -> list[Record]:
        return [record for row, record in self._taught if self._is_validation(row)]

    def write(self, folder: Path) -> TeachReport:
        """The rows, the validation half's truths and references, and last the report.

        Raises InputError where no row is left to train on.
        """
        report = self._report()
        truths = [_truths(self.validation, field) for field in ("text", "text_w_reference")]
        for name, records in zip(FILES, (self.train, self.validation, *truths, self._shown), strict=True):
            _write(folder / name, records)
        report.write(folder / REPORT)
        if not self.train:
            left_out = ", ".join(f"{why}: {count}" for why, count in self.without.numbers.left_out.items())
            raise InputError(f"{folder}: no row is left to train on ({left_out or 'all are of validation'})")
        return report

    @property
    def _shown(self) -> list[Record]:
        """The references of validation, as `judgelm judge --reference-file` takes them."""
        named = [(row["question_id"], row.get("reference")) for row in self.validation]
        return [{"question_id": key, "reference": each} for key, each in named if each is not None]

    @property
    def _texts(self) -> Mapping[str, Record]:
        return self.references.texts if self.references else {}

    @cached_property
    def _taught(self) -> list[tuple[Row, Record]]:
        """Every row of which something is learnt."""
        found = []
        for row in self.plan.judged:
            said = self.without.taught[row.key]
            if isinstance(said, Taught):
                found.append((row, self._row(row, said)))
        return found

    def _row(self, row: Row, said: Taught) -> Record:
        also = self.with_reference.taught.get(row.key) if self.with_reference else None
        shown = (also, self._texts[row.question]) if isinstance(also, Taught) else None
        return training_row(row, self.teacher.model_id, self.teacher.judging.criteria, said, shown)

    def _is_validation(self, row: Row) -> bool:
        return row.question in self.split.validation

    def _report(self) -> TeachReport:
        plan, judging = self.plan, self.teacher.judging
        answered = plan.answered
        judged = [each for each in (self.without, self.with_reference) if each is not None]
        tokens = [each.tokens for each in judged] + ([self.references.tokens] if self.references else [])
        return TeachReport(
            teacher=self.teacher.model_id,
            task=judging.task,
            inconsistent=self.plan.settings.inconsistent,
            pairs_per_question=self.plan.settings.pairs_per_question,
            seed=judging.seed,
            questions=len(answered.questions),
            left_out_questions=answered.left_out,
            near_doubles=self.split.near_doubles,
            empty_answers=answered.empty_answers,
            equal_answers=answered.num_equal,
            models=[self._model(number, name) for number, name in enumerate(answered.models)],
            references=self._references(),
            without_reference=self.without.numbers,
            with_reference=self.with_reference.numbers if self.with_reference else None,
            train=self._half(self.train),
            validation=self._half(self.validation),
            left_out_of_validation=len(self._held) - len(self.validation),
            prompt_tokens=sum(each[0] for each in tokens),
            generated_tokens=sum(each[1] for each in tokens),
            cost=self._cost(judged),
        )

    def _model(self, number: int, name: str) -> TaughtModel:
        places = [row.models.index(number) for row in self.plan.judged if number in row.models]
        answers = sum(number in question.answers for question in self.plan.answered.questions)
        return TaughtModel(name=name, answers=answers, first=places.count(0), second=places.count(1))

    def _references(self) -> WrittenReferences | None:
        found = self.references
        if found is None:
            return None
        return WrittenReferences(
            source=found.source,
            name=found.name,
            questions=len(found.texts),
            left_out=dict(found.left_out),
            prompt_tokens=found.tokens[0],
            generated_tokens=found.tokens[1],
        )

    def _half(self, records: Sequence[Record]) -> Half:
        keys = {row.record["question_id"]: row.question for row, _ in self._taught}
        return Half(
            questions=len({keys[record["question_id"]] for record in records}),
            rows=len(records),
            with_reference=sum("text_w_reference" in record for record in records),
        )

    def _cost(self, judged: Sequence[Judged]) -> float | None:
        from judgelm.engine.openai.requests import cost

        spent = [(each.tokens, self.teacher.judge.prices) for each in judged]
        spent += [(self.references.tokens, self.references.prices)] if self.references else []
        known = [cost(*tokens, prices) for tokens, prices in spent if prices]
        return round(sum(known), 6) if len(known) == len([tokens for tokens, _ in spent if any(tokens)]) else None


def _truths(records: Sequence[Record], field: str) -> list[Record]:
    """The teacher's judgements as `judgelm evaluate --teacher` takes them."""
    return [{"question_id": each["question_id"], "text": each[field]} for each in records if field in each]


def _write(path: Path, records: Sequence[Record]) -> None:
    """A file with nothing in it is none: what an earlier teaching left there is removed."""
    if records:
        write_lines(path, records)
    else:
        with writing(path):
            path.unlink(missing_ok=True)
