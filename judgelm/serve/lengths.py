"""How long a text is in tokens, without holding all of them: texts of any size come from clients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from judgelm.dialogue import LeftOut, Shortened, Turn
from judgelm.encoding import encode
from judgelm.sample import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE = 1 << 14
"""characters that are read at once"""
_BORDER = 64
"""tokens that a piece may have more than its part of the whole text: a cut makes some of what was one"""
_COUNTED = 1 << 18
"""characters from which the tokens of a longer text are estimated, so that none takes more than a second or two"""
_WHOLE = 1 << 18
_WHOLE_PER_TOKEN = 32


def _most_whole(context: int) -> int:
    """Characters of texts that are always read as they are: far more than a prompt has that fits."""
    return max(_WHOLE, _WHOLE_PER_TOKEN * context)


def count_tokens(text: str, tokenizer: PreTrainedTokenizerBase, context: int) -> int:
    """Tokens of a text, its first one included; of a very long one an estimate."""
    if len(text) <= _most_whole(context):
        return len(encode(text, tokenizer))
    return len(encode("", tokenizer)) + _estimate(text, tokenizer)


def exceeds(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, context: int) -> bool:
    """Whether very long texts that follow one another certainly have more tokens than the context; no more of them is
    read than that takes.
    """
    return sum(map(len, texts)) > _most_whole(context) and any(least > context for least in _least(texts, tokenizer))


def cut_texts(sample: Sample, tokenizer: PreTrainedTokenizerBase, context: int) -> tuple[Sample, Shortened]:
    """The sample without the ends of very long answers, or the oldest turns of a very long dialogue, which could not be
    shown in any case, and how many tokens were left out, an estimate. What is shown in the end is the same as without
    the cut.
    """
    if sample.dialogue is not None:
        return _cut_dialogue(sample, tokenizer, context)
    share = _most_whole(context)
    if sum(map(len, sample.answers)) > share:
        share //= len(sample.answers)
    cut = [(answer, 0) if len(answer) <= share else _cut(answer, tokenizer, context) for answer in sample.answers]
    return replace(sample, answers=tuple(answer for answer, _ in cut)), tuple(count for _, count in cut)


def _cut_dialogue(sample: Sample, tokenizer: PreTrainedTokenizerBase, context: int) -> tuple[Sample, LeftOut]:
    dialogue = sample.dialogue
    assert dialogue is not None
    kept, turns, tokens = [], [], []
    for earlier in dialogue.earlier:
        shown: dict[int, Turn] = {}
        # the texts from the end to the beginning, until they certainly fill the context
        room, gone, lost = context, 0, []
        for place, turn in earlier:
            if room < 0:
                gone += 1
                lost.append(turn.text)
                continue
            begin, least = _cut_beginning(turn.text, tokenizer, room)
            shown[place] = Turn(turn.role, turn.text[begin:])
            lost.append(turn.text[:begin])
            room -= least
        kept.append(shown)
        turns.append(gone)
        tokens.append(_estimate("".join(lost), tokenizer))
    return replace(sample, dialogue=dialogue.keeping(kept)), LeftOut(tuple(turns), tuple(tokens))


def _cut_beginning(text: str, tokenizer: PreTrainedTokenizerBase, room: int) -> tuple[int, int]:
    """From where a text is kept whose end alone certainly has more than `room` tokens, and how many the end has."""
    begin, least = len(text), 0
    while begin and least <= room:
        end, begin = begin, max(0, begin - _PIECE)
        least += max(0, sum(_counts(text[begin:end], tokenizer)) - _BORDER)
    return begin, least


def _cut(answer: str, tokenizer: PreTrainedTokenizerBase, context: int) -> tuple[str, int]:
    fitting = itertools.takewhile(lambda least: least <= context, _least([answer], tokenizer))
    kept = _PIECE * (1 + sum(1 for _ in fitting))
    return answer[:kept], _estimate(answer[kept:], tokenizer)


def _least(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[int]:
    """How many tokens there are at least, from the beginning to the end of each piece."""
    return itertools.accumulate(max(0, count - _BORDER) for text in texts for count in _counts(text, tokenizer))


def _estimate(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a text, by those of its beginning."""
    begin = text[:_COUNTED]
    return sum(_counts(begin, tokenizer)) * len(text) // max(1, len(begin))


def _counts(text: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[int]:
    """Tokens of the text, piece by piece, without those that the tokenizer puts around each."""
    around = len(encode("", tokenizer))
    for start in range(0, len(text), _PIECE):
        yield len(encode(text[start : start + _PIECE], tokenizer)) - around
