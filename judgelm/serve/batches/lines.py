"""The lines of a batch's input: requests with names, from anybody; and those of its output."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from judgelm.errors import InputError, one_line
from judgelm.json_text import FINITE, parse_object
from judgelm.jsonl import dump_line
from judgelm.serve.guard import MOST_BODY_BYTES

_MOST_ERRORS = 20
"""told of one file"""
_MOST_NAME = 512
_FIELDS = {"custom_id", "method", "url", "body"}
_MOST_LINE_BYTES = MOST_BODY_BYTES + (64 << 10)


class Request(NamedTuple):
    """A line of the input."""

    line: int
    """its number in the file, the first being 1"""
    custom_id: str
    body: dict[str, Any]


def read_requests(path: Path, endpoint: str, without: Collection[int] = ()) -> Iterator[Request]:
    """The requests of a file that was found to be good, but for some of its lines."""
    for number, raw in _raw_lines(path):
        if number not in without:
            yield _read(raw, number, endpoint)


def check_requests(path: Path, endpoint: str, most: int) -> tuple[int, list[dict[str, Any]]]:
    """How many requests a file has, and what is wrong with it, as OpenAI's batches say it."""
    count, errors = 0, []
    names: dict[str, int] = {}
    for number, raw in _raw_lines(path):
        count += 1
        if count > most:
            errors.append(problem(f"expected at most {most:,} requests", "too_many_requests"))
            break
        try:
            name = _read(raw, number, endpoint).custom_id
            if name in names:
                raise InputError(f"line {number}: custom_id stands already in line {names[name]}")
            names[name] = number
        except InputError as found:
            errors.append(problem(str(found), "invalid_line", number))
        if len(errors) >= _MOST_ERRORS:
            break
    if not count:
        errors.append(problem("the file is empty, expected one request a line", "empty_file"))
    return count, errors


def problem(message: str, code: str, line: int | None = None) -> dict[str, Any]:
    """Why a batch failed."""
    said = one_line(message.encode(errors="replace").decode())
    return {"code": code, "message": said, "param": None, "line": line}


def answered(request: Request, status: int, body: Any) -> str:
    """The line of the output or of the errors for a request that was answered."""
    return _write(request, {"status_code": status, "request_id": uuid.uuid4().hex, "body": body}, None)


def unanswered(request: Request, code: str, message: str) -> str:
    """The line of the errors for one that was not."""
    return _write(request, None, {"code": code, "message": message})


def _write(request: Request, response: dict[str, Any] | None, error: dict[str, str] | None) -> str:
    new = f"batch_req_{uuid.uuid4().hex}"
    return dump_line({"id": new, "custom_id": request.custom_id, "response": response, "error": error})


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield number, raw


def _read(raw: bytes, number: int, endpoint: str) -> Request:
    """Raises InputError for another line; nothing of it but names of fields is repeated."""
    where = f"line {number}"
    if len(raw) > _MOST_LINE_BYTES:
        raise InputError(f"{where}: expected at most {_MOST_LINE_BYTES:,} bytes")
    found = parse_object(raw.strip(), where, FINITE)
    if set(found) != _FIELDS:
        raise InputError(f"{where}: expected the fields {', '.join(sorted(_FIELDS))}, found {_names(found)}")
    name, body = found["custom_id"], found["body"]
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME:
        raise InputError(f"{where}: custom_id: expected a text of 1 to {_MOST_NAME} characters")
    if found["method"] != "POST" or found["url"] != endpoint:
        raise InputError(f"{where}: expected method POST and url {endpoint}")
    if not isinstance(body, dict):
        raise InputError(f"{where}: body: expected an object")
    if body.get("stream"):
        raise InputError(f"{where}: body.stream: a batch has no streams")
    return Request(number, name, body)


def _names(found: dict[str, Any]) -> str:
    return ", ".join(name[:40] for name in sorted(found)[:8]) or "none"
