"""Answer files of several models -> questions with all their answers, and the rows that a teacher judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import comb
from typing import Any

from judgelm.answers import combine_lines, model_names, read_indexes
from judgelm.dialogue import shown_question
from judgelm.errors import InputError, encodable
from judgelm.files import PathLike
from judgelm.forms import Columns
from judgelm.jsonl import Line, Record, read_text
from judgelm.score_lines import leading_thoughts
from judgelm.teaching.pairs import Models, Pair


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what models answered."""

    key: str
    text: str
    whole: str
    """with the dialogue before it, where there is one"""
    answers: Mapping[int, Line]
    """by the model's number; empty ones are left out"""

    def alike(self, models: Models) -> bool:
        """Whether two models answered the same, white space aside."""
        one, other = (self.answers[model].record["text"].split() for model in models)
        return bool(one == other)

    def pairs(self) -> list[Models]:
        """Models whose answers can be compared."""
        return [models for models in combinations(sorted(self.answers), 2) if not self.alike(models)]

    def compared(self, pair: Pair, models: Sequence[str]) -> Record:
        """The row of two answers."""
        record = combine_lines([self.answers[pair.first], self.answers[pair.second]])
        del record["score"]
        named: Record = {}
        for place, model in ((1, pair.first), (2, pair.second)):
            named[f"answer{place}_id"] = self._answer_id(model)
            named[f"answer{place}_model_id"] = models[model]
        return {**record, "question_id": f"{self.key}/{pair.first + 1}-{pair.second + 1}", **named, **self.carried}

    def graded(self, model: int, models: Sequence[str]) -> Record:
        """The row of one answer."""
        record = self.answers[model].record
        return {
            "question_id": f"{self.key}/{model + 1}",
            "question_body": self.text,
            "answer_id": self._answer_id(model),
            "answer_body": record["text"],
            "answer_model_id": models[model],
            "answer_metadata": {"decoding_method": record.get("decoding_method")},
            **self.carried,
        }

    def _answer_id(self, model: int) -> Any:
        given = self.answers[model].record.get("answer_id")
        return f"{self.key}/{model + 1}" if given is None else given

    @property
    def carried(self) -> Record:
        """What stands beside the question, at the first who answered it."""
        record = self.answers[min(self.answers)].record
        return {name: record[name] for name in ("category", "messages") if record.get(name) is not None}


@dataclass(frozen=True, slots=True)
class Answered:
    """Questions that can be judged, in the order of the first file that has them."""

    models: tuple[str, ...]
    questions: tuple[Question, ...]
    left_out: int
    """questions with fewer answers than are judged together"""
    empty_answers: int

    @property
    def num_equal(self) -> int:
        """Two answers to one question that say the same."""
        return sum(comb(len(each.answers), 2) - len(each.pairs()) for each in self.questions)


def read_answered(
    answer_files: Sequence[PathLike],
    columns: Columns | None = None,
    question_file: PathLike | None = None,
    keep_thinking: bool = False,
    at_least: int = 2,
) -> Answered:
    """The questions with `at_least` so many answers; a file need not answer all of them.

    Thoughts at the beginning of an answer are no part of it, unless `keep_thinking` says so. Raises InputError for
    fewer files than that, two of one model, a file without rows, a question that two files ask in other words, and for
    no question with enough answers.
    """
    if len(answer_files) < at_least:
        raise InputError(f"teaching compares models: expected two or more answer files, found {len(answer_files)}")
    indexes = read_indexes(answer_files, columns, question_file)
    for path, index in zip(answer_files, indexes, strict=True):
        if not index:
            raise InputError(f"{path}: there is no answer in it")
    models = tuple(model_names(answer_files, indexes))
    found = [_question(key, indexes, keep_thinking) for key in dict.fromkeys(chain.from_iterable(indexes))]
    kept = tuple(question for question in found if len(question.answers) >= at_least)
    if not kept:
        files = ", ".join(map(str, answer_files))
        few = "an answer that is not empty" if at_least == 1 else "answers in two of the files"
        raise InputError(f"no question has {few} ({files}): are they of the same questions?")
    num_given, num_shown = sum(map(len, indexes)), sum(len(question.answers) for question in found)
    return Answered(models, kept, len(found) - len(kept), num_given - num_shown)


def _read(line: Line, field: str) -> str:
    """A text that a judge can be shown. Raises InputError for anything else."""
    text = read_text(line, field)
    if not encodable(text):
        raise InputError(f"{line.where}: {field} has half a surrogate pair, which no tokenizer can read")
    return text


def _question(key: str, indexes: Sequence[Mapping[str, Line]], keep_thinking: bool) -> Question:
    given = {model: index[key] for model, index in enumerate(indexes) if key in index}
    first, *rest = given.values()
    text, whole = _read(first, "question_body"), shown_question(first.record)
    for line in rest:
        if read_text(line, "question_body") != text:
            raise InputError(f"{line.where}: question_body differs from that of {first.where}")
        if shown_question(line.record) != whole:
            raise InputError(f"{line.where}: messages differ from those of {first.where}")
    answers = {}
    for model, line in given.items():
        answer = _read(line, "text")
        answer = answer if keep_thinking else answer[leading_thoughts(answer) :]
        if answer.strip():
            answers[model] = line._replace(record={**line.record, "text": answer})
    return Question(key, text, whole, answers)
