"""run.json, which says how the judgements beside it were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judgelm.documents import describe_fault
from judgelm.errors import InputError
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
