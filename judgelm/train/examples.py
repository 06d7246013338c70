"""Rows -> examples in the order in which they are trained on; tokenized when they are asked for, or before."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch.utils.data import Dataset, Sampler

from judgelm.criteria import Scale
from judgelm.errors import InputError
from judgelm.jsonl import Record
from judgelm.train.consistency import find_compared_scale
from judgelm.train.encoder import EncodedExample, ExampleEncoder
from judgelm.train.rows import TrainingRows
from judgelm.train.sample import TrainingSample, Variant

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Which variant of a row is shown: drawn afresh by (seed, epoch, row), both ratios being probabilities from 0 to 1.

    So it depends neither on the number of processes nor on the order of reading.
    """

    swap: float = 0.0
    reference: float = 0.0
    seed: int = 0

    def draw(self, epoch: int, row: int) -> tuple[bool, bool]:
        """Whether this row's answers are exchanged and its reference is shown in this epoch."""
        chance = random.Random(f"{self.seed}:{epoch}:{row}")
        first, second = chance.random(), chance.random()
        return first < self.swap, second < self.reference

    def apply(self, sample: TrainingSample, epoch: int, row: int) -> Variant:
        """The variant of `sample` for this epoch; the sample itself stays as it is."""
        return sample.shown(*self.draw(epoch, row))


@dataclass(eq=False)
class JudgeDataset(Dataset[EncodedExample]):
    """Examples by (epoch, row): index `epoch * len(rows) + row`, as `EpochSampler` draws them.

    With an index below `len(self)` it is a plain data set of epoch 0. Holds no state, so loader workers need not be
    told the epoch.
    """

    rows: TrainingRows
    encoder: ExampleEncoder
    augmentation: Augmentation
    variants: datasets.Dataset | None = None
    """of `pretokenize`; None: every example is tokenized when it is asked for"""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedExample:
        epoch, row = divmod(index, len(self))
        if self.variants is None:
            return self.encoder.encode(self.augmentation.apply(self.rows[row], epoch, row))
        return self._stored(row, *self.augmentation.draw(epoch, row))

    def in_both_orders(self, index: int) -> BothExamples:
        """The row in both orders of its answers, with its reference in both or in none; a single answer in one."""
        epoch, row = divmod(index, len(self))
        _, with_reference = self.augmentation.draw(epoch, row)
        sample = self.rows[row]
        orders = (False, True) if len(sample.sample.answers) == 2 else (False,)
        shown = [sample.shown(swapped, with_reference) for swapped in orders]
        if self.variants is None:
            examples = [self.encoder.encode(variant) for variant in shown]
        else:
            examples = [self._stored(row, swapped, with_reference) for swapped in orders]
        return BothExamples(tuple(examples), find_compared_scale(shown[0]))

    def _stored(self, row: int, swapped: bool, with_reference: bool) -> EncodedExample:
        assert self.variants is not None
        stored = self.variants[row]
        variant = swapped + 2 * with_reference
        if variant >= len(stored["input_ids"]):
            variant = int(swapped)
        return EncodedExample(*(stored[name][variant] for name in EncodedExample._fields))


class BothExamples(NamedTuple):
    """What one step sees of a row under `--swap_consistency`."""

    examples: tuple[EncodedExample, ...]
    """as given and, where there are two answers, exchanged"""
    scale: Scale | None
    """of the scores that are compared between both; None: they are not"""


@dataclass(eq=False)
class BothOrders(Dataset[BothExamples]):
    """The rows of a data set, each in both orders of its answers; indices are those of the data set."""

    rows: JudgeDataset

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> BothExamples:
        return self.rows.in_both_orders(index)


@dataclass(eq=False)
class EpochSampler(Sampler[int]):
    """Every row once an epoch, in an order drawn from (seed, epoch) or in the file's; the same on every process."""

    num_rows: int
    seed: int
    shuffle: bool = True
    epoch: int = 0

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

    # the library's own bars, where it only copies
    datasets.disable_progress_bars()
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
    finally:
        datasets.enable_progress_bars()


def _encode_variants(rows: TrainingRows, encoder: ExampleEncoder, numbers: Sequence[int]) -> Iterator[Record]:
    for sample in map(rows.__getitem__, numbers):
        variants = [
            encoder.encode(sample.shown(swapped, shown)) for shown in sample.references for swapped in (False, True)
        ]
        yield {name: [getattr(variant, name) for variant in variants] for name in EncodedExample._fields}
