"""The tags between which a model thinks before it answers."""

from __future__ import annotations

import re

from judgelm.score_lines import THOUGHTS_BEGIN, THOUGHTS_END

_AT_THE_END = re.compile(rf"(?:{THOUGHTS_BEGIN.pattern})\s*\Z", re.IGNORECASE)


def opened_thoughts(prompt: str) -> str:
    """The tag that opens thoughts at a prompt's end, as some templates write it; empty where there is none."""
    found = _AT_THE_END.search(prompt)
    return found[0].strip() if found else ""


def find_opening(template: str) -> str:
    """The tag that opens thoughts in a chat template; <think> where there is none in it."""
    found = THOUGHTS_BEGIN.search(template)
    return found[0] if found else "<think>"


def closing_tag(opening: str) -> str:
    """</think> of <think>, [/THINK] of [THINK]."""
    return f"{opening[0]}/{opening[1:]}"


def close_thoughts(prompt: str) -> str:
    """What ends thoughts that a prompt has opened, so that the answer follows at once; empty where there are none."""
    opening = opened_thoughts(prompt)
    return f"\n{closing_tag(opening)}\n\n" if opening else ""


def strip_tags(thoughts: str) -> str:
    """Thoughts without the tags around them."""
    return THOUGHTS_END.sub("", THOUGHTS_BEGIN.sub("", thoughts)).strip()
