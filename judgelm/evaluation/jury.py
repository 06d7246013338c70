"""Several judges of the same samples: what they say together, and what each of them is worth to the others."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from judgelm.documents import AnyText, Document, Section
from judgelm.errors import InputError
from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, Codes, alpha, encode
from judgelm.evaluation.metrics.intervals import ROUNDING, Floats, Mask, Statistic, quotient
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.results import JudgedSample
from judgelm.judgement import Outcome

_FOLDS = 10
_DIFFERENCE = (-1.0, 1.0)


class JuryJudge(Section):
    """One judge of a jury."""

    name: AnyText
    place: AnyText
    """its folder or file, as it was given"""
    verdicts: int
    """samples of which it has one"""
    flipped: int
    """samples of which it abstains, because it contradicts itself once the answers are exchanged"""
    unread: int
    """samples of which it abstains, because a judgement of it has no scores"""
    weight: float | None = None
    """with method weighted: its voice, by all labels"""
    with_jury: Rate | None = None
    """how often its verdict is that of the jury of the others"""
    with_people: Rate | None = None
    """how often its verdict is the truth; null without labels"""
    jury_gain: Rate | None = None
    """how much more often the jury is right where this judge has a verdict, from -1 to 1"""
    changes: Rate
    """how often the jury says something else with it than without it"""
    added: Rate | None = None
    """how much more often the jury is right with it than without it, from -1 to 1, on the same samples"""
    adds_nothing: bool | None = None
    """whether it is not shown that the jury is better with it: `added` begins at 0 or below; null without labels"""


class Jury(Document):
    """What a jury says of itself; shares are from 0 to 1, and no verdict of the jury agrees with nothing."""

    what = "the description of a jury"

    method: str
    """majority, mean, weighted or dawid-skene"""
    samples: int
    questions: int
    """different ones, which the intervals draw"""
    labelled: int
    """samples with a truth"""
    undecided: int
    """samples of which no judge has a verdict"""
    alpha: Rate | None = None
    """Krippendorff's, between the judges' verdicts; null where no sample has two"""
    with_people: Rate | None = None
    """how often the jury's verdict is the truth; null without labels"""
    judges: list[JuryJudge]


@dataclass(frozen=True)
class Panel:
    """The judges' verdicts as arrays; outcomes are places in `OUTCOMES`, or `MISSING`."""

    clusters: Sequence[str]
    truth: Codes
    """[n]"""
    votes: Codes
    """[n, judges], missing where a judge abstains"""
    flipped: Mask
    """[n, judges]"""
    probabilities: Floats
    """of each order, [orders, n, judges, 3]; NaN where a judge abstains or has none"""

    @classmethod
    def of(cls, judges: Sequence[Sequence[JudgedSample]], truths: Sequence[Outcome | None]) -> Panel:
        """Of each judge the same samples in the same order. A judge that did not judge an order has in it what it has
        in the other.
        """
        votes = np.stack([encode([_vote(each) for each in judge], MISSING) for judge in judges], axis=1)
        orders = [[_probabilities(judge, order) for judge in judges] for order in ("forward", "reversed")]
        probabilities = np.moveaxis(np.array(orders, dtype=np.float64), 1, 2)
        probabilities[:, votes == MISSING] = np.nan
        flipped = np.array([[each.consistent is False for each in judge] for judge in judges], dtype=np.bool_).T
        clusters = [sample.cluster for sample in judges[0]]
        return cls(clusters, encode(truths, MISSING), votes, flipped, probabilities)

    @property
    def labelled(self) -> Mask:
        return np.asarray(self.truth != MISSING)

    def without(self, judge: int) -> Panel:
        """The same without one of the judges."""
        return replace(
            self,
            votes=np.delete(self.votes, judge, axis=1),
            flipped=np.delete(self.flipped, judge, axis=1),
            probabilities=np.delete(self.probabilities, judge, axis=2),
        )

    def in_order(self, order: int) -> Panel:
        """The same, probabilities being those of one order alone."""
        return replace(self, probabilities=self.probabilities[order : order + 1])


def _vote(sample: JudgedSample) -> Outcome | None:
    """A judge that contradicts itself abstains."""
    return None if sample.consistent is False else sample.outcome_by("agree")


def _probabilities(judge: Sequence[JudgedSample], order: str) -> list[list[float]]:
    found = []
    for sample in judge:
        reading = (sample.reversed if order == "reversed" else sample.forward) or sample.readings[0]
        given = reading.probabilities
        found.append([math.nan] * len(OUTCOMES) if given is None else [given[outcome] for outcome in OUTCOMES])
    return found


def _majority(panel: Panel) -> Floats:
    return _shares(panel, np.ones(panel.votes.shape))


def _mean(panel: Panel) -> Floats:
    """Judges without probabilities abstain."""
    known = ~np.isnan(panel.probabilities)
    counts = known.sum(axis=(0, 2))
    total = np.where(known, panel.probabilities, 0).sum(axis=(0, 2))
    return np.asarray(np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0))


def _weighted(panel: Panel) -> Floats:
    """Each label's own sample is decided with weights from the labels of other questions."""
    fold = _folds(panel)
    weights = np.empty(panel.votes.shape)
    for number in np.unique(fold):
        weights[fold == number] = weigh(panel, fold != number)
    return _shares(panel, weights)


def weigh(panel: Panel, samples: Mask | None = None) -> Floats:
    """Each judge's weight [judges] by the labels of some samples [n]: the logarithm of the odds that it is right, where
    guessing is right a third of the time and weighs nothing. So independent judges decide best; never below 0.
    """
    asked = (panel.votes != MISSING) & panel.labelled[:, None]
    if samples is not None:
        asked &= samples[:, None]
    right = asked & (panel.votes == panel.truth[:, None])
    # as if each had been right in one of three more
    accuracy = (right.sum(axis=0) + 1) / (asked.sum(axis=0) + len(OUTCOMES))
    return np.asarray(np.maximum(0, np.log((len(OUTCOMES) - 1) * accuracy / (1 - accuracy))))


def _folds(panel: Panel) -> Codes:
    """A number for each question with labels, -1 for the others [n]."""
    known = set(compress(panel.clusters, panel.labelled))
    if len(known) < 2:
        raise InputError(f"method weighted needs labels of two questions or more, found {len(known)}")
    numbers = {cluster: place % _FOLDS for place, cluster in enumerate(sorted(known, key=drawn))}
    return np.array([numbers.get(cluster, -1) for cluster in panel.clusters])


def drawn(cluster: str) -> bytes:
    """By what questions are sorted as if by chance, the same each time."""
    return hashlib.sha256(cluster.encode("utf-8", "backslashreplace")).digest()


def _shares(panel: Panel, weights: Floats) -> Floats:
    """Of each outcome, of the weights [n, judges] of those who do not abstain."""
    votes = panel.votes[:, :, None] == np.arange(len(OUTCOMES))
    sums = (votes * weights[:, :, None]).sum(axis=1)
    total = sums.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))


def _dawid_skene(panel: Panel) -> Floats:
    """Probabilities by each judge's own confusions, which are found from the verdicts alone (Dawid and Skene 1979)."""
    import pandas
    from crowdkit.aggregation import DawidSkene

    tasks, workers = np.nonzero(panel.votes != MISSING)
    found = np.full((len(panel.votes), len(OUTCOMES)), np.nan)
    if not len(tasks):
        return found
    table = pandas.DataFrame({"task": tasks, "worker": workers, "label": panel.votes[tasks, workers]})
    with warnings.catch_warnings():
        # crowd-kit 1.4 calls pandas 3 in old words
        warnings.simplefilter("ignore", DeprecationWarning)
        given = DawidSkene(n_iter=100).fit_predict_proba(table)
    # an outcome that no judge says is not among the columns
    known = given.reindex(columns=range(len(OUTCOMES)), fill_value=0.0)
    found[known.index.to_numpy()] = known.to_numpy()
    return found


_METHODS: dict[str, Callable[[Panel], Floats]] = {
    "majority": _majority,
    "mean": _mean,
    "weighted": _weighted,
    "dawid-skene": _dawid_skene,
}


def decide(panel: Panel, method: str) -> Floats:
    """How sure the jury is of win, tie and lose [n, 3]; NaN where no judge has a verdict.

    Raises InputError where the method lacks labels.
    """
    return _METHODS[method](panel)


def verdicts(shares: Floats) -> Codes:
    """The likeliest outcome, a tie where two share the highest place, missing without any [n]."""
    undecided = np.isnan(shares).any(axis=1)
    # sums of the same numbers in another order differ by their rounding
    highest = shares >= np.where(undecided, np.nan, shares.max(axis=1) - ROUNDING)[:, None]
    found = np.where(highest.sum(axis=1) == 1, highest.argmax(axis=1), OUTCOMES.index(Outcome.TIE))
    return np.where(undecided, MISSING, found)


def measure_jury(panel: Panel, method: str, names: Sequence[str], places: Sequence[str]) -> Jury:
    """A jury of two judges or more against people, each judge against the others, and what the jury would lose.

    Intervals of 95 % draw whole questions; differences are drawn on the same samples. Raises InputError as `decide`.
    """
    said = verdicts(decide(panel, method))
    counts = (panel.votes[:, :, None] == np.arange(len(OUTCOMES))).sum(axis=1).astype(np.float64)
    statistics: dict[tuple[int | None, str], Statistic] = {
        (None, "alpha"): alpha(counts),
        (None, "with_people"): _agreement(said, panel.truth, panel.labelled),
    }
    for judge in range(panel.votes.shape[1]):
        others = verdicts(decide(panel.without(judge), method))
        statistics |= {(judge, name): each for name, each in _of_judge(panel, judge, said, others).items()}
    rates: dict[int | None, dict[str, Rate]] = defaultdict(dict)
    for (judged, name), rate in rates_of(statistics, panel.clusters).items():
        rates[judged][name] = rate
    weights = weigh(panel).tolist() if method == "weighted" else [None] * len(names)
    return Jury(
        method=method,
        samples=len(said),
        questions=len(set(panel.clusters)),
        labelled=int(panel.labelled.sum()),
        undecided=int((said == MISSING).sum()),
        alpha=rates[None].get("alpha"),
        with_people=rates[None].get("with_people"),
        judges=[
            _described(panel, judge, rates[judge], name, place, weight)
            for judge, (name, place, weight) in enumerate(zip(names, places, weights, strict=True))
        ],
    )


def _of_judge(panel: Panel, judge: int, said: Codes, others: Codes) -> dict[str, Statistic]:
    votes, truth, labelled = panel.votes[:, judge], panel.truth, panel.labelled
    voted = votes != MISSING
    jury, without, alone = ((each == truth).astype(np.float64) for each in (said, others, votes))
    asked = voted & labelled
    return {
        "with_jury": _agreement(votes, others, voted & (others != MISSING)),
        "with_people": _agreement(votes, truth, asked),
        "jury_gain": quotient((jury - alone) * asked, asked, _DIFFERENCE),
        "changes": quotient(said != others, np.ones(len(said))),
        "added": quotient((jury - without) * labelled, labelled, _DIFFERENCE),
    }


def _agreement(one: Codes, other: Codes, asked: Mask) -> Statistic:
    return quotient((one == other) & asked, asked)


def _described(
    panel: Panel, judge: int, rates: Mapping[str, Rate], name: str, place: str, weight: float | None
) -> JuryJudge:
    voted, flipped, added = panel.votes[:, judge] != MISSING, panel.flipped[:, judge], rates.get("added")
    return JuryJudge(
        name=name,
        place=place,
        verdicts=int(voted.sum()),
        flipped=int(flipped.sum()),
        unread=int((~voted & ~flipped).sum()),
        weight=weight,
        adds_nothing=None if added is None else added.low is None or added.low <= 0,
        **rates,
    )
