"""How far two raters, or several, agree beyond chance: formulas of counts, for any number of tables at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.intervals import Floats, Mask, Statistic, quotient
from judgelm.judgement import Outcome

Codes = NDArray[np.int64]
OUTCOMES = tuple(Outcome)
UNREAD = len(OUTCOMES)
"""code of a judgement without scores: a class of its own, which no truth is in"""
MISSING = -1
"""code where there is no judgement, or no truth, at all"""


def encode(outcomes: Sequence[Outcome | None], none: int) -> Codes:
    """Outcomes as their places in `OUTCOMES` [n], None as `none`."""
    codes = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    return np.array([none if outcome is None else codes[outcome] for outcome in outcomes], dtype=np.int64)


def confusion(truth: Codes, judged: Codes) -> Floats:
    """Which cell of truth x (win, tie, lose, unread) a sample is in [n, 12]; in none where either is missing."""
    cells = np.zeros((len(truth), len(OUTCOMES) * (UNREAD + 1)))
    known = (truth != MISSING) & (judged != MISSING)
    cells[np.flatnonzero(known), truth[known] * (UNREAD + 1) + judged[known]] = 1
    return cells


def as_table(cells: Floats) -> Floats:
    """[.., 12] as [.., truth, judged]."""
    return cells.reshape(*cells.shape[:-1], len(OUTCOMES), UNREAD + 1)


def kappa(cells: Floats) -> Floats:
    """Cohen's kappa (1960), [.., 12] -> [..]. Unread judgements are a class of their own and so agree with nothing."""
    table = as_table(cells)
    total = table.sum(axis=(-1, -2))
    observed = table[..., range(UNREAD), range(UNREAD)].sum(axis=-1) / total
    by_chance = (table.sum(axis=-1) * table.sum(axis=-2)[..., :UNREAD]).sum(axis=-1) / total**2
    return np.asarray((observed - by_chance) / (1 - by_chance))


def class_scores(cells: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each outcome, [.., 12] -> [.., 3]; NaN where nothing is divided by nothing: the
    precision of what is never said, the recall of what is never true, the F1 of what is neither.
    """
    table = as_table(cells)
    hits = table[..., range(UNREAD), range(UNREAD)]
    said, true = table.sum(axis=-2)[..., :UNREAD], table.sum(axis=-1)

    def share(above: Floats, below: Floats) -> Floats:
        return np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)

    return share(hits, said), share(hits, true), share(2 * hits, said + true)


def macro(cells: Floats, which: int) -> Floats:
    """Mean over the classes that are said or true of precision (0), recall (1) or F1 (2), one that is not defined
    counting as 0, as scikit-learn has it; NaN where there is no such class.
    """
    scores = class_scores(cells)
    there = ~np.isnan(scores[2])
    return np.asarray(np.nan_to_num(scores[which]).sum(axis=-1) / there.sum(axis=-1))


def rarest_class(truth: Codes, judged: Codes) -> Mask:
    """The samples that say or have the rarest outcome of those that are said or true [n]."""
    known = (truth != MISSING) & (judged != MISSING)
    members = [known & ((truth == place) | (judged == place)) for place in range(UNREAD)]
    return min((each for each in members if each.any()), key=lambda each: int(each.sum()), default=known)


def count_votes(votes: Sequence[Sequence[Outcome]]) -> Floats:
    """How many annotators voted for each outcome [n, 3]."""
    return np.array([[each.count(outcome) for outcome in OUTCOMES] for each in votes], dtype=np.float64)


def alpha(counts: Floats) -> Statistic:
    """Krippendorff's alpha (nominal) of votes [n, 3], each sample's annotators being others.

    Pairs within samples against pairs over all (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011); the
    sums are those of his coincidence matrix.
    """
    voters = counts.sum(axis=1, keepdims=True)
    weights = np.where(voters > 1, 1 / np.maximum(voters - 1, 1), 0)
    same = (counts * (counts - 1) * weights).sum(axis=1, keepdims=True)
    columns = np.concatenate([same, np.where(voters > 1, counts, 0)], axis=1)

    def formula(sums: Floats) -> Floats:
        of_class = sums[..., 1:]
        total = of_class.sum(axis=-1)
        differing = total**2 - (of_class**2).sum(axis=-1)
        return np.asarray(1 - (total - 1) * (total - sums[..., 0]) / differing)

    return Statistic(columns, formula, int((voters > 1).sum()))


def library_alpha(counts: Floats) -> float:
    """The same number from the library krippendorff, which cannot weight samples and so gives no interval."""
    import krippendorff

    return float(krippendorff.alpha(value_counts=counts.astype(np.int64), level_of_measurement="nominal"))


def annotator_with_another(counts: Floats) -> Statistic:
    """How often one annotator agrees with another, of votes [n, 3]: the mean over samples of the share of pairs."""
    voters = counts.sum(axis=1)
    pairs = voters * (voters - 1)
    several = voters > 1
    return quotient((counts * (counts - 1)).sum(axis=1) / np.where(several, pairs, 1), several)


def annotator_with_the_majority(counts: Floats) -> Statistic:
    """How often one annotator agrees with more than half of the others, of votes [n, 3]; where the others have no
    majority, or are fewer than two, nothing is counted.
    """
    others = counts.sum(axis=1) - 1
    agreeing, asked = np.zeros(len(counts)), np.zeros(len(counts))
    for place in range(len(OUTCOMES)):
        rest = counts.copy()
        rest[:, place] -= 1
        decided = (counts[:, place] > 0) & (others > 1) & (rest.max(axis=1) > others / 2)
        asked += counts[:, place] * decided
        agreeing += counts[:, place] * (decided & (rest.argmax(axis=1) == place))
    # a mean of shares of samples would be too low: where one of three differs, only that one is asked
    return quotient(agreeing, asked)
