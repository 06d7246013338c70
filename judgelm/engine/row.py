"""One request while it generates: its tokens, their text, and when it has finished."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from judgelm.criteria import PUBLISHED
from judgelm.encoding import decode_after
from judgelm.engine.interface import FinishReason, Generation, Request, Sampling, TokenLikelihood, cut_at
from judgelm.engine.reasoning import Reasoning
from judgelm.engine.schema_text import SchemaText
from judgelm.engine.score_line import allowed_tokens
from judgelm.score_lines import text_begin

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONTEXT_TOKENS = 4
"""tokens in front of what is decoded, so that a space at its start is kept"""
_UNSETTLED_TOKENS = 16
"""tokens at a row's end that are decoded anew at each step"""


@dataclass(eq=False)
class Row:
    """One request while it generates."""

    request: Request
    sampling: Sampling
    max_new_tokens: int
    random: random.Random
    tokens: list[int] = field(default_factory=list)
    """generated so far"""
    text: str = ""
    """their text, which may end in half a character or in half a stop string"""
    num_read: int = 0
    """tokens of prompt and text that the model has read"""
    likelihoods: list[TokenLikelihood] = field(default_factory=list)
    """of the tokens so far, where they were asked for"""
    generation: Generation | None = None
    """set when the row has finished"""
    most_thoughts: int = 0
    """tokens that thoughts may have beside `max_new_tokens`"""
    reasoning: Reasoning | None = None
    """thoughts that the prompt has opened, which are no part of the text"""
    schema_text: SchemaText | None = None
    """what may be written, where that is JSON of a schema"""
    _num_thoughts: int | None = 0
    """tokens of the thoughts before the text; None while they go on"""
    _settled: int = 0
    _settled_text: str = ""
    _shown: str = ""

    @property
    def input_ids(self) -> list[int]:
        """[T], what the model must have read before the next token: prompt and tokens so far."""
        return self.request.input_ids + self.tokens

    @property
    def num_left(self) -> int:
        """How many tokens it may still have; of the text alone, where it thinks before."""
        if self.reasoning is not None:
            return self.max_new_tokens + len(self.reasoning.tokens) - len(self.tokens)
        thoughts = self.most_thoughts if self._num_thoughts is None else min(self._num_thoughts, self.most_thoughts)
        return self.max_new_tokens + thoughts - len(self.tokens)

    def allowed(self, pieces: Callable[[], dict[int, str]]) -> list[int] | None:
        """The tokens that may come next; None where all may. `pieces` are those of a score line: see `score_pieces`."""
        if (thinking := self.thinking) is not None:
            return thinking.forced[:1] or None
        if self.schema_text is not None:
            return self.schema_text.allowed
        if not self.sampling.constrained:
            return None
        request = self.request
        scale = request.scale or PUBLISHED
        return allowed_tokens(self._written, pieces(), request.prefill, request.num_answers, scale)

    @property
    def thinking(self) -> Reasoning | None:
        """Its thoughts, until it comes to its text."""
        return None if self.reasoning is None or self.reasoning.closed else self.reasoning

    @property
    def _written(self) -> list[int]:
        """The tokens of the text."""
        return self.tokens if self.reasoning is None else self.tokens[len(self.reasoning.tokens) :]

    @property
    def _before(self) -> list[int]:
        """What stands before the text."""
        thoughts = [] if self.reasoning is None else self.reasoning.tokens[-_CONTEXT_TOKENS:]
        return (self.request.input_ids[-_CONTEXT_TOKENS:] + thoughts)[-_CONTEXT_TOKENS:]

    def show(self) -> str:
        """The text to be shown now: without half characters and half stop strings at its end.

        What was shown stays, but for one case: a newline that is a byte token to the tokenizer, as Llama's is, becomes
        half a character when bytes follow that make none.
        """
        if self.generation is not None:
            return self.generation.text
        text = self.text.rstrip("\ufffd")
        begun = [size for stop in self.sampling.stop for size in range(1, len(stop)) if text.endswith(stop[:size])]
        text = text[: len(text) - max(begun, default=0)]
        if text.startswith(self._shown):
            self._shown = text
        return self._shown

    def add(self, token: int, eos: Collection[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """Take one token more, and finish where it was the last."""
        if (thinking := self.thinking) is not None:
            self.tokens.append(thinking.take(token, eos, tokenizer))
            return
        self.tokens.append(token)
        reason: FinishReason | None = None
        if token in eos or token in self.sampling.stop_token_ids:
            reason = "length" if self.schema_text is not None and self.schema_text.failed else "stop"
        else:
            self._extend_text(tokenizer)
            begin = self._begin_of_text(self.text)
            if self.most_thoughts and begin is None:
                self._num_thoughts = None
            elif self._num_thoughts is None:
                self._num_thoughts = len(self.tokens)
            if self.schema_text is not None:
                self.schema_text.take(token)
            stopped = begin is not None and any(stop in self.text[begin:] for stop in self.sampling.stop)
            if stopped or (self.schema_text is not None and self.schema_text.complete):
                reason = "stop"
            elif self.num_left <= 0:
                reason = "length"
        if reason is not None:
            # as one piece: the text must not depend on how it grew
            written = self._written
            written = written[:-1] if token in eos or token in self.sampling.stop_token_ids else written
            thoughts = None if self.reasoning is None else self.reasoning.text(tokenizer)
            self.finish(decode_after(self._before, written, tokenizer), reason, thoughts)

    def finish(self, text: str, reason: FinishReason, thoughts: str | None = None) -> None:
        """Set the generation, its text cut where the first stop string stands."""
        text = cut_at(text, self.sampling.stop, self._begin_of_text(text))
        read, new, likelihoods = len(self.request.input_ids), len(self.tokens), tuple(self.likelihoods)
        self.generation = Generation(self.request.key, text, read, new, reason, thoughts, likelihoods)

    def _begin_of_text(self, text: str) -> int | None:
        """Where stop strings count: behind thoughts and the white space after them; None while thoughts go on."""
        return text_begin(text) if self.sampling.most_thoughts and self.reasoning is None else 0

    def _extend_text(self, tokenizer: PreTrainedTokenizerBase) -> None:
        written = self._written
        before = (self._before + written[: self._settled])[-_CONTEXT_TOKENS:]
        piece = decode_after(before, written[self._settled :], tokenizer)
        self.text = self._settled_text + piece
        if len(written) - self._settled >= _UNSETTLED_TOKENS and not piece.endswith("\ufffd"):
            self._settled, self._settled_text = len(written), self.text
