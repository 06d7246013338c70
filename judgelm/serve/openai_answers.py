"""The shapes of OpenAI's chats and completions: whole answers, and the events of streams."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from judgelm.serve.worker_answers import Chunk, Logprobs, Usage

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
JSON = dict[str, Any]


class Form(Protocol):
    """How a route says what was generated."""

    route: str

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        """All texts, each with its reason for ending."""

    def begin(self, index: int) -> Iterator[str]:
        """The events before a text."""

    def step(self, index: int, text: str) -> str:
        """The event of its next part."""

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        """The events after it."""

    def finish(self, usage: Usage) -> Iterator[str]:
        """The last events, after all texts."""

    def error(self, message: str) -> Iterator[str]:
        """The last events, where a worker was lost."""


class _Choices:
    """What chats and completions share; an event is a JSON object of one of the texts."""

    def __init__(self, route: str, kind: str, prefix: str, model: str, wants_usage: bool) -> None:
        self.route = route
        self.kind = kind
        self.head = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.wants_usage = wants_usage

    def whole(self, choices: Sequence[JSON], usage: Usage) -> JSON:
        return {**self.head, "object": self.kind, "choices": choices, "usage": usage.model_dump()}

    def event(self, *choices: JSON, **more: Any) -> str:
        return write_event({**self.head, "object": self.kind, "choices": choices, **more})

    def finish(self, usage: Usage) -> Iterator[str]:
        if self.wants_usage:
            yield self.event(usage=usage.model_dump())
        yield "data: [DONE]\n\n"

    def error(self, message: str) -> Iterator[str]:
        said = {"message": message, "type": "server_error", "param": None, "code": "worker_lost"}
        yield write_event({"error": said})
        yield "data: [DONE]\n\n"


class TextForm(_Choices):
    """Completions."""

    def __init__(self, model: str, wants_usage: bool) -> None:
        super().__init__(TEXT, "text_completion", "cmpl", model, wants_usage)

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        """See `Form.answer`."""
        choices = [_choice(k, {"text": one.text}, one, _text_logprobs(one.logprobs)) for k, one in enumerate(chunks)]
        return self.whole(choices, usage)

    def begin(self, index: int) -> Iterator[str]:
        """See `Form.begin`: there are none."""
        return iter(())

    def step(self, index: int, text: str) -> str:
        """See `Form.step`."""
        return self.event(_choice(index, {"text": text}))

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        """See `Form.end`."""
        yield self.event(_choice(index, {"text": ""}, ended))


class ChatForm(_Choices):
    """Chats; with a `function` texts are the arguments of a call of it.

    Args:
        num_top: likeliest tokens that are shown at each place, where probabilities are.
    """

    def __init__(self, model: str, wants_usage: bool, function: str | None = None, num_top: int = 0) -> None:
        super().__init__(CHAT, "chat.completion", "chatcmpl", model, wants_usage)
        self.function = function
        self.num_top = num_top

    def event(self, *choices: JSON, **more: Any) -> str:
        return write_event({**self.head, "object": f"{self.kind}.chunk", "choices": choices, **more})

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        """See `Form.answer`."""
        choices = [
            _choice(k, {"message": self._message(one.text)}, one, _chat_logprobs(one.logprobs, self.num_top))
            for k, one in enumerate(chunks)
        ]
        return self.whole(choices, usage)

    def begin(self, index: int) -> Iterator[str]:
        """See `Form.begin`."""
        yield self.event(_choice(index, {"delta": self._message("")}))

    def step(self, index: int, text: str) -> str:
        """See `Form.step`."""
        call = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        return self.event(_choice(index, {"delta": {"content": text} if self.function is None else call}))

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        """See `Form.end`."""
        yield self.event(_choice(index, {"delta": {}}, ended))

    def _message(self, text: str) -> JSON:
        if self.function is None:
            return {"role": "assistant", "content": text}
        call = {"name": self.function, "arguments": text}
        calls = [{"index": 0, "id": f"call_{uuid.uuid4().hex}", "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}


def _choice(index: int, said: JSON, ended: Chunk | None = None, logprobs: JSON | None = None) -> JSON:
    reason = None if ended is None else end_reason(ended)
    return {"index": index, **said, "finish_reason": reason, "logprobs": logprobs}


def end_reason(ended: Chunk) -> str:
    """Whether a text came to its end, or had no more room."""
    return "length" if ended.finish_reason == "length" else "stop"


def _text_logprobs(given: Logprobs | None) -> JSON | None:
    return None if given is None else given.model_dump()


def _chat_logprobs(given: Logprobs | None, num_top: int) -> JSON | None:
    """The same, as chats have it."""
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
