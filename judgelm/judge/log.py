"""One order's judgements on disk: checked before anything is changed, kept as they come, put in place sorted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judgelm.documents import describe_fault
from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Line, LineFile, Record, dump_line, holds_lines, id_key, id_order
from judgelm.judge.judged import PROMPT_TOO_LONG
from judgelm.judgement import Outcome, ParseState

_BLOCK = 1 << 16
"""bytes read at once where a file is searched from its end"""
WAY_OUT = "mend or remove this line, and the same command goes on"
_Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Check = Callable[[Line], None]
"""raises InputError for a line that is no judgement of this run"""


class JudgementRecord(BaseModel):
    """What later code reads of an output record."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    question_id: int | float | str
    pred_text: str
    pred_scores: Annotated[list[float], Field(min_length=2)] | None
    pred_outcome: Annotated[Outcome, Field(strict=False)] | None
    pred_parse: Annotated[ParseState, Field(strict=False)]
    pred_task: str
    pred_order: str
    pred_finish_reason: str
    pred_prompt_tokens: _Count | None
    pred_tokens: _Count
    pred_shortened: list[_Count] | None
    pred_suspicious_markers: _Count
    pred_expected_scores: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    pred_probabilities: dict[Annotated[Outcome, Field(strict=False)], float] | None = None
    pred_score_line_mass: float | None = None
    pred_id: str | None = None
    pred_model_id: str | None = None
    tstamp: float | None = None

    @classmethod
    def from_line(cls, line: Line) -> JudgementRecord:
        """Raises InputError that names the line and the field."""
        try:
            return cls.model_validate(line.record)
        except ValidationError as error:
            raise InputError(f"{line.where}: not a judgement ({describe_fault(error)}); {WAY_OUT}") from None


def partial_of(path: Path) -> Path:
    """Where an output file grows before it is put in place."""
    return path.with_name(path.name + ".partial")


def is_begun(path: Path) -> bool:
    """Whether an output file or its partial one holds anything. Raises InputError where one cannot be read."""
    return any(holds_lines(file) for file in (path, partial_of(path)))


class Place(NamedTuple):
    """Where a judgement stands."""

    lines: LineFile
    row: int


def read_output(path: Path, check: Check) -> Iterator[tuple[str, Place, Line]]:
    """Every judgement of an output file and its partial one, each once: key, place, and the line itself.

    Half a line, which a killed process leaves at the partial file's end, is none. Raises InputError for a damaged line,
    for one that does not stand the check, and for two judgements of one question.
    """
    known: dict[str, Place] = {}
    for file in (path, partial_of(path)):
        if not holds_lines(file):
            continue
        lines = LineFile(file, finite=False, ours=True)
        rows = range(len(lines) - (file != path and _Tail.read(file).is_half))
        for row, line in zip(rows, lines.select(rows), strict=True):
            check(line)
            key = id_key(line.record["question_id"])
            if key not in known:
                known[key] = Place(lines, row)
                yield key, known[key], line
                continue
            there = known[key].lines[known[key].row]
            if judgement_fields(there.record) != judgement_fields(line.record):
                raise InputError(
                    f"{line.where}: question_id {one_line(key)} has another judgement in {there.where}; {WAY_OUT}"
                )


def judgement_fields(record: Record) -> Record:
    """What the judge and not the question file said."""
    return {name: value for name, value in record.items() if name.startswith("pred_") or name == "tstamp"}


@dataclass(frozen=True, slots=True)
class _Tail:
    """What stands behind the last newline of a file."""

    begin: int
    text: bytes

    @classmethod
    def read(cls, path: Path) -> _Tail:
        """Read from the end, in blocks, no further than that newline."""
        with path.open("rb") as file:
            begin = file.seek(0, os.SEEK_END)
            blocks: list[bytes] = []
            newline = -1
            while begin and newline < 0:
                size = min(_BLOCK, begin)
                begin = file.seek(begin - size)
                block = file.read(size)
                newline = block.rfind(b"\n")
                blocks.append(block[newline + 1 :])
            begin += newline + 1
        return cls(begin, b"".join(reversed(blocks)))

    @property
    def is_half(self) -> bool:
        """Whether it is something, and not a whole record that lacks its newline alone."""
        if not self.text.strip():
            return False
        try:
            return not isinstance(json.loads(self.text), dict)
        except (ValueError, RecursionError):
            return True


@dataclass(frozen=True, slots=True)
class Judgements:
    """All judgements of one order."""

    lines: LineFile
    """sorted by id"""
    counts: Mapping[str, int]

    @property
    def path(self) -> Path:
        """Of the file that holds them."""
        return self.lines.path

    def first(self, most: int) -> list[Record]:
        return [line.record for line in self.lines[:most]]


class Log:
    """One output file: a `.partial` that grows a whole line at a time beside the sorted final one.

    To make one only reads, and raises InputError as `read_output` does; `open` mends and writes.

    Args:
        check: every record must stand it.
        check_sample: those that are there already must stand this too.
    """

    def __init__(self, path: Path, check: Check, check_sample: Check) -> None:
        self.path = path
        self.partial = partial_of(path)
        self._check = check
        self.keys: set[str] = set()
        """of what was judged already"""
        for key, _, line in read_output(path, check):
            check_sample(line)
            self.keys.add(key)

    def open(self) -> None:
        """Mend what a killed process left, and be ready for more."""
        with writing(self.partial):
            self._file = self.partial.open("ab", buffering=0)
            tail = _Tail.read(self.partial)
            if tail.is_half:
                # it is judged again
                self._file.truncate(tail.begin)
            elif tail.text:
                self._file.write(b"\n")

    def append(self, key: str, record: Record) -> None:
        """Write one line and hand it to the operating system, so that a killed process loses nothing."""
        line = dump_line(record).encode()
        with writing(self.partial):
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        self.keys.add(key)

    def close(self) -> None:
        self._file.close()

    def finish(self) -> Judgements:
        """Put the sorted file in place, read it back, and only then drop the partial one."""
        places = {key: place for key, place, _ in read_output(self.path, self._check)}
        order = sorted(places, key=id_order)
        write_text(self.path, _texts([places[key] for key in order]))
        lines = LineFile(self.path, finite=False, ours=True)
        found = [id_key(line.record["question_id"]) for line in lines]
        if found != order:
            raise InputError(
                f"{self.path}: read back, it holds other judgements than were written; {self.partial} stays"
            )
        with writing(self.partial):
            self.partial.unlink(missing_ok=True)
        return Judgements(lines, count_records(line.record for line in lines))


def _texts(places: Sequence[Place]) -> Iterator[str]:
    """The lines in this order. In what others wrote, the last may lack its newline, and the first begin with a mark."""
    readers = {
        id(lines): lines.select_raw([row for other, row in places if other is lines])
        for lines in {id(place.lines): place.lines for place in places}.values()
    }
    for place in places:
        _, raw = next(readers[id(place.lines)])
        yield raw.decode("utf-8-sig").strip() + "\n"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the disk becomes one line."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); what was judged is kept, the same command goes on"
        raise InputError(message) from error


def count_records(records: Iterable[Record]) -> dict[str, int]:
    """How the judgements of one order came out."""
    reasons = {"length": "length_limit", PROMPT_TOO_LONG: PROMPT_TOO_LONG} | {
        r: r for r in ("out_of_memory", "refused")
    }
    names = ["total", *ParseState, "shortened", *reasons.values(), *Outcome, "suspicious_markers"]
    counts = {str(name): 0 for name in (*names, "prompt_tokens", "generated_tokens")}
    for record in records:
        counts["total"] += 1
        counts[record["pred_parse"]] += 1
        counts["shortened"] += record["pred_shortened"] is not None
        if record["pred_finish_reason"] in reasons:
            counts[reasons[record["pred_finish_reason"]]] += 1
        if record["pred_outcome"] is not None:
            counts[record["pred_outcome"]] += 1
        counts["suspicious_markers"] += record["pred_suspicious_markers"] > 0
        counts["prompt_tokens"] += record["pred_prompt_tokens"] or 0
        counts["generated_tokens"] += record["pred_tokens"]
    return counts
