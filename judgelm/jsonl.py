"""Rows of JSON, read from any file that holds them and written as strict JSON Lines; an error names file and line."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import weakref
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, overload

from judgelm.errors import InputError, encodable
from judgelm.files import unpack, write_text
from judgelm.hub import find_file
from judgelm.json_text import FINITE, LENIENT, begins_document, check_object, parse_object, read_document, wrapped_rows
from judgelm.tables import read_table

Record = dict[str, Any]


class Line(NamedTuple):
    """One JSON object and the place it came from."""

    record: Record
    path: Path
    number: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"


Form = Callable[[Line, int], Record]
"""a line and its index, 0 being the first row -> the row as it is read here"""


def read_lines(path: str | os.PathLike[str], finite: bool = True) -> Iterator[Line]:
    """Yield each row of a file; see `LineFile`, whose errors come with the first row that is asked for."""
    yield from LineFile(path, finite)


class LineFile(Sequence[Line]):
    """The rows of a file: JSON Lines, one JSON list, or a table (`read_table`), plain or packed with gzip; or of a data
    set on the hub (`find_file`).

    JSON Lines are parsed anew each time one is asked for, so that a file of any size needs no memory; blank lines are
    passed over. All else is held: a list (also under one name, as in {"data": [..]}, or objects over several lines), of
    which the rows are numbered, and a table, in which the cells of the columns `texts` stay text. `finite` False reads
    NaN and infinite numbers, which are no JSON, as null; `ours` takes nothing but plain JSON Lines, of which the last
    may be half. `form` makes our own row of each, told its index.
    Raises InputError on opening for a file that cannot be read or holds nothing, later for a row that is not a JSON
    object, and where JSON Lines have another content by then.
    """

    def __init__(
        self, path: str | os.PathLike[str], finite: bool = True, ours: bool = False, texts: Collection[str] = ()
    ) -> None:
        self.path = Path(path).expanduser() if ours else find_file(path)
        self.form: Form | None = None
        self._finite = finite
        self.places = array("q")
        """the byte at which each line begins"""
        self._numbers = array("q")
        self._held: list[Any] | None = None
        with reading(self.path):
            self._open(packed=not ours)
            self.size = self._file.seek(0, os.SEEK_END)
            """bytes, unpacked"""
            self._file.seek(0)
            if not ours and (table := read_table(self._file, self.path, texts)):
                self._held, self._numbers = table
            else:
                self._find_rows(self._file, ours)

    def _find_rows(self, file: IO[bytes], ours: bool) -> None:
        content = hashlib.sha256()
        begin = 0
        for number, raw in enumerate(file, start=1):
            if _holds_something(raw):
                if not ours and not self.places and begins_document(raw):
                    file.seek(begin)
                    self._hold(read_document(file.read(), self.path, number, self._decoder))
                    return
                self.places.append(begin)
                self._numbers.append(number)
            begin += len(raw)
            content.update(raw)
        self.size = begin
        self.content = content.digest()
        """sha256 of JSON Lines"""
        if not self.places:
            raise InputError(f"{self.path}: the file is empty, expected one JSON object a line")
        if len(self.places) == 1 and not ours:
            with contextlib.suppress(InputError):
                self._hold(wrapped_rows(self[0].record))

    def _hold(self, rows: list[Any] | None) -> None:
        """Keep the rows of a list, which are numbered."""
        if rows is not None:
            self._held, self._numbers = rows, array("q", range(1, len(rows) + 1))

    @property
    def _decoder(self) -> json.JSONDecoder:
        return FINITE if self._finite else LENIENT

    def _open(self, packed: bool) -> None:
        """Open the file, or what it packs, as long as this object lives: whoever replaces it does not disturb."""
        self._state = _state(self.path.stat())
        unpacked = unpack(self.path) if packed else None
        self._is_plain = unpacked is None
        self._file = unpacked or self.path.open("rb")
        weakref.finalize(self, self._file.close)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file anew."""
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._held is None:
            self._open(packed=not self._is_plain)
            self._state = state["_state"]

    def __len__(self) -> int:
        return len(self.places) if self._held is None else len(self._held)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...
    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return list(self.select(range(*index.indices(len(self)))))
        return next(self.select([range(len(self))[index]]))

    def __iter__(self) -> Iterator[Line]:
        return self.select(range(len(self)))

    def select(self, rows: Iterable[int]) -> Iterator[Line]:
        """The rows with these indices, in this order."""
        return (parse() for parse in self.unparsed(rows))

    def unparsed(self, rows: Iterable[int]) -> Iterator[Callable[[], Line]]:
        """The same, each parsed as often as it is called; that the file is still the same is seen without."""
        if self._held is not None:
            return (functools.partial(self._read_held, row) for row in rows)
        return (functools.partial(self.parse, row, raw) for row, raw in self.select_raw(rows))

    def _read_held(self, row: int) -> Line:
        assert self._held is not None
        number = self._numbers[row]
        return self._made(Line(check_object(self._held[row], f"{self.path}:{number}"), self.path, number), row)

    def _made(self, line: Line, row: int) -> Line:
        return line if self.form is None else line._replace(record=self.form(line, row))

    def parse(self, row: int, raw: bytes) -> Line:
        """A line of `select_raw`."""
        number = self._numbers[row]
        return self._made(Line(parse_object(raw, f"{self.path}:{number}", self._decoder), self.path, number), row)

    def select_raw(self, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of the lines with these indices, in this order."""
        for row in rows:
            yield row, self._read(row)

    def _read(self, row: int) -> bytes:
        """A line, from its place: processes that were forked from one another share how far a file was read."""
        begin = self.places[row]
        end = self.places[row + 1] if row + 1 < len(self.places) else self.size
        with reading(self.path):
            raw = os.pread(self._file.fileno(), end - begin, begin)
            self._check_unchanged()
        return raw[: raw.find(b"\n") + 1 or None]

    def _check_unchanged(self) -> None:
        """A file that was written again as it was is still the same."""
        if not self._is_plain or (state := _state(os.fstat(self._file.fileno()))) == self._state:
            return
        content, place = hashlib.sha256(), 0
        while block := os.pread(self._file.fileno(), 1 << 20, place):
            content.update(block)
            place += len(block)
        if content.digest() != self.content:
            raise InputError(f"{self.path}: the file was changed while it was in use")
        self._state = state


def _state(found: os.stat_result) -> tuple[int, ...]:
    """What differs once a file was written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def holds_lines(path: Path) -> bool:
    """Whether a file is there and not blank. Raises InputError for one that cannot be read, or is no file."""
    with reading(path):
        if not path.exists():
            return False
        if not path.is_file():
            raise InputError(f"{path}: expected a file")
        with path.open("rb") as file:
            return any(map(_holds_something, file))


def _holds_something(raw: bytes) -> bool:
    return raw.strip() not in (b"", b"\xef\xbb\xbf")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """An error of the disk becomes one line."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: str | os.PathLike[str], finite: bool = False) -> Record:
    """Read a file that holds one JSON object, such as MM-Vet's ground truth; `finite` as in `LineFile`."""
    path = Path(path).expanduser()
    with reading(path):
        content = path.read_bytes()
    return parse_object(content, str(path), FINITE if finite else LENIENT, many_lines=True)


def index_by_id(lines: Iterable[Line]) -> dict[str, Line]:
    """Map `id_key(question_id)` to its line.

    Raises InputError for a missing, ill-typed or double id.
    """
    return {id_key(line.record["question_id"]): line for line in check_ids(lines)}


def check_ids(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines as they come. Raises InputError for a missing, ill-typed or double id."""
    numbers: dict[str, int] = {}
    for line in lines:
        key = id_key(read_id(line))
        if key in numbers:
            raise InputError(f"{line.where}: question_id {key} stands already in line {numbers[key]}")
        numbers[key] = line.number
        yield line


def read_id(line: Line, field: str = "question_id") -> int | str:
    """An id as it is kept: 17.0, as tables write whole numbers, is 17. Raises InputError for one that is none."""
    value = line.record.get(field)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    found: int | str = require(line, field, (int, str))
    if isinstance(found, str) and not encodable(found):
        raise InputError(f"{line.where}: field {field!r} has half a surrogate pair, which is no text")
    return found


def id_key(question_id: int | float | str) -> str:
    """The id under which files are joined: 17, 17.0 and "17" are the same question."""
    if isinstance(question_id, float) and question_id.is_integer():
        return str(int(question_id))
    return str(question_id)


def id_order(key: str) -> tuple[int, int, str]:
    """Sort key for ids: whole numbers by value, then everything else by text."""
    try:
        return (0, int(key), key)
    except ValueError:
        return (1, 0, key)


def require(line: Line, field: str, kinds: type | tuple[type, ...] = ()) -> Any:
    """The value of a field; raises InputError where it is missing or of another type, if any is named."""
    if field not in line.record:
        found = ", ".join(list(line.record)[:8]) or "no fields"
        raise InputError(f"{line.where}: field {field!r} is missing (found: {found})")
    value = line.record[field]
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if kinds and (isinstance(value, bool) or not isinstance(value, kinds)):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{line.where}: field {field!r} must be {names}, found {type(value).__name__}")
    return value


def read_text(line: Line, field: str) -> str:
    """A question or an answer; JSON's true, false and numbers are their text, as Python writes it: "True", "4".

    Raises InputError where the field is missing or holds anything else.
    """
    value = line.record.get(field)
    if isinstance(value, bool | int | float):
        return str(value)
    text: str = require(line, field, str)
    return text


def read_reference(line: Line) -> str:
    """The text of the row's `reference: {"text": ..}`; raises InputError where the row has none, or another form."""
    reference = require(line, "reference")
    if not isinstance(reference, dict):
        kind = type(reference).__name__
        raise InputError(f"{line.where}: field 'reference' must be {{\"text\": ..}}, found {kind}")
    return read_text(line._replace(record=reference), "text")


def dump_line(record: Mapping[str, Any]) -> str:
    """One record as one line, newline included; half a surrogate pair, which UTF-8 cannot hold, stays escaped."""
    return dump_value(record) + "\n"


def dump_value(value: Any) -> str:
    """Any value on one line, half a surrogate pair escaped."""
    text = dump_json(value)
    return text if encodable(text) else dump_json(value, ensure_ascii=True)


def dump_json(value: Any, **how: Any) -> str:
    """Strict JSON, `how` being arguments of `json.dumps`: a number that is not finite is null."""
    how = {"ensure_ascii": False, "allow_nan": False, **how}
    try:
        return json.dumps(value, **how)
    except ValueError:
        return json.dumps(_finite(value), **how)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_lines(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, whole and then renamed."""
    write_text(path, map(dump_line, records))
