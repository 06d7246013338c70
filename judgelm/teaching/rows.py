"""Rows that a teacher judges, and the same once it has: training rows in the published format."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from judgelm.criteria import Criteria
from judgelm.errors import InputError
from judgelm.jsonl import Record, id_key
from judgelm.teaching.pairs import choose_pairs
from judgelm.teaching.questions import Answered
from judgelm.teaching.settings import TeachSettings
from judgelm.teaching.split import Split, split_questions
from judgelm.teaching.verdicts import Taught


@dataclass(frozen=True, slots=True)
class Row:
    """Two answers to a question, or one, as a judge is given them."""

    question: str
    """its key"""
    models: tuple[int, ...]
    """whose answers these are"""
    record: Record

    @property
    def key(self) -> str:
        return id_key(self.record["question_id"])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a teacher is to judge."""

    answered: Answered
    rows: Sequence[Row]
    settings: TeachSettings
    seed: int
    limit: int | None = None

    @property
    def judged(self) -> Sequence[Row]:
        """The first rows, where there is a limit."""
        return self.rows[: self.limit]

    def split(self, references: Collection[str] | None) -> Split:
        """Where there are references, each question of validation has one. Raises InputError as `split_questions`."""
        texts = {question.key: question.whole for question in self.answered.questions}
        return split_questions(texts, self.settings.validation, self.seed, references)


def make_rows(answered: Answered, task: str, pairs_per_question: int | None, seed: int) -> list[Row]:
    """Pairs, balanced as `choose_pairs` says, or task grade each answer alone; in the questions' order.

    Raises InputError where no two answers differ.
    """
    questions = {question.key: question for question in answered.questions}
    if task == "grade":
        return [
            Row(key, (model,), question.graded(model, answered.models))
            for key, question in questions.items()
            for model in sorted(question.answers)
        ]
    pairs = choose_pairs({key: each.pairs() for key, each in questions.items()}, pairs_per_question, seed)
    if not pairs:
        raise InputError("all models answered all questions alike: there is nothing to compare")
    return [
        Row(pair.question, (pair.first, pair.second), questions[pair.question].compared(pair, answered.models))
        for pair in pairs
    ]


def training_row(
    row: Row,
    teacher: str,
    criteria: Criteria | None,
    said: Taught,
    with_reference: tuple[Taught, Record] | None = None,
) -> Record:
    """The row with what the teacher said of it; the review's id comes from the teacher's and the row's.

    `with_reference` is what it said with the reference, and the reference.
    """
    review = hashlib.sha256(f"{teacher}:{row.key}".encode(errors="surrogatepass")).hexdigest()[:16]
    record: Record = {**row.record, "review_id": review, "reviewer_id": teacher}
    record |= {"text": said.text, "score": list(said.scores)}
    if criteria is not None:
        record["criteria"] = criteria.to_record()
    if with_reference is not None:
        also, record["reference"] = with_reference
        record |= {"text_w_reference": also.text, "score_w_reference": list(also.scores)}
    return record
