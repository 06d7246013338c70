"""The score line in tokens, for any tokenizer: which may come next in it, and how a line is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from judgelm.criteria import PUBLISHED, Scale
from judgelm.encoding import decode_after, encode
from judgelm.errors import SettingError
from judgelm.prompt import RESPONSE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE = re.compile(r"[0-9]*[ \n]?[0-9]*\n?")


def allowed_tokens(
    generated: Sequence[int], pieces: dict[int, str], prefill: str, num_answers: int, scale: Scale = PUBLISHED
) -> list[int] | None:
    """The tokens that may follow `generated` in a score line; None where the line has ended and all are free."""
    line = prefill
    for token in generated:
        line += pieces[token]
        if "\n" in line:
            return None
    return [token for token, piece in pieces.items() if _continues(line + piece, num_answers, scale)]


@lru_cache(maxsize=64)
def _score_texts(scale: Scale) -> tuple[str, ...]:
    return tuple(str(score) for score in scale.scores)


@lru_cache(maxsize=4096)
def _continues(line: str, num_answers: int, scale: Scale) -> bool:
    """Whether `line` is a score line, newline included, or can still become one."""
    body, newline, rest = line.partition("\n")
    if rest:
        return False
    parts, scores = body.split(" "), _score_texts(scale)
    if any(part not in scores for part in parts[:-1]) or len(parts) > num_answers:
        return False
    last = parts[-1]
    if newline:
        return len(parts) == num_answers and last in scores
    return any(score.startswith(last) for score in scores)


def score_pieces(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The tokens whose text, after "### Response:", is made of digits, one space or a newline.

    Raises InputError where the tokenizer cannot write a score line.
    """
    context = encode(RESPONSE, tokenizer)
    special = set(tokenizer.all_special_ids)
    pieces = {}
    for token in range(len(tokenizer)):
        if token in special:
            continue
        raw = tokenizer.convert_ids_to_tokens(token)
        # cheap sieve before the exact text: letters other than <0x0A>'s cannot be part of a score line
        if raw is None or len(raw) > 8 or (any(c.isascii() and c.isalpha() for c in raw) and raw != "<0x0A>"):
            continue
        text = decode_after(context, [token], tokenizer)
        if text and _PIECE.fullmatch(text):
            pieces[token] = text
    needed = (("digits", "1"), ("space", " "), ("newline", "\n"))
    missing = [name for name, text in needed if not any(text in piece for piece in pieces.values())]
    if missing:
        raise SettingError(
            "constrained", f"decoding cannot be used: the tokenizer has no token for {', '.join(missing)}"
        )
    return pieces


def line_tokens(lines: Sequence[str], prefill: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """The tokens of each line as they follow a prompt, which ends in "### Response:" and the prefill."""
    context = RESPONSE + prefill
    before = encode(context, tokenizer)
    found = []
    for line in lines:
        ids = encode(context + line, tokenizer)
        if ids[: len(before)] == before:
            ids = ids[len(before) :]
        else:
            # a token would reach over the border, but the prompt stands alone: so must the line
            ids = tokenizer(line, split_special_tokens=True, add_special_tokens=False).input_ids
        found.append(tuple(ids))
    return found
