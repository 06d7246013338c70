"""Agreement in groups of samples: by score gap, by length of the answers, by category."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from judgelm.evaluation.metrics.intervals import Estimate, Floats, ratio
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.verdict import Reading

GAPS = ((0.0, "0"), (1.0, "up to 1"), (2.0, "up to 2"), (4.0, "up to 4"), (np.inf, "more than 4"))
LENGTHS = (
    (1 / 2, "answer 1 less than half as long"),
    (1 / 1.1, "answer 1 shorter"),
    (1.1, "about equal (within 10 %)"),
    (2.0, "answer 1 longer"),
    (np.inf, "answer 1 more than twice as long"),
)
Groups = Sequence[tuple[int, str] | None]
"""which group each sample is in: its place among the groups, and its name; None for no group"""


def by_gap(samples: Sequence[JudgedSample]) -> Groups:
    """By the teacher's scores, or where it gave none, as people do, by the judge's own."""
    judges: Sequence[Truth | Reading | None]
    if any(sample.truth and sample.truth.scores for sample in samples):
        whose, judges = "teacher's", [sample.truth for sample in samples]
    else:
        whose, judges = "judge's", [sample.forward for sample in samples]
    scores = [None if one is None else one.scores for one in judges]
    placed = [None if pair is None else _first_at_least(GAPS, abs(pair[0] - pair[1])) for pair in scores]
    return [each and (each[0], f"{whose} gap {each[1]}") for each in placed]


def by_length(samples: Sequence[JudgedSample]) -> Groups:
    """By the length of answer 1 against answer 2, in characters; no group where the file has neither answer."""
    lengths = [(len(first), len(second)) for first, second in (sample.answers for sample in samples)]
    return [
        _first_at_least(LENGTHS, first / second if second else np.inf) if first or second else None
        for first, second in lengths
    ]


def by_category(samples: Sequence[JudgedSample]) -> Groups:
    """By the category of the rows."""
    return [None if sample.category is None else (0, sample.category) for sample in samples]


def _first_at_least(bounds: Sequence[tuple[float, str]], value: float) -> tuple[int, str]:
    return next((place, name) for place, (bound, name) in enumerate(bounds) if value <= bound)


def by_group(
    right: Floats, groups: Groups, clusters: Sequence[str], resamples: int, seed: int
) -> list[tuple[str, Estimate]]:
    """Names of groups and agreement in each, its own questions drawn, of `right` [n], NaN being left out; the largest
    first where groups have no order. Empty where there are no groups, or no truth.
    """
    members: dict[tuple[int, str], list[int]] = {}
    for place in np.flatnonzero(~np.isnan(right)).tolist():
        if (group := groups[place]) is not None:
            members.setdefault(group, []).append(place)
    found = []
    for group in sorted(members, key=lambda group: (group[0], -len(members[group]), group[1])):
        places = members[group]
        agreed = ratio(right[places], [clusters[place] for place in places], resamples=resamples, seed=seed)
        found.append((group[1], agreed))
    return found
