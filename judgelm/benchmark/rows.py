"""Rows of files as others publish them, of which some may be odd."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from judgelm.errors import InputError
from judgelm.jsonl import Line, LineFile

Made = TypeVar("Made")


class Rows:
    """Rows of one or more files, read one after another; those that cannot be read are set aside."""

    def __init__(self) -> None:
        self.count = 0
        """of all rows so far"""
        self.odd: list[str] = []
        """what is wrong with the rows set aside, each with its place"""

    def read(
        self, path: Path, make: Callable[[Line], Made], rows: Sequence[Line] | None = None
    ) -> Iterator[tuple[int, Made]]:
        """What is made of each row that can be read, with its place among all rows, 0 being the first.

        `rows` are those of a file that holds more than rows. Raises InputError for a file that cannot be read, and
        where `make` can make nothing of any of its rows.
        """
        lines, before = LineFile(path) if rows is None else rows, len(self.odd)
        for row in range(len(lines)):
            self.count += 1
            try:
                made = make(lines[row])
            except InputError as error:
                self.odd.append(str(error))
            else:
                yield self.count - 1, made
        if len(self.odd) - before == len(lines):
            raise InputError(self.odd[before])
