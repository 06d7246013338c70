"""OpenAI's responses, as far as a judge can answer them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from judgelm.serve.judgement_requests import Name, Text
from judgelm.serve.openai_requests import Body, RefusalPart, TextRequest, Turns, UnsupportedField, Wanted, join_system
from judgelm.serve.schema_field import SchemaField


class InputText(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputImage(Body):
    """Another part, which no judge is shown here."""

    type: Literal["input_image", "input_file"]

    def check_rest(self, place: str = "") -> None:
        raise UnsupportedField(f"{place}type", "(the models here are shown texts alone)")


class InputMessage(Body):
    """A turn of a conversation, or one that came from here."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[InputText | RefusalPart | InputImage], Field(max_length=200)]
    id: Name | None = None
    status: Name | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if not isinstance(part, InputImage))


class TextFormat(Body):
    """How the text is to be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Name | None = None
    json_schema: SchemaField | None = Field(default=None, alias="schema")
    description: Text | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("schema goes with the type json_schema")
        return self


class TextSettings(Body):
    """OpenAI's `text`."""

    format: TextFormat = TextFormat()


class ResponseStreamOptions(Body):
    """OpenAI's stream_options, of which nothing is read."""


_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class ResponseRequest(TextRequest):
    """OpenAI's response."""

    # which other routes may be asked for
    n: ClassVar[int] = 1
    stop: ClassVar[None] = None
    seed: ClassVar[None] = None
    num_logprobs: ClassVar[None] = None

    input: Text | Annotated[list[InputMessage], Field(min_length=1, max_length=200)]
    instructions: Text | None = Field(None, description="a message of the system before all others")
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stream_options: ResponseStreamOptions | None = None
    text: TextSettings | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = Field(None, description="said again")

    @property
    def most_tokens(self) -> int | None:
        return self.max_output_tokens

    @property
    def turns(self) -> Turns:
        """All that instructions, system and developer say as the first turn, then the others'."""
        said: Turns = [("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            said.append(("user", self.input))
        else:
            said += [(message.role, message.text) for message in self.input]
        return join_system(said)

    @property
    def wanted(self) -> Wanted | None:
        """The JSON that is asked for, if it is."""
        asked = TextFormat() if self.text is None else self.text.format
        return None if asked.type == "text" else Wanted(asked.json_schema)
