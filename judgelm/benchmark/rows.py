"""Rows of a file as others publish them: all that `LineFile` reads, and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from judgelm.errors import InputError
from judgelm.jsonl import Line, LineFile, dump_json

Made = TypeVar("Made")


class Rows:
    """Rows of one or more files, read one after another; those that cannot be read are set aside."""

    def __init__(self) -> None:
        self.count = 0
        """of all rows so far"""
        self.odd: list[str] = []
        """what is wrong with the rows set aside, each with its place"""

    def read(self, path: Path, make: Callable[[Line], Made]) -> Iterator[tuple[int, Made]]:
        """What is made of each row that can be read, with its place among all rows, 0 being the first.

        Raises InputError for a file that cannot be read, and where `make` can make nothing of any of its rows.
        """
        lines, before = read_rows(path), len(self.odd)
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


def read_rows(path: Path) -> LineFile:
    """The rows, each with its place: in a list or a Parquet file the number of the row.

    Raises InputError on opening for a file that cannot be read, later for a row that is not a JSON object.
    """
    return LineFile.holding(path, _read_parquet(path)) if _is_parquet(path) else LineFile(path)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(4) == b"PAR1"
    except OSError:
        # whoever opens it next says why
        return False


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    """Rows of what JSON knows: a date is text, a number that is not finite null, as tables write a missing one."""
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from None
    if not rows:
        raise InputError(f"{path}: the table is empty")
    return [json.loads(dump_json(row, default=str)) for row in rows]
