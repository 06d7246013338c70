"""Graded samples and their numbers -> all that a report of grades shows, in words and pictures."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Any

from judgelm.evaluation.grade_summary import GRADE_RATES, GradeSummary
from judgelm.evaluation.grades import GradedSample
from judgelm.evaluation.rate import Rate
from judgelm.report import pictures
from judgelm.report.aspects import describe_aspects, near, unit_of
from judgelm.report.beside import MISSING, Beside
from judgelm.report.corrections import describe_corrections
from judgelm.report.grade_tables import MODEL_RATES
from judgelm.report.words import MOST_NAME, MOST_SAMPLES, cut, rate_row, sample_words

KINDS = {"far": "more than one point from the truth", "unread": "a grade that could not be read"}
"""what can be odd about a graded sample"""
_CARDS = ("pearson", "mae", "within_one", "bias", "mean", "spread")
_MISSING = {
    "labelled": ("How near the truth the grades are", "judgelm report D --teacher FILE"),
    **MISSING,
}
"""a section and which command gives what it needs"""


def build_grade_context(
    samples: Sequence[GradedSample],
    summary: GradeSummary,
    beside: Beside,
    most: int = MOST_SAMPLES,
) -> dict[str, Any]:
    """What the templates show, in the names of `build_context`."""
    known = {name: rate for name, rate in summary.rates.items() if rate.value is not None}
    labelled = summary.labelled > 0
    pictured = ("within_one", "unparsed") if labelled else ()
    shares = [(GRADE_RATES[name].label, known[name]) for name in pictured if name in known]
    order = ("with the largest disagreement", "the largest disagreement first")
    context: dict[str, Any] = {
        **beside.described(),
        "samples": summary.samples,
        "labelled": summary.labelled,
        "questions": summary.questions,
        "cards": [rate_row(GRADE_RATES[name], known[name]) for name in _CARDS if name in known],
        "rates": [rate_row(GRADE_RATES[name], rate) for name, rate in summary.rates.items()],
        "rates_picture": pictures.shares(shares, "Rates with their 95 % intervals"),
        "aspects": describe_aspects(
            GRADE_RATES, summary.rates, [(each.name, each.rates) for each in summary.aspects or ()]
        ),
        "grades": _grades(samples, summary),
        "corrected": describe_corrections(summary.corrected),
        "scores_picture": _scores_picture(samples),
        "shown": [_shown(sample) for sample in _first(samples, most, labelled)],
        "columns": ("truth", "grade", "read", "model"),
        "kinds": KINDS if labelled else {"unread": KINDS["unread"]},
        "order": order if labelled else ("with the lowest grades", "the lowest grades first"),
        "explained": "Points lie between grade and truth. " * labelled + "Unread grades come before all others.",
    }
    return context | {"missing": [said for name, said in _MISSING.items() if not context[name]]}


def _grades(samples: Sequence[GradedSample], summary: GradeSummary) -> dict[str, Any]:
    """How the grades lie, and the models' numbers."""
    models = summary.by_model or []
    names = [name for name in MODEL_RATES if any(name in model.rates for model in models)]
    return {
        "scale": f"{summary.scale[0]} to {summary.scale[1]}",
        "picture": _histogram(samples),
        "columns": [MODEL_RATES[name] for name in names],
        "models": [
            (
                cut(each.name, MOST_NAME),
                each.samples,
                [rate_row(GRADE_RATES[name], each.rates.get(name)) for name in names],
            )
            for each in models
        ],
    }


def _histogram(samples: Sequence[GradedSample]) -> str | None:
    """Shares of whole points, or of tens where the scale goes to 100."""
    unit = unit_of(samples[0].scale)
    grades = [sample.grade for sample in samples if sample.grade is not None]
    counts = Counter(round(grade / unit) * unit for grade in grades)
    bars = [
        (f"about {grade:g} (n = {count})", Rate(value=count / len(grades), count=count))
        for grade, count in sorted(counts.items())
    ]
    return pictures.shares(bars, "How often each grade was given", bars=True)


def _scores_picture(samples: Sequence[GradedSample]) -> str | None:
    """Grades by the truth and by the judge, where both are on one scale."""
    unit = unit_of(samples[0].scale)
    pairs = [(one.truth, one.grade) for one in samples if one.truth is not None and one.grade is not None]
    most = round(10 * unit) if samples[0].scale is None else samples[0].scale.most
    if not all(0 <= truth <= most for truth, _ in pairs):
        return None
    counts = Counter((near(truth, unit), near(grade, unit)) for truth, grade in pairs)
    return pictures.bubbles(counts, (0, most), ("truth", "judge's grade"), "Grades by the truth and by the judge", unit)


def distance(sample: GradedSample) -> float | None:
    """Points between grade and truth; None where either is missing."""
    return None if sample.grade is None or sample.truth is None else abs(sample.grade - sample.truth)


def _first(samples: Sequence[GradedSample], most: int, labelled: bool) -> list[GradedSample]:
    """Unread ones, then the farthest from the truth, or without one the lowest."""

    def place(sample: GradedSample) -> tuple[bool, float]:
        if labelled:
            return sample.grade is None, distance(sample) or 0.0
        return sample.grade is None, -(sample.grade or 0.0)

    return heapq.nlargest(most, samples, key=place)


def _kinds(sample: GradedSample) -> list[str]:
    apart = distance(sample)
    found = {"far": apart is not None and apart > 1, "unread": sample.grade is None}
    return [name for name, applies in found.items() if applies]


def _shown(sample: GradedSample) -> dict[str, Any]:
    """A sample to be read."""
    grade = "unread" if sample.grade is None else f"{sample.grade:.4g}"
    truth = "" if sample.truth is None else f"{sample.truth:.4g}"
    model = cut(sample.model or "", MOST_NAME)
    aspects = [
        (cut(each.name, MOST_NAME), "unread" if each.reading.points is None else f"{each.reading.points[0]:.4g}")
        for each in sample.reading.aspects
    ]
    judgement = {"scores": grade, "outcome": "", "probabilities": "", "text": cut(sample.reading.text)}
    return {
        **sample_words(sample.key, sample.question, sample.category, distance(sample)),
        "answers": [("Answer", model, cut(sample.answer))],
        "truth": truth,
        "truth_scores": "",
        "cells": [
            *(("truth", truth or "–"), ("grade", grade)),
            *(("read", sample.reading.state.value), ("model", model or "–")),
        ],
        "judgements": [("Judge", "", {**judgement, "aspects": aspects})],
        "kinds": _kinds(sample),
    }
