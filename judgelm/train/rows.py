"""The rows of a training file: typed and counted in one pass, then read at their places when they are asked for."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from judgelm.errors import InputError, one_line
from judgelm.files import cache_folder, hash_file, write_text
from judgelm.jsonl import Line, LineFile, Record, dump_json, read_json, write_lines
from judgelm.train.counts import RowCounts
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.sample import TrainingSample

_LAYOUT = "2"
"""raise it when what is found about a row changes, so that older caches are left aside"""
_SCANNED_TOGETHER = 256
_FILES = (".jsonl", ".json", ".txt", ".gz")


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


def count_rows(source: str, encoder: ExampleEncoder | None = None) -> RowCounts:
    """What a JSONL file or a hub data set's `train` split holds; tokens are counted where an encoder is given.

    Raises InputError for a missing file and for a row that is no training row.
    """
    counts = RowCounts()
    for row in scan(LineFile(find_rows(source)), encoder):
        counts.add(*row)
    return counts


def scan(lines: Iterable[Line], encoder: ExampleEncoder | None) -> Iterator[ScannedRow]:
    """Type every row and say what becomes of it; raises InputError for a row that is no training row."""
    chunk: list[ScannedRow] = []
    for line in lines:
        chunk.append(_read_row(line))
        if len(chunk) == _SCANNED_TOGETHER:
            yield from _measure(chunk, encoder)
            chunk.clear()
    yield from _measure(chunk, encoder)


def _read_row(line: Line) -> ScannedRow:
    if line.record.get("text") == "error":
        return ScannedRow(RowState.ERROR, None)
    sample = _parse(line)
    return ScannedRow(RowState.UNPARSED, None) if sample.judgement.scores is None else ScannedRow(RowState.OK, sample)


def _parse(line: Line) -> TrainingSample:
    """A row as it is trained on: a judgement with the reference counts only where it has scores."""
    try:
        sample = TrainingSample.from_line(line)
    except ValueError as error:
        raise InputError(f"{line.where}: {error}") from None
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
            fits = all(encoder.fits_without_answers(*variant) for variant in shown)
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
    def load(cls, source: str, encoder: ExampleEncoder) -> TrainingRows:
        """Rows of a local JSONL file or of a hub data set's `train` split.

        Raises InputError for a missing file, a row that is no training row, or a file in which nothing can be trained
        on.
        """
        lines = LineFile(find_rows(source))
        key = f"{_LAYOUT}:{hash_file(lines.path)}:{encoder.fingerprint}"
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
        kept = cache_folder() / "training-rows" / f"{fingerprint}.json"
        if not kept.is_file():
            write_text(kept, dump_json(_scan_all(lines, encoder)))
        found = read_json(kept)
        rows = cls(lines, fingerprint, found["skipped"], RowCounts.from_record(found["counts"]))
        if not rows:
            states = ", ".join(f"{count} {state}" for state, count in rows.counts.states.items())
            raise InputError(f"{source}: no row can be trained on (found: {states})")
        return rows

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> TrainingSample:
        return _parse(self.lines[self.places[row]])


def _scan_all(lines: LineFile, encoder: ExampleEncoder) -> Record:
    counts = RowCounts()
    skipped: list[int] = []
    for number, row in enumerate(scan(lines, encoder)):
        counts.add(*row)
        if row.state not in (RowState.OK, RowState.SHORTENED):
            skipped.append(number)
    return {"skipped": skipped, "counts": vars(counts)}


def find_rows(source: str) -> Path:
    """A JSONL file; a hub data set's train split is first written as one, into the cache. Raises InputError."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1 or path.suffix in _FILES:
        raise InputError(f"{source}: no such file")
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = _fetch_files(source)
        if files:
            return files[0]
        fetched = datasets.load_dataset(source, split="train")
    except (OSError, ValueError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{source}: no such file, and the hub did not give such a data set ({reason})") from None
    # a data set of another form, such as Parquet
    kept = Path(datasets.config.HF_DATASETS_CACHE) / "judgelm" / f"{fetched._fingerprint}.jsonl"
    if not kept.is_file():
        write_lines(kept, fetched)
    return kept


def _fetch_files(source: str) -> list[Path]:
    """The one JSONL file of a hub data set with "train" in its name: rows of mixed types stay as they are."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(source, repo_type="dataset", allow_patterns=["*train*.jsonl"]))
    files = sorted(folder.rglob("*train*.jsonl"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{source}: several files could be meant ({names}): download one and name it")
    return files
