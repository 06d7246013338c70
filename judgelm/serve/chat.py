"""A chat's messages -> a prompt, in the tokenizer's own template where there is one, else in a format of FastChat's."""

from __future__ import annotations

import copy
import ctypes
import logging
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judgelm.encoding import encode
from judgelm.errors import InputError, one_line
from judgelm.serve.protocol import CONVERSATION, get_conv_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_MOST_TEMPLATE = 1 << 18
"""characters of a template"""
_MOST_RENDERED = 4
"""characters of a rendered chat for each one of its messages and of the template"""
_RENDER_S = 10


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat that can be generated."""

    text: str
    pieces: tuple[tuple[str, bool], ...]
    """the text in parts, and whether special tokens may be read in each of them"""
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    with_bos: bool = True
    """the tokenizer adds its own first token; templates write theirs"""

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Its token ids, [T]."""
        if self.with_bos:
            return encode(self.text, tokenizer)
        ids: list[int] = []
        for text, special in self.pieces:
            ids += tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
        return ids


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
    """The tokenizer's own template, which came with the model and may be anybody's: transformers runs it in a sandbox,
    in a thread of its own that is ended when it takes too long. Raises ValueError for one that cannot even render a
    greeting.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        names = sorted({*tokenizer.all_special_tokens, *added} - {""}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._free = threading.Lock()
        if len(str(tokenizer.chat_template)) > _MOST_TEMPLATE:
            raise ValueError("the tokenizer's chat template is too long")
        self.render([{"role": "user", "content": "Hello"}])

    def render(self, messages: Sequence[Mapping[str, str]]) -> ChatPrompt:
        """Names of special tokens in a message stay plain text. Raises ValueError where the template refuses."""
        marks: dict[str, str] = {}

        def mark(found: re.Match[str]) -> str:
            word = f"m{secrets.token_hex(16)}"
            marks[word] = found[0]
            return word

        # words of our own stand in their place until the template has written its own special tokens
        text = self._run([{**message, "content": self._special.sub(mark, message["content"])} for message in messages])
        pieces = [(text, True)]
        for word, name in marks.items():
            pieces = [piece for part in pieces for piece in _split(part, word, name)]
        text = "".join(part for part, _ in pieces)
        return ChatPrompt(text, tuple(piece for piece in pieces if piece[0]), with_bos=False)

    def _run(self, messages: list[dict[str, str]]) -> str:
        if not self._free.acquire(timeout=_RENDER_S):
            raise ValueError("the model's chat template is still at work on another chat")
        found: list[str] = []
        failed: list[str] = []

        def run() -> None:
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                found.append(str(text))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a template can raise whatever it likes
                failed.append(one_line(str(error))[:300] or type(error).__name__)
            finally:
                self._free.release()

        thread = threading.Thread(target=run, name="chat template", daemon=True)
        thread.start()
        thread.join(_RENDER_S)
        endless = "the model's chat template takes too long, or writes too much"
        if thread.is_alive():
            # raised between two steps of the template, which cannot catch it
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
            raise ValueError(endless)
        if failed:
            raise ValueError(f"the model's chat template refuses these messages: {failed[0]}")
        most = _MOST_TEMPLATE + _MOST_RENDERED * sum(len(message["content"]) for message in messages)
        if len(found[0]) > most:
            raise ValueError(endless)
        return found[0]


ChatFormat = ConversationFormat | TemplateFormat


def _split(piece: tuple[str, bool], word: str, name: str) -> list[tuple[str, bool]]:
    """The piece with the special token's name, as plain text, wherever the word stood for it."""
    text, special = piece
    first, *rest = text.split(word)
    return [(first, special), *(part for after in rest for part in ((name, False), (after, special)))]


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
    why = "the tokenizer has no chat template"
    if tokenizer.chat_template:
        try:
            return TemplateFormat(tokenizer)
        except ValueError as error:
            why = str(error)
    if wanted == "model":
        raise InputError(f"--chat-format model: {why}")
    log.info("chat format %s: %s", named.conversation.name, why)
    return named
