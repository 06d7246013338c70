"""Graded samples -> all that evaluation has to say of them, each rate with its 95 % interval, typed as in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from judgelm.documents import AnyText, Document, Section, Sparse
from judgelm.evaluation.corrections import Corrections
from judgelm.evaluation.grade_rates import RatedGrades
from judgelm.evaluation.grades import GradedSample, split_graded
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.summary import JudgedAspect, Kind, rate_aspects

GRADE_RATES = {
    "pearson": Kind("Pearson's r with the truth", share=False),
    "spearman": Kind("Spearman's rho with the truth", share=False),
    "kendall": Kind("Kendall's tau-b with the truth", share=False),
    "mae": Kind("mean absolute error", share=False),
    "exact": Kind("the same whole grade as the truth"),
    "within_one": Kind("within one point of the truth"),
    "bias": Kind("bias: mean of judge less truth", share=False),
    "mean": Kind("mean grade", share=False),
    "mean_truth": Kind("mean of the truth", share=False),
    "spread": Kind("standard deviation of grades", share=False),
    "unparsed": Kind("grades that could not be read"),
}
"""by name, in the order in which they are said; their formulas are `grade_rates.RatedGrades`"""


class GradedModel(Section):
    """The answers of one model."""

    name: AnyText
    samples: int
    rates: dict[str, Rate]
    """as those of the whole, without rank correlations"""


class GradeSummary(Sparse, Document):
    """All numbers of grades; a rate that no sample is of is left out."""

    what = "a summary of grades"
    left_out = ("corrected",)

    task: Literal["grade"] = "grade"
    """tells it from a summary of pairs"""
    samples: int
    labelled: int
    """samples with a truth"""
    questions: int
    """different ones, which the intervals draw"""
    scale: list[int]
    """the lowest and the highest grade"""
    rates: dict[str, Rate]
    """by name: [the rates](evaluation.md#grades)"""
    by_model: list[GradedModel] | None = None
    """the highest mean first; null where no row names a model"""
    aspects: list[JudgedAspect] | None = None
    """with criteria: each by itself"""
    corrected: Corrections | None = None
    """with --human: [corrected means](trust.md#corrected-rates)"""


def summarize_grades(samples: Sequence[GradedSample]) -> GradeSummary:
    """All rates of graded answers, with bootstrapped intervals. Raises ValueError for no sample."""
    rated = RatedGrades.of(samples)
    return GradeSummary(
        samples=len(samples),
        labelled=int(rated.labelled.sum()),
        questions=len(set(rated.clusters)),
        scale=[rated.scale.least, rated.scale.most],
        rates=_rates(rated),
        by_model=_by_model(samples) or None,
        aspects=rate_aspects(
            split_graded(samples), (one.reading for one in samples), lambda alone: _rates(RatedGrades.of(alone))
        )
        or None,
    )


def _rates(rated: RatedGrades, ranked: bool = True) -> dict[str, Rate]:
    found = rates_of(rated.statistics, rated.clusters)
    if ranked:
        found |= rated.correlations
    return {name: found[name] for name in GRADE_RATES if name in found}


def _by_model(samples: Sequence[GradedSample]) -> list[GradedModel]:
    members: dict[str, list[GradedSample]] = {}
    for sample in samples:
        if sample.model is not None:
            members.setdefault(sample.model, []).append(sample)
    found = [
        GradedModel(name=name, samples=len(some), rates=_rates(RatedGrades.of(some), ranked=False))
        for name, some in members.items()
    ]
    return sorted(found, key=lambda model: (-_mean(model), model.name))


def _mean(model: GradedModel) -> float:
    """The lowest there can be where no grade could be read."""
    rate = model.rates.get("mean")
    return -1.0 if rate is None or rate.value is None else rate.value
