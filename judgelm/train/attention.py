"""Attention over packed examples for machines without flash-attn: each example attends to itself alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

PACKED = "judgelm_packed"
Branch = tuple[int, int, Bool[Tensor, "_ _"]]
"""N tokens behind all examples that go on from a prompt: its begin and end, and which of one another they see"""


def packed_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 heads T d"],
    key: Float[Tensor, "1 kv_heads T d"],
    value: Float[Tensor, "1 kv_heads T v"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Int[Tensor, " borders"] | None = None,
    sliding_window: int | None = None,
    branches: Sequence[Branch] = (),
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 T heads v"], None]:
    """Causal attention within each example of a packed row.

    `cu_seq_lens_q` holds the borders of the examples, from 0 on; without it the row is one example. Behind them stand
    the tokens of the `branches`. No mask of size T x T is made and no work is done between examples. Raises ValueError
    for attention that this cannot compute.
    """
    unknown = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if attention_mask is not None or unknown:
        raise ValueError("this model's attention cannot be packed without flash-attn: leave --packing away")
    ends = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    attend = partial(
        scaled_dot_product_attention, dropout_p=dropout, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    parts = []
    for begin, end in itertools.pairwise(ends):
        mask = None
        if sliding_window is not None and end - begin > sliding_window:
            distance = torch.arange(end - begin, device=query.device)
            distance = distance[:, None] - distance
            mask = (distance >= 0) & (distance < sliding_window)
        own = slice(begin, end)
        parts.append(attend(query[:, :, own], key[:, :, own], value[:, :, own], attn_mask=mask, is_causal=mask is None))
    end = ends[-1]
    for begin, prompt_end, sees in branches:
        own = slice(end, end := end + len(sees))
        keys, values = (torch.cat([each[:, :, begin:prompt_end], each[:, :, own]], dim=2) for each in (key, value))
        mask = _branch_mask(sees.to(query.device), prompt_end - begin, sliding_window)
        parts.append(attend(query[:, :, own], keys, values, attn_mask=mask))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _branch_mask(sees: Bool[Tensor, "N N"], num_prompt: int, window: int | None) -> Bool[Tensor, "N L"]:
    """Which tokens of the prompt and of the branch each token of the branch sees."""
    mask = torch.cat([sees.new_ones(len(sees), num_prompt), sees], dim=1)
    if window is None:
        return mask
    # a token stands as far behind the prompt as there are tokens of the branch that it sees, itself included
    positions = num_prompt - 1 + sees.sum(dim=1)
    keys = torch.cat([torch.arange(num_prompt, device=sees.device), positions])
    return mask & (positions[:, None] - keys < window)


def register_packed_attention() -> str:
    """Make it known to transformers; the name is given to a model as its `attn_implementation`."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
    return PACKED
