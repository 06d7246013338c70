"""Questions for training and for validation: none of one half is a near double of one in the other."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from judgelm.errors import InputError
from judgelm.sample import question_key

GRAM = 8
"""characters that are compared together"""
ALIKE = (2, 5)
"""share of the different ones of both questions that near doubles have in common: 2 of 5"""


@dataclass(frozen=True, slots=True)
class Split:
    """Questions by key."""

    validation: frozenset[str]
    near_doubles: int
    """questions that are like one before them"""


def split_questions(
    questions: Mapping[str, str], share: float, seed: int, among: Collection[str] | None = None
) -> Split:
    """Draw a `share` of the questions, key -> text, for validation; near doubles stay together.

    `among` are those that may be drawn (None: all). Raises InputError where nothing is left for one of the halves.
    """
    groups: dict[int, list[str]] = defaultdict(list)
    for key, group in zip(questions, group_texts(list(questions.values())), strict=True):
        groups[group].append(key)
    near_doubles = len(questions) - len(groups)
    if not share:
        return Split(frozenset(), near_doubles)
    wanted = min(max(1, round(share * len(questions))), len(questions) - 1)
    drawn: set[str] = set()
    for keys in sorted(groups.values(), key=lambda each: random.Random(f"{seed}:{min(each)}").random()):
        if len(drawn) + len(keys) <= wanted and (among is None or set(keys) <= set(among)):
            drawn.update(keys)
    if not drawn:
        known = "" if among is None else f", {len(among)} of them with a reference,"
        said = f"{len(questions)} questions{known} in {len(groups)} groups of near doubles cannot be split"
        raise InputError(f"{said}: expected more, or --validation 0")
    return Split(frozenset(drawn), near_doubles)


def group_texts(texts: Sequence[str]) -> list[int]:
    """The number of each text's group: near doubles are in one, and so are near doubles of near doubles.

    All of them are found. Two texts with enough grams in common have one among the rarest of each, so only texts that
    share such a gram are compared.
    """
    kinds: dict[str, int] = {}
    kind_of = [kinds.setdefault(question_key(text), len(kinds)) for text in texts]
    grams = [_grams(text) for text in kinds]
    rarity = Counter(gram for each in grams for gram in each)
    places: dict[str, list[int]] = defaultdict(list)
    groups = list(range(len(kinds)))

    def group_of(number: int) -> int:
        while groups[number] != number:
            groups[number] = number = groups[groups[number]]
        return number

    for number, each in enumerate(grams):
        common, of = ALIKE
        rarest = sorted(each, key=lambda gram: (rarity[gram], gram))[: len(each) + 1 + -common * len(each) // of]
        for other in sorted({other for gram in rarest for other in places[gram]}):
            if group_of(other) != group_of(number) and are_alike(grams[other], each):
                groups[group_of(number)] = group_of(other)
        for gram in rarest:
            places[gram].append(number)
    return [group_of(kind) for kind in kind_of]


def are_alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two texts' grams make them near doubles."""
    shared = len(one & other)
    return ALIKE[1] * shared >= ALIKE[0] * (len(one) + len(other) - shared)


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[begin : begin + GRAM] for begin in range(max(1, len(text) - GRAM + 1)))
