"""One order's judgements on disk: checked before anything is changed, kept as they come, put in place sorted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from judgelm.appended import WAY_OUT, AppendedFile, ends_in_half, writing
from judgelm.documents import Count, read_record
from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Line, LineFile, Record, dump_line, holds_lines, id_key, id_order, reading
from judgelm.judge.judged import PROMPT_TOO_LONG
from judgelm.judgement import Outcome, ParseState
from judgelm.sample import MAX_ANSWERS, empty_answers

Check = Callable[[Line], None]
"""raises InputError for a line that is no judgement of this run"""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class AspectRecord(_Strict):
    """What was judged by one aspect."""

    name: str
    """of the aspect"""
    weight: float
    """in the mean of all"""
    scores: Annotated[list[float], Field(min_length=1)] | None
    """as `pred_scores`, by this aspect alone"""
    outcome: Annotated[Outcome, Field(strict=False)] | None
    """of answer 1 as shown against answer 2"""
    parse: Annotated[ParseState, Field(strict=False)]
    """how its score line was read"""
    expected_scores: Annotated[list[float], Field(min_length=1, max_length=MAX_ANSWERS)] | None = None
    """with scoring expected"""
    probabilities: dict[Annotated[Outcome, Field(strict=False)], float] | None = None
    """with scoring expected: of win, tie and lose"""
    score_line_mass: float | None = None
    """with scoring expected: the probability of a score line by this aspect"""


class CalibratedRecord(_Strict):
    """What a map of judgelm calibrate made of the probabilities, in the order that was shown."""

    probabilities: dict[Annotated[Outcome, Field(strict=False)], float]
    """of win, tie and lose, 1 in all"""
    tie_threshold: float
    """a tie is called where P(tie) is at least so large a share of P(win) or P(lose), whichever is larger"""
    map: str
    """its name"""


class LeftOutRecord(_Strict):
    """What of a dialogue did not fit: a number for the dialogue, or one for each answer's conversation, as shown."""

    turns: Annotated[list[Count], Field(min_length=1, max_length=MAX_ANSWERS)]
    """that were left out as a whole"""
    tokens: Annotated[list[Count], Field(min_length=1, max_length=MAX_ANSWERS)]
    """that were left out in all: those turns, and the beginning of the oldest that is shown"""


class JuryVote(_Strict):
    """What one judge of a jury said."""

    judge: str
    """its name"""
    outcome: Annotated[Outcome, Field(strict=False)] | None
    """of answer 1 as shown against answer 2; null: it abstains, because the swap changes its verdict or it has none"""


class JudgementRecord(_Strict):
    """What a judge's record adds to the row it is of, whose fields stand before; in the reversed order those of answers
    1 and 2 are exchanged.
    """

    question_id: int | float | str
    """of the row"""
    pred_text: str
    """what the judge wrote, without the task's prefill; with criteria the means, below them what it wrote by each"""
    pred_scores: Annotated[list[float], Field(min_length=1)] | None
    """a score an answer, in the order that was shown, with criteria the weighted mean; null: a score line could not be
    read"""
    pred_outcome: Annotated[Outcome, Field(strict=False)] | None
    """of answer 1 as shown against answer 2: win, tie or lose; null without scores, and for one answer or many"""
    pred_parse: Annotated[ParseState, Field(strict=False)]
    """how the score line was read: ok; repaired, which is a harmless variation such as "8/10 9/10"; or failed"""
    pred_task: str
    """pair, single, multi, mmvet or grade"""
    pred_order: str
    """forward, reversed, or rotated1, rotated2 .. by so many answers"""
    pred_finish_reason: str
    """stop; length: no room for more tokens; out_of_memory; refused: by a server; prompt_too_long: never generated"""
    pred_prompt_tokens: Count | None
    """null where the prompt did not fit"""
    pred_tokens: Count
    """that were generated"""
    pred_shortened: list[Count] | LeftOutRecord | None
    """how many tokens each answer lost at its end, in the order that was shown; of a dialogue what was left out at its
    beginning: `{"turns": [..], "tokens": [..]}`; null: nothing"""
    pred_suspicious_markers: Count
    """lines of question, reference, answers and dialogue that imitate the prompt's own markers, or an image's label"""
    pred_thoughts: dict[str, Count] | None = None
    """characters of thoughts at the beginning of answers that the judge was not shown, by field, where there are any"""
    pred_reasoning: str | None = None
    """with --reasoning: what the judge thought before `pred_text`, without tags; with criteria by each aspect, named"""
    pred_verdict_format: Literal["grade", "letter", "json"] | None = None
    """with a prompt template that asks for no line of scores: how the verdict was said; of a letter or a winner
    `pred_scores` has 1 for the better answer, 0 for the other, 0.5 for both in a tie"""
    pred_expected_scores: Annotated[list[float], Field(min_length=1, max_length=MAX_ANSWERS)] | None = None
    """with scoring expected: the mean of each answer's score over all score lines"""
    pred_probabilities: dict[Annotated[Outcome, Field(strict=False)], float] | None = None
    """with scoring expected: of win, tie and lose, 1 in all"""
    pred_score_line_mass: float | None = None
    """with scoring expected: the probability that the judge writes a score line at all, of more than two answers one of
    those that were read"""
    pred_calibrated: CalibratedRecord | None = None
    """with --calibration: the same probabilities, calibrated"""
    pred_scale: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    """with criteria: the lowest and the highest score"""
    pred_aspects: list[AspectRecord] | None = None
    """with criteria: by each aspect"""
    pred_jury: list[JuryVote] | None = None
    """of a jury: what each of its judges said"""
    pred_id: str | None = None
    """of this judgement, another each time"""
    pred_model_id: str | None = None
    """the judge's name"""
    tstamp: float | None = None
    """when it was made, in seconds since 1970"""

    @field_validator("pred_task")
    @classmethod
    def _has_its_scores(cls, task: str, info: ValidationInfo) -> str:
        if task != "grade" and len(info.data.get("pred_scores") or (0, 0)) < 2:
            raise ValueError("one score is that of task grade")
        return task

    @classmethod
    def from_line(cls, line: Line) -> JudgementRecord:
        """Raises InputError that names the line and the field."""
        return read_record(cls, line.record, line.where, "a judgement", WAY_OUT)


def partial_of(path: Path) -> Path:
    """Where an output file grows before it is put in place."""
    return path.with_name(path.name + ".partial")


def is_begun(path: Path) -> bool:
    """Whether an output file or its partial one holds anything. Raises InputError where one cannot be read."""
    return any(holds_lines(file) for file in (path, partial_of(path)))


class Place(NamedTuple):
    """Where a judgement stands."""

    path: Path
    begin: int
    """byte of the file"""
    mark: int
    """hash of the line without white space around, by which this process knows it again"""


def read_output(path: Path, check: Check) -> Iterator[tuple[str, Place, Line]]:
    """Every judgement of an output file and its partial one, each once: key, place, and the line itself.

    Half a line, which a killed process leaves at the partial file's end, is none. Raises InputError for a damaged line,
    for one that does not stand the check, and for two judgements of one question.
    """
    known: dict[str, tuple[LineFile, int, int]] = {}
    for file in (path, partial_of(path)):
        if not holds_lines(file):
            continue
        lines = LineFile(file, finite=False, ours=True)
        for row, raw in lines.select_raw(range(len(lines) - (file != path and ends_in_half(file)))):
            line, mark = lines.parse(row, raw), hash(raw.strip())
            check(line)
            key = id_key(line.record["question_id"])
            if key not in known:
                known[key] = (lines, row, mark)
                yield key, Place(file, lines.places[row], mark), line
                continue
            other, at, known_mark = known[key]
            if mark != known_mark and judgement_fields(other[at].record) != judgement_fields(line.record):
                raise InputError(
                    f"{line.where}: question_id {one_line(key)} has another judgement in {other[at].where}{WAY_OUT}"
                )


def judgement_fields(record: Record) -> Record:
    """What the judge and not the question file said."""
    return {name: value for name, value in record.items() if name.startswith("pred_") or name == "tstamp"}


@dataclass(frozen=True, slots=True)
class OrderFile:
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

    To make one only reads, and raises InputError as `read_output` does; `open` mends and writes. What was read or
    written once is not parsed again: the log knows where each judgement stands, and counts them as they come.

    Args:
        check: every record that is there must stand it.
        check_sample: and this too.
    """

    def __init__(self, path: Path, check: Check, check_sample: Check) -> None:
        self.path = path
        self.partial = partial_of(path)
        self._places: dict[str, Place] = {}
        self._counts = count_records(())
        for key, place, line in read_output(path, check):
            check_sample(line)
            self._add(key, place, line.record)

    @property
    def keys(self) -> Set[str]:
        """Of what is judged."""
        return self._places.keys()

    def _add(self, key: str, place: Place, record: Record) -> None:
        self._places[key] = place
        count_records([record], self._counts)

    def open(self) -> None:
        """Mend what a killed process left, and be ready for more."""
        self._file = AppendedFile(self.partial)

    def append(self, key: str, record: Record) -> None:
        """Write one line and hand it to the operating system, so that a killed process loses nothing."""
        line = dump_line(record).encode()
        self._add(key, Place(self.partial, self._file.append(line), hash(line.strip())), record)

    def close(self) -> None:
        self._file.close()

    def finish(self) -> OrderFile:
        """Put the sorted file in place, read its bytes back, and only then drop the partial one."""
        content = hashlib.sha256()
        with ExitStack() as opened:
            write_text(self.path, self._sorted(opened, content))
        lines = LineFile(self.path, finite=False, ours=True)
        if lines.content != content.digest():
            raise InputError(
                f"{self.path}: read back, it holds other judgements than were written; {self.partial} stays"
            )
        with writing(self.partial):
            self.partial.unlink(missing_ok=True)
        return OrderFile(lines, self._counts)

    def _sorted(self, opened: ExitStack, content: hashlib._Hash) -> Iterator[str]:
        """The lines by id, told to the sum too. In what others wrote, the last may lack its newline, and the first
        begin with a mark of byte order. Raises InputError where one is no longer as it was.
        """
        files: dict[Path, IO[bytes]] = {}
        for key in sorted(self._places, key=id_order):
            place = self._places[key]
            with reading(place.path):
                if place.path not in files:
                    files[place.path] = opened.enter_context(place.path.open("rb"))
                files[place.path].seek(place.begin)
                raw = files[place.path].readline().strip()
            if hash(raw) != place.mark:
                raise InputError(f"{place.path}: the file was changed while it was in use")
            text = raw.decode("utf-8-sig").strip() + "\n"
            content.update(text.encode())
            yield text


_REASONS = {"length": "length_limit", **{name: name for name in (PROMPT_TOO_LONG, "out_of_memory", "refused")}}
"""finish reasons that are counted -> how they are called there"""


def count_records(records: Iterable[Record], counts: dict[str, int] | None = None) -> dict[str, int]:
    """How the judgements of one order came out, added to `counts`, where these are given."""
    if counts is None:
        names = ("total", *ParseState, "shortened", *_REASONS.values(), *Outcome, "suspicious_markers")
        more = ("empty_answers", "thoughts_left_out", "prompt_tokens", "generated_tokens")
        counts = {str(name): 0 for name in (*names, *more)}
    for record in records:
        counts["total"] += 1
        counts[record["pred_parse"]] += 1
        counts["shortened"] += record["pred_shortened"] is not None
        if record["pred_finish_reason"] in _REASONS:
            counts[_REASONS[record["pred_finish_reason"]]] += 1
        if record["pred_outcome"] is not None:
            counts[record["pred_outcome"]] += 1
        counts["suspicious_markers"] += record["pred_suspicious_markers"] > 0
        counts["empty_answers"] += len(empty_answers(record))
        counts["thoughts_left_out"] += len(record.get("pred_thoughts") or ())
        counts["prompt_tokens"] += record["pred_prompt_tokens"] or 0
        counts["generated_tokens"] += record["pred_tokens"]
    return counts
