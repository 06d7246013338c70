"""Rows of a file as others publish them: JSON Lines, one JSON list, or Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from judgelm.jsonl import InputError, Line, read_lines


def read_rows(path: Path) -> list[Line]:
    """Each row with its place: in a list or a Parquet file the number of the row.

    Raises InputError for anything else.
    """
    if path.suffix == ".parquet":
        return _number(_read_parquet(path), path)
    if path.suffix == ".json":
        document = read_document(path)
        # some projects call JSON Lines .json
        return list(read_lines(path)) if document is None else _number(document, path)
    return list(read_lines(path))


def read_document(path: Path) -> Any:
    """The one JSON value of a file; None where it is not one. Raises InputError for a file that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _number(rows: Any, path: Path) -> list[Line]:
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a list of JSON objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return [Line(row, path, number) for number, row in enumerate(rows, start=1)]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from None
    return rows
