"""Rows of JSON, read from any file that holds them and written as strict JSON Lines; an error names file and line."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import weakref
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, overload

from judgelm.errors import InputError
from judgelm.files import write_text

Record = dict[str, Any]
_DEEPEST = 100
"""lists and objects within one another: what is nested deeper could be read, and then not be written again"""
_SPACE = re.compile(r"[ \t\n\r]*")
_WRAPPERS = ("data", "rows", "examples", "samples", "items", "records", "questions", "instances")
"""names under which a file of one object keeps its rows"""
_MOST_UNPACKED = 16 << 30
"""bytes that a gzip file may unpack to; half of the free space of the temporary folder is a bound too"""


class Line(NamedTuple):
    """One JSON object and the place it came from."""

    record: Record
    path: Path
    number: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"


def read_lines(path: str | os.PathLike[str], finite: bool = True) -> Iterator[Line]:
    """Yield each row of a file; see `LineFile`, whose errors come with the first row that is asked for."""
    yield from LineFile(path, finite)


class LineFile(Sequence[Line]):
    """The rows of a file of JSON objects: JSON Lines, or one JSON list, plain or packed with gzip.

    JSON Lines are parsed anew each time one is asked for, so that a file of any size needs no memory; blank lines are
    passed over. A list (also under one name, as in {"data": [..]}, or objects over several lines) is held, and its
    rows are numbered. `finite` False reads NaN and infinite numbers, which are no JSON, as null; `ours` takes nothing
    but plain JSON Lines, of which the last may be half.
    Raises InputError on opening for a file that cannot be read or holds nothing, later for a row that is not a JSON
    object, and where JSON Lines have another content by then.
    """

    def __init__(self, path: str | os.PathLike[str], finite: bool = True, ours: bool = False) -> None:
        self.path = Path(path).expanduser()
        self._finite = finite
        self._places = array("q")
        self._numbers = array("q")
        self._held: list[Any] | None = None
        with reading(self.path):
            self._open(unpack=not ours)
            self._find_rows(self._file, ours)

    @classmethod
    def holding(cls, path: Path, rows: Sequence[Any]) -> LineFile:
        """Rows that something else has read from a file."""
        lines = cls.__new__(cls)
        lines.path, lines._held = path, list(rows)
        return lines

    def _find_rows(self, file: IO[bytes], ours: bool) -> None:
        content = hashlib.sha256()
        begin = 0
        for number, raw in enumerate(file, start=1):
            if _holds_something(raw):
                if not ours and not self._places and _begins_document(raw):
                    file.seek(begin)
                    self._held = _read_document(file.read(), self.path, number, _DECODERS[self._finite])
                    return
                self._places.append(begin)
                self._numbers.append(number)
            begin += len(raw)
            content.update(raw)
        self._end = begin
        self._content = content.digest()
        if not self._places:
            raise InputError(f"{self.path}: the file is empty, expected one JSON object a line")
        if len(self._places) == 1 and not ours:
            with contextlib.suppress(InputError):
                self._held = _wrapped(self[0].record)

    def _open(self, unpack: bool = True) -> None:
        """Open the file, or what it packs, as long as this object lives: whoever replaces it does not disturb."""
        self._state = _state(self.path.stat())
        unpacked = _unpack(self.path) if unpack else None
        self._is_plain = unpacked is None
        self._file = self.path.open("rb") if unpacked is None else unpacked
        weakref.finalize(self, self._file.close)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file anew."""
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._held is None:
            self._open(unpack=not self._is_plain)
            self._state = state["_state"]

    def __len__(self) -> int:
        return len(self._places) if self._held is None else len(self._held)

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
        if self._held is not None:
            for row in rows:
                yield Line(_check_object(self._held[row], f"{self.path}:{row + 1}"), self.path, row + 1)
            return
        for row, raw in self.select_raw(rows):
            number = self._numbers[row]
            yield Line(_parse(raw, f"{self.path}:{number}", _DECODERS[self._finite]), self.path, number)

    def select_raw(self, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of the rows with these indices, in this order."""
        for row in rows:
            yield row, self._read(row) if self._held is None else dump_line(self._held[row]).encode()

    def _read(self, row: int) -> bytes:
        """One line, read at its place: processes that were forked from one another share how far a file was read."""
        begin = self._places[row]
        end = self._places[row + 1] if row + 1 < len(self._places) else self._end
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
        if content.digest() != self._content:
            raise InputError(f"{self.path}: the file was changed while it was in use")
        self._state = state


def _state(found: os.stat_result) -> tuple[int, ...]:
    """What differs once a file was written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _unpack(path: Path) -> IO[bytes] | None:
    """A gzip file's content, or that of a pipe, which can be read once only; None for any other file.

    It lies in a temporary file without a name, of which a killed process leaves nothing behind.
    """
    with path.open("rb") as file, contextlib.ExitStack() as opened:
        source: IO[bytes] = file
        if not path.is_file():
            source = opened.enter_context(tempfile.TemporaryFile())
            _copy(file, source, path)
        packed = source.read(2) == b"\x1f\x8b"
        source.seek(0)
        if packed:
            packed_source, source = source, opened.enter_context(tempfile.TemporaryFile())
            try:
                with gzip.GzipFile(fileobj=packed_source) as unpacked:
                    _copy(unpacked, source, path)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(f"{path}: not a whole gzip file ({error})") from None
            if packed_source is not file:
                packed_source.close()
        opened.pop_all()
        return None if source is file else source


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], path: Path) -> None:
    """Copy all and go back to the start; raises InputError for more than there is room for."""
    most = min(_MOST_UNPACKED, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    while block := source.read(1 << 20):
        target.write(block)
        if target.tell() > most:
            raise InputError(f"{path}: holds more than {most >> 20} MiB unpacked, for which there is no room")
    target.seek(0)


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


def _begins_document(first: bytes) -> bool:
    """Whether a file's first line begins a JSON list, or an object that goes on in the next line."""
    text = first.decode("utf-8-sig", errors="replace").strip()
    if not text.startswith("{"):
        return text.startswith("[")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (ValueError, RecursionError):
        pass
    return False


def _read_document(content: bytes, path: Path, first: int, decoder: json.JSONDecoder) -> list[Any]:
    """The rows of one JSON list, or of objects over several lines; `first` is the number of the content's first line.

    A row with a number that is not finite is an InputError, for whoever asks for it. Raises one for what is not JSON.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        raise InputError(f"{path}:{first + line}: not UTF-8 (byte {error.start + 1} of the file)") from None
    try:
        rows = _decode_rows(text, path, decoder)
    except json.JSONDecodeError as error:
        where = f"{path}:{first + error.lineno - 1}"
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"{path}:{first}: not JSON that can be read ({error})") from None
    except RecursionError:
        raise InputError(f"{path}:{first}: not JSON that can be read (nested too deeply)") from None
    _check_depth(rows, f"{path}:{first}")
    if not rows:
        raise InputError(f"{path}: the list is empty, expected JSON objects")
    return rows


def _decode_rows(text: str, path: Path, decoder: json.JSONDecoder) -> list[Any]:
    try:
        return _decode_all(text, decoder)
    except _NotFiniteError as error:
        held = enumerate(_decode_all(text, json.JSONDecoder()), start=1)
        return [row if _is_finite(row) else InputError(f"{path}:{number}: {error}") for number, row in held]


def _decode_all(text: str, decoder: json.JSONDecoder) -> list[Any]:
    values, place = [], _next_place(text, 0)
    while place < len(text):
        value, end = decoder.raw_decode(text, place)
        values.append(value)
        place = _next_place(text, end)
    if len(values) > 1:
        return values
    (only,) = values
    return only if isinstance(only, list) else _wrapped(only) or [only]


def _next_place(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _wrapped(record: Record) -> list[Any] | None:
    """The list of rows that an object holds under a name that says so; None for an object that is a row itself."""
    lists = [record[name] for name in _WRAPPERS if isinstance(record.get(name), list)]
    if "question_id" in record or len(lists) != 1 or not lists[0]:
        return None
    return lists[0] if all(isinstance(row, dict) for row in lists[0]) else None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """An error of the disk becomes one line."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(raw: bytes, where: str, decoder: json.JSONDecoder, many_lines: bool = False) -> Record:
    try:
        value = decoder.decode(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        begin = raw.rfind(b"\n", 0, error.start) + 1
        number = raw.count(b"\n", 0, begin) + 1
        line = f":{number}" if many_lines and raw.strip() else ""
        raise InputError(f"{where}{line}: not UTF-8 (byte {error.start - begin + 1} of the line)") from None
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if many_lines and raw.strip() else ""
        raise InputError(f"{where}{line}: not JSON ({error.msg} at column {error.colno})") from None
    except _NotFiniteError as error:
        raise InputError(f"{where}: {error}") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON that can be read ({error})") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)") from None
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST:
        _check_depth(value, where)
    return _check_object(value, where)


def _check_depth(value: Any, where: str) -> None:
    """Raises InputError for more than `_DEEPEST` lists and objects within one another."""
    depth, inside = 0, [value]
    while inside := [each for each in inside if isinstance(each, dict | list)]:
        depth += 1
        if depth > _DEEPEST:
            raise InputError(f"{where}: not JSON that can be read (nested too deeply)")
        inside = [each for one in inside for each in (one.values() if isinstance(one, dict) else one)]


def _check_object(value: Any, where: str) -> Record:
    if isinstance(value, InputError):
        raise value
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


class _NotFiniteError(ValueError):
    """A number that JSON cannot say."""


def _refuse(number: str) -> NoReturn:
    raise _NotFiniteError(f"{number} is not a finite number, which JSON needs (null says that there is none)")


def _float_or(otherwise: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        number = float(text)
        return number if math.isfinite(number) else otherwise(text)

    return read


def _nothing(_: str) -> None:
    return None


_FINITE = json.JSONDecoder(parse_constant=_refuse, parse_float=_float_or(_refuse))
_LENIENT = json.JSONDecoder(parse_constant=_nothing, parse_float=_float_or(_nothing))
_DECODERS = {True: _FINITE, False: _LENIENT}


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def read_json(path: str | os.PathLike[str], finite: bool = False) -> Record:
    """Read a file that holds one JSON object, such as MM-Vet's ground truth; `finite` as in `LineFile`."""
    path = Path(path).expanduser()
    with reading(path):
        content = path.read_bytes()
    return _parse(content, str(path), _FINITE if finite else _LENIENT, many_lines=True)


def index_by_id(lines: Iterable[Line]) -> dict[str, Line]:
    """Map `id_key(question_id)` to its line.

    Raises InputError for a missing, ill-typed or double id.
    """
    index: dict[str, Line] = {}
    for line in check_ids(lines):
        index[id_key(line.record["question_id"])] = line
    return index


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


def require(line: Line, field: str, kinds: type | tuple[type, ...]) -> Any:
    """The value of a field; raises InputError where it is missing or of another type."""
    if field not in line.record:
        found = ", ".join(list(line.record)[:8]) or "no fields"
        raise InputError(f"{line.where}: field {field!r} is missing (found: {found})")
    value = line.record[field]
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if isinstance(value, bool) or not isinstance(value, kinds):
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


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dump_line(record: Mapping[str, Any]) -> str:
    """One record as one line, newline included; half a surrogate pair, which UTF-8 cannot hold, stays escaped."""
    line = dump_json(record)
    return (line if encodable(line) else dump_json(record, ensure_ascii=True)) + "\n"


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
