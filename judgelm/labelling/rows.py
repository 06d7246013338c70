"""The rows that people label: two answers each, and in which order a person is shown them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judgelm.errors import InputError, located, one_line
from judgelm.files import PathLike
from judgelm.forms import Columns
from judgelm.jsonl import dump_json
from judgelm.labelling.people import same_name
from judgelm.sample import Sample
from judgelm.samples import read_samples


@dataclass(frozen=True, slots=True)
class Row:
    """Two answers to compare."""

    sample: Sample
    texts: str
    """the beginning of the sha256 of question, dialogue and answers: whether a label is of these"""
    token: str
    """names the row to a page, which is told no id: an id may say who wrote what"""

    @classmethod
    def of(cls, sample: Sample) -> Row:
        texts = _fingerprint(sample)
        return cls(sample, texts, draw(sample.key, texts)[:24])

    def order_for(self, person: str) -> str:
        """Forward or reversed: always the same for a person."""
        return "reversed" if int(draw("order", same_name(person), self.sample.key), 16) % 2 else "forward"


def draw(*parts: str) -> str:
    """A random number in hexadecimal digits, which depends on these texts alone."""
    return hashlib.sha256(dump_json(parts).encode()).hexdigest()


def read_rows(path: PathLike, reference_file: PathLike | None = None, columns: Columns | None = None) -> list[Row]:
    """All rows of a file of pairs, in any form that `judgelm judge` takes, with a reference where they have one.

    Raises InputError for a row without two answers, and for judgements with the answers exchanged.
    """
    rows = []
    for sample in read_samples(path, "pair", reference_file=reference_file, columns=columns):
        where = f"{path}: question_id {one_line(sample.key)}"
        order = sample.record.get("pred_order", "forward")
        if order != "forward":
            raise InputError(f"{where}: expected answers in their own order, found a {one_line(str(order))} judgement")
        with located(where):
            rows.append(Row.of(_with_own_reference(sample)))
    return rows


def _with_own_reference(sample: Sample) -> Sample:
    given = sample.record.get("reference")
    text = given.get("text") if isinstance(given, Mapping) else given
    if sample.reference is not None or not isinstance(text, str) or not text.strip():
        return sample
    return sample.with_reference(text)


def _fingerprint(sample: Sample) -> str:
    dialogue = sample.dialogue
    talks = (dialogue.turns, *dialogue.conversations) if dialogue else ()
    said = [[(turn.role, turn.text) for turn in turns] for turns in talks]
    images = [image.url for image in sample.images]
    return draw(dump_json([sample.question, sample.answers, said, images]))[:16]


def arrange(rows: Sequence[Row], blocks: Mapping[str, int], person: str) -> list[Row]:
    """In the order in which a person is asked: by blocks, by token, and within each in an order of the person's own."""
    return sorted(rows, key=lambda row: (blocks.get(row.token, 0), draw("row", same_name(person), row.sample.key)))
