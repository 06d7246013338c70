"""Generated tokens as texts, with how likely each was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from judgelm.encoding import decode_after
from judgelm.engine.interface import TokenLikelihood
from judgelm.serve.worker_answers import Logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONTEXT_TOKENS = 4
"""tokens in front of one, so that a space at its start is kept"""
_LEAST = -9999.0
"""in place of minus infinity, which JSON cannot hold"""


def describe_tokens(
    likelihoods: Sequence[TokenLikelihood], before: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> Logprobs:
    """In the form of OpenAI's completions, of tokens that follow those `before`; a special token has its name for a
    text.
    """
    special = set(tokenizer.all_special_ids)
    context, offset = list(before[-_CONTEXT_TOKENS:]), 0
    said = Logprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])

    def text(token: int) -> str:
        name = str(tokenizer.convert_ids_to_tokens(token))
        return name if token in special else decode_after(context, [token], tokenizer)

    for one in likelihoods:
        written = text(one.token)
        own = None if one.log_prob is None else max(one.log_prob, _LEAST)
        top: dict[str, float] = {}
        for token, log_prob in one.top:
            top.setdefault(text(token), max(log_prob, _LEAST))
        if own is not None:
            top.setdefault(written, own)
        said.tokens.append(written)
        said.token_logprobs.append(own)
        said.top_logprobs.append(None if own is None else top)
        said.text_offset.append(offset)
        offset += 0 if one.token in special else len(written)
        context = [*context, one.token][-_CONTEXT_TOKENS:]
    return said
