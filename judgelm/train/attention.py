"""Attention over packed examples for machines without flash-attn: each example attends to itself alone."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

PACKED = "judgelm_packed"


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
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 T heads v"], None]:
    """Causal attention within each example of a packed row.

    `cu_seq_lens_q` holds the borders of the examples, 0 and T included; without it the row is one example. No mask of
    size T x T is made and no work is done between examples. Raises ValueError for attention that this cannot compute.
    """
    unknown = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if attention_mask is not None or unknown:
        raise ValueError("this model's attention cannot be packed without flash-attn: leave --packing away")
    ends = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    parts = []
    for begin, end in itertools.pairwise(ends):
        mask = None
        if sliding_window is not None and end - begin > sliding_window:
            distance = torch.arange(end - begin, device=query.device)
            distance = distance[:, None] - distance
            mask = (distance >= 0) & (distance < sliding_window)
        parts.append(
            scaled_dot_product_attention(
                query[:, :, begin:end],
                key[:, :, begin:end],
                value[:, :, begin:end],
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def register_packed_attention() -> str:
    """Make it known to transformers; the name is given to a model as its `attn_implementation`."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
    return PACKED
