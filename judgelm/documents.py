"""Files of results that other code reads: typed, versioned, and one line for what is wrong with one."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    SkipValidation,
    ValidationError,
    model_serializer,
)

from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Record, dump_json, read_json

AnyText = Annotated[str, SkipValidation]
"""text from users' files, such as a name: half a surrogate pair, which pydantic refuses, may stand in it"""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
"""a number of things, as large as JSON is sure to hold"""
_Model = TypeVar("_Model", bound=BaseModel)


class Section(BaseModel):
    """A part of a document; fields that this version does not know are kept."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="allow")

    def to_record(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump(mode="json")


class Sparse(Section):
    """Leaves fields out of its file where they are null."""

    left_out: ClassVar[tuple[str, ...]] = ()
    """names of these fields"""

    @model_serializer(mode="wrap")
    def _without_nothing(self, whole: SerializerFunctionWrapHandler) -> Record:
        record: Record = whole(self)
        return {name: value for name, value in record.items() if name not in self.left_out or value is not None}


class Document(Section):
    """One JSON object in a file of its own, `format` first.

    A subclass names what it is in `what`, such as "a ranking", and overrides `format` once it reads another one. Files
    of version 0.1 have no `format`: that is 1.
    """

    what: ClassVar[str] = "a file of results"

    format: Literal[1] = 1

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Raises InputError for a file that is not there, is no JSON, or has another form."""
        return cls.from_record(read_json(path), str(path))

    @classmethod
    def from_record(cls, record: Record, where: str) -> Self:
        """Raises InputError that names the place and the first field that is wrong."""
        return read_record(cls, record, where, cls.what)

    def write(self, path: str | os.PathLike[str], indent: int = 1) -> None:
        """Whole and then renamed. Raises InputError where it cannot be written."""
        write_text(path, dump_json(self.to_record(), indent=indent) + "\n")


def read_record(kind: type[_Model], record: Record, where: str, what: str, way_out: str = "") -> _Model:
    """A record by its type. Raises InputError that names the place and the first field that is wrong: it is not `what`
    it should be.
    """
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{where}: not {what} ({describe_fault(error)}){way_out}") from None


_TYPE = re.compile(r"list\[[a-z-]+\]")


def describe_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a record: its place, what was expected and what came."""
    first = error.errors(include_url=False, include_context=False)[0]
    # of a field with several types it says too which of them was tried
    place = ".".join(str(part) for part in first["loc"] if not _TYPE.fullmatch(str(part)))
    found = first["input"]
    if first["type"] == "missing":
        return one_line(f"{place}: {first['msg']}")
    shown = type(found).__name__ if isinstance(found, dict | list) else str(found)[:60]
    return one_line(f"{place}: {first['msg'].removeprefix('Value error, ')}, found {shown}")
