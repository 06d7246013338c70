"""Attention without padding: prompts stand in one row of tokens as a tree, rows that generate keep their keys in slots.

A model of transformers calls `packed_attention` in every layer, through the library's attention interface; where the
tokens stand is said by the `pack` that goes along with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from judgelm.engine.hf.tree import Tree

PACKED = "judgelm_rows"
_QUERIES = 128
"""queries of one matrix product on a CPU; more would compute more above the diagonal"""
_CAPACITY_STEP = 256
_ROWS_CPU = 8
"""rows whose keys are attended in one product on a CPU, as far as the longest of them"""


def can_pack(model: PreTrainedModel, context_length: int) -> bool:
    """Whether all layers attend to all that stands in front, and do so through the attention interface."""
    config = model.config.get_text_config().to_dict()
    kinds = config.get("layer_types") or ["full_attention"]
    window = None if config.get("layer_types") else config.get("sliding_window")
    return (
        bool(type(model)._supports_attention_backend)
        and model.config._attn_implementation in ("sdpa", "flash_attention_2", PACKED)
        and set(kinds) == {"full_attention"}
        and (window is None or window >= context_length)
        and config.get("attn_logit_softcapping") is None
    )


def use_packed_attention(model: PreTrainedModel) -> bool:
    """From now on the model takes packs; called without one it computes what it did.

    False, and nothing has changed, where it turns out that not each of its layers hands its pack to our attention once.
    """
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(PACKED)
    if _hands_packs_over(model):
        return True
    model.set_attn_implementation(before)
    return False


@torch.inference_mode()
def _hands_packs_over(model: PreTrainedModel) -> bool:
    """Read a token and count: some models lose the pack on its way, attend twice, or have layers of another kind."""
    pack = _Counter()
    device = model.get_input_embeddings().weight.device
    try:
        one = torch.zeros(1, dtype=torch.long, device=device)
        read_packed(model, one, one, one, pack)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
        return False
    layers = model.config.get_text_config().num_hidden_layers
    return len(pack.layers) >= layers and len(set(pack.layers)) == len(pack.layers)


def read_packed(
    model: PreTrainedModel, input_ids: Tensor, positions: Tensor, ends: Tensor, pack: Reading | Step | _Counter
) -> Tensor:
    """One forward pass: `input_ids` and `positions` [T], `ends` [B] -> logits [B, V], float32, of the ends."""
    output = model(
        input_ids=input_ids[None],
        position_ids=positions[None],
        # any mask of four dimensions, so that none is made
        attention_mask=input_ids.new_zeros(1, 1, 1, 1),
        use_cache=False,
        logits_to_keep=ends,
        pack=pack,
    )
    logits: Tensor = output.logits[0].float()
    return logits


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pack: Reading | Step | _Counter | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`query` [1, heads, T, d], `key` [1, kv heads, T, d] and `value` [1, kv heads, T, v] -> [1, T, heads, v]."""
    if pack is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    assert isinstance(module.layer_idx, int)
    return pack.attend(module.layer_idx, query[0] * scale, key[0], value[0]).unsqueeze(0), None


class _Counter:
    """A pack that notes which layers attended."""

    def __init__(self) -> None:
        self.layers: list[int] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `Reading.attend`."""
        self.layers.append(layer)
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[2])


class KeyValues:
    """What the model has read, for each layer.

    Keys are [slots, kv heads, d, capacity], values [slots, kv heads, capacity, d]: so both products of a step read
    memory in the order in which it lies.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        """tokens in each slot that is taken"""
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def open(self, lengths: Sequence[int]) -> int:
        """Take slots for as many tokens each; the first one's number."""
        first = len(self.lengths)
        self.lengths += lengths
        return first

    def layer(self, index: int, key: Tensor, value: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with room for all slots and `length` tokens, made as `key` and `value` [kv heads,
        T, d] are, whose widths d may differ.
        """
        values = self._values.get(index)
        slots, capacity = (0, 0) if values is None else (values.shape[0], values.shape[2])
        if len(self.lengths) > slots or length > capacity:
            # more than is needed now, as all that is there must be copied
            if len(self.lengths) > slots:
                slots = len(self.lengths) * 3 // 2
            if length > capacity:
                capacity = -(-(length + length // 8) // _CAPACITY_STEP) * _CAPACITY_STEP
            shapes = (key.shape[2], capacity), (capacity, value.shape[2])
            for store, shape in zip((self._keys, self._values), shapes, strict=True):
                # zeros: what no row has written must not be NaN, which no mask can hide
                grown = key.new_zeros(slots, key.shape[0], *shape)
                if values is not None:
                    old = store[index]
                    grown[: old.shape[0], :, : old.shape[2], : old.shape[3]] = old
                store[index] = grown
        return self._keys[index], self._values[index]

    def keep(self, slots: Sequence[int]) -> None:
        """Drop the other slots; those that are kept move together, in this order."""
        if list(slots) == list(range(len(self.lengths))):
            return
        moves = [(to, slot) for to, slot in enumerate(slots) if to != slot]
        self.lengths = [self.lengths[slot] for slot in slots]
        # memory that is there already is taken up again: to touch new memory takes longer than to fill it
        if not moves:
            return
        to, origin = (list(column) for column in zip(*moves, strict=True))
        for store in (self._keys, self._values):
            for tensor in store.values():
                tensor[to] = tensor[origin]


class Reading:
    """A forward pass over the tokens of a tree; what its prompts need later goes into slots.

    Args:
        store: gets a slot for each prompt; None keeps nothing.
    """

    def __init__(self, tree: Tree, store: KeyValues | None) -> None:
        self.tree = tree
        self.store = store
        if store is not None:
            lengths = [sum(part.stop - part.start for part in leaf.path) for leaf in tree.leaves]
            self.first = store.open(lengths)
            self.longest = max(lengths)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`query` [heads, T, d], scaled, `key` [kv heads, T, d] and `value` [kv heads, T, v] -> [T, heads, v]."""
        output = query.new_empty(query.shape[1], query.shape[0], value.shape[2])
        for segment in self.tree.segments:
            own = slice(segment.begin, segment.end)
            keys, values = (_gather(tensor, segment.path) for tensor in (key, value))
            output[own] = causal_attention(query[:, own], keys, values)
        if self.store is not None:
            keys, values = self.store.layer(layer, key, value, self.longest)
            for slot, leaf in enumerate(self.tree.leaves, start=self.first):
                end = 0
                for part in leaf.path:
                    begin, end = end, end + part.stop - part.start
                    keys[slot, :, :, begin:end] = key[:, part].transpose(1, 2)
                    values[slot, :, begin:end] = value[:, part]
        return output


def _gather(tensor: Tensor, parts: Sequence[slice]) -> Tensor:
    if len(parts) == 1:
        return tensor[:, parts[0]]
    return torch.cat([tensor[:, part] for part in parts], dim=1)


class Branching(Reading):
    """A reading after each of whose prompts the same tokens stand, a tree of their own: what may come next.

    Args:
        mask: [N, N], added to the attention of the N tokens that follow each prompt to one another.
    """

    def __init__(self, tree: Tree, mask: Tensor) -> None:
        super().__init__(tree, None)
        self.mask = mask

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `Reading.attend`; the tokens that follow the first prompt stand first behind the tree."""
        output = super().attend(layer, query, key, value)
        begin, num = len(self.tree.input_ids), len(self.mask)
        mask = self.mask.to(query)
        for leaf in self.tree.leaves if num else ():
            own = slice(begin, begin + num)
            keys, values = (_gather(tensor, (*leaf.path, own)) for tensor in (key, value))
            output[own] = masked_attention(query[:, own], keys, values, mask)
            begin += num
        return output


class Step:
    """A forward pass over the next tokens of all rows, `num` of each; a row's own tokens come first in its share.

    Args:
        counts: [B], how many of a row's share are its own; what fills up the rest is read by nobody.
    """

    def __init__(self, store: KeyValues, counts: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        self.store = store
        self.num = max(counts)
        self.positions = (torch.tensor(store.lengths)[:, None] + torch.arange(self.num)).to(device)
        """[B, num]"""
        self.longest = max(store.lengths) + self.num
        hidden = torch.arange(self.longest, device=device) > self.positions[:, :, None]
        self.mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
        """[B, num, longest]"""
        together = _ROWS_CPU if device.type == "cpu" else len(counts)
        starts = range(0, len(counts), together)
        self.groups = [
            (slice(start, start + together), max(store.lengths[start : start + together]) + self.num)
            for start in starts
        ]
        """slots that are attended together, and how far"""
        self._slots = torch.arange(len(counts), device=device)[:, None]
        store.lengths = [length + count for length, count in zip(store.lengths, counts, strict=True)]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`query` [heads, B * num, d], scaled, `key` and `value` [kv heads, B * num, d or v] -> [B * num, heads, v]."""
        keys, values = self.store.layer(layer, key, value, self.longest)
        batch, num, heads, kv_heads = len(self._slots), self.num, query.shape[0], key.shape[0]
        shape = (kv_heads, batch, num, -1)
        # on which device a layer lies is known only here
        slots, positions, mask = (part.to(key.device) for part in (self._slots, self.positions, self.mask))
        keys[slots, :, :, positions] = key.view(shape).permute(1, 2, 0, 3)
        values[slots, :, positions] = value.view(shape).permute(1, 2, 0, 3)
        # the query heads of one kv head as rows of one product
        groups = heads // kv_heads
        folded = query.view(kv_heads, groups, batch, num, -1).permute(2, 0, 1, 3, 4)
        folded = folded.reshape(batch, kv_heads, groups * num, -1)
        parts = []
        for rows, longest in self.groups:
            scores = folded[rows] @ keys[:batch][rows, ..., :longest]
            scores.view(-1, kv_heads, groups, num, longest).add_(mask[rows, None, None, :, :longest])
            parts.append(torch.softmax(scores, dim=-1) @ values[:batch][rows, :, :longest])
        found = torch.cat(parts).view(batch, kv_heads, groups, num, -1).permute(0, 3, 1, 2, 4)
        return found.reshape(batch * num, heads, -1)


def causal_attention(
    query: Float[Tensor, "heads t d"], key: Float[Tensor, "kv_heads L d"], value: Float[Tensor, "kv_heads L v"]
) -> Float[Tensor, "t heads v"]:
    """Attention of the last t of L positions, from scaled queries."""
    return (_causal_in_blocks if query.device.type == "cpu" else _causal_by_torch)(query, key, value)


def _causal_by_torch(
    query: Float[Tensor, "heads t d"], key: Float[Tensor, "kv_heads L d"], value: Float[Tensor, "kv_heads L v"]
) -> Float[Tensor, "t heads v"]:
    """On a GPU, by its flash kernel where the data type has one."""
    found = scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=causal_lower_right(query.shape[1], key.shape[1]),
        scale=1.0,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return found[0].transpose(0, 1)


def _causal_in_blocks(
    query: Float[Tensor, "heads t d"], key: Float[Tensor, "kv_heads L d"], value: Float[Tensor, "kv_heads L v"]
) -> Float[Tensor, "t heads v"]:
    """On a CPU in bfloat16 faster than torch's own, which benchmarks/README.md shows."""
    count, length = query.shape[1], key.shape[1]
    most = min(_QUERIES, count)
    above = query.new_full((most, most), float("-inf")).triu_(1)
    parts = []
    for begin in range(0, count, _QUERIES):
        end = min(begin + _QUERIES, count)
        num, seen = end - begin, length - count + end
        parts.append(masked_attention(query[:, begin:end], key[:, :seen], value[:, :seen], above[:num, :num]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def masked_attention(
    query: Float[Tensor, "heads n d"],
    key: Float[Tensor, "kv_heads L d"],
    value: Float[Tensor, "kv_heads L v"],
    mask: Float[Tensor, "n n"],
) -> Float[Tensor, "n heads v"]:
    """Attention of the last n of L positions, which see all others, and of one another what the mask shows."""
    (heads, num, width), (kv_heads, length, _) = query.shape, key.shape
    groups = heads // kv_heads
    scores = query.reshape(kv_heads, groups * num, width) @ key.transpose(1, 2)
    scores.view(kv_heads, groups, num, length)[..., length - num :] += mask
    found = torch.softmax(scores, dim=-1) @ value
    return found.view(kv_heads, groups, num, -1).permute(2, 0, 1, 3).reshape(num, heads, -1)
