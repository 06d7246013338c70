"""Attention without padding: prompts are one row of tokens, a tree; rows that decode keep their keys in slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from judgelm.engine.hf.key_values import KeyValues
from judgelm.engine.hf.tree import Tree
from judgelm.models.devices import only_avx2

Queries = Float[Tensor, "heads t d"]
Keys = Float[Tensor, "kv_heads L d"]
Values = Float[Tensor, "kv_heads L v"]
Attended = Float[Tensor, "t heads v"]
_QUERIES = 128
"""queries of one matrix product on a CPU; more would compute more above the diagonal"""


class Pass(ABC):
    """One forward pass: where its tokens stand, and so what each of them attends to."""

    @abstractmethod
    def attend(self, layer: int, query: Queries, key: Keys, value: Values) -> Attended:
        """A layer's attention, from scaled queries."""


class PromptPass(Pass):
    """Prefill: a forward pass over the tokens of a tree; what its prompts need later goes into slots.

    Args:
        store: gets a slot for each prompt; None keeps nothing.
    """

    def __init__(self, tree: Tree, store: KeyValues | None) -> None:
        self.tree = tree
        self.store = store
        if store is not None:
            lengths = [sum(part.stop - part.start for part in leaf.path) for leaf in tree.leaves]
            self.first = store.open(lengths)
            self.groups = store.groups(1, self.first)

    def attend(self, layer: int, query: Queries, key: Keys, value: Values) -> Attended:
        output = query.new_empty(query.shape[1], query.shape[0], value.shape[2])
        for segment in self.tree.segments:
            own = slice(segment.begin, segment.end)
            keys, values = (_gather(tensor, segment.path) for tensor in (key, value))
            output[own] = causal_attention(query[:, own], keys, values)
        if self.store is not None:
            for group in self.groups:
                keys, values = self.store.layer(layer, group, key, value)
                for slot in group.slots[max(0, self.first - group.slots.start) :]:
                    place, end = slot - group.slots.start, 0
                    for part in self.tree.leaves[slot - self.first].path:
                        begin, end = end, end + part.stop - part.start
                        keys[place, :, begin:end] = key[:, part]
                        values[place, :, begin:end] = value[:, part]
        return output


def _gather(tensor: Float[Tensor, "kv_heads T d"], parts: Sequence[slice]) -> Float[Tensor, "kv_heads L d"]:
    if len(parts) == 1:
        return tensor[:, parts[0]]
    return torch.cat([tensor[:, part] for part in parts], dim=1)


class LinesPass(PromptPass):
    """Prefill of prompts after each of which the same tokens stand, a tree of their own: the lines that may come next.

    Args:
        mask: added to the attention of the N tokens that follow each prompt to one another.
    """

    def __init__(self, tree: Tree, mask: Float[Tensor, "N N"]) -> None:
        super().__init__(tree, None)
        self.mask = mask

    def attend(self, layer: int, query: Queries, key: Keys, value: Values) -> Attended:
        """See `Pass.attend`; the tokens that follow the first prompt stand first behind the tree."""
        output = super().attend(layer, query, key, value)
        begin, num = len(self.tree.input_ids), len(self.mask)
        mask = self.mask.to(query)
        for leaf in self.tree.leaves if num else ():
            own = slice(begin, begin + num)
            keys, values = (_gather(tensor, (*leaf.path, own)) for tensor in (key, value))
            output[own] = masked_attention(query[:, own], keys, values, mask)
            begin += num
        return output


class TokenPass(Pass):
    """Decoding: a forward pass over the next tokens of all rows, `num` of each; a row's own come first in its share.

    Args:
        counts: [B], how many of a row's share are its own; what fills up the rest is read by nobody.
    """

    def __init__(self, store: KeyValues, counts: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        self.store = store
        self.num = max(counts)
        self.positions = (torch.tensor(store.lengths)[:, None] + torch.arange(self.num)).to(device)
        """[B, num]"""
        self.groups = store.groups(self.num)
        """slots that are attended together, and how far"""
        longest = max(group.width for group in self.groups)
        hidden = torch.arange(longest, device=device) > self.positions[:, :, None]
        self.mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
        """[B, num, longest]"""
        self._places = torch.arange(max(len(group.slots) for group in self.groups), device=device)[:, None]
        store.lengths = [length + count for length, count in zip(store.lengths, counts, strict=True)]

    def attend(self, layer: int, query: Queries, key: Keys, value: Values) -> Attended:
        """See `Pass.attend`; t is B * num."""
        batch, num, kv_heads = len(self.positions), self.num, key.shape[0]
        together = query.shape[0] // kv_heads
        # on which device a layer lies is known only here
        places, positions, mask = (part.to(key.device) for part in (self._places, self.positions, self.mask))
        new_keys, new_values = (new.view(kv_heads, batch, num, -1).permute(1, 2, 0, 3) for new in (key, value))
        # the query heads of one kv head as rows of one product
        folded = query.view(kv_heads, together, batch, num, -1).permute(2, 0, 1, 3, 4)
        folded = folded.reshape(batch, kv_heads, together * num, -1)
        parts = []
        for group in self.groups:
            keys, values = self.store.layer(layer, group, key, value)
            rows, count = slice(group.slots.start, group.slots.stop), len(group.slots)
            keys[places[:count], :, positions[rows]] = new_keys[rows]
            values[places[:count], :, positions[rows]] = new_values[rows]
            scores = folded[rows] @ keys.transpose(2, 3)
            scores.view(count, kv_heads, together, num, group.width).add_(mask[rows, None, None, :, : group.width])
            parts.append(torch.softmax(scores, dim=-1) @ values)
        found = torch.cat(parts).view(batch, kv_heads, together, num, -1).permute(0, 3, 1, 2, 4)
        return found.reshape(batch * num, query.shape[0], -1)


def causal_attention(query: Queries, key: Keys, value: Values) -> Attended:
    """Attention of the last t of L positions, from scaled queries."""
    return (_causal_in_blocks if _blocks_are_faster(query, key, value) else _causal_by_torch)(query, key, value)


def _blocks_are_faster(query: Queries, key: Keys, value: Values) -> bool:
    """By benchmarks/attention.json on a CPU with AVX512; without it torch's own is faster in float32, but for a short
    prompt, for one whose beginning was read before, and where its kernel has no such widths.
    """
    if query.device.type != "cpu":
        return False
    whole = query.shape[1] == key.shape[1] > _QUERIES and query.shape[2] == value.shape[2]
    return not (whole and query.dtype == torch.float32 and only_avx2())


def _causal_by_torch(query: Queries, key: Keys, value: Values) -> Attended:
    """By its flash kernel, where the data type has one on the device."""
    found = scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=causal_lower_right(query.shape[1], key.shape[1]),
        scale=1.0,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return found[0].transpose(0, 1)


def _causal_in_blocks(query: Queries, key: Keys, value: Values) -> Attended:
    """A product for some queries and all that they see, the query heads of a kv head folded together."""
    count, length = query.shape[1], key.shape[1]
    most = min(_QUERIES, count)
    above = query.new_full((most, most), float("-inf")).triu_(1)
    parts = []
    for begin in range(0, count, _QUERIES):
        end = min(begin + _QUERIES, count)
        num, seen = end - begin, length - count + end
        parts.append(masked_attention(query[:, begin:end], key[:, :seen], value[:, :seen], above[:num, :num]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def masked_attention(query: Queries, key: Keys, value: Values, mask: Float[Tensor, "t t"]) -> Attended:
    """Attention of the last t of L positions, which see all others, and of one another what the mask shows."""
    (heads, num, width), (kv_heads, length, _) = query.shape, key.shape
    groups = heads // kv_heads
    scores = query.reshape(kv_heads, groups * num, width) @ key.transpose(1, 2)
    scores.view(kv_heads, groups, num, length)[..., length - num :] += mask
    found = torch.softmax(scores, dim=-1) @ value
    return found.view(kv_heads, groups, num, -1).permute(2, 0, 1, 3).reshape(num, heads, -1)
