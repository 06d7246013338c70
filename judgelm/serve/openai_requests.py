"""What OpenAI's clients may ask of a judge, and how a conversation of theirs is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from judgelm.serve.judgement_requests import Name, Text
from judgelm.serve.schema_field import SchemaField
from judgelm.serve.worker_requests import MOST_LOGPROBS, MOST_STOPS, Stop

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
    "truncation": ("disabled",),
    "include": ([],),
    "background": (False,),
    "reasoning": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}
"""fields that are not supported -> values, beside null, that say no more than leaving them out"""
_SYSTEM = ("system", "developer")
Turns = list[tuple[str, str]]
"""a chat's roles and texts"""


class UnsupportedField(Exception):
    """A field asks for something that is not done here; `field` is its place in the body, `why` in which case."""

    def __init__(self, field: str, why: str = "") -> None:
        super().__init__(f"{field}: this is not supported here {why}".rstrip())
        self.field = field


class Body(BaseModel, extra="allow"):
    """A body of which some fields are not read."""

    def check_rest(self, place: str = "") -> None:
        """Raises UnsupportedField for a field, here or further in, that is not read and asks for something."""
        for name, given in (self.model_extra or {}).items():
            value = given if not isinstance(given, dict) else {k: v for k, v in given.items() if v is not None}
            if value is not None and name not in _NO_MATTER and value not in _ASKS_FOR_NOTHING.get(name, ()):
                raise UnsupportedField(place + name)
        for name, value in self:
            inner = {f"{name}.{k}": one for k, one in enumerate(value)} if isinstance(value, list) else {name: value}
            for where, one in inner.items():
                if isinstance(one, Body):
                    one.check_rest(f"{place}{where}.")


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class RefusalPart(Body):
    """A part of a message that came from here or from another model."""

    type: Literal["refusal"]
    refusal: Text

    @property
    def text(self) -> str:
        return self.refusal


class ImagePart(Body):
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


class ToolCall(Body):
    """The same, as newer clients send it."""

    id: Name | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[TextPart | RefusalPart | ImagePart], Field(max_length=200)] | None = None
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
        texts = "\n".join(part.text for part in parts if not isinstance(part, ImagePart))
        content = self.content if isinstance(self.content, str) else texts
        calls = [call.function.text for call in self.tool_calls or []]
        calls += [self.function_call.text] if self.function_call else []
        return "\n".join(filter(None, (content, self.refusal, *calls)))


def join_system(said: Turns) -> Turns:
    """What system and developer say as one turn in front, which not every model has a place for elsewhere."""
    front = [text for role, text in said if role in _SYSTEM]
    rest = [("assistant" if role == "assistant" else "user", text) for role, text in said if role not in _SYSTEM]
    return [("system", "\n".join(front)), *rest] if front else rest


class StreamOptions(Body):
    """OpenAI's stream_options."""

    include_usage: bool | None = False


class SchemaGiven(Body):
    """A schema with its name."""

    name: Name = "answer"
    json_schema: SchemaField = Field(default={"type": "object"}, alias="schema")
    description: Text | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """OpenAI's response_format."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaGiven | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema")
        return self

    @property
    def wanted(self) -> Wanted | None:
        if self.type == "text":
            return None
        return Wanted(None if self.json_schema is None else self.json_schema.json_schema)


class Function(Body):
    """A function that may be called."""

    name: Name
    description: Text | None = None
    parameters: SchemaField | None = None
    """None: there are none"""
    strict: bool | None = None


class Tool(Body):
    """The same, as a tool."""

    type: Literal["function"]
    function: Function


_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


class NamedFunction(BaseModel):
    """One of them by its name."""

    name: Name


class ToolChoice(BaseModel):
    """The function that must be called."""

    type: Literal["function"]
    function: NamedFunction


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text that is to be JSON."""

    schema: dict[str, Any] | None
    """of the text; None: any object"""
    function: str | None = None
    """whose arguments they are"""
    chosen: bool = False
    """the request says that it is called, and which: such a text ends as any other does"""


class TextRequest(Body):
    """What all routes are asked that write a text."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = 1.0
    stream: bool | None = False


class _Completion(TextRequest):
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(_Completion):
    """OpenAI's chat completion, as far as a judge can answer it."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = Field(False, description="say how likely each token was")
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS, strict=True)] | None = Field(
        0, description="with logprobs: and so many of the likeliest at its place"
    )
    response_format: ResponseFormat | None = Field(
        None,
        description="JSON of a schema; of messages that hold what is to be judged, a judgement in it",
    )
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = Field(
        None, description="the one function that is called, whatever the model would do"
    )

    @property
    def wanted(self) -> Wanted | None:
        """The JSON that is asked for, if it is. Raises UnsupportedField for functions that a model may choose from."""
        asked = None if self.response_format is None else self.response_format.wanted
        if not self.tools:
            if self.tool_choice not in (None, "none", "auto"):
                raise UnsupportedField("tool_choice", "without tools")
            return asked
        named = self.tool_choice.function.name if isinstance(self.tool_choice, ToolChoice) else None
        called = [tool.function for tool in self.tools if named is None or tool.function.name == named]
        if self.tool_choice == "none":
            return asked
        if len(called) != 1 or (named is None and self.tool_choice != "required"):
            raise UnsupportedField("tools", "but for one function that must be called: name it in tool_choice")
        if asked is not None:
            raise UnsupportedField("response_format", "with a function that must be called")
        return Wanted(called[0].parameters or _NO_PARAMETERS, called[0].name, named is not None)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens or (_MOST_WITH_LOGPROBS if self.logprobs else None)

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def check_rest(self, place: str = "") -> None:
        """Probabilities come with texts of a moderate length."""
        super().check_rest(place)
        if self.top_logprobs and not self.logprobs:
            raise UnsupportedField("top_logprobs", "without logprobs")
        if self.logprobs and (self.most_tokens or 0) > _MOST_WITH_LOGPROBS:
            raise UnsupportedField("max_tokens", f"above {_MOST_WITH_LOGPROBS} with logprobs")

    @property
    def turns(self) -> Turns:
        """All that system and developer say as the first turn, then the others'; what a tool gave is the user's."""
        return join_system([(message.role, message.text) for message in self.messages])


_Prompts = Field(min_length=1, max_length=64)
_Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31, strict=True)]], Field(min_length=1)]


class CompletionRequest(_Completion):
    """OpenAI's completion: the prompt goes to the model as it is."""

    prompt: Text | Annotated[list[Text], _Prompts] | _Tokens | Annotated[list[_Tokens], _Prompts] = Field(
        description="one or several, as texts or as token ids, which the model sees as they are"
    )
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(16, description="0 goes with echo")
    echo: bool | None = False
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=MOST_LOGPROBS, strict=True)] | None,
        BeforeValidator(lambda given: None if given is False else given),
    ] = Field(None, description="how likely each token was, and so many of the likeliest at its place")

    def check_rest(self, place: str = "") -> None:
        """Probabilities come with texts of a moderate length."""
        super().check_rest(place)
        if self.max_tokens == 0 and not self.echo:
            raise UnsupportedField("max_tokens", "of 0 without echo")
        if self.logprobs is not None and (self.max_tokens is None or self.max_tokens > _MOST_WITH_LOGPROBS):
            raise UnsupportedField("max_tokens", f"above {_MOST_WITH_LOGPROBS} with logprobs")

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Each as a worker takes it."""
        given = self.prompt
        several = isinstance(given, list) and not isinstance(given[0], int)
        each = given if several else [given]
        return [{"prompt": one} if isinstance(one, str) else {"prompt_ids": one} for one in each]
