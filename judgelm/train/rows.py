"""The rows of a training file: typed and counted in one pass, then read at their places when they are asked for."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from judgelm.errors import InputError, located
from judgelm.files import cache_folder, hash_file, write_text
from judgelm.forms import Columns, open_rows
from judgelm.hub import find_file
from judgelm.jsonl import Line, LineFile, dump_json, read_json
from judgelm.judgement import Outcome
from judgelm.sample import question_key
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.sample import COLUMNS, TrainingSample

_LAYOUT = "3"
"""raise it when what is found about a row changes, so that older caches are left aside"""
_SCANNED_TOGETHER = 256


class RowState(StrEnum):
    """What becomes of a row of the training file."""

    OK = "ok"
    SHORTENED = "shortened"
    """trained on, with answers cut to fit the model's length"""
    ERROR = "error"
    """the teacher's text is "error": skipped"""
    UNPARSED = "unparsed"
    """the teacher's text has no scores: skipped"""
    TOO_LONG = "too_long"
    """does not fit even with empty answers: skipped"""


class ScannedRow(NamedTuple):
    """What was found about a row."""

    state: RowState
    sample: TrainingSample | None
    """None where the row is skipped for its text"""
    num_tokens: int = 0
    """of the longest variant as given, before shortening; 0 without a tokenizer"""


@dataclass
class RowCounts:
    """Counts over the rows of a training file; texts are kept as short hashes, so that many rows need little memory."""

    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    """of all answers"""
    questions: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    """how often each question with these answers, in whatever order, and this aspect stands in the file"""
    graded: int = 0
    """rows with a single answer"""
    with_reference: int = 0
    repaired: int = 0
    longest: int = 0
    """tokens of a row's longest variant, before shortening"""
    total_tokens: int = 0

    def add(self, state: str, row: TrainingSample | None, num_tokens: int) -> None:
        """Count a row; None is one that is skipped for its text, and 0 tokens stand for those not counted."""
        self.states[state] += 1
        if row is None:
            return
        sample, judgement = row.sample, row.judgement
        self.questions[_short(question_key(sample.question))] += 1
        named = [row.aspect.name] if row.aspect else []
        self.pairs[_short(sample.question, *sorted(sample.answers), *named)] += 1
        self.longest = max(self.longest, num_tokens)
        self.total_tokens += num_tokens
        self.with_reference += row.judgement_with_reference is not None
        self.repaired += judgement.state.value == "repaired"
        if judgement.scores is not None:
            self.scores.update(f"{score:g}" for score in judgement.scores)
            self.graded += len(judgement.scores) == 1
        if judgement.outcome is not None:
            self.outcomes[judgement.outcome.value] += 1

    @property
    def rows(self) -> int:
        return self.states.total()

    @property
    def trained(self) -> int:
        return self.states["ok"] + self.states["shortened"]

    @property
    def double(self) -> int:
        """Rows beyond the first of each question with the same two answers."""
        return self.pairs.total() - len(self.pairs)

    @property
    def summary(self) -> str:
        """In a line."""
        return f"{self.trained} of {self.rows} rows, {len(self.questions)} questions"

    def overlap(self, other: RowCounts) -> int:
        """How many questions stand in both files, whatever their case and white space."""
        return len(self.questions.keys() & other.questions.keys())

    def lines(self) -> list[str]:
        """The report, a line for each thing worth knowing."""
        judged = max(1, self.outcomes.total())
        shares = {outcome: f"{100 * self.outcomes[outcome.value] / judged:.1f} %" for outcome in Outcome}
        lines = [
            f"rows {self.rows}, trained on {self.trained}; skipped: teacher error {self.states['error']}, no scores"
            f" {self.states['unparsed']}, too long {self.states['too_long']}",
            f"questions {len(self.questions)}, same question and answers again {self.double},"
            f" with a reference {self.with_reference}, repaired score lines {self.repaired}",
            f"teacher: first wins {shares[Outcome.WIN]}, ties {shares[Outcome.TIE]},"
            f" second wins {shares[Outcome.LOSE]}",
            *([f"single answers {self.graded}"] if self.graded else []),
            "scores: " + " ".join(f"{score}:{self.scores[score]}" for score in sorted(self.scores, key=float)),
        ]
        if self.total_tokens:
            mean = self.total_tokens / max(1, self.outcomes.total() + self.graded)
            lines.append(f"tokens: mean {mean:.0f}, longest {self.longest}; shortened {self.states['shortened']}")
        return lines


def _short(*texts: str) -> str:
    """Two texts in a billion rows are hardly alike."""
    digest = hashlib.blake2b(digest_size=12)
    for text in texts:
        digest.update(b"%d:" % len(text) + text.encode())
    return digest.hexdigest()


def count_rows(source: str, encoder: ExampleEncoder | None = None, columns: Columns | None = None) -> RowCounts:
    """What a file, or a hub data set's `train` split, holds; tokens are counted where an encoder is given.

    `columns` are of a file whose fields have other names. Raises InputError for a missing file and for a row that is no
    training row.
    """
    return _scan_all(_open(source, columns), encoder)[0]


def _open(source: str, columns: Columns | None) -> LineFile:
    path = find_file(source, "train")
    if columns is None:
        return LineFile(path)
    columns.check(COLUMNS, "a training file")
    return open_rows(path, replace(columns, answer_field="answer_body"))


def scan(lines: Iterable[Line], encoder: ExampleEncoder | None) -> Iterator[ScannedRow]:
    """Type every row and say what becomes of it; raises InputError for a row that is no training row."""
    rows = map(_read_row, lines)
    while chunk := list(itertools.islice(rows, _SCANNED_TOGETHER)):
        yield from _measure(chunk, encoder)


def _read_row(line: Line) -> ScannedRow:
    if line.record.get("text") == "error":
        return ScannedRow(RowState.ERROR, None)
    sample = _parse(line)
    return ScannedRow(RowState.UNPARSED, None) if sample.judgement.scores is None else ScannedRow(RowState.OK, sample)


def _parse(line: Line) -> TrainingSample:
    """A row as it is trained on: a judgement with the reference counts only where it has scores."""
    with located(line.where):
        sample = TrainingSample.from_line(line)
    if sample.judgement_with_reference is not None and sample.judgement_with_reference.scores is None:
        return replace(sample, judgement_with_reference=None)
    return sample


def _measure(rows: Sequence[ScannedRow], encoder: ExampleEncoder | None) -> Iterator[ScannedRow]:
    if encoder is None:
        yield from rows
        return
    variants = [
        [] if row.sample is None else [row.sample.shown(False, r) for r in row.sample.references] for row in rows
    ]
    lengths = iter(encoder.count_tokens([variant for shown in variants for variant in shown]))
    for row, shown in zip(rows, variants, strict=True):
        state, num_tokens = row.state, max((next(lengths) for _ in shown), default=0)
        if num_tokens > encoder.max_tokens:
            fits = all(encoder.fits_without_answers(variant) for variant in shown)
            state = RowState.SHORTENED if fits else RowState.TOO_LONG
        yield ScannedRow(state, row.sample, num_tokens)


class TrainingRows:
    """The rows of a file that can be trained on; one is read and typed each time it is asked for.

    So a file of any size needs little memory. What its rows are is found once and kept in the cache, where processes on
    one machine that come later find it.
    """

    def __init__(self, lines: LineFile, fingerprint: str, skipped: Iterable[int], counts: RowCounts) -> None:
        self.lines = lines
        self.fingerprint = fingerprint
        """changes with the file's content, the tokenizer and the length"""
        self.counts = counts
        left_out = set(skipped)
        self.places = array("q", (row for row in range(len(lines)) if row not in left_out))
        """which rows of the file these are"""

    @classmethod
    def load(cls, source: str, encoder: ExampleEncoder, columns: Columns | None = None) -> TrainingRows:
        """Rows of a file, or of a hub data set's `train` split; `columns` are of one whose fields have other names.

        Raises InputError for a missing file, a row that is no training row, or a file in which nothing can be trained
        on.
        """
        lines = _open(source, columns)
        named = "" if columns is None else dump_json(dict(columns.names), sort_keys=True)
        key = f"{_LAYOUT}:{hash_file(lines.path)}:{encoder.fingerprint}{named}"
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
        kept = cache_folder() / "training-rows" / f"{fingerprint}.json"
        if not kept.is_file():
            scanned, skipped = _scan_all(lines, encoder)
            write_text(kept, dump_json({"skipped": skipped, "counts": vars(scanned)}))
        found = read_json(kept)
        counts: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value for name, value in found["counts"].items()
        }
        rows = cls(lines, fingerprint, found["skipped"], RowCounts(**counts))
        if not rows:
            states = ", ".join(f"{count} {state}" for state, count in rows.counts.states.items())
            raise InputError(f"{source}: no row can be trained on (found: {states})")
        return rows

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> TrainingSample:
        return _parse(self.lines[self.places[row]])


def _scan_all(lines: LineFile, encoder: ExampleEncoder | None) -> tuple[RowCounts, list[int]]:
    """What the rows are, and the numbers of those that are skipped."""
    counts = RowCounts()
    skipped: list[int] = []
    for number, row in enumerate(scan(lines, encoder)):
        counts.add(*row)
        if row.state not in (RowState.OK, RowState.SHORTENED):
            skipped.append(number)
    return counts, skipped
