"""What models answered, and the log in which that is kept as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from judgelm.appended import WAY_OUT, AppendedFile, ends_in_half
from judgelm.collection.models import AnswerModel
from judgelm.collection.questions import Question, sample_key
from judgelm.documents import Count, read_record
from judgelm.engine.interface import FinishReason
from judgelm.engine.openai.requests import cost
from judgelm.errors import InputError
from judgelm.jsonl import Line, LineFile, dump_line, holds_lines, id_key

KEPT = "what was answered"
NO_ANSWER = ("refused", "out_of_memory")
"""finish reasons of what is no answer"""
_Name = tuple[str, str]
"""of an answer: its model's, and its id"""


@dataclass(frozen=True, slots=True)
class Ask:
    """An answer that is wanted."""

    model: AnswerModel
    question: Question
    sample: int = 1
    """its number among several answers of one model to one question"""

    @property
    def key(self) -> str:
        return sample_key(self.question.key, self.sample)

    @property
    def name(self) -> _Name:
        return self.model.name, self.key


class Reply(BaseModel):
    """What came of one: a line of the log."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    model: str
    """name of the model"""
    question_id: int | str
    sample: Annotated[int, Field(ge=1)] = 1
    text: str
    """the answer, without thoughts; empty where there is none"""
    thoughts: str | None = None
    """that came before it, without tags"""
    finish_reason: FinishReason
    """stop; length: no room for more tokens; refused: by the server; out_of_memory"""
    reason: str | None = None
    """why there is no answer"""
    prompt_tokens: Count = 0
    generated_tokens: Count = 0

    @classmethod
    def to(
        cls,
        ask: Ask,
        text: str,
        finish_reason: FinishReason,
        tokens: tuple[int, int],
        thoughts: str | None = None,
        reason: str | None = None,
    ) -> Self:
        """A reply to what was asked; `tokens` are those of the prompt and those generated."""
        return cls(
            model=ask.model.name,
            question_id=ask.question.question_id,
            sample=ask.sample,
            text=text,
            thoughts=thoughts,
            finish_reason=finish_reason,
            reason=reason,
            prompt_tokens=tokens[0],
            generated_tokens=tokens[1],
        )

    @classmethod
    def from_line(cls, line: Line) -> Self:
        """Raises InputError that names the line and the field."""
        return read_record(cls, line.record, line.where, "an answer that was collected", WAY_OUT)

    @property
    def name(self) -> _Name:
        return self.model, sample_key(id_key(self.question_id), self.sample)

    @property
    def is_answer(self) -> bool:
        """Whether the model answered, with whatever text."""
        return self.finish_reason not in NO_ANSWER


@dataclass(slots=True)
class Spent:
    """What all of a model's replies took, those that were asked for again included."""

    prompt_tokens: int = 0
    generated_tokens: int = 0

    def cost(self, price: tuple[float, float] | None) -> float | None:
        """In the currency of the price, which is of a million tokens; None without one."""
        return None if price is None else cost(self.prompt_tokens, self.generated_tokens, price)


class ReplyLog:
    """A file that grows by a line a reply; of two to one question the later one counts.

    To make one only reads. Raises InputError for a damaged line; half a line, which a killed process leaves, is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[_Name, int] = {}
        self._failed: set[_Name] = set()
        self._count = 0
        self.spent: dict[str, Spent] = {}
        """by a model's name"""
        for reply in self._read() if holds_lines(path) else ():
            self._add(reply)

    def _read(self) -> Iterator[Reply]:
        lines = LineFile(self.path, ours=True)
        for line in lines.select(range(len(lines) - ends_in_half(self.path))):
            yield Reply.from_line(line)

    def _add(self, reply: Reply) -> None:
        self._rows[reply.name] = self._count
        self._count += 1
        (self._failed.discard if reply.is_answer else self._failed.add)(reply.name)
        spent = self.spent.setdefault(reply.model, Spent())
        spent.prompt_tokens += reply.prompt_tokens
        spent.generated_tokens += reply.generated_tokens

    def __contains__(self, name: _Name) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def has_failed(self, name: _Name) -> bool:
        """Whether there is no answer, though it was asked for."""
        return name in self._failed

    def open(self) -> None:
        """Mend what a killed process left, and be ready for more."""
        self._file = AppendedFile(self.path, KEPT)

    def append(self, reply: Reply) -> None:
        """Write a line and hand it to the operating system, so that a killed process loses nothing."""
        self._file.append(dump_line(reply.model_dump(exclude_defaults=True)).encode())
        self._add(reply)

    def close(self) -> None:
        self._file.close()

    def replies(self, asks: list[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """What came of each, which must be there."""
        lines = LineFile(self.path, ours=True)
        for ask, line in zip(asks, lines.select(self._rows[ask.name] for ask in asks), strict=True):
            yield ask, Reply.from_line(line)

    def check(self, models: Mapping[str, AnswerModel], questions: set[str]) -> None:
        """Raises InputError for a reply of nobody here, or to nothing that is asked here."""
        for model, key in self._rows:
            question = key if key in questions else key.rpartition("#")[0]
            if model not in models or question not in questions:
                raise InputError(f"{self.path}: holds an answer of {model} to question_id {key}, which nobody asked")
