"""The likeliest next tokens in a server's answer, in vLLM's and OpenAI's form or in llama.cpp's, checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_SLACK = 1e-3
"""above 0, for a logarithm, and above 1 for a sum: rounding of low precision"""
_SPELLED = {"▁": " ", "Ġ": " ", "Ċ": "\n", "<0x0A>": "\n"}
"""how some servers spell in a token's name what it writes"""


def read_likeliest(logprobs: Any) -> dict[str, float] | None:
    """Texts of the likeliest tokens at the first place of an answer with their probabilities, those of tokens that are
    written alike together; None where the server gives none.

    Raises ValueError, in one line, for what cannot be probabilities.
    """
    if logprobs is None:
        return None
    found: dict[str, float] = {}
    for text, log_prob in _first_place(logprobs):
        if isinstance(log_prob, bool) or not isinstance(log_prob, int | float) or not log_prob <= _SLACK:
            raise ValueError(f"the logarithm of a probability is {str(log_prob)[:40]!r}")
        for spelled, written in _SPELLED.items():
            text = text.replace(spelled, written)
        found[text] = found.get(text, 0.0) + math.exp(min(0.0, log_prob))
    if (total := math.fsum(found.values())) > 1 + _SLACK:
        raise ValueError(f"the likeliest tokens have a probability of {total:g} together")
    return found


def _first_place(logprobs: Any) -> Iterator[tuple[str, Any]]:
    """Texts and logarithms as they came."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    place = content[0] if isinstance(content, list) and content else logprobs
    top = place.get("top_logprobs") if isinstance(place, dict) else None
    if place is logprobs:
        # OpenAI's form: of each place an object, which has a text once
        top = top[0] if isinstance(top, list) and top else None
        entries = list(top.items()) if isinstance(top, dict) else None
    else:
        # llama.cpp's: of each place a list
        listed = isinstance(top, list) and all(isinstance(entry, dict) for entry in top)
        entries = [(entry.get("token"), entry.get("logprob")) for entry in top] if listed and top else None
    if not entries or not all(isinstance(text, str) for text, _ in entries):
        raise ValueError("there are no likeliest tokens in logprobs.top_logprobs or logprobs.content[].top_logprobs")
    yield from entries
