"""Dialogues in the body of a request: OpenAI's messages, from anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from judgelm.dialogue import MOST_TURNS, Dialogue, Said, Turns, join_conversations, read_said, read_turns, to_messages
from judgelm.errors import InputError
from judgelm.images import NEEDS_CHAT
from judgelm.sample import MAX_ANSWERS
from judgelm.serve.guard import MOST_BODY_BYTES

BodyText = Annotated[str, StringConstraints(max_length=MOST_BODY_BYTES)]
"""a text as long as a body may be"""


def _refuse_images(kind: Any) -> Any:
    """Raises InputError, which says more than that a text was expected."""
    if kind == "image_url":
        raise InputError(NEEDS_CHAT)
    return kind


class TextPart(BaseModel):
    """A part of a message; images and the like cannot be judged here."""

    type: Annotated[Literal["text"], BeforeValidator(_refuse_images)]
    text: BodyText


class DialogueMessage(BaseModel):
    """A turn of a dialogue."""

    role: Literal["system", "developer", "user", "assistant"]
    content: BodyText | Annotated[list[TextPart], Field(max_length=200)]

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, str) else sum(len(part.text) for part in self.content)


Messages = Annotated[list[DialogueMessage], Field(min_length=1, max_length=MOST_TURNS)]


def read_messages(messages: Sequence[DialogueMessage], name: str) -> Turns:
    """Raises ValueError for texts that no tokenizer can read."""
    return read_turns([message.model_dump() for message in messages], name)


def write_messages(turns: Turns) -> list[DialogueMessage]:
    """The same the other way round."""
    return [DialogueMessage.model_validate(message) for message in to_messages(turns)]


def read_replied(messages: Sequence[DialogueMessage]) -> Said:
    """A dialogue that ends in the question. Raises ValueError for one that does not."""
    said = read_said({"messages": [message.model_dump() for message in messages], "answer_body": ""}, 1)
    assert said is not None
    return said


def read_conversations(conversations: Sequence[Sequence[DialogueMessage]]) -> Said:
    """Raises ValueError for one that does not end in a reply, or has no question."""
    return join_conversations(
        [read_messages(messages, f"conversation {k}") for k, messages in enumerate(conversations, start=1)]
    )


class DialogueField(BaseModel):
    """What was said before the answers; see `judgelm.dialogue.Dialogue`."""

    turns: Annotated[list[DialogueMessage], Field(max_length=MOST_TURNS)] = []
    conversations: Annotated[list[Messages], Field(max_length=MAX_ANSWERS)] = []

    @classmethod
    def of(cls, dialogue: Dialogue) -> DialogueField:
        return cls(
            turns=write_messages(dialogue.turns), conversations=list(map(write_messages, dialogue.conversations))
        )

    @property
    def dialogue(self) -> Dialogue:
        """Raises ValueError for what is none."""
        talks = [read_messages(each, f"conversation {k}") for k, each in enumerate(self.conversations, start=1)]
        return Dialogue(read_messages(self.turns, "turns") if self.turns else (), tuple(talks))
