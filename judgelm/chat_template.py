"""A tokenizer's own chat template: messages -> the text that a model was trained to continue."""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from judgelm.bounded import Bounded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_TEMPLATE = 1 << 18
"""characters of a template"""
_MOST_RENDERED = 4
"""characters of a rendered chat for each one of its messages and of the template"""

Piece = tuple[str, bool]
"""a part of a text, and whether special tokens may be read in it"""
Message = Mapping[str, str]
"""`role` and `content`"""


class ChatTemplate:
    """The template came with the model and may be anybody's: transformers runs it in a sandbox, here with a bound.

    Raises ValueError where the tokenizer has none, and for one that cannot even render a greeting.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template")
        self.tokenizer = tokenizer
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        names = sorted({*tokenizer.all_special_tokens, *added} - {""}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._bounded = Bounded("the model's chat template", "messages")
        if len(str(tokenizer.chat_template)) > _MOST_TEMPLATE:
            raise ValueError("the tokenizer's chat template is too long")
        self.render([{"role": "user", "content": "Hello"}])

    def render(self, messages: Sequence[Message], **names: Any) -> tuple[Piece, ...]:
        """The text that ends where the assistant's turn begins; `names` are the template's, if it knows them.

        Names of special tokens in a message stay plain text. Raises ValueError where the template refuses.
        """
        marks: dict[str, str] = {}

        def mark(found: re.Match[str]) -> str:
            word = f"m{secrets.token_hex(16)}"
            marks[word] = found[0]
            return word

        # words of our own stand in their place until the template has written its own special tokens
        shown = [{**message, "content": self._special.sub(mark, message["content"])} for message in messages]

        def apply() -> str:
            applied = self.tokenizer.apply_chat_template(shown, tokenize=False, add_generation_prompt=True, **names)
            return str(applied)

        text = self._bounded.run(apply)
        if len(text) > _MOST_TEMPLATE + _MOST_RENDERED * sum(len(message["content"]) for message in shown):
            raise ValueError("the model's chat template takes too long, or writes too much")
        pieces = [(text, True)]
        for word, name in marks.items():
            pieces = [piece for part in pieces for piece in _split(part, word, name)]
        return tuple(piece for piece in pieces if piece[0])


find_chat_template = functools.lru_cache(maxsize=4)(ChatTemplate)
"""of a tokenizer, made once; see `ChatTemplate`"""


def _split(piece: Piece, word: str, name: str) -> list[Piece]:
    """The piece with the special token's name, as plain text, wherever the word stood for it."""
    text, special = piece
    first, *rest = text.split(word)
    return [(first, special), *(part for after in rest for part in ((name, False), (after, special)))]
