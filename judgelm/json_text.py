"""JSON text -> values: strict, not too deep, and the rows of a document that is no JSON Lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from judgelm.errors import InputError

_DEEPEST = 100
"""lists and objects within one another: what is nested deeper could be read, and then not be written again"""
Value = TypeVar("Value")
_SPACE = re.compile(r"[ \t\n\r]*")
_WRAPPERS = ("data", "rows", "examples", "samples", "items", "records", "questions", "instances")
"""names under which a file of one object keeps its rows"""


def begins_document(first: bytes) -> bool:
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


def read_document(content: bytes, path: Path, first: int, decoder: json.JSONDecoder) -> list[Any]:
    """The rows of one JSON list, or of objects over several lines; `first` is the number of the content's first line.

    A row with a number that is not finite is an InputError, for whoever asks for it. Raises one for what is not JSON.
    """
    at = f"{path}:{first}"
    rows = _parse(
        content, lambda text: _decode_rows(text, path, decoder), at, lambda line: f"{path}:{first + line - 1}", "file"
    )
    check_depth(rows, at)
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
    return only if isinstance(only, list) else wrapped_rows(only) or [only]


def _next_place(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def wrapped_rows(record: dict[str, Any]) -> list[Any] | None:
    """The list of rows that an object holds under a name that says so; None for an object that is a row itself."""
    lists = [record[name] for name in _WRAPPERS if isinstance(record.get(name), list)]
    if "question_id" in record or len(lists) != 1 or not lists[0]:
        return None
    return lists[0] if all(isinstance(row, dict) for row in lists[0]) else None


def parse_object(raw: bytes, where: str, decoder: json.JSONDecoder, many_lines: bool = False) -> dict[str, Any]:
    """The object of a line, or of a whole file (`many_lines`); raises InputError for anything else, told `where`."""
    with_lines = many_lines and raw.strip()
    value = _parse(raw, decoder.decode, where, lambda line: f"{where}:{line}" if with_lines else where, "line")
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST:
        check_depth(value, where)
    return check_object(value, where)


def _parse(content: bytes, decode: Callable[[str], Value], where: str, line_at: Callable[[int], str], of: str) -> Value:
    """What text holds; `line_at` names one of its lines, the first being 1, and bytes are counted `of` line or file."""
    try:
        return decode(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        begin = content.rfind(b"\n", 0, error.start) + 1 if of == "line" else 0
        raise InputError(f"{line_at(line)}: not UTF-8 (byte {error.start - begin + 1} of the {of})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{line_at(error.lineno)}: not JSON ({error.msg} at column {error.colno})") from None
    except _NotFiniteError as error:
        raise InputError(f"{where}: {error}") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON that can be read ({error})") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)") from None


def check_depth(value: Any, where: str) -> None:
    """Raises InputError for more than `_DEEPEST` lists and objects within one another."""
    depth, inside = 0, [value]
    while inside := [each for each in inside if isinstance(each, dict | list)]:
        depth += 1
        if depth > _DEEPEST:
            raise InputError(f"{where}: not JSON that can be read (nested too deeply)")
        inside = [each for one in inside for each in (one.values() if isinstance(one, dict) else one)]


def check_object(value: Any, where: str) -> dict[str, Any]:
    """The same value; raises InputError for one that is no object, or is an error itself."""
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


FINITE = json.JSONDecoder(parse_constant=_refuse, parse_float=_float_or(_refuse))
"""refuses numbers that are not finite"""
LENIENT = json.JSONDecoder(parse_constant=_nothing, parse_float=_float_or(_nothing))
"""reads them as null"""


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
