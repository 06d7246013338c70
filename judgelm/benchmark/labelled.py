"""A benchmark's rows -> labelled judge samples: what all readers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from judgelm.benchmark.rows import Rows
from judgelm.criteria import Criteria
from judgelm.errors import InputError, encodable
from judgelm.jsonl import Line, Record, id_key, read_text

Files = Mapping[str, Path]
"""a benchmark's files by name"""
Reader = Callable[[Files], "Labelled"]
Make = Callable[[Line, int], Record]
"""a sample of a row and its number among all rows, from 0"""


@dataclass(frozen=True, slots=True)
class Split:
    """Samples that are judged in one run, each with its label: 1 first, 2 second, 0 tie."""

    name: str
    """its folder; empty where the benchmark is one run"""
    records: Sequence[Record]
    places: Sequence[int] = ()
    """of the records among all rows of the data; empty where a record is made of several rows"""
    reference: Path | None = None
    teacher: Path | None = None
    """judgements with which the published script compares"""
    task: str | None = None
    """where it is not the benchmark's"""
    references: Sequence[Record] = ()
    """rows of `question_id` and `reference` that the judge is shown, where they stand in no file of their own"""
    criteria: Criteria | None = None
    """by which answers are judged where the user names no others"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a reader found."""

    splits: Sequence[Split]
    dropped: Mapping[str, int]
    """rows left out, by reason"""
    rows: int
    """of the data, those left out too"""
    odd: Sequence[str]
    """what is wrong with the rows that could not be read, each with its place"""


_TEXTS = ("question_body", "answer1_body", "answer2_body")


class Records:
    """Labelled samples as they are read, row by row of one or more files."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.records: list[Record] = []
        self.places: list[int] = []
        self._ids: dict[str, str] = {}

    def read(self, path: Path, make: Make, lines: Sequence[Line] | None = None) -> None:
        """Add what is made of each row; one that cannot be read, or has an id that is there already, is set aside.

        `lines` are a file's rows where it is no file of rows.
        """

        def checked(line: Line) -> Record:
            record = make(line, self.rows.count - 1)
            key = id_key(record["question_id"])
            check_texts(line, record)
            if key in self._ids:
                raise InputError(f"{line.where}: question_id {key} stands already in {self._ids[key]}")
            self._ids[key] = line.where
            return record

        for place, record in self.rows.read(path, checked, lines):
            self.records.append(record)
            self.places.append(place)

    def labelled(self, reason: str | None) -> Labelled:
        """One split, of the records that have a label; how many have none is said, where there is a `reason` for it."""
        kept = [(r, place) for r, place in zip(self.records, self.places, strict=True) if r["label"] is not None]
        split = Split("", [record for record, _ in kept], [place for _, place in kept])
        dropped = {reason: len(self.records) - len(kept)} if reason else {}
        return Labelled((split,), dropped, self.rows.count, self.rows.odd)


def check_texts(line: Line, record: Record) -> None:
    """Raises InputError where a question or an answer is no text that a file can hold."""
    for name in (*_TEXTS, "answer_body"):
        if not encodable(record.get(name, "")):
            raise InputError(f"{line.where}: {name} has half a surrogate pair, which is no text")


def read_texts(line: Line, *fields: str) -> dict[str, str]:
    """Question and answers, which stand in these fields, if not in those of a judge sample."""
    return {name: read_text(line, field) for name, field in zip(_TEXTS, fields or _TEXTS, strict=True)}


def each_row(make: Make, unlabelled: str | None = None) -> Reader:
    """The reader of files with a sample a row; those whose label is None are left out, and counted as `unlabelled`."""

    def read(files: Files) -> Labelled:
        found = Records()
        for path in files.values():
            found.read(path, make)
        return found.labelled(unlabelled)

    return read
