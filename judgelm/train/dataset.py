"""Training rows -> augmented, encoded examples -> batches.

Rows lie in an Arrow file that is mapped into memory. Which variant of a row is shown is drawn afresh by
(seed, epoch, row), from copies, so that it depends neither on the number of processes nor on the order of reading.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from judgelm.encoding import EncodedExample, ExampleEncoder
from judgelm.errors import InputError, one_line
from judgelm.jsonl import Line, Record, dump_line, read_lines, write_lines
from judgelm.sample import TrainingSample

if TYPE_CHECKING:
    import datasets

IGNORED = -100
"""label of a token that is not learnt"""
_LAYOUT = "2"
"""raise it when the stored columns change, so that older caches are left aside"""
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

    @property
    def trained(self) -> bool:
        return self in (RowState.OK, RowState.SHORTENED)


class ScannedRow(NamedTuple):
    """A row of the training file and what was found about it."""

    line: Line
    state: RowState
    sample: TrainingSample | None
    """None where the row is skipped for its text"""
    num_tokens: int
    """of the longest variant as given, before shortening; 0 without a tokenizer"""


def scan(lines: Iterable[Line], encoder: ExampleEncoder | None) -> Iterator[ScannedRow]:
    """Type every row and say what becomes of it; raises InputError for a row that is no training row."""
    chunk: list[tuple[Line, RowState, TrainingSample | None]] = []
    for line in lines:
        chunk.append((line, *_read_row(line)))
        if len(chunk) == _SCANNED_TOGETHER:
            yield from _measure(chunk, encoder)
            chunk.clear()
    yield from _measure(chunk, encoder)


def _read_row(line: Line) -> tuple[RowState, TrainingSample | None]:
    if line.record.get("text") == "error":
        return RowState.ERROR, None
    sample = _parse(line)
    return (RowState.UNPARSED, None) if sample.judgement.scores is None else (RowState.OK, sample)


def _parse(line: Line) -> TrainingSample:
    """A row as it is trained on: a judgement with the reference counts only where it has scores."""
    try:
        sample = TrainingSample.from_line(line)
    except ValueError as error:
        raise InputError(f"{line.where}: {error}") from None
    if sample.judgement_with_reference is not None and sample.judgement_with_reference.scores is None:
        return replace(sample, judgement_with_reference=None)
    return sample


def _measure(
    chunk: Sequence[tuple[Line, RowState, TrainingSample | None]], encoder: ExampleEncoder | None
) -> Iterator[ScannedRow]:
    if encoder is None:
        yield from (ScannedRow(line, state, sample, 0) for line, state, sample in chunk)
        return
    variants = [[] if sample is None else _unswapped(sample) for _, _, sample in chunk]
    lengths = iter(encoder.count_tokens([example for shown in variants for example in shown]))
    for (line, state, sample), shown in zip(chunk, variants, strict=True):
        num_tokens = max((next(lengths) for _ in shown), default=0)
        if num_tokens > encoder.max_tokens:
            fits = all(encoder.fits_without_answers(*example) for example in shown)
            state = RowState.SHORTENED if fits else RowState.TOO_LONG
        yield ScannedRow(line, state, sample, num_tokens)


def _unswapped(sample: TrainingSample) -> list[tuple[Any, str]]:
    shown = [sample.shown(False)] + ([sample.shown(True)] if sample.judgement_with_reference else [])
    return [(prompt, judgement.text) for prompt, judgement in shown]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Which variant of a row is shown; both ratios are probabilities from 0 to 1."""

    swap: float = 0.0
    reference: float = 0.0
    seed: int = 0

    def draw(self, epoch: int, row: int) -> tuple[bool, bool]:
        """Whether this row's answers are exchanged and its reference is shown in this epoch."""
        chance = random.Random(f"{self.seed}:{epoch}:{row}")
        first, second = chance.random(), chance.random()
        return first < self.swap, second < self.reference

    def apply(self, sample: TrainingSample, epoch: int, row: int) -> TrainingVariant:
        """The variant of `sample` for this epoch; the sample itself stays as it is."""
        return show(sample, *self.draw(epoch, row))


class TrainingVariant(NamedTuple):
    """What the judge is shown and the teacher's judgement of exactly that."""

    sample: Any
    text: str


def show(sample: TrainingSample, swapped: bool, with_reference: bool) -> TrainingVariant:
    """One of a row's four variants; without reference fields there are two."""
    prompt, judgement = (sample.swapped() if swapped else sample).shown(with_reference)
    return TrainingVariant(prompt, judgement.text)


class TrainingRows:
    """The rows of a training file, in an Arrow file in the `datasets` cache, mapped into memory.

    The file is read and checked once; processes on one machine that come later find it in the cache.
    """

    def __init__(self, source: str, stored: datasets.Dataset) -> None:
        self.source = source
        self.stored = stored
        self.states = [RowState(state) for state in stored["state"]]
        self._trained = [index for index, state in enumerate(self.states) if state.trained]

    @classmethod
    def load(cls, source: str, encoder: ExampleEncoder) -> TrainingRows:
        """Rows of a local JSONL file or of a hub data set's `train` split.

        Raises InputError for a missing file, a row that is no training row, or a file in which nothing can be trained
        on.
        """
        import datasets

        path = find_rows(source)
        digest = _file_digest(path)
        key = hashlib.sha256(f"{_LAYOUT}:{digest}:{encoder.fingerprint}".encode()).hexdigest()[:32]
        with _quiet_datasets():
            try:
                stored = datasets.Dataset.from_generator(
                    functools.partial(_store, path, encoder), fingerprint=key, features=_features()
                )
            except datasets.exceptions.DatasetGenerationError as error:
                if isinstance(error.__cause__, InputError):
                    raise error.__cause__ from None
                raise
        rows = cls(source, stored)
        if not rows:
            found = ", ".join(f"{count} {state}" for state, count in _count(rows.states).items())
            raise InputError(f"{source}: no row can be trained on (found: {found})")
        return rows

    def __len__(self) -> int:
        return len(self._trained)

    def __getitem__(self, row: int) -> TrainingSample:
        stored = self.stored[self._trained[row]]
        return _parse(Line(json.loads(stored["line"]), Path(self.source), stored["number"]))

    def scanned(self) -> Iterator[ScannedRow]:
        """Every row of the file as it was found, skipped ones too."""
        for stored in self.stored:
            line = Line(json.loads(stored["line"]), Path(self.source), stored["number"])
            state = RowState(stored["state"])
            sample = None if state in (RowState.ERROR, RowState.UNPARSED) else _parse(line)
            yield ScannedRow(line, state, sample, stored["num_tokens"])

    @property
    def fingerprint(self) -> str:
        """Changes with the file's content, the tokenizer and the length."""
        return str(self.stored._fingerprint)

    def pretokenize(self, encoder: ExampleEncoder, num_proc: int | None = None) -> datasets.Dataset:
        """All variants of every trained row as token ids, in an Arrow file too.

        Column `input_ids` holds a list of variants (index: swapped + 2 x with reference), `num_prompt` and
        `num_score_line` the number of tokens of each variant's prompt and score line.
        """
        with _quiet_datasets():
            return self.stored.select(self._trained).map(
                functools.partial(_encode_variants, encoder),
                remove_columns=self.stored.column_names,
                num_proc=num_proc,
                new_fingerprint=hashlib.sha256(f"{self.fingerprint}:variants".encode()).hexdigest()[:32],
                desc="Tokenizing",
            )


def _store(path: Path, encoder: ExampleEncoder) -> Iterator[Record]:
    for row in scan(read_lines(path), encoder):
        yield {
            "line": dump_line(row.line.record),
            "number": row.line.number,
            "state": row.state.value,
            "num_tokens": row.num_tokens,
        }


def _features() -> datasets.Features:
    from datasets import Features, Value

    columns = {"line": "large_string", "number": "int64", "state": "string", "num_tokens": "int64"}
    return Features({name: Value(kind) for name, kind in columns.items()})


def _encode_variants(encoder: ExampleEncoder, stored: Record) -> Record:
    sample = _parse(Line(json.loads(stored["line"]), Path("row"), stored["number"]))
    references = (False, True) if sample.judgement_with_reference else (False,)
    variants = [encoder.encode(*show(sample, swapped, shown)) for shown in references for swapped in (False, True)]
    return {name: [getattr(variant, name) for variant in variants] for name in EncodedExample._fields}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Without the library's own bars, where they only copy."""
    import datasets

    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _count(states: Iterable[RowState]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in states:
        counts[state.value] = counts.get(state.value, 0) + 1
    return counts


class JudgeDataset(Dataset[EncodedExample]):
    """Examples by (epoch, row): index `epoch * len(rows) + row`, as `EpochSampler` draws them.

    With an index below `len(self)` it is a plain data set of epoch 0. Holds no state, so loader workers need not be
    told the epoch.
    """

    def __init__(
        self,
        rows: TrainingRows,
        encoder: ExampleEncoder,
        augmentation: Augmentation,
        variants: datasets.Dataset | None = None,
    ) -> None:
        self.rows = rows
        self.encoder = encoder
        self.augmentation = augmentation
        self.variants = variants
        """of `TrainingRows.pretokenize`; None: every example is tokenized when it is asked for"""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedExample:
        epoch, row = divmod(index, len(self))
        if self.variants is None:
            return self.encoder.encode(*self.augmentation.apply(self.rows[row], epoch, row))
        swapped, with_reference = self.augmentation.draw(epoch, row)
        stored = self.variants[row]
        variant = swapped + 2 * with_reference
        if variant >= len(stored["input_ids"]):
            variant = int(swapped)
        return EncodedExample(*(stored[name][variant] for name in EncodedExample._fields))


class EpochSampler(Sampler[int]):
    """Every row once an epoch, in an order drawn from (seed, epoch) or in the file's; the same on every process."""

    def __init__(self, num_rows: int, seed: int, shuffle: bool = True) -> None:
        self.num_rows = num_rows
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.num_rows))
        if self.shuffle:
            random.Random(f"{self.seed}:{self.epoch}").shuffle(order)
        return (self.epoch * self.num_rows + row for row in order)


@dataclass(frozen=True, slots=True)
class Collator:
    """Examples -> one batch for a causal language model.

    `labels` [B, K] are already shifted and stand beside `logits_to_keep` [K], the positions whose logits predict them:
    the prompt's logits are never computed. Where the model cannot leave logits out, K = T.
    """

    pad: int
    packing: bool = False
    """one row [1, T] of all examples, each with its own positions and attending to itself alone, without padding"""
    narrow: bool = True
    """whether the model's forward takes `logits_to_keep`"""
    score_weight: float = 1.0
    """of the score line's tokens in the loss"""

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, Any]:
        return self._pack(examples) if self.packing else self._pad(examples)

    def _pad(self, examples: Sequence[EncodedExample]) -> dict[str, Any]:
        length = max(len(example.input_ids) for example in examples)
        batch = self._targets([_targets(example, length) for example in examples])
        padding = [length - len(example.input_ids) for example in examples]
        # no mask: padding stands on the right, where a causal model never looks from a real token
        batch["input_ids"] = torch.tensor(
            [e.input_ids + [self.pad] * n for e, n in zip(examples, padding, strict=True)]
        )
        return batch

    def _pack(self, examples: Sequence[EncodedExample]) -> dict[str, Any]:
        lengths = [len(example.input_ids) for example in examples]
        parts = [_targets(example, len(example.input_ids)) for example in examples]
        labels = [label for part in parts for label in part[0]]
        batch = self._targets([(labels, [is_score for part in parts for is_score in part[1]])])
        batch["input_ids"] = torch.tensor([[token for example in examples for token in example.input_ids]])
        batch["position_ids"] = torch.tensor([[position for n in lengths for position in range(n)]])
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        # the names under which transformers' flash attention takes the borders of packed sequences
        batch |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
        batch |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
        return batch

    def _targets(self, rows: Sequence[tuple[list[int], list[bool]]]) -> dict[str, Any]:
        labels = torch.tensor([row[0] for row in rows])
        is_score = torch.tensor([row[1] for row in rows])
        batch: dict[str, Any] = {"labels": labels}
        if self.narrow:
            kept = (labels != IGNORED).any(dim=0).nonzero().flatten()
            batch = {"labels": labels[:, kept], "logits_to_keep": kept}
            is_score = is_score[:, kept]
        if self.score_weight != 1.0:
            batch["loss_weights"] = torch.where(is_score, self.score_weight, 1.0)
        return batch


def _targets(example: EncodedExample, length: int) -> tuple[list[int], list[bool]]:
    """For each position the token to be predicted there, and whether it belongs to the score line."""
    ids, prompt = example.input_ids, example.num_prompt
    padding = length - len(ids)
    labels = [IGNORED] * (prompt - 1) + ids[prompt:] + [IGNORED] * (1 + padding)
    last = prompt - 1 + example.num_score_line
    return labels, [prompt - 1 <= position < last for position in range(length)]
