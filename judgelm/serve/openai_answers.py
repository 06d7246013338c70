"""The shapes of OpenAI's chats and completions: whole answers, and the events of streams."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from judgelm.serve.judgement_requests import ErrorOut
from judgelm.serve.openai_requests import Wanted
from judgelm.serve.worker_answers import Chunk, Logprobs, Usage

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
JSON = dict[str, Any]


class Form(Protocol):
    """How a route says what was generated."""

    route: str

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        """All texts, each with its reason for ending."""

    def begin(self, index: int, first: Chunk) -> Iterator[str]:
        """The events before a text of which there is a first chunk."""

    def step(self, index: int, text: str, chunk: Chunk) -> str:
        """The event of its next part, which came with a chunk."""

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        """The events after it."""

    def finish(self, usage: Usage) -> Iterator[str]:
        """The last events, after all texts."""

    def error(self, error: ErrorOut) -> Iterator[str]:
        """The last events, where it cannot go on."""


class _Choices:
    """What chats and completions share, see `Form`; an event is a JSON object of one of the texts."""

    route: str
    kind: str
    """of the whole answer"""
    kind_of_event: str
    prefix: str
    """of the answer's id"""

    def __init__(self, model: str, wants_usage: bool) -> None:
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.wants_usage = wants_usage

    def choice(self, index: int, said: Chunk) -> JSON:
        """A text of the whole answer."""
        raise NotImplementedError

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        choices = [self.choice(k, one) for k, one in enumerate(chunks)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": usage.model_dump()}

    def event(self, *choices: JSON, **more: Any) -> str:
        return write_event({**self.head, "object": self.kind_of_event, "choices": choices, **more})

    def finish(self, usage: Usage) -> Iterator[str]:
        if self.wants_usage:
            yield self.event(usage=usage.model_dump())
        yield "data: [DONE]\n\n"

    def error(self, error: ErrorOut) -> Iterator[str]:
        yield write_event({"error": error.model_dump()})
        yield "data: [DONE]\n\n"


class TextForm(_Choices):
    """Completions."""

    route, prefix = TEXT, "cmpl"
    kind = kind_of_event = "text_completion"

    def choice(self, index: int, said: Chunk) -> JSON:
        return _choice(index, {"text": said.text}, end_reason(said), _text_logprobs(said.logprobs))

    def begin(self, index: int, first: Chunk) -> Iterator[str]:
        """See `Form.begin`: there are none."""
        return iter(())

    def step(self, index: int, text: str, chunk: Chunk) -> str:
        return self.event(_choice(index, {"text": text}, logprobs=_text_logprobs(chunk.logprobs)))

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        yield self.event(_choice(index, {"text": ""}, end_reason(ended)))


class ChatForm(_Choices):
    """Chats; texts may be the arguments of a function that is called.

    Args:
        num_top: likeliest tokens that are shown at each place, where probabilities are.
    """

    route, prefix = CHAT, "chatcmpl"
    kind, kind_of_event = "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, wants_usage: bool, wanted: Wanted | None = None, num_top: int = 0) -> None:
        super().__init__(model, wants_usage)
        self.function = None if wanted is None else wanted.function
        self.end_of_call = "stop" if wanted is None or wanted.chosen else "tool_calls"
        self.num_top = num_top

    def choice(self, index: int, said: Chunk) -> JSON:
        logprobs = _chat_logprobs(said, self.num_top)
        return _choice(index, {"message": self._message(said)}, self._end_reason(said), logprobs)

    def begin(self, index: int, first: Chunk) -> Iterator[str]:
        message = self._message(first.model_copy(update={"text": ""}))
        # one of several by its place, as it comes in parts
        calls = [{"index": 0, **call} for call in message.pop("tool_calls", ())]
        yield self.event(_choice(index, {"delta": message | ({"tool_calls": calls} if calls else {})}))

    def step(self, index: int, text: str, chunk: Chunk) -> str:
        delta: JSON = {"refusal" if chunk.refused else "content": text}
        if self.function is not None and not chunk.refused:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        return self.event(_choice(index, {"delta": delta}, logprobs=_chat_logprobs(chunk, self.num_top)))

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        yield self.event(_choice(index, {"delta": {}}, self._end_reason(ended)))

    def _end_reason(self, ended: Chunk) -> str:
        called = self.function is not None and not ended.refused
        return self.end_of_call if called and end_reason(ended) == "stop" else end_reason(ended)

    def _message(self, said: Chunk) -> JSON:
        head = {"role": "assistant", "content": None, "refusal": None}
        if said.refused:
            return head | {"refusal": said.text}
        if self.function is None:
            return head | {"content": said.text}
        call = {"name": self.function, "arguments": said.text}
        return head | {"tool_calls": [{"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": call}]}


def _choice(index: int, said: JSON, reason: str | None = None, logprobs: JSON | None = None) -> JSON:
    return {"index": index, **said, "finish_reason": reason, "logprobs": logprobs}


def end_reason(ended: Chunk) -> str:
    """Whether a text came to its end, or had no more room."""
    return "length" if ended.finish_reason == "length" else "stop"


def _text_logprobs(given: Logprobs | None) -> JSON | None:
    return None if given is None else given.model_dump()


def _chat_logprobs(said: Chunk, num_top: int) -> JSON | None:
    """The same, as chats have it."""
    given = said.logprobs
    if given is None:
        return None
    content = [
        {
            **_token(text, own),
            # the token itself stands last, where it is none of them
            "top_logprobs": [_token(*each) for each in list((top or {}).items())[:num_top]],
        }
        for text, own, top in zip(given.tokens, given.token_logprobs, given.top_logprobs, strict=True)
    ]
    return {"content": content, "refusal": None}


def _token(text: str, log_prob: float | None) -> JSON:
    # half a character has no text, and then its bytes are not known either
    found = None if "\ufffd" in text else list(text.encode(errors="replace"))
    return {"token": text, "logprob": log_prob, "bytes": found}


def write_event(body: JSON, name: str | None = None) -> str:
    """A server-sent event."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(body)}\n\n"
