"""Judgements of many answers and their numbers -> all that a report of them shows, in words and pictures."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from judgelm.criteria import READABLE
from judgelm.evaluation.many import ManyAnswers, Scores
from judgelm.evaluation.places import ManySummary
from judgelm.report import pictures
from judgelm.report.beside import MISSING, Beside
from judgelm.report.many_tables import many_rates
from judgelm.report.words import MOST_NAME, MOST_SAMPLES, POINTS, cut, row, sample_words
from judgelm.sample import unshow

KINDS = {"inconsistent": "orders find different answers best", "unread": "a judgement that could not be read"}
"""what can be odd about judgements of many answers"""
_MOST_BARS = 30
_EXPLAINED = (
    "Points lie between the highest and the lowest score that one of the answers got in several orders. Scores are of"
    " the answers as the file has them. Samples with unread judgements come before all others."
)
_MISSING = {
    "places": ("What a place is worth", "judgelm judge --task multi --orders all"),
    "audit": ("Bias card", "judgelm audit --task multi .. --output-dir D"),
    **MISSING,
}
"""a section and which command gives what it needs"""


def build_many_context(
    samples: Sequence[ManyAnswers],
    summary: ManySummary,
    beside: Beside,
    most: int = MOST_SAMPLES,
) -> dict[str, Any]:
    """What the templates show, in the names of `build_context`."""
    rates = [(label, rate) for label, rate in many_rates(summary) if rate.value is not None]
    rows = [row(*rate) for rate in rates]
    many = _many(samples, summary)
    context: dict[str, Any] = {
        **beside.described(),
        "samples": summary.samples,
        "questions": summary.questions,
        "cards": rows,
        "rates": rows,
        "rates_picture": pictures.shares(rates, "Rates with their 95 % intervals"),
        "many": many,
        "shown": [_shown(sample) for sample in _first(samples, most)],
        "columns": ("best", "its score", "same best", "read"),
        "kinds": KINDS,
        "order": ("whose orders differ most", "those whose orders differ most first"),
        "explained": _EXPLAINED,
    }
    there = {**context, "places": many["places"]}
    return context | {"missing": [said for name, said in _MISSING.items() if not there[name]]}


def _many(samples: Sequence[ManyAnswers], summary: ManySummary) -> dict[str, Any]:
    """Mean scores, what places are worth, and how much was judged in each order."""
    answers = [(cut(each.name, MOST_NAME), each.score) for each in summary.answers]
    highest = max((sample.scale or READABLE).most for sample in samples)
    bars, more = answers[:_MOST_BARS], len(answers) > _MOST_BARS
    return {
        "orders": list(summary.orders.items()),
        "picture": pictures.shares(bars, "Mean scores", form=POINTS, most=highest),
        "of": f" The first {_MOST_BARS} of {len(answers)}." if more else "",
        "answers": [row(name, score, POINTS) for name, score in answers],
        "places": [
            (POINTS.number(each.score), row(f"place {each.place}", each.bias, POINTS)) for each in summary.places or ()
        ],
    }


def distance(sample: ManyAnswers) -> float | None:
    """Points between the highest and the lowest score of one answer in several orders; None where fewer than two were
    read.
    """
    read = list(sample.scores.values())
    return max(max(each) - min(each) for each in zip(*read, strict=True)) if len(read) > 1 else None


def _first(samples: Sequence[ManyAnswers], most: int) -> list[ManyAnswers]:
    """Those with unread judgements, then those whose orders find different answers best, the farthest apart first."""

    def place(sample: ManyAnswers) -> tuple[bool, bool, float]:
        kinds = _kinds(sample)
        return "unread" in kinds, "inconsistent" in kinds, distance(sample) or 0.0

    return heapq.nlargest(most, samples, key=place)


def _kinds(sample: ManyAnswers) -> list[str]:
    best = {_best(scores) for scores in sample.scores.values()}
    found = {"inconsistent": len(best) > 1, "unread": None in sample.shown.values()}
    return [name for name, applies in found.items() if applies]


def _best(scores: Scores | None) -> tuple[int, ...]:
    """Numbers of the best answers."""
    return tuple(k for k, score in enumerate(scores, start=1) if score == max(scores)) if scores else ()


def _said(scores: Scores | None) -> str:
    return "unread" if scores is None else " : ".join(f"{score:.4g}" for score in scores)


def _shown(sample: ManyAnswers) -> dict[str, Any]:
    """A sample to be read."""
    kinds, means = _kinds(sample), sample.means
    best, read = _best(means), len(sample.scores)
    said = [f", mean score {mean:.4g}" for mean in means] if means else [""] * len(sample.models)
    return {
        **sample_words(sample.key, sample.question, None, distance(sample)),
        "answers": [
            (f"Answer {k}{mean}", model and cut(model, MOST_NAME), cut(text))
            for k, (mean, model, text) in enumerate(zip(said, sample.models, sample.answers, strict=True), start=1)
        ],
        "truth": "",
        "truth_scores": "",
        "cells": [
            ("best", f"answer{'s' * (len(best) > 1)} {', '.join(map(str, best))}" if best else "–"),
            ("its score", f"{max(means):.4g}" if means else "–"),
            ("same best", "–" if read < 2 else "no" if "inconsistent" in kinds else "yes"),
            ("read", f"{read} of {len(sample.shown)}"),
        ],
        "judgements": [_judgement(sample, order) for order in sample.shown],
        "kinds": kinds,
    }


def _judgement(sample: ManyAnswers, order: str) -> tuple[str, str, dict[str, Any]]:
    """Title, what the judge saw, and what it said."""
    numbers = range(1, len(sample.models) + 1)
    places = unshow(tuple(numbers), order)
    seen = ", ".join(str(number) for _, number in sorted(zip(places, numbers, strict=True)))
    said = {
        "scores": _said(sample.scores.get(order)),
        "outcome": "",
        "probabilities": "",
        "aspects": (),
        "text": cut(sample.texts[order]),
    }
    return f"Judge, {order}", f"saw answers {seen} in these places; the text speaks of them so", said
