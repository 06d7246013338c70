"""What people said of rows: a file that only grows, of which a person's last word on a row counts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from judgelm.appended import AppendedFile
from judgelm.documents import Section, read_record
from judgelm.errors import InputError, one_line
from judgelm.jsonl import Line, LineFile, dump_line, holds_lines, id_key
from judgelm.labelling.people import same_name
from judgelm.labelling.rows import Row

LABELLED = "what was labelled"
Choice = Annotated[int, Field(ge=0, le=2)] | Literal["skip"] | None
"""the better answer, 0 for neither, or a row that is passed over; None takes back what was said before"""


class VoteRecord(Section):
    """A line of the file in which votes are kept."""

    question_id: int | str
    texts: str
    """the beginning of the sha256 of the texts that were shown"""
    annotator: str
    """name of the person"""
    label: Choice
    """the better answer in the file's order, 0: neither, skip: passed over, null: what was said before is taken back"""
    reason: str | None
    """in the person's words"""
    shown: Literal["forward", "reversed"]
    """in which order the person saw the answers"""
    time: float
    """in seconds since 1970"""


class Votes:
    """The votes on some rows, and the file that keeps them.

    Raises InputError for a file that is damaged, or has votes on other rows. All may be called by several threads.
    """

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._standing: dict[str, dict[str, VoteRecord]] = {}
        """by person and row, the newest at the end"""
        self._names: dict[str, str] = {}
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(contextlib.closing(AppendedFile(path, LABELLED)))
            by_key = {row.sample.key: row for row in rows}
            for line in LineFile(path, ours=True) if holds_lines(path) else ():
                vote = read_record(VoteRecord, line.record, line.where, "a vote of judgelm label")
                self._take(_row_of(vote, by_key, line), vote)
            opened.pop_all()

    def name_of(self, person: str) -> str:
        """As the person wrote it the first time."""
        return self._names.get(same_name(person), person)

    @property
    def people(self) -> list[str]:
        """Those who have said something, in the order in which they came."""
        with self._lock:
            return list(self._names.values())

    def of(self, person: str) -> dict[str, VoteRecord]:
        """By row: a person's standing votes, the newest at the end."""
        with self._lock:
            return dict(self._standing.get(same_name(person), {}))

    def on(self, row: Row) -> list[VoteRecord]:
        """What each person says of a row."""
        with self._lock:
            return [votes[row.token] for votes in self._standing.values() if row.token in votes]

    def add(self, row: Row, vote: VoteRecord) -> None:
        """Keep a vote; once this returns it outlives any end. Raises InputError where the disk does not take it."""
        with self._lock:
            self._file.append(dump_line(vote.to_record()).encode())
            self._file.sync()
            self._take(row, vote)

    def close(self) -> None:
        self._file.close()

    def _take(self, row: Row, vote: VoteRecord) -> None:
        self._names.setdefault(same_name(vote.annotator), vote.annotator)
        votes = self._standing.setdefault(same_name(vote.annotator), {})
        votes.pop(row.token, None)
        if vote.label is not None:
            votes[row.token] = vote


def _row_of(vote: VoteRecord, rows: Mapping[str, Row], line: Line) -> Row:
    """Raises InputError where the votes belong to another file of pairs."""
    key = id_key(vote.question_id)
    row = rows.get(key)
    found = "no row of that id" if row is None else f"one of sha256 {row.texts}"
    if row is None or row.texts != vote.texts:
        what = f"a vote on other texts of question_id {one_line(key)}: expected a row of sha256 {one_line(vote.texts)}"
        raise InputError(f"{line.where}: {what}, found {found} (another file of pairs takes another --output)")
    return row
