"""Dialogues: what was said before the answers that are judged, turn by turn, read from lists of messages.

Needs the standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from judgelm.errors import encodable
from judgelm.images import CannotBeJudged, Gallery, Image, TextOnly, write_content

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
MOST_TURNS = 1000


_ROLES = {"developer": SYSTEM, **{role: role for role in (SYSTEM, USER, ASSISTANT)}}
_SHOWN = 40
"""characters of a role that is none"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said at once. Raises ValueError for an unknown role and for what is no text."""

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in (SYSTEM, USER, ASSISTANT):
            raise ValueError(f"expected the role {SYSTEM}, {USER} or {ASSISTANT}, found {str(self.role)[:_SHOWN]!r}")
        if not isinstance(self.text, str):
            raise ValueError(f"expected a text, found {type(self.text).__name__}")
        if not encodable(self.text):
            raise ValueError("a text has half a surrogate pair, which no tokenizer can read")

    def to_message(self, images: Sequence[Image] = ()) -> dict[str, Any]:
        """As OpenAI's API has it; `images` are those whose marks may stand in it."""
        return {"role": self.role, "content": write_content(self.text, images)}


Turns = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What was said before the answers. Raises ValueError where that is nothing, and for conversations without a
    question.
    """

    turns: Turns = ()
    """before the question, where all answers are replies to it in one dialogue"""
    conversations: tuple[Turns, ...] = ()
    """before each answer, its question included, where each is the last reply of a conversation of its own"""

    def __post_init__(self) -> None:
        if bool(self.turns) == bool(self.conversations):
            raise ValueError("a dialogue has turns before the question, or a conversation before each answer")
        for turns in (self.turns, *self.conversations):
            if len(turns) > MOST_TURNS:
                raise ValueError(f"a dialogue has {MOST_TURNS} turns at most, found {len(turns)}")
        for number, turns in enumerate(self.conversations, start=1):
            if not any(turn.role == USER for turn in turns):
                raise ValueError(f"conversation {number} has no message of the user")

    @property
    def all_turns(self) -> list[Turn]:
        """Of all conversations, one after the other."""
        return [turn for turns in (self.turns, *self.conversations) for turn in turns]

    def reordered(self, order: Callable[[tuple[Turns, ...]], tuple[Turns, ...]]) -> Dialogue:
        """The same with the conversations in the places that their answers get."""
        return replace(self, conversations=order(self.conversations)) if self.conversations else self

    @property
    def earlier(self) -> list[list[tuple[int, Turn]]]:
        """The turns that may be left out, those before the last question of each conversation, with their places: in
        the order in which they are kept, system messages first, then from the newest to the oldest.
        """
        ways = [turns[: _last_question(turns)] for turns in self.conversations] if self.conversations else [self.turns]
        return [sorted(enumerate(turns), key=lambda one: (one[1].role != SYSTEM, -one[0])) for turns in ways]

    def keeping(self, earlier: Sequence[Mapping[int, Turn]]) -> Dialogue | None:
        """The same with these of the earlier turns, by their places; None where nothing is left."""
        kept = [tuple(turn for _, turn in sorted(turns.items())) for turns in earlier]
        if not self.conversations:
            return Dialogue(kept[0]) if kept[0] else None
        ends = (turns[_last_question(turns) :] for turns in self.conversations)
        return Dialogue(conversations=tuple(before + end for before, end in zip(kept, ends, strict=True)))

    def to_fields(self, question: str, answers: Sequence[str], images: Sequence[Image] = ()) -> dict[str, Any]:
        """The fields of a record: `messages`, or `conversation1`, `conversation2` .. with the answers at their ends."""
        if not self.conversations:
            return {"messages": to_messages([*self.turns, Turn(USER, question)], images)}
        whole = zip(self.conversations, answers, strict=True)
        return {
            f"conversation{k}": to_messages([*turns, Turn(ASSISTANT, answer)], images)
            for k, (turns, answer) in enumerate(whole, start=1)
        }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a dialogue did not fit, oldest first: of the one that all answers reply in, or of each conversation."""

    turns: tuple[int, ...]
    """left out as a whole"""
    tokens: tuple[int, ...]
    """left out in all: those turns, and the beginning of the oldest that is shown"""

    @classmethod
    def most(cls, each: Sequence[LeftOut]) -> LeftOut:
        """Of several prompts of one sample."""
        return cls._by(max, each)

    @classmethod
    def total(cls, each: Sequence[LeftOut]) -> LeftOut:
        """Left out one after the other."""
        return cls._by(sum, each)

    @classmethod
    def _by(cls, together: Callable[[tuple[int, ...]], int], each: Sequence[LeftOut]) -> LeftOut:
        columns = zip(*((one.turns, one.tokens) for one in each), strict=True)
        return cls(*(tuple(map(together, zip(*counts, strict=True))) for counts in columns))

    def to_record(self) -> dict[str, list[int]]:
        return {"turns": list(self.turns), "tokens": list(self.tokens)}


Shortened = tuple[int, ...] | LeftOut
"""tokens cut from the end of each answer; or what was left out of the dialogue"""


def shortened_record(shortened: Shortened | None) -> list[int] | dict[str, list[int]] | None:
    """As records and answers of the API hold it."""
    if isinstance(shortened, LeftOut):
        return shortened.to_record()
    return list(shortened) if shortened else None


def read_shortened(record: Sequence[int] | Mapping[str, Sequence[int]] | None) -> Shortened | None:
    """The same back; raises KeyError or TypeError for what is none."""
    if isinstance(record, Mapping):
        return LeftOut(tuple(record["turns"]), tuple(record["tokens"]))
    return tuple(record) if record else None


def to_messages(turns: Sequence[Turn], images: Sequence[Image] = ()) -> list[dict[str, Any]]:
    """As OpenAI's API has them."""
    return [turn.to_message(images) for turn in turns]


def _last_question(turns: Turns) -> int:
    return max(place for place, turn in enumerate(turns) if turn.role == USER)


class Said(NamedTuple):
    """What a record's messages or conversations hold."""

    dialogue: Dialogue | None
    """None where nothing was said before the question"""
    question: str
    answers: tuple[str, ...] = ()
    """those that stand in it"""

    def to_fields(self, images: Sequence[Image] = ()) -> dict[str, Any]:
        """The fields of a record; `images` are the row's."""
        said = self.dialogue.to_fields(self.question, self.answers, images) if self.dialogue else {}
        names = ["answer_body"] if len(self.answers) == 1 else [f"answer{k + 1}_body" for k in range(len(self.answers))]
        texts = dict(zip(("question_body", *names), (self.question, *self.answers), strict=True))
        return {**said, **{name: write_content(text, images) for name, text in texts.items()}}


def read_said(record: Mapping[str, Any], num_answers: int, gallery: Gallery | None = None) -> Said | None:
    """What stands in a record's `messages`, or in its `conversation1` .. `conversation{num_answers}`; None where it has
    neither. Its images go into the `gallery`; without one none is taken.

    In a row with a `question_body` they count only where they end in it, and in the row's answers: other people's rows
    may bring a field of that name along. Raises ValueError for what is no dialogue.
    """
    names = [f"conversation{k}" for k in range(1, num_answers + 1)]
    given = record.get("question_body") is not None
    if given and not _ends_alike(record, names):
        return None
    if record.get(names[0]) is not None:
        return join_conversations([read_turns(record.get(name), name, gallery) for name in names])
    if record.get("messages") is None:
        return None
    turns = read_turns(record["messages"], "messages", gallery)
    if turns[-1].role == ASSISTANT and num_answers == 1 and (given or not _has_answers(record)):
        return join_conversations([turns])
    if turns[-1].role != USER:
        raise ValueError("messages: expected the last one to be the user's, to which the answers reply")
    return Said(Dialogue(turns[:-1]) if turns[:-1] else None, turns[-1].text)


def shown_question(record: Mapping[str, Any], num_answers: int = 2, first: int = 1) -> str:
    """The question of a record as people and statistics are to know it: with the turns before it, or all that the user
    said in the conversation that ends in answer `first`.
    """
    dialogue = _dialogue_of(record, num_answers)
    question = str(record.get("question_body", ""))
    if dialogue is None:
        return question
    if dialogue.conversations:
        return _as_text([turn for turn in dialogue.conversations[first - 1] if turn.role == USER])
    return _as_text([*dialogue.turns, Turn(USER, question)])


def shown_conversation(record: Mapping[str, Any], number: int, answer: str, num_answers: int = 2) -> str:
    """An answer of a record with the conversation that it ends, where it ends one of its own."""
    dialogue = _dialogue_of(record, num_answers)
    if dialogue is None or not dialogue.conversations:
        return answer
    return _as_text([*dialogue.conversations[number - 1], Turn(ASSISTANT, answer)])


def _dialogue_of(record: Mapping[str, Any], num_answers: int) -> Dialogue | None:
    try:
        said = read_said(record, num_answers)
    except ValueError:
        # it was no dialogue when it was judged either
        return None
    return None if said is None else said.dialogue


def _as_text(turns: Sequence[Turn]) -> str:
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in turns)


def _has_answers(record: Mapping[str, Any]) -> bool:
    return any(record.get(name) is not None for name in ("answer_body", "answer1_body"))


def _ends_alike(record: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether the dialogue of a row ends as the row itself says."""
    gallery = Gallery()
    if isinstance(record.get(names[0]), list):
        return all(
            _is_said(_answer(record, k), _last_text(record.get(name), ASSISTANT, gallery), gallery)
            for k, name in enumerate(names, start=1)
        )
    messages = record.get("messages")
    if not isinstance(messages, list):
        return False
    if len(names) == 1 and (reply := _last_text(messages, ASSISTANT, gallery)) is not None:
        if not _is_said(_answer(record, 1), reply, gallery):
            return False
        messages = messages[:-1]
    return _is_said(record["question_body"], _last_text(messages, USER, gallery), gallery)


def _is_said(given: Any, text: str | None, gallery: Gallery) -> bool:
    """Whether a field is what a message says, or null."""
    try:
        return given is None or bool((gallery.read(given) if isinstance(given, list) else given) == text)
    except ValueError:
        return False


def _answer(record: Mapping[str, Any], number: int) -> Any:
    return record.get("answer_body" if number == 1 and "answer_body" in record else f"answer{number}_body")


def _last_text(messages: Any, role: str, gallery: Gallery) -> str | None:
    """That of the last message, if it is one of this role."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    try:
        turn = _read_turn(last, gallery)
    except ValueError:
        return None
    return turn.text if turn.role == role else None


def join_conversations(conversations: Sequence[Turns]) -> Said:
    """Conversations that differ in their last replies alone are one dialogue, and the replies its answers.

    The question is the first conversation's last. Raises ValueError for one that does not end in a reply.
    """
    for number, turns in enumerate(conversations, start=1):
        if len(turns) < 2 or turns[-1].role != ASSISTANT:
            raise ValueError(f"conversation {number}: expected it to end in a message of the assistant")
    before = tuple(turns[:-1] for turns in conversations)
    answers = tuple(turns[-1].text for turns in conversations)
    first = before[0]
    if first[-1].role == USER and all(turns == first for turns in before):
        return Said(Dialogue(first[:-1]) if first[:-1] else None, first[-1].text, answers)
    dialogue = Dialogue(conversations=before)
    return Said(dialogue, first[_last_question(first)].text, answers)


def read_turns(messages: Any, name: str, gallery: Gallery | None = None) -> Turns:
    """OpenAI's list of messages, whose images go into the `gallery`; without one none is taken. Raises ValueError,
    which names it, for anything else.
    """
    gallery = gallery or TextOnly()
    if not isinstance(messages, list) or not messages:
        found = "none" if isinstance(messages, list) else type(messages).__name__
        raise ValueError(f"{name}: expected a list of messages, found {found}")
    if len(messages) > MOST_TURNS:
        raise ValueError(f"{name}: expected {MOST_TURNS} messages at most, found {len(messages)}")
    turns = []
    for number, message in enumerate(messages, start=1):
        try:
            turns.append(_read_turn(message, gallery))
        except ValueError as error:
            raise type(error)(f"{name}: message {number}: {error}") from None
    return tuple(turns)


def _read_turn(message: Any, gallery: Gallery) -> Turn:
    if not isinstance(message, Mapping) or "role" not in message:
        raise ValueError('expected {"role": .., "content": ..}')
    role = message["role"]
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise CannotBeJudged("dialogues with calls of tools cannot be judged")
    content = message.get("content")
    if isinstance(content, bool | int | float):
        content = str(content)
    if not isinstance(content, str | list):
        raise ValueError(f"expected content to be a text, found {type(content).__name__}")
    return Turn(_ROLES.get(role, str(role)) if isinstance(role, str) else str(role), gallery.read(content))
