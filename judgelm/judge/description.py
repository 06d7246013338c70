"""run.json, which says how the judgements beside it were made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from judgelm.documents import Section
from judgelm.errors import InputError
from judgelm.judge.settings import ORDERS
from judgelm.run_settings import RunSettings

_CONFIG = ConfigDict(frozen=False)
"""a run changes it as it goes"""
_Seconds = Annotated[float, Field(ge=0, lt=1e11)]
"""a moment or a duration"""
_PACKAGES = ("judgelm", "torch", "transformers", "accelerate", "peft", "tokenizers")


class Session(Section):
    """One start of the command, until it ended in whatever way."""

    model_config = _CONFIG

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
    """what the engine chose or counted: data type, device, attention, compiled parts, replicas, tokens, cost, and with
    --cache how many judgements came from there; null: none was loaded"""
    versions: dict[str, Any] | None = None
    """of the packages that a result depends on, by name"""


class Machine(Section):
    """Where the last session ran."""

    model_config = _CONFIG

    platform: str | None = None
    """operating system and processor"""
    python: str | None = None
    """version"""
    cpus: int | None = None
    """cores"""

    @classmethod
    def here(cls) -> Machine:
        return cls(platform=platform.platform(), python=platform.python_version(), cpus=os.cpu_count())


class RunDescription(RunSettings):
    """What run.json holds."""

    model_config = _CONFIG

    finished: bool = False
    """whether all that was asked for is judged and in place"""
    counts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """how the judgements of each order came out, once it is finished: total, ok, repaired, failed, win, tie, lose,
    empty_answers .."""
    sessions: list[Session] = Field(default_factory=list)
    """in the order of their starts"""
    machine: Machine | None = None
    """where the last session ran"""

    @classmethod
    def begun(cls, settings: Mapping[str, Any], sessions: Sequence[Session]) -> RunDescription:
        """Of a run that is under way on this machine, the last of the sessions being its own."""
        return cls(format=1, settings=dict(settings), finished=False, sessions=list(sessions), machine=Machine.here())

    def to_record(self) -> dict[str, Any]:
        """What was never said is left out, and settings stay as they are, half a surrogate pair included."""
        return self.model_dump(exclude_unset=True)


def read_description(path: Path) -> RunDescription | None:
    """What run.json holds; None where there is none. Raises InputError for a damaged one."""
    return RunDescription.read(path) if path.exists() else None


def read_run_of(folder: Path, kind: str, others: str) -> RunDescription | None:
    """The run.json of a folder whose settings name this `kind` of judgements; None where there are none yet.

    Raises InputError, which says that there are `others`, where another kind is.
    """
    found = read_description(folder / "run.json")
    there = found is not None or any((folder / f"{order}.jsonl").exists() for order in ORDERS["both"])
    if there and (found is None or kind not in found.settings):
        raise InputError(f"{folder}: holds {others}")
    return found


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
