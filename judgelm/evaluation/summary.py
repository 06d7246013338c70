"""Joined samples -> all that evaluation has to say of a judge, each rate with its 95 % interval, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from judgelm.evaluation.metrics.agreement import (
    MISSING,
    OUTCOMES,
    UNREAD,
    Codes,
    alpha,
    annotator_with_another,
    annotator_with_the_majority,
    as_table,
    class_scores,
    confusion,
    count_votes,
    encode,
    kappa,
    library_alpha,
    macro,
    rarest_class,
)
from judgelm.evaluation.metrics.calibration import Confidences, brier, calibration_error, reliability
from judgelm.evaluation.metrics.correlation import correlate, kendall, spearman
from judgelm.evaluation.metrics.groups import by_category, by_gap, by_group, by_length
from judgelm.evaluation.metrics.intervals import (
    RESAMPLES,
    SHARE,
    Estimate,
    Floats,
    Mask,
    Statistic,
    around,
    estimates,
    quotient,
)
from judgelm.evaluation.results import JudgedSample, Reading
from judgelm.jsonl import Record
from judgelm.judgement import MAX_SCORE, Outcome

RATE_LABELS = {
    "agreement": "agreement with the truth",
    "agreement_reversed": "agreement, answers exchanged",
    "agreement_both": "agreement of both orders, a contradiction being a tie",
    "agreement_scores": "agreement of both orders' mean scores",
    "agreement_probabilities": "agreement of both orders' mean probabilities",
    "kappa": "Cohen's kappa with the truth",
    "precision": "precision, mean of classes",
    "recall": "recall, mean of classes",
    "f1": "F1, mean of classes",
    "human_agreement": "one annotator agrees with another",
    "human_majority": "one annotator agrees with the others' majority",
    "alpha": "Krippendorff's alpha of the annotators",
    "mae": "mean absolute error of scores",
    "spearman": "Spearman's rho of scores",
    "kendall": "Kendall's tau-b of scores",
    "brier": "Brier score (0 best, 2 worst)",
    "calibration_error": "expected calibration error, 10 bins",
    "consistency": "consistency under swap",
    "bias_first": "swap shifts to the answer shown first",
    "bias_second": "swap shifts to the answer shown second",
    "unparsed": "judgements that could not be read",
}
NO_SHARES = ("kappa", "alpha", "mae", "spearman", "kendall", "brier")
"""rates that are not said in per cent"""
OF_SCORES = ("mae", "spearman", "kendall", "agreement_scores")
"""rates that need scores that mean something, not only a verdict"""
_MANY = 20_000
_RANK_RESAMPLES_OF_MANY = 200


@dataclass(frozen=True, slots=True)
class _Coded:
    """The samples as arrays [n]."""

    samples: Sequence[JudgedSample]
    clusters: Sequence[str]
    truth: Codes
    forward: Codes
    reversed: Codes

    @property
    def labelled(self) -> Mask:
        return np.asarray(self.truth != MISSING)

    @property
    def right(self) -> Floats:
        """1 and 0 for a forward judgement that agrees with the truth or not, NaN where either is missing."""
        judged = self.labelled & (self.forward != MISSING)
        return np.where(judged, self.truth == self.forward, np.nan)

    @property
    def both(self) -> Mask:
        return np.asarray((self.forward != MISSING) & (self.reversed != MISSING))


def summarize(samples: Sequence[JudgedSample], resamples: int = RESAMPLES, seed: int = 0) -> Record:
    """All rates, tables and counts of `docs/evaluation.md`, Metrics.

    A rate that no sample is of is left out; one that is not defined, such as a kappa of one class, has the value None.
    Raises ValueError for no sample.
    """
    if not samples:
        raise ValueError("there is no sample to summarize")
    coded = _code(samples)
    cells = confusion(coded.truth, coded.forward)
    votes = count_votes([sample.votes for sample in samples])
    given = Confidences.of([sample.outcomes for sample in samples], coded.truth)
    statistics = {
        **_orders(coded),
        **_agreements(coded, cells, given),
        "human_agreement": annotator_with_another(votes),
        "human_majority": annotator_with_the_majority(votes),
        "alpha": alpha(votes),
        "mae": _score_error(coded),
        "brier": brier(given),
        "calibration_error": calibration_error(given),
    }
    computable = {name: statistic for name, statistic in statistics.items() if statistic.count}
    found = estimates(computable, coded.clusters, resamples, seed)
    if "alpha" in found and not np.isnan(found["alpha"].value):
        value = library_alpha(votes)
        low, high = around(value, (found["alpha"].low, found["alpha"].high))
        found["alpha"] = Estimate(value, low, high, found["alpha"].count)
    found |= _rank_correlations(coded, resamples, seed)
    grouped = {"by_gap": by_gap(samples), "by_length": by_length(samples), "by_category": by_category(samples)}
    return {
        "samples": len(samples),
        "labelled": int(coded.labelled.sum()),
        "questions": len(set(coded.clusters)),
        "rates": {name: found[name].to_record() for name in RATE_LABELS if name in found},
        "unparsed": _unparsed(coded, found),
        **_class_tables(cells),
        **{name: by_group(coded.right, groups, coded.clusters, resamples, seed) for name, groups in grouped.items()},
        "reliability": reliability(given),
    }


def _code(samples: Sequence[JudgedSample]) -> _Coded:
    def reading(given: Sequence[Reading | None]) -> Codes:
        codes = encode([None if each is None else each.outcome for each in given], UNREAD)
        codes[[each is None for each in given]] = MISSING
        return codes

    return _Coded(
        samples,
        [sample.cluster for sample in samples],
        encode([sample.truth.outcome if sample.truth else None for sample in samples], MISSING),
        reading([sample.forward for sample in samples]),
        reading([sample.reversed for sample in samples]),
    )


def _orders(coded: _Coded) -> dict[str, Statistic]:
    """What needs no truth: an unread judgement is not consistent and prefers nobody, as in `metrics`."""
    read = coded.both & (coded.forward != UNREAD) & (coded.reversed != UNREAD)
    # places in OUTCOMES: a smaller one is better for answer 1
    moved = {
        "consistency": read & (coded.forward == coded.reversed),
        "bias_first": read & (coded.forward < coded.reversed),
        "bias_second": read & (coded.forward > coded.reversed),
    }
    orders = np.stack([coded.forward, coded.reversed])
    unread = quotient((orders == UNREAD).sum(axis=0), (orders != MISSING).sum(axis=0))
    return {**{name: quotient(hit, coded.both) for name, hit in moved.items()}, "unparsed": unread}


def _agreements(coded: _Coded, cells: Floats, given: Confidences) -> dict[str, Statistic]:
    """Against the truth, `cells` [n, 12] being the forward order's confusion."""
    forward, labelled = coded.forward, coded.labelled
    judged, read = labelled & (forward != MISSING), labelled & (forward != MISSING) & (forward != UNREAD)
    right = coded.truth == forward
    as_tie = np.where(forward == UNREAD, OUTCOMES.index(Outcome.TIE), forward)
    back = labelled & (coded.reversed != MISSING)
    found = {
        "agreement": quotient(right & judged, judged),
        "as_tie": quotient((coded.truth == as_tie) & judged, judged),
        "excluded": quotient(right & read, read),
        "agreement_reversed": quotient((coded.truth == coded.reversed) & back, back),
    }
    both = labelled & coded.both
    if both.any():
        for rule, name in (("agree", "agreement_both"), ("scores", "agreement_scores")):
            outcomes = encode([sample.outcome(rule) for sample in coded.samples], UNREAD)
            found[name] = quotient((outcomes == coded.truth) & both, both)
    if (both & given.known).any():
        found["agreement_probabilities"] = quotient((given.right > 0) & given.known & both, both)
    count = int(judged.sum())
    found["kappa"] = Statistic(cells, kappa, count)
    rarest = rarest_class(coded.truth, forward)
    for which, name in enumerate(("precision", "recall", "f1")):
        found[name] = Statistic(cells, partial(macro, which=which), count, SHARE, rarest)
    return found


def _score_pairs(coded: _Coded) -> tuple[Floats, Floats, Mask]:
    """Forward scores and teacher's scores [m, 2] of the samples [n] that have both; expected scores where there are."""
    pairs = [
        (sample.forward.expected_scores or sample.forward.scores, sample.truth.scores)
        if sample.forward and sample.truth
        else (None, None)
        for sample in coded.samples
    ]
    known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    table = np.array(known, dtype=np.float64).reshape(-1, 2, 2)
    return table[:, 0], table[:, 1], np.array([None not in pair for pair in pairs])


def _score_error(coded: _Coded) -> Statistic:
    """Mean absolute difference from the teacher's scores, over both answers."""
    ours, theirs, known = _score_pairs(coded)
    errors = np.zeros(len(known))
    errors[known] = np.abs(ours - theirs).mean(axis=1)
    return quotient(errors, known, (0, MAX_SCORE))


def _rank_correlations(coded: _Coded, resamples: int, seed: int) -> dict[str, Estimate]:
    """Of all scores of both answers. Of many samples fewer resamples are drawn, because each has to be ranked anew."""
    ours, theirs, known = _score_pairs(coded)
    if not known.any():
        return {}
    clusters = [cluster for cluster, there in zip(coded.clusters, known.tolist(), strict=True) if there]
    draws = min(resamples, _RANK_RESAMPLES_OF_MANY) if len(clusters) > _MANY else resamples
    found = {
        name: correlate(formula, ours.ravel(), theirs.ravel(), np.repeat(clusters, 2).tolist(), draws, seed)
        for name, formula in (("spearman", spearman), ("kendall", kendall))
    }
    return {name: replace(each, count=len(clusters)) for name, each in found.items()}


def _unparsed(coded: _Coded, found: Mapping[str, Estimate]) -> Record | None:
    """Agreement with unread judgements as ties, as errors, and left out."""
    if "agreement" not in found:
        return None
    estimates_ = {"as_tie": found["as_tie"], "as_error": found["agreement"], "excluded": found.get("excluded")}
    count = int(((coded.forward == UNREAD) & coded.labelled).sum())
    return {**{name: each and each.to_record() for name, each in estimates_.items()}, "count": count}


def _class_tables(cells: Floats) -> Record:
    """Confusion, and precision, recall and F1 of each outcome, None where not defined; both None without a truth."""
    total = cells.sum(axis=0)
    if not total.any():
        return {"confusion": None, "classes": None}
    table = as_table(total).astype(int).tolist()
    columns = (*(outcome.value for outcome in OUTCOMES), "unparsed")
    scores = [[None if np.isnan(value) else value for value in each.tolist()] for each in class_scores(total)]
    precision, recall, f1 = scores
    return {
        "confusion": {o.value: dict(zip(columns, row, strict=True)) for o, row in zip(OUTCOMES, table, strict=True)},
        "classes": {
            outcome.value: {"precision": precision[k], "recall": recall[k], "f1": f1[k], "support": sum(table[k])}
            for k, outcome in enumerate(OUTCOMES)
        },
    }
