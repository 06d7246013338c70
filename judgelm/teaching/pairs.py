"""Which answers the teacher compares: each model as often first as second, and as often with each of the others."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Models = tuple[int, int]
"""numbers of two models, the lower one first"""


class Pair(NamedTuple):
    """The answers of two models to a question, in the order in which they are written."""

    question: str
    """its key"""
    first: int
    """number of the model"""
    second: int


def choose_pairs(candidates: Mapping[str, Sequence[Models]], most: int | None, seed: int) -> list[Pair]:
    """Pairs of each question, in the questions' order; the same for the same seed.

    Where every model has answered every question, two models meet as often as any other two, or once more. Each model,
    and each of two that meet, is first as often as second, or once more or less.

    Args:
        candidates: a question's key -> the models whose answers can be compared.
        most: so many a question; None: all.
    """
    meetings: Counter[Models] = Counter()
    shown: Counter[int] = Counter()
    chosen: list[tuple[str, Models]] = []
    for question, given in candidates.items():
        rest = list(given)
        random.Random(f"{seed}:{question}").shuffle(rest)
        taken = []
        for _ in range(len(rest) if most is None else min(most, len(rest))):
            models = min(rest, key=lambda each: (meetings[each], shown[each[0]] + shown[each[1]]))
            rest.remove(models)
            taken.append(models)
            meetings[models] += 1
            shown.update(models)
        chosen += [(question, models) for models in sorted(taken)]
    return _place(chosen, seed)


def _place(chosen: Sequence[tuple[str, Models]], seed: int) -> list[Pair]:
    """Half of two models' pairs are turned; of the one that is left over so many that models come out even."""
    numbers: dict[Models, list[int]] = defaultdict(list)
    for number, (_, models) in enumerate(chosen):
        numbers[models].append(number)
    turned: set[int] = set()
    left: dict[Models, int] = {}
    for models, each in numbers.items():
        random.Random(f"{seed}:{models}").shuffle(each)
        turned.update(each[: len(each) // 2])
        if len(each) % 2:
            left[models] = each[-1]
    turned.update(left[second, first] for first, second in directed(left) if first > second)
    return [
        Pair(question, *(reversed(models) if number in turned else models))
        for number, (question, models) in enumerate(chosen)
    ]


def directed(edges: Mapping[Models, int] | Sequence[Models]) -> list[Models]:
    """Each edge of a graph with a direction: of a point's edges as many leave as arrive, but for one where it has an
    odd number of them.

    A walk along unused edges goes on until there are none where it stands. Begun at a point with an odd number it ends
    at another such; once there is none left, all walks are closed.
    """
    neighbours: dict[int, set[int]] = defaultdict(set)
    for one, other in edges:
        neighbours[one].add(other)
        neighbours[other].add(one)
    found: list[Models] = []

    def walk(place: int) -> None:
        while neighbours[place]:
            towards = min(neighbours[place])
            neighbours[place].remove(towards)
            neighbours[towards].remove(place)
            found.append((place, towards))
            place = towards

    points = sorted(neighbours)
    for point in points:
        if len(neighbours[point]) % 2:
            walk(point)
    for point in points:
        walk(point)
    return found
