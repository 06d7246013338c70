"""A labelling: rows, the people who label them, and what they said so far."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.errors import InputError
from judgelm.files import PathLike, locked
from judgelm.forms import Columns
from judgelm.hub import find_file
from judgelm.labelling.labels import check_output, write_labels
from judgelm.labelling.people import MOST_PEOPLE, People, keep_secret, read_people, same_name
from judgelm.labelling.picking import pick_blocks
from judgelm.labelling.rows import Row, arrange, read_rows
from judgelm.labelling.votes import Choice, VoteRecord, Votes

_MOST_KEPT = 64
"""people whose order of rows is kept in memory"""
_EXCHANGED: Mapping[Any, Choice] = {1: 2, 2: 1}


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """What is labelled, by whom, and where the labels go."""

    pairs: PathLike
    output: PathLike
    reference_file: PathLike | None = None
    columns: Columns | None = None
    pick: tuple[PathLike, ...] = ()
    """folders of judges: rows whose label says most come first, see `pick_blocks`"""
    people: tuple[str, ...] = ()
    """who may label, each by a link of their own; nobody: all may, under a name that they choose"""


@dataclass(frozen=True, slots=True)
class Place:
    """A row as one person is asked for it."""

    row: Row
    order: str
    """forward or reversed"""
    number: int
    """its place among the person's rows, from 1"""
    vote: VoteRecord | None
    """what the person said of it"""

    @property
    def choice(self) -> Choice:
        """That as the person saw it: 1 is the answer that was shown first."""
        label = self.vote.label if self.vote else None
        return label if self.order == "forward" else _EXCHANGED.get(label, label)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a person is."""

    total: int
    done: int
    """rows that the person said something of, those passed over included"""
    skipped: int
    last: str | None
    """the row that the person said something of last"""


class Labelling:
    """What a page of labels needs; may be called by several threads."""

    def __init__(self, rows: Sequence[Row], votes: Votes, output: Path, blocks: Mapping[str, int]) -> None:
        self.rows = rows
        self.votes = votes
        self.output = output
        self._blocks = blocks
        self._writing = threading.Lock()
        self._places = functools.lru_cache(_MOST_KEPT)(self._arrange)

    def _arrange(self, person: str) -> tuple[list[Row], dict[str, int]]:
        """A person's rows in their order, and the index of each by token."""
        rows = arrange(self.rows, self._blocks, person)
        return rows, {row.token: place for place, row in enumerate(rows)}

    def progress(self, person: str) -> Progress:
        votes = self.votes.of(person)
        skipped = sum(vote.label == "skip" for vote in votes.values())
        return Progress(len(self.rows), len(votes), skipped, next(reversed(votes), None))

    def open_row(self, person: str) -> Place | None:
        """The first row of which the person said nothing."""
        votes = self.votes.of(person)
        return self._first(person, lambda row: row.token not in votes)

    def skipped_row(self, person: str) -> Place | None:
        """The first row that the person passed over."""
        votes = self.votes.of(person)
        return self._first(person, lambda row: row.token in votes and votes[row.token].label == "skip")

    def _first(self, person: str, holds: Callable[[Row], bool]) -> Place | None:
        row = next((row for row in self._places(person)[0] if holds(row)), None)
        return None if row is None else self.place(person, row.token)

    def place(self, person: str, token: str, steps: int = 0) -> Place | None:
        """A row of the person's, or the one so many places behind it; None where there is none."""
        rows, index = self._places(person)
        if token not in index or not 0 <= index[token] + steps < len(rows):
            return None
        place = index[token] + steps
        row = rows[place]
        return Place(row, row.order_for(person), place + 1, self.votes.of(person).get(row.token))

    def save(self, person: str, place: Place, choice: Choice, reason: str) -> None:
        """Keep what a person says of a row, as the person saw it. Raises InputError where it cannot be kept, and for
        one person too many.
        """
        people = {same_name(name) for name in self.votes.people}
        if same_name(person) not in people and len(people) >= MOST_PEOPLE:
            raise InputError(f"{MOST_PEOPLE} people label here already")
        vote = VoteRecord(
            question_id=place.row.sample.question_id,
            texts=place.row.texts,
            annotator=self.votes.name_of(person),
            label=choice if place.order == "forward" else _EXCHANGED.get(choice, choice),
            reason=reason.strip() or None,
            shown="forward" if place.order == "forward" else "reversed",
            time=time.time(),
        )
        self.votes.add(place.row, vote)

    def write(self) -> None:
        """The file of labels. Raises InputError where it cannot be written."""
        # one after the other, so that the newest labels are written last
        with self._writing:
            write_labels(self.output, self.rows, self.votes)


@contextlib.contextmanager
def open_labelling(settings: LabelSettings) -> Iterator[Labelling]:
    """A labelling that goes on where it ended; its labels are written at the start and at the end.

    The votes are kept beside the output, as its name and `.votes`. Raises InputError for rows that cannot be labelled,
    an output that belongs to others, and while another process writes there.
    """
    output = Path(settings.output).expanduser()
    kept = votes_file(output)
    rows = read_rows(settings.pairs, settings.reference_file, settings.columns)
    pairs = find_file(settings.pairs)
    if any(place.resolve() == pairs.resolve() for place in (output, kept)):
        raise InputError(f"--output {output}: expected another file than the pairs, which it would replace")
    with locked(kept):
        check_output(output, kept)
        votes = Votes(kept, rows)
        with contextlib.closing(votes):
            blocks = pick_blocks(rows, settings.pick, votes) if settings.pick else {}
            labelling = Labelling(rows, votes, output, blocks)
            if votes.people:
                labelling.write()
            try:
                yield labelling
            finally:
                if votes.people:
                    labelling.write()


def votes_file(output: PathLike) -> Path:
    """Where the votes are kept that make these labels."""
    path = Path(output).expanduser()
    return path.with_name(path.name + ".votes")


def invite(settings: LabelSettings) -> People:
    """Those who may label; the secret of their tokens is kept beside the output, as its name and `.secret`.

    Raises InputError for names that are none or stand there twice.
    """
    names = read_people(settings.people)
    output = Path(settings.output).expanduser()
    return People.invited(names, keep_secret(output.with_name(output.name + ".secret"))) if names else People()
