"""Read and write JSON Lines; an error names file and line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, overload

Record = dict[str, Any]
_DEEPEST = 100
"""lists and objects within one another: what is nested deeper could be read, and then not be written again"""
_UNFINISHED = ".unfinished"
"""how the name of a file ends that is being written"""
_ABANDONED_SECONDS = 3600
"""a file that was not written to for so long is being written by nobody"""


class InputError(Exception):
    """A mistake in what the user gave: the message is one line, the command exits with code 2."""


class Line(NamedTuple):
    """One JSON object and the place it came from."""

    record: Record
    path: Path
    number: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"


def read_lines(path: str | os.PathLike[str]) -> Iterator[Line]:
    """Yield each object of a JSON Lines file; blank lines are passed over.

    Raises InputError for a file that cannot be read, a line that is not a JSON object, or a file without any.
    """
    path = Path(path).expanduser()
    for number, raw in _raw_lines(path):
        if _holds_something(raw):
            yield Line(_parse(raw, f"{path}:{number}"), path, number)


class LineFile(Sequence[Line]):
    """The lines of a JSON Lines file, parsed anew each time one is asked for: a file of any size needs no memory.

    Raises InputError as `read_lines` does, on opening for a file that cannot be read or is empty, later for its lines,
    and where the file has another content by then.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._places = array("q")
        self._numbers = array("q")
        with reading(self.path):
            self._state = _state(self.path.stat())
        content = hashlib.sha256()
        begin = 0
        for number, raw in _raw_lines(self.path):
            if _holds_something(raw):
                self._places.append(begin)
                self._numbers.append(number)
            begin += len(raw)
            content.update(raw)
        self._content = content.digest()

    def __len__(self) -> int:
        return len(self._places)

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
        """The lines with these indices, in this order."""
        for row, raw in self.select_raw(rows):
            yield Line(_parse(raw, f"{self.path}:{self._numbers[row]}"), self.path, self._numbers[row])

    def select_raw(self, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of the lines with these indices, in this order."""
        with reading(self.path), self.path.open("rb") as file:
            for row in rows:
                file.seek(self._places[row])
                raw = file.readline()
                self._check_unchanged(file)
                yield row, raw

    def _check_unchanged(self, file: BufferedReader) -> None:
        """A file that was written again as it was is still the same."""
        state = _state(os.fstat(file.fileno()))
        if state == self._state:
            return
        file.seek(0)
        if hashlib.file_digest(file, "sha256").digest() != self._content:
            raise InputError(f"{self.path}: the file was changed while it was in use")
        self._state = state


def _state(found: os.stat_result) -> tuple[int, ...]:
    """What differs once a file was written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line with its number, 1 being the first."""
    empty = True
    with reading(path), path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            empty = empty and not _holds_something(raw)
            yield number, raw
    if empty:
        raise InputError(f"{path}: the file is empty, expected one JSON object a line")


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


def _parse(raw: bytes, where: str, many_lines: bool = False) -> Record:
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        begin = raw.rfind(b"\n", 0, error.start) + 1
        number = raw.count(b"\n", 0, begin) + 1
        line = f":{number}" if many_lines else ""
        raise InputError(f"{where}{line}: not UTF-8 (byte {error.start - begin + 1} of the line)") from None
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if many_lines else ""
        raise InputError(f"{where}{line}: not JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON that can be read ({error})") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)") from None
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST and _depth(record) > _DEEPEST:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)")
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
    return record


def _depth(value: Any) -> int:
    """How many lists and objects stand within one another."""
    depth, inside = 0, [value]
    while inside := [each for each in inside if isinstance(each, dict | list)]:
        depth += 1
        inside = [each for one in inside for each in (one.values() if isinstance(one, dict) else one)]
    return depth


def read_json(path: str | os.PathLike[str]) -> Record:
    """Read a file that holds one JSON object, such as MM-Vet's ground truth."""
    path = Path(path).expanduser()
    with reading(path):
        content = path.read_bytes()
    return _parse(content, str(path), many_lines=True)


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
        key = id_key(require(line, "question_id", (int, str)))
        if not encodable(key):
            raise InputError(f"{line.where}: question_id has half a surrogate pair, which no file can hold")
        if key in numbers:
            raise InputError(f"{line.where}: question_id {key} stands already in line {numbers[key]}")
        numbers[key] = line.number
        yield line


def id_key(question_id: int | str) -> str:
    """The id under which files are joined: 17 and "17" are the same question."""
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


def dump_line(record: Mapping[str, Any]) -> str:
    """One record as one line, newline included; half a surrogate pair, which UTF-8 cannot hold, stays escaped."""
    line = json.dumps(record, ensure_ascii=False)
    return (line if encodable(line) else json.dumps(record)) + "\n"


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: not with half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str) -> str:
    """Text of unknown origin for a terminal: white space folded, control characters left out."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def write_text(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """Write a whole file and only then put it in place, so that a reader sees the old one or the new one.

    A link stays one. What UTF-8 cannot hold is written as an escape, which in JSON says the same.
    """
    path = Path(path).expanduser()
    try:
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(place, _ABANDONED_SECONDS)
        handle, temporary = tempfile.mkstemp(_UNFINISHED, f".{place.name}.", place.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def remove_unfinished(path: Path, seconds: float = 0.0) -> None:
    """Remove what killed processes left of their writing this file, if untouched for `seconds`.

    Where 0 is given, nobody else may be writing it. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        return
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}({re.escape(_UNFINISHED)})?")
    for entry in os.scandir(path.parent):
        if not (found := ours.fullmatch(entry.name)):
            continue
        with contextlib.suppress(FileNotFoundError):
            there = entry.stat(follow_symlinks=False)
            # without the ending it was left by a version before; those never let others read it
            left = stat.S_ISREG(there.st_mode) and (found[1] or stat.S_IMODE(there.st_mode) == 0o600)
            if left and time.time() - there.st_mtime >= seconds:
                os.unlink(entry)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_lines(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, whole and then renamed."""
    write_text(path, map(dump_line, records))
