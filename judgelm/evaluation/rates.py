"""Joined samples -> the statistics of them: what every number of an evaluation that is not the paper's comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, compress

import numpy as np

from judgelm.criteria import READABLE, Scale
from judgelm.evaluation.metrics import agreement, alternative
from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, UNREAD, Codes, encode
from judgelm.evaluation.metrics.alternative import LEAST_ANNOTATORS, LEAST_QUESTIONS
from judgelm.evaluation.metrics.calibration import Confidences, brier, calibration_error
from judgelm.evaluation.metrics.correlation import rank_correlations
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Mask, Statistic, quotient
from judgelm.evaluation.published import Metrics
from judgelm.evaluation.rate import Rate, mean_rate
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.judgement import Outcome, ParseState
from judgelm.verdict import Reading

_GAPS = (0.0, 1.0, 2.0, 4.0, np.inf)
"""of scores up to 10"""
_LENGTHS = (
    (1 / 2, "answer 1 less than half as long"),
    (1 / 1.1, "answer 1 shorter"),
    (1.1, "about equal (within 10 %)"),
    (2.0, "answer 1 longer"),
    (np.inf, "answer 1 more than twice as long"),
)
Groups = Sequence[tuple[int, str] | None]
"""which group each sample is in: its place among the groups, and its name; None for no group"""


@dataclass(frozen=True)
class Rated:
    """The samples as arrays [n]: outcomes as their places in `OUTCOMES`, or `UNREAD`, or `MISSING`."""

    samples: Sequence[JudgedSample]
    clusters: Sequence[str]
    truth: Codes
    forward: Codes
    reversed: Codes

    @classmethod
    def of(cls, samples: Sequence[JudgedSample]) -> Rated:
        return cls(
            samples,
            [sample.cluster for sample in samples],
            encode([sample.truth.outcome if sample.truth else None for sample in samples], MISSING),
            _codes([sample.forward for sample in samples]),
            _codes([sample.reversed for sample in samples]),
        )

    @property
    def scale(self) -> Scale | None:
        """Of the criteria; None without any."""
        return self.samples[0].scale if self.samples else None

    @property
    def labelled(self) -> Mask:
        return np.asarray(self.truth != MISSING)

    @property
    def both(self) -> Mask:
        return np.asarray((self.forward != MISSING) & (self.reversed != MISSING))

    @property
    def right(self) -> Floats:
        """1 and 0 for a forward judgement that agrees with the truth or not, NaN where either is missing."""
        judged = self.labelled & (self.forward != MISSING)
        return np.where(judged, self.truth == self.forward, np.nan)

    @cached_property
    def cells(self) -> Floats:
        """The forward order's confusion [n, 12]."""
        return agreement.confusion(self.truth, self.forward)

    @cached_property
    def votes(self) -> Floats:
        """Of annotators [n, 3]."""
        return agreement.count_votes([sample.votes for sample in self.samples])

    @cached_property
    def left_out(self) -> dict[str, alternative.LeftOut]:
        """Each annotator beside the judge, by name; nobody where too few labelled enough."""
        names, labels = _annotators(self.samples)
        judged = encode([sample.outcome for sample in self.samples], UNREAD)
        found = dict(zip(names, alternative.leave_out(judged, labels, self.votes), strict=True))
        enough = {name: one for name, one in found.items() if self.count_questions(one.rows) >= LEAST_QUESTIONS}
        return enough if len(enough) >= LEAST_ANNOTATORS else {}

    def count_questions(self, rows: Mask) -> int:
        """How many questions some samples [n] are of."""
        return len(set(compress(self.clusters, rows)))

    @cached_property
    def confidences(self) -> Confidences:
        return Confidences.of([sample.probabilities for sample in self.samples], self.truth)

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """By the names of `summary.RATES`, those without a sample too; and `as_tie` and `excluded`, which are
        agreement by other rules for unread judgements.
        """
        return {
            **_orders(self),
            **_agreements(self),
            "human_agreement": agreement.annotator_with_another(self.votes),
            "human_majority": agreement.annotator_with_the_majority(self.votes),
            "alpha": agreement.alpha(self.votes),
            **({"advantage": alternative.advantage([*self.left_out.values()])} if self.left_out else {}),
            "mae": _score_error(self),
            **_mean_scores(self),
            "brier": brier(self.confidences),
            "calibration_error": calibration_error(self.confidences),
        }

    def correlations(self, resamples: int) -> dict[str, Rate]:
        """Rank correlations of all scores of both answers."""
        found = rank_correlations(*_score_pairs(self), self.clusters, resamples)
        return {name: Rate.of(each) for name, each in found.items()}

    def agreement_by(self, groups: Groups, resamples: int) -> list[tuple[str, Rate]]:
        """Names of groups and agreement in each, its own questions drawn; the largest first where groups have no order.
        Empty where there are no groups, or no truth.
        """
        right = self.right
        members: dict[tuple[int, str], list[int]] = {}
        for place in np.flatnonzero(~np.isnan(right)).tolist():
            if (group := groups[place]) is not None:
                members.setdefault(group, []).append(place)
        found = []
        for group in sorted(members, key=lambda group: (group[0], -len(members[group]), group[1])):
            places = members[group]
            agreed = mean_rate(right[places], [self.clusters[place] for place in places], resamples=resamples)
            found.append((group[1], agreed))
        return found


def _annotators(samples: Sequence[JudgedSample]) -> tuple[list[str], Codes]:
    """The names of those who labelled enough to be measured, and their labels [n, m].

    Where no row names anybody they are their places in the rows that have the most labels: who is missing in another
    row, nobody can tell.
    """
    named = any(sample.voters for sample in samples)
    most = max((len(sample.votes) for sample in samples), default=0)
    places = tuple(str(place) for place in range(1, most + 1))
    voters = [sample.voters if named else places if len(sample.votes) == most else () for sample in samples]
    rows_of = Counter(chain.from_iterable(voters))
    names = [name for name in (sorted(rows_of) if named else places) if rows_of[name] >= LEAST_QUESTIONS]
    given = (dict(zip(each, sample.votes, strict=False)) for each, sample in zip(voters, samples, strict=True))
    rows = [encode([votes.get(name) for name in names], MISSING) for votes in given]
    return names, np.array(rows, dtype=np.int64).reshape(len(samples), len(names))


def by_gap(samples: Sequence[JudgedSample], scored: bool = True) -> Groups:
    """By the teacher's scores, or where it gave none, as people do, by the judge's own, if it is `scored`. On scales
    that go beyond 10 the bounds are as much larger.
    """
    taught = any(sample.truth and sample.truth.scores for sample in samples)
    if not taught and not scored:
        return [None] * len(samples)
    judges: list[Truth | Reading | None] = [sample.truth if taught else sample.forward for sample in samples]
    scores = [None if one is None else one.scores for one in judges]
    gaps = _gaps(samples[0].scale or READABLE)
    placed = [None if pair is None else _first_at_least(gaps, abs(pair[0] - pair[1])) for pair in scores]
    return [each and (each[0], f"{'teacher' if taught else 'judge'}'s gap {each[1]}") for each in placed]


def _gaps(scale: Scale) -> list[tuple[float, str]]:
    """Bounds and names."""
    bounds = [bound * max(1.0, scale.most / READABLE.most) for bound in _GAPS]
    within = [(bound, f"up to {bound:g}" if bound else "0") for bound in bounds[:-1]]
    return [*within, (np.inf, f"more than {bounds[-2]:g}")]


def by_length(samples: Sequence[JudgedSample]) -> Groups:
    """By the length of answer 1 against answer 2, in characters; no group where the file has neither answer."""
    lengths = [(len(first), len(second)) for first, second in (sample.answers for sample in samples)]
    return [
        _first_at_least(_LENGTHS, first / second if second else np.inf) if first or second else None
        for first, second in lengths
    ]


def by_category(samples: Sequence[JudgedSample]) -> Groups:
    """By the category of the rows."""
    return [None if sample.category is None else (0, sample.category) for sample in samples]


def _first_at_least(bounds: Sequence[tuple[float, str]], value: float) -> tuple[int, str]:
    return next((place, name) for place, (bound, name) in enumerate(bounds) if value <= bound)


def totals(rated: Rated, labelled: bool) -> Metrics:
    """Counts, and the summary's rates over the samples that they are of: all, or where there is a truth (`labelled`)
    those that have one. Raises ValueError where that is none.
    """
    kept = rated.labelled if labelled else np.ones(len(rated.samples), dtype=np.bool_)
    total = int(kept.sum())
    if not total:
        raise ValueError(f"no row has a teacher judgement with scores from {rated.scale or READABLE}")
    rates, judged_twice = rated.statistics, bool(rated.both.any())
    names = {"agreement": "agreement"} if labelled else {}
    if labelled and rates["brier"].count == total:
        names |= {"brier": "brier", "calibration_error": "calibration_error"}
        names |= {"agreement_both_orders": "agreement_probabilities"} if judged_twice else {}
    names |= {"bias_first": "bias_first", "bias_second": "bias_second"} if judged_twice else {}
    samples = list(compress(rated.samples, kept))
    forward, back = rated.forward[kept], [sample.reversed for sample in samples]
    return {
        **{said: rates[name].over(kept) for said, name in names.items()},
        "total": total,
        "dropped_teacher": len(rated.samples) - total,
        **_states([sample.forward for sample in samples], "forward"),
        **{f"{outcome.value}_forward": int((forward == place).sum()) for place, outcome in enumerate(OUTCOMES)},
        **(_states(back, "reversed") if judged_twice else {}),
    }


def _states(readings: Sequence[Reading | None], order: str) -> Metrics:
    states = [each.state for each in readings if each is not None]
    names = {"unparsed": ParseState.FAILED, "repaired": ParseState.REPAIRED}
    return {f"{name}_{order}": states.count(state) for name, state in names.items()}


def _codes(readings: Sequence[Reading | None]) -> Codes:
    codes = encode([None if each is None else each.outcome for each in readings], UNREAD)
    codes[[each is None for each in readings]] = MISSING
    return codes


def _orders(rated: Rated) -> dict[str, Statistic]:
    """What needs no truth: an unread judgement is not consistent and prefers nobody."""
    forward, back, both = rated.forward, rated.reversed, rated.both
    read = both & (forward != UNREAD) & (back != UNREAD)
    # places in OUTCOMES: a smaller one is better for answer 1
    moved = {
        "consistency": read & (forward == back),
        "bias_first": read & (forward < back),
        "bias_second": read & (forward > back),
    }
    orders = np.stack([forward, back])
    unread = quotient((orders == UNREAD).sum(axis=0), (orders != MISSING).sum(axis=0))
    return {**{name: quotient(hit, both) for name, hit in moved.items()}, "unparsed": unread}


def _agreements(rated: Rated) -> dict[str, Statistic]:
    """Against the truth."""
    forward, labelled, given = rated.forward, rated.labelled, rated.confidences
    judged, read = labelled & (forward != MISSING), labelled & (forward != MISSING) & (forward != UNREAD)
    right = rated.truth == forward
    as_tie = np.where(forward == UNREAD, OUTCOMES.index(Outcome.TIE), forward)
    back = labelled & (rated.reversed != MISSING)
    found = {
        "agreement": quotient(right & judged, judged),
        "as_tie": quotient((rated.truth == as_tie) & judged, judged),
        "excluded": quotient(right & read, read),
        "agreement_reversed": quotient((rated.truth == rated.reversed) & back, back),
    }
    both = labelled & rated.both
    found["agreement_calibrated"] = _calibrated_agreement(rated)
    if both.any():
        for rule, name in (("agree", "agreement_both"), ("scores", "agreement_scores")):
            outcomes = encode([sample.outcome_by(rule) for sample in rated.samples], UNREAD)
            found[name] = quotient((outcomes == rated.truth) & both, both)
    if (both & given.known).any():
        found["agreement_probabilities"] = quotient((given.right > 0) & given.known & both, both)
    count = int(judged.sum())
    found["kappa"] = Statistic(rated.cells, agreement.kappa, count)
    rarest = agreement.rarest_class(rated.truth, forward)
    for which, name in enumerate(("precision", "recall", "f1")):
        found[name] = Statistic(rated.cells, partial(agreement.macro, which=which), count, SHARE, rarest)
    return found


def _calibrated_agreement(rated: Rated) -> Statistic:
    """Of what was calibrated, by the map's threshold for ties."""
    given = [sample.calibrated for sample in rated.samples]
    known = rated.labelled & np.array([each is not None for each in given])
    said = encode([None if each is None else each.outcome for each in given], MISSING)
    return quotient((said == rated.truth) & known, known)


def _score_pairs(rated: Rated) -> tuple[Floats, Floats, Mask]:
    """Forward scores and teacher's scores [m, 2] of the samples [n] that have both; expected scores where there are."""
    pairs = [
        (sample.forward.points, sample.truth.scores) if sample.forward and sample.truth else (None, None)
        for sample in rated.samples
    ]
    known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    table = np.array(known, dtype=np.float64).reshape(-1, 2, 2)
    return table[:, 0], table[:, 1], np.array([None not in pair for pair in pairs])


def _score_error(rated: Rated) -> Statistic:
    """Mean absolute difference from the teacher's scores, over both answers."""
    ours, theirs, known = _score_pairs(rated)
    errors = np.zeros(len(known))
    errors[known] = np.abs(ours - theirs).mean(axis=1)
    return quotient(errors, known, (0, (rated.scale or READABLE).most))


def _mean_scores(rated: Rated) -> dict[str, Statistic]:
    """With criteria, of each answer: the mean of the orders judged, expected scores where there are."""
    if rated.scale is None:
        return {}
    given = [sample.scores for sample in rated.samples]
    known = np.array([scores is not None for scores in given])
    table = np.array([(0.0, 0.0) if scores is None else scores for scores in given])
    span = (rated.scale.least, rated.scale.most)
    return {
        name: quotient(column, known, span) for name, column in zip(("mean_first", "mean_second"), table.T, strict=True)
    }
