"""Rows -> examples in the order in which they are trained on; tokenized when they are asked for, or before."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch.utils.data import Dataset, Sampler

from judgelm.errors import InputError
from judgelm.jsonl import Record
from judgelm.train.augmentation import Augmentation
from judgelm.train.encoder import EncodedExample, ExampleEncoder
from judgelm.train.rows import TrainingRows

if TYPE_CHECKING:
    import datasets


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
        """of `pretokenize`; None: every example is tokenized when it is asked for"""

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


def pretokenize(rows: TrainingRows, encoder: ExampleEncoder, num_proc: int | None = None) -> datasets.Dataset:
    """All variants of every row as token ids, in an Arrow file in the `datasets` cache.

    Column `input_ids` holds a list of variants (index: swapped + 2 x with reference), `num_prompt` and
    `num_score_line` the number of tokens of each variant's prompt and score line.
    """
    import datasets

    with _quiet_datasets():
        try:
            return datasets.Dataset.from_generator(
                functools.partial(_encode_variants, rows, encoder),
                gen_kwargs={"numbers": list(range(len(rows)))},
                num_proc=num_proc,
                fingerprint=hashlib.sha256(f"{rows.fingerprint}:variants".encode()).hexdigest()[:32],
            )
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            raise


def _encode_variants(rows: TrainingRows, encoder: ExampleEncoder, numbers: Sequence[int]) -> Iterator[Record]:
    for sample in map(rows.__getitem__, numbers):
        variants = [
            encoder.encode(*sample.shown(swapped, shown)) for shown in sample.references for swapped in (False, True)
        ]
        yield {name: [getattr(variant, name) for variant in variants] for name in EncodedExample._fields}


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Without the library's own bars, where they only copy."""
    import datasets

    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
