"""Read and write JSON Lines; an error names file and line."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

Record = dict[str, Any]


class InputError(Exception):
    """A mistake in what the user gave: the message is one line, the command exits with code 2."""


class SettingError(InputError):
    """A setting that cannot be, named as in Python; a command says its flag instead, where that was given.

    Args:
        setting: such as `dtype`.
        problem: what follows its name.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.setting} {self.problem}"


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

    Raises InputError as `read_lines` does, on opening for a file that cannot be read or is empty, later for its lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._places = array("q")
        self._numbers = array("q")
        begin = 0
        for number, raw in _raw_lines(self.path):
            if _holds_something(raw):
                self._places.append(begin)
                self._numbers.append(number)
            begin += len(raw)

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
        with _reading(self.path), self.path.open("rb") as file:
            for row in rows:
                file.seek(self._places[row])
                yield row, file.readline()


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line with its number, 1 being the first."""
    empty = True
    with _reading(path), path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            empty = empty and not _holds_something(raw)
            yield number, raw
    if empty:
        raise InputError(f"{path}: the file is empty, expected one JSON object a line")


def _holds_something(raw: bytes) -> bool:
    return raw.strip() not in (b"", b"\xef\xbb\xbf")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(raw: bytes, where: str) -> Record:
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON that can be read ({error})") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
    return record


def read_json(path: str | os.PathLike[str]) -> Record:
    """Read a file that holds one JSON object, such as MM-Vet's ground truth."""
    path = Path(path).expanduser()
    with _reading(path):
        return _parse(path.read_bytes(), str(path))


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
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(record)
    return line + "\n"


def one_line(text: str) -> str:
    """Text of unknown origin for a terminal: white space folded, control characters left out."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def write_text(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """Write a whole file and only then put it in place, so that a reader sees the old one or the new one."""
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_lines(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, whole and then renamed."""
    write_text(path, map(dump_line, records))
