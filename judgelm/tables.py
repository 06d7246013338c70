"""Tables -> rows as JSON knows them: Parquet, and CSV or TSV, whose cells are text."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from array import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from judgelm.errors import InputError, one_line
from judgelm.json_text import FINITE, LENIENT, check_depth

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_TEXT = re.compile(
    r"(question|answer|response|output|completion)(_?\d+)?(_body)?|(question|answer)_?text|instruction|input|prompt|"
    r"chosen|rejected|reference(_answer)?|gold|text(_w_reference)?|pred_text"
)
"""columns whose cells stay the text that they are: "007", "[1, 2]" and "true" may be somebody's answer"""
_FORMULA = "=+-@\t\r"
"""how a cell begins that a spreadsheet takes for a formula; an apostrophe before it says that it is text"""
_MOST_HELD = 4 << 30
"""bytes, about, of a table that is held: a few of Parquet's can stand for any number of them"""
_OF_A_CELL = 64
"""bytes for a cell beside its text"""
_ROWS_AT_ONCE = 64
JSON_COLUMN = (b"judgelm", b"json")
"""what a Parquet column says of itself whose cells are JSON, as no column has two types"""
_LONGEST_CELL = (1 << 31) - 1
"""the module's own limit of 131,072 characters is less than a long answer has"""


class Table(NamedTuple):
    """The rows of a table, each with the number of its line, or of the row itself where there are no lines.

    One that cannot be read is an InputError, for whoever asks for it.
    """

    rows: list[Any]
    numbers: array[int]


def read_table(file: IO[bytes], path: Path, texts: Collection[str] = ()) -> Table | None:
    """What the table in a file holds; None for a file that is none, which is then as it was.

    Parquet is known by its content; CSV and TSV by how the file's name ends, also before `.gz`. Of these the first line
    names the columns. A cell is text; where its column is not one of question, answers or `texts`, a number, a list or
    an object in it is what JSON says, and an empty cell is null. The apostrophe of `mark_cell` is taken away.
    Raises InputError for a table that cannot be read or is empty.
    """
    begin = file.read(4)
    file.seek(0)
    if begin == b"PAR1":
        rows = _read_parquet(file, path)
        table = Table(rows, array("q", range(1, len(rows) + 1)))
    elif delimiter := _DELIMITERS.get(Path(path.name.casefold().removesuffix(".gz")).suffix):
        table = _read_cells(file, path, delimiter, texts)
    else:
        return None
    if not table.rows:
        raise InputError(f"{path}: the table is empty")
    return table


def _read_parquet(file: IO[bytes], path: Path) -> list[dict[str, Any]]:
    """A date is text, a number that is not finite null, as tables write a missing one."""
    from pyarrow import ArrowException, parquet

    rows, size = [], 0
    try:
        found = parquet.ParquetFile(file)
        packed = [field.name for field in found.schema_arrow if (field.metadata or {}).get(JSON_COLUMN[0])]
        for batch in found.iter_batches(_ROWS_AT_ONCE):
            _check_size(size + batch.nbytes, path)
            for row in batch.to_pylist():
                text = json.dumps(row, default=str)
                size += len(text) + _OF_A_CELL * (1 + len(row))
                _check_size(size, path)
                read = LENIENT.decode(text)
                rows.append(read | {name: _unpack(read[name], path) for name in packed})
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({one_line(str(error))})") from None
    return rows


def _unpack(text: str | None, path: Path) -> Any:
    """A value that `judgelm convert` wrote as JSON. Raises ValueError."""
    if text is None:
        return None
    try:
        value = FINITE.decode(text)
    except RecursionError:
        raise ValueError("a cell is nested too deeply") from None
    check_depth(value, str(path))
    return value


def _check_size(size: int, path: Path) -> None:
    if size > _MOST_HELD:
        raise InputError(
            f"{path}: the table takes more than {_MOST_HELD >> 20} MiB: JSON Lines of any size can be read"
        )


def _read_cells(file: IO[bytes], path: Path, delimiter: str, texts: Collection[str]) -> Table:
    csv.field_size_limit(_LONGEST_CELL)
    _check_size(file.seek(0, os.SEEK_END), path)
    file.seek(0)
    lines = csv.reader(io.StringIO(_decode(file.read(), path), newline=""), delimiter=delimiter, strict=True)
    table = Table([], array("q"))
    try:
        columns = _read_names(next(lines, []), path)
        readers = [_choose_reader(name, texts) for name in columns]
        number = lines.line_num + 1
        for cells in lines:
            if cells:
                table.rows.append(_read_row(columns, cells, readers, f"{path}:{number}"))
                table.numbers.append(number)
            number = lines.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{lines.line_num}: not a table that can be read ({error})") from None
    return table


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 (byte {error.start + 1} of the file)") from None


def _read_names(names: Sequence[str], path: Path) -> list[str]:
    """The columns' names; raises InputError where there is none, or two have the same."""
    found = [_unmark_text(name.strip()) for name in names]
    twice = next((name for k, name in enumerate(found) if name in found[:k]), None)
    if not any(found):
        raise InputError(f"{path}: the file is empty, expected the names of columns in the first line")
    if twice is not None:
        raise InputError(f"{path}:1: two columns have the name {twice!r}")
    return found


def _choose_reader(column: str, texts: Collection[str]) -> Callable[[str, str], Any]:
    if column == "reference" and column not in texts:
        return _read_reference
    return _unmark_text if holds_text(column, texts) else _read_cell


def _read_row(
    columns: Sequence[str], cells: Sequence[str], readers: Sequence[Callable[[str, str], Any]], where: str
) -> Any:
    if len(cells) != len(columns):
        return InputError(f"{where}: expected {len(columns)} cells, as the first line has, found {len(cells)}")
    named = zip(columns, cells, readers, strict=True)
    try:
        return {name: read(cell, where) for name, cell, read in named}
    except InputError as error:
        return error


def _read_cell(cell: str, where: str = "") -> Any:
    """A number as JSON writes it, a list or an object; all else is text: 007 and true are words here."""
    if not cell:
        return None
    if cell[0] == "'":
        return cell[1:] if _is_marked(cell) else cell
    if cell[0] not in "[{-0123456789":
        return cell
    try:
        value = FINITE.decode(cell)
    except (ValueError, RecursionError):
        return cell
    if not isinstance(value, list | dict):
        return value if json.dumps(value) == cell else cell
    check_depth(value, where)
    return value


def holds_text(column: str, texts: Collection[str] = ()) -> bool:
    """Whether all cells of a column stay the text that they are."""
    return column in texts or bool(_TEXT.fullmatch(column))


def mark_cell(text: str, column: str) -> str:
    """A text as it stands in a cell: with an apostrophe before it where it would be taken for something else.

    By a spreadsheet for a formula, or, in a column that is not one of texts, by `read_table` for a number, a list or
    null.
    """
    marked = "'" + text
    return marked if (_unmark_text(marked) if holds_text(column) else _read_cell(marked)) == text else text


def _is_marked(cell: str) -> bool:
    """Whether the apostrophe with which a cell begins is none of its text."""
    bare = cell.lstrip("'")
    try:
        return not bare or bare[0] in _FORMULA or _read_cell(bare) is not bare
    except InputError:
        return True


def _unmark_text(cell: str, where: str = "") -> str:
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'")[:1] in tuple(_FORMULA) else cell


def _read_reference(cell: str, where: str) -> Any:
    """An object with the text, as our own rows have it, or a text; an empty one is none."""
    if not cell.startswith("{"):
        return _unmark_text(cell) or None
    found = _read_cell(cell, where)
    return found if isinstance(found, dict) and "text" in found else cell
