"""A chat's messages -> a prompt, in the tokenizer's own template where there is one, else in a format of FastChat's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judgelm.chat_template import Piece, find_chat_template
from judgelm.encoding import encode, encode_pieces
from judgelm.errors import InputError
from judgelm.serve.protocol import CONVERSATION, get_conv_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat that can be generated."""

    text: str
    pieces: tuple[Piece, ...]
    """the text in parts, and whether special tokens may be read in each of them"""
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    with_bos: bool = True
    """the tokenizer adds its own first token; templates write theirs"""

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Its token ids, [T]."""
        if self.with_bos:
            return encode(self.text, tokenizer)
        return encode_pieces(self.pieces, tokenizer)


class ConversationFormat:
    """One of FastChat's formats; it ends with the assistant's turn."""

    def __init__(self, conversation: Any) -> None:
        self.conversation = conversation

    def render(self, messages: Sequence[Mapping[str, str]]) -> ChatPrompt:
        """Several system messages are one, each on lines of its own."""
        conversation = copy.deepcopy(self.conversation)
        system = [message["content"] for message in messages if message["role"] == "system"]
        if system:
            conversation.set_system_message("\n".join(system))
        for message in messages:
            if message["role"] != "system":
                role = conversation.roles[0 if message["role"] == "user" else 1]
                conversation.append_message(role, message["content"])
        conversation.append_message(conversation.roles[1], None)
        text = conversation.get_prompt()
        stop = conversation.stop_str
        stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
        return ChatPrompt(text, ((text, False),), stops, tuple(conversation.stop_token_ids or ()))


class TemplateFormat:
    """The tokenizer's own template. Raises ValueError where it has none that works; see `ChatTemplate`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template = find_chat_template(tokenizer)

    def render(self, messages: Sequence[Mapping[str, str]]) -> ChatPrompt:
        """Names of special tokens in a message stay plain text. Raises ValueError where the template refuses."""
        pieces = self.template.render(messages)
        return ChatPrompt("".join(text for text, _ in pieces), pieces, with_bos=False)


ChatFormat = ConversationFormat | TemplateFormat


def choose_format(wanted: str, tokenizer: PreTrainedTokenizerBase, conversation: str | None) -> ChatFormat:
    """The format that a worker chats in.

    Args:
        wanted: "model", "vicuna" or "auto", which is the tokenizer's own template where it has one that works.
        conversation: FastChat's name of a format, taken instead where it is given.

    Raises InputError where "model" was asked for and the tokenizer has no template that works.
    """
    try:
        named = ConversationFormat(get_conv_template(conversation or CONVERSATION))
    except KeyError:
        raise InputError(f"--conv-template {conversation}: FastChat knows no such format") from None
    if wanted == "vicuna" or (conversation is not None and wanted == "auto"):
        return named
    try:
        return TemplateFormat(tokenizer)
    except ValueError as error:
        if wanted == "model":
            raise InputError(f"--chat-format model: {error}") from None
        log.info("chat format %s: %s", named.conversation.name, error)
    return named
