"""The typed form of a record: one question with its answers."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from judgelm.dialogue import Dialogue, Said, read_said
from judgelm.errors import InputError, encodable, located, one_line
from judgelm.images import NEEDS_CHAT, Gallery, Image, images_in, name_images, write_content
from judgelm.jsonl import Line, Record, id_key, read_id, read_text
from judgelm.score_lines import leading_thoughts

MAX_ANSWERS = 10
_ANSWER_FIELD = re.compile(r"(answer(?=[12]_)|conversation(?=[12]$))([12])(_.+|)")
_ANY_ANSWER_FIELD = re.compile(r"(answer(?=\d+_)|conversation(?=\d+$))([1-9][0-9]?)(_.+|)")
_ROTATED = "rotated"
_Value = TypeVar("_Value")


def question_key(question: str) -> str:
    """The question without what two files may write differently: case and white space."""
    return " ".join(question.split()).casefold()


@dataclass(frozen=True, slots=True, init=False)
class Sample:
    """One question and the answers to be judged, or the one to be graded; `answers[0]` is Assistant 1.

    `record` is the JSONL record it came from; what is not named here travels in it untouched.
    """

    question_id: int | str
    question: str
    answers: tuple[str, ...]
    reference: str | None
    record: Mapping[str, Any]
    dialogue: Dialogue | None
    """what was said before the answers, where that is more than the question"""
    images: tuple[Image, ...]
    """whose marks stand in these texts, see `judgelm.images`, however the answers are ordered"""

    def __init__(
        self,
        question_id: int | str,
        question: str,
        answers: Sequence[str],
        reference: str | None = None,
        record: Mapping[str, Any] | None = None,
        dialogue: Dialogue | None = None,
        images: Sequence[Image] = (),
    ) -> None:
        if isinstance(answers, str):
            raise ValueError("answers must be a list of texts, found str")
        for name, value in (
            ("question_id", question_id),
            ("question", question),
            ("answers", tuple(answers)),
            ("reference", reference),
            ("record", {} if record is None else record),
            ("dialogue", dialogue),
            ("images", tuple(images)),
        ):
            object.__setattr__(self, name, value)
        if not 1 <= len(self.answers) <= MAX_ANSWERS:
            raise ValueError(f"a sample has 1 to {MAX_ANSWERS} answers, found {len(self.answers)}")
        if dialogue is not None and len(dialogue.conversations) not in (0, len(self.answers)):
            raise ValueError(
                f"{len(self.answers)} answers have {len(dialogue.conversations)} conversations before them"
            )
        texts = {"question": self.question, **{f"answer {k}": a for k, a in enumerate(self.answers, start=1)}}
        if self.reference is not None:
            texts["reference"] = self.reference
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"{name} must be str, found {type(text).__name__}")
            if not text.isascii() and not encodable(text):
                raise ValueError(f"{name} has half a surrogate pair, which no tokenizer can read")
        if self.reference is not None and images_in(self.reference, self.images):
            raise ValueError("reference has a noncharacter of Unicode, which stands for an image")
        if not encodable(self.key):
            raise ValueError("question_id has half a surrogate pair, which no file can hold")

    @classmethod
    def from_record(cls, record: Record, num_answers: int = 2) -> Sample:
        """A sample from a judge-sample record; raises InputError or ValueError where it is not one."""
        return cls.from_line(Line(record, Path("record"), 1), num_answers)

    @classmethod
    def from_line(cls, line: Line, num_answers: int = 2, reference: str | None = None) -> Sample:
        """A sample from `question_id`, `question_body`, `answer1_body` .. `answer{num_answers}_body`; or with
        `messages` in place of the question, or `conversation1` .. in place of all texts, see `read_said`.

        In its record id and texts stand as they were read.
        """
        return cls._from_fields(line, [f"answer{k}_body" for k in range(1, num_answers + 1)], reference)

    @classmethod
    def from_graded_line(cls, line: Line, reference: str | None = None) -> Sample:
        """A sample with one answer, from `question_id`, `question_body`, and `answer_body` or `answer1_body`; or from
        `messages` or `conversation1`, whose last one may be the answer.
        """
        names = ("answer_body", "answer1_body")
        said = any(line.record.get(name) is not None for name in ("messages", "conversation1"))
        own = "answer_body" in line.record or (said and "answer1_body" not in line.record)
        return cls._from_fields(line, [names[0] if own else names[1]], reference)

    @classmethod
    def _from_fields(cls, line: Line, names: Sequence[str], reference: str | None) -> Sample:
        """Raises InputError, and ValueError for a dialogue that is none."""
        gallery = Gallery()
        question_id, said = read_id(line), read_said(line.record, len(names), gallery)
        if said is None:
            said = Said(None, read_content(line, "question_body", gallery))
        elif line.record.get("question_body") is not None:
            # each conversation has a last question of its own: the record's stays, in any order of them
            said = said._replace(question=read_content(line, "question_body", gallery))
        answers = said.answers or tuple(read_content(line, name, gallery) for name in names)
        images = gallery.close()
        texts = dict(zip(("question_body", *names), (said.question, *answers), strict=True))
        contents = {name: write_content(text, images) for name, text in texts.items()}
        record = {**line.record, "question_id": question_id, **contents}
        return cls(question_id, said.question, answers, reference, record, said.dialogue, images)

    @classmethod
    def from_mmvet_line(cls, line: Line, seed: int = 0, reference: str | None = None) -> Sample:
        """A sample from an MM-Vet record: the ground truth stands in Assistant 1's place and in the reference block.

        Of alternatives (`<OR>`) one is picked by (seed, question_id); parts (`<AND>`) are joined with " and ". A
        `reference` stands in the block instead.
        """
        question_id, question = read_id(line), read_text(line, "question")
        truth, answer = read_text(line, "answer"), read_text(line, "answer1_body")
        chosen = random.Random(f"{seed}:{id_key(question_id)}").choice(truth.split("<OR>"))
        read = {"question_id": question_id, "question": question, "answer": truth, "answer1_body": answer}
        answers = (chosen.replace("<AND>", " and "), answer)
        return cls(question_id, question, answers, truth if reference is None else reference, {**line.record, **read})

    @property
    def key(self) -> str:
        return id_key(self.question_id)

    @property
    def asked(self) -> str:
        """The question as statistics know it: by its words and its images."""
        return question_key(name_images(self.question, self.images))

    def with_reference(self, reference: str) -> Sample:
        return replace(self, reference=reference)

    def without_reference(self) -> Sample:
        return replace(self, reference=None)

    def without_thoughts(self) -> Sample:
        """The same without the thoughts at the beginning of its answers; its record keeps them."""
        ends = [leading_thoughts(answer) for answer in self.answers]
        if not any(ends):
            return self
        return replace(self, answers=tuple(answer[end:] for answer, end in zip(self.answers, ends, strict=True)))

    @property
    def thoughts(self) -> dict[str, int]:
        """How many characters of thoughts in the record's answers are not shown, by field; only those with any."""
        fields = [name for name in answer_fields(self.record, len(self.answers)) if name in self.record]
        hidden = {}
        # MM-Vet's only answer stands in the last place
        for name, answer in zip(fields, self.answers[len(self.answers) - len(fields) :], strict=True):
            given = self.record[name]
            text = Gallery(self.images).read(given) if isinstance(given, list) else given
            size = len(text) - len(answer) if isinstance(text, str) else 0
            if size and size == leading_thoughts(text):
                hidden[name] = size
        return hidden

    def swapped(self) -> Sample:
        """The same sample with answers 1 and 2 exchanged, and with them all that the record says of each.

        Raises ValueError for a single answer.
        """
        if len(self.answers) < 2:
            raise ValueError("a single answer has none to be exchanged with")
        dialogue = self.dialogue and self.dialogue.reordered(_exchange)
        return replace(self, answers=_exchange(self.answers), record=swap_fields(self.record), dialogue=dialogue)

    def rotated(self, steps: int) -> Sample:
        """The same sample with the first `steps` answers behind the others, and with them all that is said of each."""

        def rotate(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
            return (*values[steps:], *values[:steps])

        record = rotate_fields(self.record, steps, len(self.answers))
        dialogue = self.dialogue and self.dialogue.reordered(rotate)
        return replace(self, answers=rotate(self.answers), record=record, dialogue=dialogue)

    def shown(self, order: str) -> Sample:
        """As a judge sees it in an order: forward, reversed, or rotated1, rotated2 .., rotated by so many answers."""
        if order == "reversed":
            return self.swapped()
        return self.rotated(rotation(order)) if rotation(order) else self

    def to_record(self) -> Record:
        """The JSONL record: the fields it was read from, or the published names for a sample made in Python."""
        if self.record:
            return dict(self.record)
        bodies = {f"answer{k}_body": answer for k, answer in enumerate(self.answers, start=1)}
        said = self.dialogue.to_fields(self.question, self.answers, self.images) if self.dialogue else {}
        texts = {"question_body": self.question, **bodies}
        contents = {name: write_content(text, self.images) for name, text in texts.items()}
        return {"question_id": self.question_id, **said, **contents}


def refuse_images(sample: Sample, where: str = "") -> None:
    """Raises InputError for a sample with images, before who cannot show them."""
    if sample.images:
        raise InputError(f"{where}question_id {one_line(sample.key)}: {NEEDS_CHAT}")


def read_content(line: Line, field: str, gallery: Gallery) -> str:
    """A question or an answer: a text, or OpenAI's parts. Raises InputError for anything else."""
    given = line.record.get(field)
    if not isinstance(given, list) or not given or not all(isinstance(part, Mapping) for part in given):
        return gallery.read(read_text(line, field))
    with located(f"{line.where}: field {field!r}"):
        return gallery.read(given)


def _exchange(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    return values[1], values[0], *values[2:]


def rotation(order: str) -> int:
    """By how many answers a sample is rotated in an order; 0 for forward and reversed."""
    return int(order.removeprefix(_ROTATED)) if order.startswith(_ROTATED) else 0


def unshow(values: tuple[_Value, ...], order: str) -> tuple[_Value, ...]:
    """What was said of each answer in the places in which an order shows them, in the file's order."""
    if order == "reversed":
        return _exchange(values)
    steps = rotation(order)
    return values[-steps:] + values[:-steps] if steps else values


def unshow_fields(record: Mapping[str, Any], order: str, num_answers: int) -> Record:
    """The fields of a record as they were before its sample was shown in an order."""
    if order == "reversed":
        return swap_fields(record)
    steps = rotation(order)
    return rotate_fields(record, num_answers - steps, num_answers) if steps else dict(record)


def rotate_fields(record: Mapping[str, Any], steps: int, num_answers: int) -> Record:
    """Give `answer{k}_*` and `conversation{k}` of the first answers the places that they have once the first `steps`
    stand behind the others, and their scores with them, but for those of a teacher's judgement, as in `swap_fields`.
    """
    rotated: Record = {}
    for name, value in record.items():
        match = _ANY_ANSWER_FIELD.fullmatch(name)
        if match and int(match[2]) <= num_answers:
            place = (int(match[2]) - 1 - steps) % num_answers + 1
            rotated[f"{match[1]}{place}{match[3]}"] = value
        elif name == "score" and "text" not in record and isinstance(value, list) and len(value) >= num_answers:
            rotated[name] = [*value[steps:num_answers], *value[:steps], *value[num_answers:]]
        else:
            rotated[name] = value
    return rotated


def answer_fields(record: Mapping[str, Any], num_answers: int) -> list[str]:
    """The fields in which a record's answers stand; that of a single one has two names."""
    if num_answers == 1 and "answer_body" in record:
        return ["answer_body"]
    return [f"answer{k}_body" for k in range(1, num_answers + 1)]


def shown_answer(record: Mapping[str, Any], name: str) -> str | None:
    """The answer in this field as the judge of a record was shown it: without thoughts that were left out.

    None where the record has none that is text.
    """
    text = record.get(name)
    return text[num_hidden(record, name) :] if isinstance(text, str) else None


def num_hidden(record: Mapping[str, Any], name: str) -> int:
    """Characters of thoughts at the beginning of an answer, an image being one."""
    hidden = record.get("pred_thoughts")
    size = hidden.get(name) if isinstance(hidden, dict) else None
    return size if isinstance(size, int) else 0


def empty_answers(record: Mapping[str, Any]) -> list[int]:
    """Numbers of the answers in a judge's record of which nothing was shown, or nothing but white space."""
    scores = record.get("pred_scores")
    shown = {"grade": 1, "multi": len(scores) if scores else MAX_ANSWERS}.get(str(record.get("pred_task")), 2)
    texts = [shown_answer(record, name) for name in answer_fields(record, shown)]
    return [k for k, text in enumerate(texts, start=1) if text is not None and not text.strip()]


def swap_fields(record: Mapping[str, Any]) -> Record:
    """Exchange `answer1_*` with `answer2_*`, conversations and scores likewise; all else stays in place.

    A teacher's judgement in the record (`text` and its `score`) is of the order it was given in, and stays.
    """
    swapped: Record = {}
    for name, value in record.items():
        match = _ANSWER_FIELD.fullmatch(name)
        other = f"{match[1]}{3 - int(match[2])}{match[3]}" if match else name
        if match and other in record:
            swapped[name] = record[other]
        elif match:
            swapped[other] = value
        elif name == "score" and "text" not in record and isinstance(value, list) and len(value) >= 2:
            swapped[name] = [value[1], value[0], *value[2:]]
        else:
            swapped[name] = value
    return swapped
