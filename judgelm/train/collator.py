"""Examples -> one batch, with a label for each target."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from judgelm.train.encoder import EncodedExample

IGNORED = -100
"""label of a token that is not learnt"""


@dataclass(frozen=True, slots=True)
class Collator:
    """Examples -> one batch for a causal language model.

    `labels` [B, K] are already shifted and stand beside `logits_to_keep` [K], the positions whose logits predict them:
    the prompt's logits are never computed. Where the model cannot leave logits out, K = T.
    """

    pad: int
    packing: bool = False
    """one row [1, T] of all examples, each with its own positions and attending to itself alone, without padding"""
    narrow: bool = True
    """whether the model's forward takes `logits_to_keep`"""
    score_weight: float = 1.0
    """of the score line's tokens in the loss"""

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, Any]:
        ids, labels, is_score = zip(*map(_to_tensors, examples), strict=True)
        if self.packing:
            batch = _borders([len(each) for each in ids]) | {"input_ids": torch.cat(ids)[None]}
            return batch | self._targets(torch.cat(labels)[None], torch.cat(is_score)[None])
        # no mask: padding stands on the right, where a causal model never looks from a real token
        batch = {"input_ids": pad_sequence(list(ids), batch_first=True, padding_value=self.pad)}
        padded = pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return batch | self._targets(padded, pad_sequence(list(is_score), batch_first=True))

    def _targets(self, labels: Int[Tensor, "B T"], is_score: Bool[Tensor, "B T"]) -> dict[str, Tensor]:
        batch = {"labels": labels}
        if self.narrow:
            kept = (labels != IGNORED).any(dim=0).nonzero().flatten()
            batch = {"labels": labels[:, kept], "logits_to_keep": kept}
            is_score = is_score[:, kept]
        if self.score_weight != 1.0:
            batch["loss_weights"] = torch.where(is_score, self.score_weight, 1.0)
        return batch


def _borders(lengths: Sequence[int]) -> dict[str, Any]:
    """Where packed examples begin and end, under the names that transformers' flash attention takes."""
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return {
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        **{"cu_seq_lens_q": ends, "cu_seq_lens_k": ends},
        **{"max_length_q": max(lengths), "max_length_k": max(lengths)},
    }


def _to_tensors(example: EncodedExample) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"], Bool[Tensor, " T"]]:
    """Token ids, and for each position the token to be predicted there and whether it belongs to the score line."""
    ids, first = torch.tensor(example.input_ids), example.num_prompt - 1
    labels, is_score = torch.full_like(ids, IGNORED), torch.zeros_like(ids, dtype=torch.bool)
    labels[first:-1] = ids[first + 1 :]
    is_score[first : first + example.num_score_line] = True
    return ids, labels, is_score
