"""run.json, which says how the judgements beside it were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judgelm.errors import InputError, one_line
from judgelm.jsonl import Record, read_json

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Seconds = Annotated[float, Field(ge=0, lt=1e11)]
"""a moment or a duration"""


class _Session(BaseModel):
    model_config = _STRICT

    started: _Seconds | None = None
    seconds: _Seconds = 0
    judged: int = 0
    engine: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None


class _Description(BaseModel):
    model_config = _STRICT

    settings: dict[str, Any] = {}
    finished: bool = False
    counts: dict[str, dict[str, Any]] = {}
    sessions: list[_Session] = []
    machine: dict[str, Any] = {}


def read_description(path: Path) -> Record | None:
    """What run.json holds; None where there is none. Raises InputError for a damaged one."""
    if not path.exists():
        return None
    record = read_json(path)
    try:
        _Description.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path}: not the description of a run ({describe_fault(error)})") from None
    return {"settings": {}, "counts": {}, "sessions": [], **record}


def describe_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a record: its place, what was expected and what came."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    found = first["input"]
    if first["type"] == "missing":
        return one_line(f"{place}: {first['msg']}")
    shown = type(found).__name__ if isinstance(found, dict | list) else str(found)[:60]
    return one_line(f"{place}: {first['msg']}, found {shown}")
