"""A row as the page shows it to one person: texts and images, no id, no model's name, no judge's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import BaseModel

from judgelm.dialogue import USER, Turn
from judgelm.images import Image, show
from judgelm.labelling import Place, Progress
from judgelm.labelling.votes import Choice


class Part(BaseModel):
    """A piece of a text; an image stands behind the mark that names it."""

    text: str = ""
    image: str | None = None
    """its address: data:image/.. is shown, one of the web is a link"""


class TurnOut(BaseModel):
    """What one side said at once."""

    role: str
    parts: list[Part]


class AnswerOut(BaseModel):
    """An answer, with the conversation that it ends where it ends one of its own."""

    turns: list[TurnOut]
    parts: list[Part]


class ProgressOut(BaseModel):
    """How far a person is."""

    name: str
    total: int
    done: int
    skipped: int
    last: str | None
    """the row that the person said something of last"""


class RowOut(BaseModel):
    """What a person is asked."""

    row: str
    number: int
    """its place among the person's rows, from 1"""
    dialogue: list[TurnOut]
    """up to the question, empty where each answer has a conversation of its own"""
    reference: list[Part] | None
    answers: list[AnswerOut]
    choice: Choice
    """what the person said of it before"""
    reason: str

    @classmethod
    def of(cls, place: Place) -> RowOut:
        sample = place.row.sample.shown(place.order)
        dialogue, images = sample.dialogue, sample.images
        talks = dialogue.conversations if dialogue else ()
        before = dialogue.turns if dialogue else ()
        asked = () if talks else (*before, Turn(USER, sample.question))
        return cls(
            row=place.row.token,
            number=place.number,
            dialogue=[_turn(turn, images) for turn in asked],
            reference=None if sample.reference is None else _parts(sample.reference, images),
            answers=[
                AnswerOut(
                    turns=[_turn(turn, images) for turn in (talks[k] if talks else ())], parts=_parts(answer, images)
                )
                for k, answer in enumerate(sample.answers)
            ],
            choice=place.choice,
            reason=(place.vote.reason if place.vote else None) or "",
        )


class Answer(BaseModel):
    """What the page gets: how far the person is, and what to show."""

    progress: ProgressOut
    row: RowOut | None
    """null: there is no such row, or none left"""

    @classmethod
    def of(cls, person: str, progress: Progress, place: Place | None) -> Answer:
        shown = ProgressOut(name=person, **asdict(progress))
        return cls(progress=shown, row=None if place is None else RowOut.of(place))


def _turn(turn: Turn, images: Sequence[Image]) -> TurnOut:
    return TurnOut(role=turn.role, parts=_parts(turn.text, images))


def _parts(text: str, images: Sequence[Image]) -> list[Part]:
    """Numbered in each text by itself: a number of the whole row would say in which order the file has the answers."""
    shown = show(text, images)
    parts, begin = [], 0
    for image, end in shown.images:
        parts.append(Part(text=shown.text[begin:end], image=image.url))
        begin = end
    return [*parts, Part(text=shown.text[begin:])]
