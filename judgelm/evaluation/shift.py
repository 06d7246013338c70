"""Whether the samples that people were asked about are a random part of all: what is known of each, held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from judgelm.documents import AnyText, Section
from judgelm.errors import one_line
from judgelm.evaluation.corrected import FEW, Part
from judgelm.evaluation.metrics.intervals import Floats

SURE = 0.05
"""below which an adjusted p is no accident"""
_LEAST_EXPECTED = 5
"""samples of a group that the labelled part should have: smaller groups are taken together"""
_MOST_GROUPS = 50
"""of one kind that are tested, the largest"""
_MOST_NAME = 40


class Shift(Section):
    """A test whether the labelled samples differ from the others in one thing."""

    what: str
    p: float
    adjusted: float
    """p after Holm's correction (1979) for all tests: below 0.05 the labelled part is not random"""
    found: AnyText
    """where they differ most, in words"""


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that is known of every sample, as numbers [n, k], and how a difference of means in one is said."""

    what: str
    columns: Floats
    say: Callable[[int, Floats, Floats], str]
    """the place of a column, the means of the labelled samples and of the others -> words"""

    @classmethod
    def length(cls, characters: Sequence[int]) -> Trait:
        """Of the answers; the logarithm is what is tested."""
        columns = np.log1p(np.asarray(characters, dtype=np.float64))[:, None]

        def say(_: int, labelled: Floats, others: Floats) -> str:
            one, other = np.expm1(labelled[0]), np.expm1(others[0])
            return (
                f"answers of {one:.0f} characters where there are labels and of {other:.0f} elsewhere (geometric means)"
            )

        return cls("length of the answers", columns, say)

    @classmethod
    def grades(cls, grades: Sequence[float | None]) -> Trait | None:
        """That the judge gave, those that could be read."""
        read = [grade for grade in grades if grade is not None]
        if not read:
            return None
        middle = sum(read) / len(read)
        columns = np.array([middle if grade is None else grade for grade in grades], dtype=np.float64)[:, None]

        def say(_: int, labelled: Floats, others: Floats) -> str:
            one, other = labelled[0], others[0]
            return f"the judge's mean grade is {one:.2f} where there are labels and {other:.2f} elsewhere"

        return cls("grade of the judge", columns, say)

    @classmethod
    def groups(cls, what: str, members: Sequence[Sequence[str]], share: float) -> Trait | None:
        """Names that a sample has, such as its category; those too rare for a labelled `share` are left out.

        None where there is nothing to be told apart.
        """
        if share in (0, 1):
            return None
        counts = Counter(name for names in members for name in set(names))
        least = _LEAST_EXPECTED / min(share, 1 - share)
        fit = [name for name, count in counts.most_common() if least <= count <= len(members) - least]
        known = fit[:_MOST_GROUPS]
        if not known:
            return None
        columns = np.array([[name in names for name in known] for names in members], dtype=np.float64)

        def say(place: int, labelled: Floats, others: Floats) -> str:
            shares = (
                f"{100 * labelled[place]:.0f} % of the labelled samples and {100 * others[place]:.0f} % of the others"
            )
            return f"{what} {one_line(known[place])[:_MOST_NAME]}: {shares}"

        return cls(what, columns, say)


def describe_samples(part: Part, lengths: Sequence[int], groups: Mapping[str, Sequence[Sequence[str]]]) -> list[Trait]:
    """The traits that can be told of samples whose answers have these lengths, and that have names of these groups."""
    share = float(part.asked.mean())
    named = [Trait.groups(what, members, share) for what, members in groups.items()]
    return [*([Trait.length(lengths)] if any(lengths) else []), *(each for each in named if each is not None)]


def find_shifts(part: Part, traits: Sequence[Trait]) -> list[Shift]:
    """One for each trait, p from its score test; none where too few samples are labelled, or not labelled, to tell."""
    if min(part.labels, len(part.asked) - part.labels) < FEW or part.questions_of(part.asked) < FEW:
        return []
    tested = [(trait, *_test(part, trait.columns)) for trait in traits]
    adjusted = holm([p for _, p, _ in tested])
    return [
        Shift(what=trait.what, p=p, adjusted=after, found=trait.say(place, *_means(part, trait.columns)))
        for (trait, p, place), after in zip(tested, adjusted, strict=True)
    ]


def _means(part: Part, columns: Floats) -> tuple[Floats, Floats]:
    return columns[part.asked].mean(axis=0), columns[~part.asked].mean(axis=0)


def _test(part: Part, columns: Floats) -> tuple[float, int]:
    """p of the labelled samples' sums, given that the part is random; the place of the column that is farthest off.

    A score test. The sums' variance is that of drawing samples, or whole questions, or what lies between: as far as
    the labels of a question go together.
    """
    from scipy.stats import chi2

    share = float(part.asked.mean())
    drawn, apart = part.asked.astype(np.float64) - share, columns - columns.mean(axis=0)
    by_question = np.stack([part.sums(column) for column in apart.T], axis=1)
    together = _together(part, drawn, share)
    variance = share * (1 - share) * ((1 - together) * apart.T @ apart + together * by_question.T @ by_question)
    total = drawn @ apart
    off = np.abs(total) / np.sqrt(np.maximum(np.diag(variance), np.finfo(np.float64).tiny))
    rank = int(np.linalg.matrix_rank(variance, hermitian=True))
    if not rank:
        return 1.0, int(off.argmax())
    squared = float(total @ np.linalg.pinv(variance, hermitian=True) @ total)
    return float(chi2.sf(squared, rank)), int(off.argmax())


def _together(part: Part, drawn: Floats, share: float) -> float:
    """How far the samples of a question are labelled together: 0 where samples were drawn, 1 where questions were."""
    sizes, sums = part.sums(np.ones(len(drawn))), part.sums(drawn)
    pairs = float((sizes * (sizes - 1)).sum())
    both = float(sums @ sums - drawn @ drawn)
    return min(1.0, max(0.0, both / (pairs * share * (1 - share)))) if pairs else 0.0


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for all of them being looked at (Holm 1979)."""
    found, most = [0.0] * len(values), 0.0
    for done, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        most = max(most, min(1.0, values[place] * (len(values) - done)))
        found[place] = most
    return found
