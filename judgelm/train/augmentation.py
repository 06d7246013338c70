"""Which variant of a row is shown: drawn afresh by (seed, epoch, row).

So it depends neither on the number of processes nor on the order of reading.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from judgelm.train.sample import TrainingSample, Variant


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Both ratios are probabilities from 0 to 1."""

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
