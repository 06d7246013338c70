"""A dialogue as visitors write it: OpenAI's messages in JSON, or lines that say who speaks."""

from __future__ import annotations

import re
from typing import Any

from judgelm.dialogue import ASSISTANT, SYSTEM, USER, read_turns, to_messages
from judgelm.errors import InputError
from judgelm.json_text import FINITE, check_depth

HINT = "User: Where is Oslo?\nAssistant: In Norway.\nUser: And how many people live there?"
_SPEAKERS = {"system": SYSTEM, "user": USER, "human": USER, "assistant": ASSISTANT}
_BEGIN = re.compile(rf"^({'|'.join(_SPEAKERS)}):[ \t]*", re.MULTILINE | re.IGNORECASE)
_EXPECTED = "Write the dialogue as messages in JSON, or in lines that begin with User:, Assistant: or System:"


def parse_dialogue(text: str) -> list[dict[str, str]]:
    """The messages of a text. Raises InputError for what is neither JSON nor such lines, and ends in no question."""
    try:
        turns = read_turns(_parse_json(text) if text.lstrip().startswith("[") else _parse_lines(text), "dialogue")
    except ValueError as error:
        raise InputError(f"This dialogue cannot be judged: {error}.") from None
    if turns[-1].role != USER:
        raise InputError("A dialogue ends in the user's question, to which the answers reply.")
    return to_messages(turns)


def _parse_lines(text: str) -> list[dict[str, str]]:
    begins = list(_BEGIN.finditer(text))
    if not begins or text[: begins[0].start()].strip():
        raise InputError(f"{_EXPECTED}.")
    ends = [*(begin.start() for begin in begins[1:]), len(text)]
    return [
        {"role": _SPEAKERS[begin[1].lower()], "content": text[begin.end() : end].strip()}
        for begin, end in zip(begins, ends, strict=True)
    ]


def _parse_json(text: str) -> Any:
    try:
        messages = FINITE.decode(text.strip())
    except (ValueError, RecursionError):
        raise InputError(f"{_EXPECTED}: this is not JSON.") from None
    check_depth(messages, "dialogue")
    return messages
