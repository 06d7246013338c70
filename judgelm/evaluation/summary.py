"""Joined samples -> all that evaluation has to say of a judge, each rate with its 95 % interval, typed as in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from judgelm.documents import AnyText, Document, Section, Sparse
from judgelm.evaluation.alternative import AltTest, alternative_test
from judgelm.evaluation.corrections import Corrections
from judgelm.evaluation.grades import GradedSample
from judgelm.evaluation.metrics.agreement import OUTCOMES, UNREAD, as_table, class_scores, library_alpha
from judgelm.evaluation.metrics.calibration import reliability
from judgelm.evaluation.metrics.intervals import RESAMPLES, Floats, around
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.rates import Rated, by_category, by_gap, by_length
from judgelm.evaluation.results import JudgedSample, split_aspects
from judgelm.verdict import Reading

_Sample = TypeVar("_Sample", JudgedSample, GradedSample)


class Kind(NamedTuple):
    """What a rate is, and how it is said."""

    label: str
    share: bool = True
    """said in per cent"""
    of_scores: bool = False
    """it needs scores that mean something, not only a verdict"""


RATES = {
    "agreement": Kind("agreement with the truth"),
    "agreement_reversed": Kind("agreement, answers exchanged"),
    "agreement_both": Kind("agreement of both orders, a contradiction being a tie"),
    "agreement_scores": Kind("agreement of both orders' mean scores", of_scores=True),
    "agreement_probabilities": Kind("agreement of both orders' mean probabilities"),
    "agreement_calibrated": Kind("agreement of calibrated verdicts, ties by the map's threshold"),
    "kappa": Kind("Cohen's kappa with the truth", share=False),
    "precision": Kind("precision, mean of classes"),
    "recall": Kind("recall, mean of classes"),
    "f1": Kind("F1, mean of classes"),
    "human_agreement": Kind("one annotator agrees with another"),
    "human_majority": Kind("one annotator agrees with the others' majority"),
    "alpha": Kind("Krippendorff's alpha of the annotators", share=False),
    "advantage": Kind("judge agrees with the others as well as one annotator"),
    "mean_first": Kind("mean score of answer 1", share=False, of_scores=True),
    "mean_second": Kind("mean score of answer 2", share=False, of_scores=True),
    "mae": Kind("mean absolute error of scores", share=False, of_scores=True),
    "spearman": Kind("Spearman's rho of scores", share=False, of_scores=True),
    "kendall": Kind("Kendall's tau-b of scores", share=False, of_scores=True),
    "brier": Kind("Brier score (0 best, 2 worst)", share=False),
    "calibration_error": Kind("expected calibration error, 10 bins"),
    "consistency": Kind("consistency under swap"),
    "bias_first": Kind("swap shifts to the answer shown first"),
    "bias_second": Kind("swap shifts to the answer shown second"),
    "unparsed": Kind("judgements that could not be read"),
}
"""by name, in the order in which they are said; their formulas are `rates.Rated.statistics`"""


class Group(Section):
    """The samples of one gap, length or category."""

    label: AnyText
    agreement: Rate


class Unparsed(Section):
    """Agreement of the forward order with unread judgements as ties, as errors, and left out; how many there are."""

    as_tie: Rate
    as_error: Rate
    excluded: Rate | None
    count: int


class ClassScores(Section):
    """Of one outcome of the truth; None where not defined."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """samples with this truth"""


class Bin(Section):
    """Samples whose confidence in the likeliest outcome is from `low` to `high`; its mean, and the share right."""

    low: float
    high: float
    confidence: float
    right: float
    """share that is right"""
    count: int


class JudgedAspect(Section):
    """The rates of one aspect of the criteria alone, with its own truth where the rows have one."""

    name: AnyText
    weight: float
    """in the mean of all"""
    samples: int
    labelled: int
    """samples with a truth"""
    own_truths: int
    """samples whose `aspects` say something of this one; the others have the truth of the whole"""
    rates: dict[str, Rate]
    """as those of the whole"""


class Summary(Sparse):
    """All numbers of `docs/evaluation.md`, Metrics; shares are from 0 to 1.

    A rate that no sample is of is left out. Tables are None where there is no truth, no group, no probability.
    """

    left_out: ClassVar[tuple[str, ...]] = ("alternative", "aspects", "calibration")

    samples: int
    labelled: int
    """samples with a truth"""
    questions: int = 0
    """different ones, which the intervals draw"""
    empty_answers: dict[AnyText, int] | None = None
    """how many of a model's answers are empty, by its name, or by "answer 1" and "answer 2"; null: none are"""
    rates: dict[str, Rate]
    """by name: [the rates](evaluation.md#rates)"""
    unparsed: Unparsed | None = None
    """what unread judgements do to the agreement"""
    confusion: dict[str, dict[str, int]] | None = None
    """how often the judge said win, tie, lose or unparsed where the truth is win, tie or lose"""
    classes: dict[str, ClassScores] | None = None
    """by outcome of the truth"""
    by_gap: list[Group] | None = None
    """by the difference of the two scores"""
    by_length: list[Group] | None = None
    """by the length of answer 1 against answer 2"""
    by_category: list[Group] | None = None
    """by `category` or `subset` of the rows"""
    reliability: list[Bin] | None = None
    """how sure the judge is and how often right"""
    alternative: AltTest | None = None
    """with labels of several annotators: whether the judge may stand for one of them"""
    aspects: list[JudgedAspect] | None = None
    """with criteria: each by itself"""
    calibration: str | None = None
    """name of the map by which all probabilities were calibrated, where they were"""


class Comparison(Section):
    """Two judges on the same samples; see `comparison.compare`."""

    samples: int
    first: Rate
    """agreement of the first judge with the truth"""
    second: Rate
    """of the second"""
    difference: Rate
    """second - first, from -1 to 1"""
    same_outcome: Rate
    """how often both say the same"""
    both: int
    """samples on which both are right"""
    only_first: int
    only_second: int
    neither: int
    p: float
    """of McNemar's exact test"""


class SummaryFile(Summary, Document):
    """summary.json, which `judgelm evaluate --output` writes."""

    what = "a summary of judgelm evaluate"
    left_out = ("alternative", "aspects", "calibration", "against", "corrected")

    against: Comparison | None = None
    """with --against, where the folder is the first judge"""
    corrected: Corrections | None = None
    """with --human: [corrected rates](trust.md#corrected-rates)"""


def summarize(samples: Sequence[JudgedSample] | Rated, resamples: int = RESAMPLES, scored: bool = True) -> Summary:
    """All rates, tables and counts of samples with two answers, with bootstrapped intervals.

    `scored` False says that the judge gave verdicts alone: what is said of its scores is left out.

    Raises ValueError for no sample.
    """
    rated = samples if isinstance(samples, Rated) else Rated.of(samples)
    if not rated.samples:
        raise ValueError("there is no sample to summarize")
    rates = _rates(rated, resamples)
    groups: dict[str, Any] = {}
    gaps = partial(by_gap, scored=scored)
    for name, of in (("by_gap", gaps), ("by_length", by_length), ("by_category", by_category)):
        given = rated.agreement_by(of(rated.samples), resamples)
        groups[name] = [Group(label=label, agreement=each) for label, each in given] or None
    readings = chain.from_iterable(sample.readings for sample in rated.samples)

    def alone(aspect: Sequence[JudgedSample]) -> dict[str, Rate]:
        return _in_order(_rates(Rated.of(aspect), resamples))

    return Summary(
        samples=len(rated.samples),
        labelled=int(rated.labelled.sum()),
        questions=len(set(rated.clusters)),
        empty_answers=dict(Counter(chain.from_iterable(sample.empty for sample in rated.samples))) or None,
        rates=_in_order(rates, scored),
        unparsed=_unparsed(rated, rates),
        confusion=_confusion(rated.cells),
        classes=_classes(rated.cells),
        **groups,
        reliability=[Bin(**each) for each in reliability(rated.confidences)] or None,
        alternative=alternative_test(rated),
        aspects=rate_aspects(split_aspects(rated.samples), readings, alone) or None,
        calibration=_calibration(rated.samples),
    )


def _calibration(samples: Sequence[JudgedSample]) -> str | None:
    """The map of all samples that have probabilities; None where some have none of it, or of another."""
    given = [each.calibrated for each in samples if each.own_probabilities]
    names = {None if each is None else each.map for each in given}
    return names.pop() if len(names) == 1 else None


def _rates(rated: Rated, resamples: int) -> dict[str, Rate]:
    """All that a sample is of, and agreement by other rules for unread judgements."""
    found = rates_of(rated.statistics, rated.clusters, resamples)
    alpha = found.get("alpha")
    if alpha is not None and alpha.value is not None:
        value = library_alpha(rated.votes)
        low, high = around(value, (alpha.low, alpha.high))
        found["alpha"] = Rate(value=value, low=low, high=high, count=alpha.count)
    return found | rated.correlations(resamples)


def _in_order(rates: Mapping[str, Rate], scored: bool = True) -> dict[str, Rate]:
    return {name: rates[name] for name, kind in RATES.items() if name in rates and (scored or not kind.of_scores)}


def rate_aspects(
    aspects: Mapping[str, Sequence[_Sample]],
    readings: Iterable[Reading],
    rate: Callable[[Sequence[_Sample]], dict[str, Rate]],
) -> list[JudgedAspect]:
    """One after another, from the samples as they were judged by it alone and what rates them; the readings of the
    whole say what it weighs.
    """
    weights = {each.name: each.weight for reading in readings for each in reading.aspects}
    return [
        JudgedAspect(
            name=name,
            weight=weights[name],
            samples=len(samples),
            labelled=sum(sample.truth is not None for sample in samples),
            own_truths=sum(name in (sample.aspect_truths or ()) for sample in samples),
            rates=rate(samples),
        )
        for name, samples in aspects.items()
    ]


def _unparsed(rated: Rated, rates: Mapping[str, Rate]) -> Unparsed | None:
    if "agreement" not in rates:
        return None
    count = int(((rated.forward == UNREAD) & rated.labelled).sum())
    return Unparsed(as_tie=rates["as_tie"], as_error=rates["agreement"], excluded=rates.get("excluded"), count=count)


def _confusion(cells: Floats) -> dict[str, dict[str, int]] | None:
    table = as_table(cells.sum(axis=0)).astype(int)
    names = [outcome.value for outcome in OUTCOMES]
    rows = (dict(zip((*names, "unparsed"), row, strict=True)) for row in table.tolist())
    return dict(zip(names, rows, strict=True)) if table.any() else None


def _classes(cells: Floats) -> dict[str, ClassScores] | None:
    total = cells.sum(axis=0)
    if not total.any():
        return None
    scores = [[None if np.isnan(value) else value for value in each.tolist()] for each in class_scores(total)]
    supports = as_table(total).sum(axis=1).astype(int).tolist()
    return {
        outcome.value: ClassScores(precision=precision, recall=recall, f1=f1, support=support)
        for outcome, precision, recall, f1, support in zip(OUTCOMES, *scores, supports, strict=True)
    }
