"""What OpenAI's clients may ask of a judge, and how a conversation of theirs is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from judgelm.serve.judgement_requests import Name, Text
from judgelm.serve.worker_requests import MOST_LOGPROBS

_MOST_WITH_LOGPROBS = 2048
"""tokens of a text of which each has likely ones beside it"""
_NO_MATTER = frozenset(
    {
        *("user", "metadata", "store", "safety_identifier", "parallel_tool_calls", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
"""fields that ask for nothing that a reader of the answer would miss"""
_ASKS_FOR_NOTHING: Mapping[str, Sequence[Any]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "best_of": (1,),
    "suffix": ("",),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "annotations": ([],),
    "include_obfuscation": (False, True),
}
"""fields that are not supported -> values, beside null, that say no more than leaving them out"""


class UnsupportedField(Exception):
    """A field asks for something that is not done here; `field` is its place in the body, `why` in which case."""

    def __init__(self, field: str, why: str = "") -> None:
        super().__init__(f"{field}: this is not supported here {why}".rstrip())
        self.field = field


class _Open(BaseModel, extra="allow"):
    """A body of which some fields are not read."""

    def check_rest(self, place: str = "") -> None:
        """Raises UnsupportedField for a field, here or further in, that is not read and asks for something."""
        for name, value in (self.model_extra or {}).items():
            if value is not None and name not in _NO_MATTER and value not in _ASKS_FOR_NOTHING.get(name, ()):
                raise UnsupportedField(place + name)
        for name, value in self:
            inner = {f"{name}.{k}": one for k, one in enumerate(value)} if isinstance(value, list) else {name: value}
            for where, one in inner.items():
                if isinstance(one, _Open):
                    one.check_rest(f"{place}{where}.")


class TextPart(_Open):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class ImagePart(_Open):
    """Another part, which no judge is shown here."""

    type: Literal["image_url"]
    image_url: Any

    def check_rest(self, place: str = "") -> None:
        raise UnsupportedField(f"{place}image_url", "(the models here are shown texts alone)")


class FunctionCall(BaseModel):
    """What a model wanted to be called."""

    name: Name
    arguments: Text

    @property
    def text(self) -> str:
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


class ToolCall(_Open):
    """The same, as newer clients send it."""

    id: Name | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(_Open):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[TextPart | ImagePart], Field(max_length=200)] | None = None
    name: Name | None = None
    tool_call_id: Name | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=200)] | None = None
    function_call: FunctionCall | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of the role {self.role} needs a content")
        return self

    @property
    def text(self) -> str:
        parts = [] if self.content is None or isinstance(self.content, str) else self.content
        texts = "\n".join(part.text for part in parts if isinstance(part, TextPart))
        content = self.content if isinstance(self.content, str) else texts
        calls = [call.function.text for call in self.tool_calls or []]
        calls += [self.function_call.text] if self.function_call else []
        return "\n".join(filter(None, (content, self.refusal, *calls)))


class StreamOptions(_Open):
    """OpenAI's stream_options."""

    include_usage: bool | None = False


_Stop = Annotated[str, StringConstraints(max_length=200)]


class _Completion(_Open):
    model: Name
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = 1.0
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class ChatRequest(_Completion):
    """OpenAI's chat completion, as far as a judge can answer it."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @property
    def turns(self) -> list[tuple[Literal["system", "user", "assistant"], str]]:
        """All that system and developer say as the first turn, then the others'; what a tool gave is the user's."""
        said = [message.text for message in self.messages if message.role in ("system", "developer")]
        turns: list[tuple[Literal["system", "user", "assistant"], str]] = [("system", "\n".join(said))] if said else []
        for message in self.messages:
            if message.role not in ("system", "developer"):
                turns.append(("assistant" if message.role == "assistant" else "user", message.text))
        return turns


class CompletionRequest(_Completion):
    """OpenAI's completion: the prompt goes to the model as it is."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = 16
    echo: bool | None = False
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=MOST_LOGPROBS, strict=True)] | None,
        BeforeValidator(lambda given: None if given is False else given),
    ] = Field(None, description="how likely each token was, and so many of the likeliest at its place")

    def check_rest(self, place: str = "") -> None:
        """Probabilities come with whole texts of a moderate length, and are not of the prompt."""
        super().check_rest(place)
        if self.logprobs is None:
            return
        for name in ("stream", "echo"):
            if getattr(self, name):
                raise UnsupportedField(name, "with logprobs")
        if self.max_tokens is None or self.max_tokens > _MOST_WITH_LOGPROBS:
            raise UnsupportedField("max_tokens", f"above {_MOST_WITH_LOGPROBS} with logprobs")
