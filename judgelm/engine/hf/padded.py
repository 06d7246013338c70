"""A batch padded on the left, for models whose attention cannot be packed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from judgelm.engine.hf.batch import RunningBatch
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.row import Row
from judgelm.errors import InputError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PaddedBatch(RunningBatch):
    """A left-padded batch over one key-value cache of transformers.

    Args:
        mixed: rows may join while others run. The cache then keeps all keys of layers with a sliding window. False
            for models whose cache cannot be put together from parts (see `can_mix`): all rows join at once.
    """

    def __init__(self, *args: Any, mixed: bool) -> None:
        super().__init__(*args)
        self.mixed = mixed
        self._cache = DynamicCache()
        self._mask: Int[Tensor, "B T"] = torch.empty(0, 0, dtype=torch.long)
        """1 where the cache has a row's own keys"""

    def _prefill(self, rows: Sequence[Row]) -> Float32[Tensor, "B V"]:
        if self.rows and not self.mixed:
            raise ValueError("rows can join only while no others run")
        prompts = [row.input_ids for row in rows]
        length = max(map(len, prompts))
        # hidden by the mask, but read
        rows_of_embedding = self.model.get_input_embeddings().weight.shape[0]
        filler = next((token for token in self.engine.eos if token < rows_of_embedding), 0)
        input_ids = torch.tensor([[filler] * (length - len(ids)) + ids for ids in prompts], device=self.device)
        mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts], device=self.device)
        cache = DynamicCache() if self.mixed else DynamicCache(config=self.model.config)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        kinds = []
        for row, prompt, places in zip(rows, prompts, positions.tolist(), strict=True):
            row.num_read = len(prompt)
            kinds.append(self.rope.kinds(len(row.request.input_ids), len(prompt), places))
        logits = forward_padded(self.model, self.rope, input_ids, mask, positions, cache, kinds)
        if self.rows:
            cache, mask = _put_together(self._cache, self._mask, cache, mask)
        self._cache, self._mask = cache, mask
        return logits

    def _decode(self) -> Float32[Tensor, "B V"]:
        input_ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self._mask.device)
        positions = self._mask.sum(-1, keepdim=True)
        kinds = []
        for row in self.rows:
            kinds.append(self.rope.kinds(row.num_read, row.num_read + 1, [row.num_read]))
            row.num_read += 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=1)
        return forward_padded(self.model, self.rope, input_ids, self._mask, positions, self._cache, kinds)

    def _drop(self, kept: Sequence[int]) -> list[int]:
        if kept:
            # on the CPU, as the cache's layers may lie on several devices
            indices = torch.tensor(kept)
            self._cache.reorder_cache(indices)
            self._mask = self._mask[indices]
        else:
            self._cache, self._mask = DynamicCache(), self._mask[:0, :0]
        return list(kept)


def forward_padded(
    model: PreTrainedModel,
    rope: LengthRope,
    input_ids: Int[Tensor, "B T"],
    mask: Int[Tensor, "B L"],
    positions: Int[Tensor, "B T"],
    cache: DynamicCache,
    kinds: Sequence[Sequence[int]],
) -> Float32[Tensor, "B V"]:
    """The logits of the last position."""
    return forward_cached(model, rope, input_ids, mask, positions, cache, kinds, last=1)[:, -1].float()


def forward_cached(
    model: PreTrainedModel,
    rope: LengthRope,
    input_ids: Int[Tensor, "B T"],
    mask: Int[Tensor, "B L"],
    positions: Int[Tensor, "B T"],
    cache: DynamicCache,
    kinds: Sequence[Sequence[int]],
    last: int,
) -> Float[Tensor, "B P V"]:
    """The logits of so many last positions, or of more, where the model gives those of all."""
    takes = _parameters(type(model).forward)
    extra = {"position_ids": positions, "logits_to_keep": last}
    with rope.using(kinds):
        output = model(
            input_ids=input_ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in takes},
        )
    logits: Tensor = output.logits
    return logits


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


@torch.inference_mode()
def check_cache(model: PreTrainedModel) -> bool:
    """Read two tokens, each alone: whether the cache of transformers is all that the model remembers by.

    One that keeps a state in its own layers beside it forgets when rows leave. Raises InputError for a model that
    cannot keep what it reads in such a cache.
    """
    problem: Exception | None = None
    if "past_key_values" in inspect.signature(model.forward).parameters:
        try:
            first, second = (_own_tensors(model, token) for token in range(2))
            return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
            problem = error
    reason = "it keeps a state of its own" if problem is None else one_line(str(problem))
    raise InputError(f"a model of type {model.config.model_type} cannot judge here ({reason})") from problem


def _own_tensors(model: PreTrainedModel, token: int) -> dict[str, Tensor]:
    """What its layers hold beside weights and buffers, once it has read a token; a rope's numbers are the same then."""
    ids = torch.tensor([[token]], device=model.get_input_embeddings().weight.device)
    model(input_ids=ids, past_key_values=DynamicCache(config=model.config), use_cache=True)
    return {
        f"{name}.{attribute}": value.clone()
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def can_mix(model: PreTrainedModel) -> bool:
    """Whether the model's cache has nothing but keys and values, a place a token, so that rows can join and leave."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def knows_padding(model: PreTrainedModel) -> bool:
    """Whether the model's cache is of transformers' common kinds; an architecture's own may take padding for text."""
    return all(type(layer).__module__ == DynamicCache.__module__ for layer in DynamicCache(config=model.config).layers)


def _put_together(
    first: DynamicCache, first_mask: Int[Tensor, "B1 T1"], second: DynamicCache, second_mask: Int[Tensor, "B2 T2"]
) -> tuple[DynamicCache, Int[Tensor, "B T"]]:
    """Both caches' rows in one, as short as the longest row allows."""
    length = max(int(first_mask.sum(-1).max()), int(second_mask.sum(-1).max()))
    for ours, theirs in zip(first.layers, second.layers, strict=True):
        if ours.is_initialized:
            ours.keys = torch.cat([_to_length(ours.keys, length, -2), _to_length(theirs.keys, length, -2)])
            ours.values = torch.cat([_to_length(ours.values, length, -2), _to_length(theirs.values, length, -2)])
    return first, torch.cat([_to_length(first_mask, length, -1), _to_length(second_mask, length, -1)])


def _to_length(tensor: Tensor, length: int, dim: int) -> Tensor:
    """Padding added or taken away on the left of `dim`, which counts from the last one, -1."""
    return pad(tensor, (0, 0) * (-dim - 1) + (length - tensor.shape[dim], 0))
