"""What a model thinks before its text, as tokens: bounded, and ended by force where they have no end of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from judgelm.encoding import encode_pieces
from judgelm.thinking import closing_tag

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TAIL = 16
"""tokens in which a closing tag is looked for"""
_BREAK = "\n\n"
"""what stands between thoughts and text"""


class Reasoning:
    """Thoughts whose opening tag is the end of the prompt.

    Args:
        opening: that tag.
        most: tokens of thoughts, after which they are closed.
    """

    def __init__(self, opening: str, most: int) -> None:
        self.closing = closing_tag(opening)
        self.most = most
        self.tokens: list[int] = []
        """those written so far, in the end with the closing tag and a blank line"""
        self.forced: list[int] = []
        """what comes next, whatever the model would write"""
        self.closed = False
        """text comes next"""
        self._num_thought = 0
        """tokens of the model's own, its closing tag included"""

    @property
    def num_left(self) -> int:
        """How many tokens of its own the model may still think."""
        return self.most - self._num_thought

    def take(self, token: int, eos: Collection[int], tokenizer: PreTrainedTokenizerBase) -> int:
        """Take the next token; gives the one that stands there, which is another where the thoughts are closed."""
        if self.forced:
            token = self.forced.pop(0)
            self.closed = not self.forced
        elif token in eos:
            token, *self.forced = self._closing_tokens(tokenizer)
        else:
            self._num_thought += 1
        self.tokens.append(token)
        if not self.forced and not self.closed:
            if self._ends_with_tag(tokenizer):
                self.forced = encode_pieces([(_BREAK, True)], tokenizer)
            elif self.num_left <= 0:
                self.forced = self._closing_tokens(tokenizer)
        return token

    def text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The thoughts, without tags and white space around."""
        text = str(tokenizer.decode(self.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text.rpartition(self.closing)[0].strip() if self.closing in text else text.strip()

    def _closing_tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return encode_pieces([(f"\n{self.closing}{_BREAK}", True)], tokenizer)

    def _ends_with_tag(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        tail = tokenizer.decode(self.tokens[-_TAIL:], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self.closing.casefold() in str(tail).casefold()
