"""run.json, which says how the judgements beside it were made."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judgelm.documents import describe_fault
from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.jsonl import dump_json, read_json

FORMAT = 1
"""of run.json; files of version 0.1, which name none, are read the same"""
_TYPED = ConfigDict(strict=True, allow_inf_nan=False, extra="allow", use_attribute_docstrings=True)
_Seconds = Annotated[float, Field(ge=0, lt=1e11)]
"""a moment or a duration"""


class Session(BaseModel):
    """One start of the command, until it ended in whatever way."""

    model_config = _TYPED

    started: _Seconds | None = None
    """when, in seconds since 1970"""
    seconds: _Seconds = 0
    """how long it took, start and loading included, as far as it is known"""
    judged: int = 0
    """judgements that it made"""
    kept: int | None = None
    """with --keep-judged: judgements of an earlier question file that still hold"""
    left_out: int | None = None
    """with --keep-judged: those that no longer hold"""
    engine: dict[str, Any] | None = None
    """what the engine chose or counted: data type, device, attention, replicas, tokens, cost; null: none was loaded"""
    versions: dict[str, Any] | None = None
    """of the packages that a result depends on, by name"""


class Machine(BaseModel):
    """Where the last session ran."""

    model_config = _TYPED

    platform: str | None = None
    """operating system and processor"""
    python: str | None = None
    """version"""
    cpus: int | None = None
    """cores"""

    @classmethod
    def here(cls) -> Machine:
        return cls(platform=platform.platform(), python=platform.python_version(), cpus=os.cpu_count())


class RunDescription(BaseModel):
    """What run.json holds."""

    model_config = _TYPED

    format: Literal[1] = FORMAT
    """of this file; 1 where it is missing"""
    settings: dict[str, Any] = {}
    """what must be the same for a run to be continued: model and fingerprint of its files, engine, data type, sha256 of
    question and reference file, fingerprint of the prompts, name of the judge, and all of `JudgeSettings`"""
    finished: bool = False
    """whether all that was asked for is judged and in place"""
    counts: dict[str, dict[str, Any]] = {}
    """how the judgements of each order came out, once it is finished: total, ok, repaired, failed, win, tie, lose .."""
    sessions: list[Session] = []
    """in the order of their starts"""
    machine: Machine | None = None
    """where the last session ran"""

    def write(self, path: Path) -> None:
        """Put it in place whole; what was never said is left out."""
        write_text(path, dump_json(self.model_dump(exclude_unset=True), indent=2) + "\n")


def read_description(path: Path) -> RunDescription | None:
    """What run.json holds; None where there is none. Raises InputError for a damaged one."""
    if not path.exists():
        return None
    try:
        return RunDescription.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError(f"{path}: not the description of a run ({describe_fault(error)})") from None
