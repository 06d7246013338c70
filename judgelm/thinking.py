"""The tags between which a model thinks before it answers."""

from __future__ import annotations

import re

from judgelm.score_lines import THOUGHTS_BEGIN, THOUGHTS_END, leading_thoughts

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


def split_thoughts(text: str, thinks: bool = False, cut: bool = False) -> tuple[str, str]:
    """The thoughts with which a model's text begins, without tags, and its answer.

    Args:
        thinks: thoughts may have an end alone, as their beginning was the template's.
        cut: the text ended for lack of room: thoughts without an end are all there is of it.
    """
    end = leading_thoughts(text)
    if not end and thinks and (closed := THOUGHTS_END.search(text)):
        end = closed.end()
    if not end and cut and (thinks or THOUGHTS_BEGIN.match(text.lstrip())):
        end = len(text)
    return strip_tags(text[:end]), text[end:].lstrip() if end else text
