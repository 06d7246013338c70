"""Rows -> a file of any format that is read: JSON Lines, a JSON list, CSV, TSV or Parquet, packed with gzip or not."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from judgelm.errors import InputError, encodable
from judgelm.files import PathLike, write_file
from judgelm.jsonl import Record, dump_line, dump_value
from judgelm.tables import JSON_COLUMN, holds_text, mark_cell

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")
_NEVER_EMPTY = re.compile(r"question(_body)?|answer(\d+_body)?|text(_w_reference)?")
"""fields of which an empty text says something else than none"""
_ROWS_AT_ONCE = 1024
_WHOLE_AS_FLOAT = 1 << 53
_WHOLE = 1 << 63

Rows = Callable[[], Iterable[Record]]
"""the rows, from the first, as often as it is called"""


def find_format(path: PathLike) -> str:
    """The one of `FORMATS` that a file's name ends in, also before `.gz`; raises InputError for another ending."""
    ending = _ending(path)
    if ending not in FORMATS:
        endings = ", ".join(f".{each}" for each in FORMATS)
        raise InputError(f"{path}: expected a name that ends in {endings}, or in one of these and .gz")
    return ending


def has_format(path: PathLike) -> bool:
    """Whether `find_format` knows a file by its name."""
    return _ending(path) in FORMATS


def _ending(path: PathLike) -> str:
    return Path(Path(path).name.casefold().removesuffix(".gz")).suffix.removeprefix(".")


def write_rows(path: PathLike, rows: Rows) -> list[str]:
    """Write rows in the format of the file's name, whole or not at all; give their fields, the id first.

    What is read of it again is the same, but that all rows of a table have all fields, null where there was none, that
    true and false are words in CSV, and that a number among texts is text.
    Raises InputError for what a format cannot hold, and where nothing can be written.
    """
    path, kind = Path(path).expanduser(), find_format(path)
    fields: dict[str, _Column] = {}

    def write(file: IO[bytes]) -> None:
        if kind in ("jsonl", "json"):
            file.writelines(_json_lines(rows(), kind == "json", fields))
            return
        count = _look_at(rows(), fields)
        if kind == "parquet":
            _write_parquet(file, rows(), fields)
        else:
            _check_cells(fields, count, path)
            _write_cells(file, rows(), fields, "," if kind == "csv" else "\t")

    def pack(file: IO[bytes]) -> None:
        # without a name and a time in it: the same rows are the same bytes
        with gzip.GzipFile("", "wb", 6, file, 0) as packed:
            write(cast(IO[bytes], packed))

    write_file(path, pack if path.name.casefold().endswith(".gz") else write)
    return _in_order(fields)


def _in_order(fields: Iterable[str]) -> list[str]:
    return sorted(fields, key=lambda name: name != "question_id")


@dataclass(slots=True)
class _Column:
    """What stands in a field of all rows."""

    kinds: set[str] = field(default_factory=set)
    """of values that are not null"""
    count: int = 0
    """of those"""

    def add(self, value: Any) -> None:
        if value is not None:
            self.count += 1
            self.kinds.add(_kind(value))

    @property
    def kind(self) -> str:
        """The one type that holds them all."""
        if not self.kinds:
            return "text"
        if self.kinds <= {"int", "long"}:
            return "int"
        if self.kinds <= {"int", "float"}:
            return "float"
        if self.kinds == {"ints", "floats"}:
            return "floats"
        return next(iter(self.kinds)) if len(self.kinds) == 1 else "json"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= _WHOLE_AS_FLOAT else "long" if -_WHOLE <= value < _WHOLE else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list) and {_kind(each) for each in value} <= {"int", "float"}:
        return "floats" if any(isinstance(each, float) for each in value) else "ints"
    if isinstance(value, list) and all(map(_is_message, value)):
        return "messages"
    return "text" if isinstance(value, str) and encodable(value) else "json"


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"role", "content"}
        and all(isinstance(text, str) and encodable(text) for text in value.values())
    )


def _look_at(rows: Iterable[Record], fields: dict[str, _Column]) -> int:
    """Find the fields of all rows; gives the number of rows."""
    count = 0
    for row in rows:
        count += 1
        for name, value in row.items():
            fields.setdefault(name, _Column()).add(value)
    return count


def _json_lines(rows: Iterable[Record], as_list: bool, fields: dict[str, _Column]) -> Iterator[bytes]:
    """Lines of JSON, or those of a list."""
    begin = "["
    for row in rows:
        fields.update(dict.fromkeys(row, _Column()))
        line = dump_line(row)
        yield (f"{begin}\n{line[:-1]}" if as_list else line).encode()
        begin = ","
    if as_list:
        yield b"\n]\n"


def _write_parquet(file: IO[bytes], rows: Iterable[Record], fields: Mapping[str, _Column]) -> None:
    """A column each, of messages with their role and content; one of several types, or of other objects, holds JSON and
    says so.
    """
    import pyarrow
    from pyarrow import parquet

    types = {
        **{"text": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()},
        **{"ints": pyarrow.list_(pyarrow.int64()), "floats": pyarrow.list_(pyarrow.float64())},
        "messages": pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])),
        "json": pyarrow.string(),
    }
    kinds = {name: fields[name].kind for name in _in_order(fields)}
    schema = pyarrow.schema(
        [
            pyarrow.field(name, types[kind], metadata=dict([JSON_COLUMN]) if kind == "json" else None)
            for name, kind in kinds.items()
        ]
    )
    whole = pyarrow.PythonFile(file, mode="w")
    remaining = iter(rows)
    with parquet.ParquetWriter(whole, schema) as writer:
        while some := list(itertools.islice(remaining, _ROWS_AT_ONCE)):
            columns = [[_as_typed(row.get(name), kind) for row in some] for name, kind in kinds.items()]
            arrays = [pyarrow.array(each, schema.field(k).type) for k, each in enumerate(columns)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _as_typed(value: Any, kind: str) -> Any:
    if value is None or kind not in ("json", "float"):
        return value
    return float(value) if kind == "float" else dump_value(value)


def _check_cells(fields: Mapping[str, _Column], count: int, path: Path) -> None:
    """Raises InputError for what no table of cells can say."""
    for name, column in fields.items():
        if name != name.strip() or not name or not encodable(name):
            raise InputError(f"{path}: a field has the name {name!r}, which no column can have; .jsonl and .parquet do")
        if column.count < count and _NEVER_EMPTY.fullmatch(name):
            said = f"{count - column.count} of {count} rows have no {name}, which in a cell would be an empty text"
            raise InputError(f"{path}: {said}; .jsonl and .parquet can say so")


def _write_cells(file: IO[bytes], rows: Iterable[Record], fields: Mapping[str, _Column], delimiter: str) -> None:
    names = _in_order(fields)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow([mark_cell(name, "text") for name in names])
    for row in rows:
        writer.writerow([_as_cell(row.get(name), name) for name in names])
    text.detach()


def _as_cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        if not encodable(value):
            raise InputError(f"field {name!r} has half a surrogate pair, which no table can hold; .jsonl can")
        return mark_cell(value, name)
    if _NEVER_EMPTY.fullmatch(name) and isinstance(value, list) and all(isinstance(part, dict) for part in value):
        raise InputError(f"field {name!r} has images, whose parts in a cell would be a text; .jsonl and .parquet can")
    if holds_text(name) and not isinstance(value, list | dict):
        return str(value)
    return dump_value(value)
