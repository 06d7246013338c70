"""How likely a model finds each token of a prompt, read in pieces, so that no logits of a long prompt are held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import DynamicCache

from judgelm.engine.hf.padded import forward_cached
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.interface import TokenLikelihood

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PIECE = 256
"""tokens whose logits are held at once"""


@dataclass(frozen=True, slots=True)
class PromptRead:
    """A prompt that was read and not continued."""

    likelihoods: tuple[TokenLikelihood, ...]
    """of its tokens; nothing is known of the first"""
    logits: Float32[Tensor, "1 V"]
    """of the token that comes next"""


@torch.inference_mode()
def read_prompt(
    model: PreTrainedModel, rope: LengthRope, input_ids: Sequence[int], count: int, in_pieces: bool
) -> PromptRead:
    """One token at least. Models whose layers keep more than keys and values are not read `in_pieces`."""
    device = model.get_input_embeddings().weight.device
    cache, num = DynamicCache(config=model.config), len(input_ids)
    found = [TokenLikelihood(input_ids[0], None, ())]
    step = _PIECE if in_pieces else num
    for begin in range(0, num, step):
        end = min(begin + step, num)
        ids = torch.tensor([input_ids[begin:end]], device=device)
        mask = torch.ones(1, end, dtype=torch.long, device=device)
        positions = torch.arange(begin, end, device=device)[None]
        kinds = [rope.kinds(num, num, range(begin, end))]
        logits = forward_cached(model, rope, ids, mask, positions, cache, kinds, last=end - begin)[0].float()
        found += _likelihoods(logits, input_ids[begin + 1 : end + 1], count)
    return PromptRead(tuple(found), logits[-1:])


def _likelihoods(logits: Float32[Tensor, "T V"], following: Sequence[int], count: int) -> list[TokenLikelihood]:
    """Of the tokens that follow the first places."""
    if not following:
        return []
    log_probs = logits[: len(following)].log_softmax(dim=-1)
    own = log_probs.gather(-1, torch.tensor(following, device=logits.device)[:, None])[:, 0].tolist()
    values, tokens = log_probs.topk(min(count, log_probs.shape[-1]))
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]
    return [TokenLikelihood(*each) for each in zip(following, own, tops, strict=True)]
