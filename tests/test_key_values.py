"""Slots keep what was written into them, however others grow, leave and move."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from judgelm.engine.hf.key_values import KeyValues

HEADS, D, V, LAYERS = 2, 4, 3, 2


class Rows:
    """Rows in a store, and beside it what was written of each: [heads, tokens, d] and [heads, tokens, v] a layer."""

    def __init__(self, dense: bool) -> None:
        self.store = KeyValues(dense)
        self.dense = dense
        self.written: list[list[tuple[Tensor, Tensor]]] = []

    def join(self, lengths: list[int]) -> None:
        first = self.store.open(lengths)
        self.written += [[(torch.empty(HEADS, 0, D), torch.empty(HEADS, 0, V))] * LAYERS for _ in lengths]
        self._write(first, [(0, length) for length in lengths])

    def step(self) -> None:
        begun = list(self.store.lengths)
        self._write(0, [(length, length + 1) for length in begun])
        self.store.lengths = [length + 1 for length in begun]

    def keep(self, kept: list[int]) -> None:
        last = (slot for slot in kept if slot >= len(kept))
        order = [slot if slot in kept else next(last) for slot in range(len(kept))]
        self.store.keep(order)
        self.written = [self.written[slot] for slot in order]

    def _write(self, first: int, spans: list[tuple[int, int]]) -> None:
        for layer in range(LAYERS):
            for group in self.store.groups(1, first):
                keys, values = self.store.layer(layer, group, torch.empty(HEADS, 1, D), torch.empty(HEADS, 1, V))
                for slot in group.slots[max(0, first - group.slots.start) :]:
                    begin, end = spans[slot - first]
                    key, value = torch.randn(HEADS, end - begin, D), torch.randn(HEADS, end - begin, V)
                    keys[slot - group.slots.start, :, begin:end] = key
                    values[slot - group.slots.start, :, begin:end] = value
                    old = self.written[slot][layer]
                    self.written[slot][layer] = torch.cat([old[0], key], 1), torch.cat([old[1], value], 1)

    def check(self) -> None:
        for layer in range(LAYERS):
            for group in self.store.groups(0):
                keys, values = self.store.layer(layer, group, torch.empty(HEADS, 1, D), torch.empty(HEADS, 1, V))
                assert torch.isfinite(keys).all()
                assert torch.isfinite(values).all()
                if self.dense:
                    # what oneDNN's products take as it lies
                    assert keys.is_contiguous()
                    assert values.is_contiguous()
                for place, slot in enumerate(group.slots):
                    length = self.store.lengths[slot]
                    assert group.width >= length
                    key, value = self.written[slot][layer]
                    assert torch.equal(keys[place, :, :length], key)
                    assert torch.equal(values[place, :, :length], value)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_slots_keep_what_was_written(dense: bool, seed: int) -> None:
    torch.manual_seed(seed)
    draw, rows = random.Random(seed), Rows(dense)
    for _ in range(30):
        if not rows.written or (len(rows.written) < 20 and draw.random() < 0.4):
            rows.join([draw.choice([1, 3, 63, 64, 65, 200, 300]) for _ in range(draw.randint(1, 9))])
        elif draw.random() < 0.5:
            count = len(rows.written)
            rows.keep(sorted(draw.sample(range(count), draw.randint(0, count))))
        for _ in range(draw.choice([0, 1, 3])):
            rows.step()
        rows.check()


def test_a_group_is_no_wider_than_its_rows_need() -> None:
    rows = Rows(dense=True)
    rows.join([500, 20, 20])
    assert [(group.width, len(group.slots)) for group in rows.store.groups(1)] == [(512, 3)]
    rows.keep([1, 2])
    assert [group.width for group in rows.store.groups(1)] == [64]
    rows.check()
    rows.join([10] * 15 + [80])
    assert [(group.slots, group.width) for group in rows.store.groups(1)] == [(range(16), 64), (range(16, 18), 128)]
    rows.check()


def test_rows_that_left_take_no_memory() -> None:
    rows = Rows(dense=True)
    rows.join([300] * 40)
    rows.keep([0])
    rows.join([2000])
    rows.check()
    assert {keys.shape for keys, _ in rows.store._stored.values()} == {(2, HEADS, 2048, D)}
