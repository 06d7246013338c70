"""Generated tokens as texts, with how likely each was."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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


class TokenTexts:
    """The tokens of one text, described part by part in the form of OpenAI's completions; a special token has its name
    for a text.

    Args:
        before: tokens that stand before the text.
    """

    def __init__(self, before: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._context = list(before[-_CONTEXT_TOKENS:])
        self._offset = 0

    @cached_property
    def _special(self) -> set[int]:
        return set(self._tokenizer.all_special_ids)

    def describe(self, likelihoods: Sequence[TokenLikelihood]) -> Logprobs:
        """The next ones."""
        said = Logprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        for one in likelihoods:
            written = self._text(one.token)
            own = None if one.log_prob is None else max(one.log_prob, _LEAST)
            top: dict[str, float] = {}
            for token, log_prob in one.top:
                top.setdefault(self._text(token), max(log_prob, _LEAST))
            if own is not None:
                top.setdefault(written, own)
            said.tokens.append(written)
            said.token_logprobs.append(own)
            said.top_logprobs.append(None if own is None else top)
            said.text_offset.append(self._offset)
            self._offset += 0 if one.token in self._special else len(written)
            self._context = [*self._context, one.token][-_CONTEXT_TOKENS:]
        return said

    def _text(self, token: int) -> str:
        if token in self._special:
            return str(self._tokenizer.convert_ids_to_tokens(token))
        return decode_after(self._context, [token], self._tokenizer)
