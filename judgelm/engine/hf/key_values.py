"""The keys and values of what a model has read: rows that decode keep them in slots."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

SlotKeys = Float[Tensor, "slots kv_heads capacity d"]
SlotValues = Float[Tensor, "slots kv_heads capacity v"]
_CAPACITY_STEP = 256
_GROUP_CPU, _WIDTH_STEP_CPU = 16, 64


class Group(NamedTuple):
    """Slots that are attended together, as far as the longest of them."""

    number: int
    slots: range
    """those that are taken"""
    width: int
    """tokens"""


class KeyValues:
    """Keys [slots, kv heads, capacity, d] and values [slots, kv heads, capacity, v] of each layer.

    Args:
        dense: slots lie in small groups, each just as wide as it is attended, as oneDNN copies what has gaps before it
            multiplies. Else all lie in one, with room to grow.
    """

    def __init__(self, dense: bool) -> None:
        self.lengths: list[int] = []
        """tokens in each slot that is taken"""
        self._dense = dense
        self._size, self._step = (_GROUP_CPU, _WIDTH_STEP_CPU) if dense else (sys.maxsize, 1)
        self._stored: dict[tuple[int, int], tuple[SlotKeys, SlotValues]] = {}
        """by layer and number of the group"""

    def open(self, lengths: Sequence[int]) -> int:
        """Take slots for as many tokens each; the first one's number."""
        first = len(self.lengths)
        self.lengths += lengths
        return first

    def groups(self, more: int, first: int = 0) -> list[Group]:
        """Those that have the `first` slot or later ones, with room for so many tokens `more` in each slot."""
        found = []
        for number in range(first // self._size, -(-len(self.lengths) // self._size)):
            slots = range(number * self._size, min((number + 1) * self._size, len(self.lengths)))
            longest = max(self.lengths[slots.start : slots.stop]) + more
            found.append(Group(number, slots, -(-longest // self._step) * self._step))
        return found

    def layer(
        self, index: int, group: Group, key: Float[Tensor, "kv_heads t d"], value: Float[Tensor, "kv_heads t v"]
    ) -> tuple[Float[Tensor, "n kv_heads width d"], Float[Tensor, "n kv_heads width v"]]:
        """A layer's keys and values of a group's n slots, with room for its width, of the kind of `key` and `value`."""
        if (index, group.number) not in self._stored:
            self._stored[index, group.number] = key[None, :, :0], value[None, :, :0]
        keys, values = self._fitted(index, group)
        return keys[: len(group.slots), :, : group.width], values[: len(group.slots), :, : group.width]

    def _fitted(self, index: int, group: Group, least_slots: int = 0) -> tuple[SlotKeys, SlotValues]:
        keys, values = self._stored[index, group.number]
        slots, capacity = self._room(group, keys.shape[0], keys.shape[2])
        if capacity != keys.shape[2] or slots > keys.shape[0]:
            slots = max(slots, least_slots)
            keys, values = _resized(keys, slots, capacity), _resized(values, slots, capacity)
            self._stored[index, group.number] = keys, values
        return keys, values

    def _room(self, group: Group, slots: int, capacity: int) -> tuple[int, int]:
        """How many slots of which capacity a group is to have that has as many as that."""
        num, width = len(group.slots), group.width
        if self._dense:
            # slots are added one by one
            return 1 << (num - 1).bit_length(), width
        # more than is needed now, as all that is there must be copied
        return (
            slots if num <= slots else num * 3 // 2,
            capacity if width <= capacity else -(-(width + width // 8) // _CAPACITY_STEP) * _CAPACITY_STEP,
        )

    def keep(self, slots: Sequence[int]) -> None:
        """Drop the other slots; those that are kept take these places, each its own or one that is dropped."""
        self.lengths = [self.lengths[slot] for slot in slots]
        moves: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for slot, old_slot in enumerate(slots):
            if slot != old_slot:
                (number, place), (old_number, old_place) = divmod(slot, self._size), divmod(old_slot, self._size)
                moves[number, old_number].append((place, old_place))
        groups = self.groups(0)
        for index in {index for index, _ in self._stored} if moves else ():
            for (number, old_number), moved in moves.items():
                old_keys, old_values = self._stored[index, old_number]
                # never smaller: what is moved later may still lie there
                num_slots, _, width, _ = self._stored[index, number][0].shape
                width = max(groups[number].width, width)
                keys, values = self._fitted(index, groups[number]._replace(width=width), num_slots)
                places, old_places = ([each[which] for each in moved] for which in (0, 1))
                width = min(width, old_keys.shape[2])
                keys[places, :, :width] = old_keys[old_places, :, :width]
                values[places, :, :width] = old_values[old_places, :, :width]
        if self._dense:
            self._stored = {place: stored for place, stored in self._stored.items() if place[1] < len(groups)}


def _resized(stored: SlotKeys, num_slots: int, width: int) -> Float[Tensor, "num_slots kv_heads width d"]:
    # zeros: what no row has written must not be NaN, which no mask can hide
    new = stored.new_zeros(num_slots, stored.shape[1], width, stored.shape[3])
    num_slots, width = min(num_slots, stored.shape[0]), min(width, stored.shape[2])
    new[:num_slots, :, :width] = stored[:num_slots, :, :width]
    return new
