"""Judged samples and their numbers -> all that a report shows, in words and pictures."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from judgelm.evaluation.corrections import Corrections
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.summary import RATES, Summary
from judgelm.judgement import Outcome
from judgelm.report import pictures
from judgelm.report.alternative import describe_alternative
from judgelm.report.aspects import describe_aspects, near, unit_of
from judgelm.report.beside import MISSING, Beside
from judgelm.report.brief import in_brief
from judgelm.report.corrections import describe_corrections
from judgelm.report.words import MOST_NAME, MOST_SAMPLES, OUTCOMES, SHARE, cut, rate_row, row, sample_words, score_pair
from judgelm.verdict import Reading

KINDS = {
    "wrong": "another outcome than the truth",
    "flipped": "outcome does not survive the swap",
    "unread": "a judgement without scores",
}
"""what can be odd about a judged sample"""
_MOST_BARS = 30
_CARDS = (
    *("agreement", "agreement_both", "agreement_probabilities", "agreement_calibrated"),
    *("consistency", "kappa", "human_agreement"),
)
_EXPLAINED = (
    "Points lie between the judge's lead of one answer over the other and {}. Scores are of answers 1 and 2 as the file"
    " has them, in both orders."
)
_NOTES = {
    "forward": ("Judge, forward", "saw answer 1 as Assistant 1"),
    "reversed": ("Judge, reversed", "saw answer 2 as Assistant 1; the text speaks of them so"),
}
_MISSING = {
    "confusion": ("Agreement with a truth", "judgelm report D --teacher FILE"),
    "position": ("Position", "judgelm judge .. --orders both"),
    "reliability": ("Calibration", "judgelm judge .. --scoring expected, with a truth"),
    "audit": ("Bias card", "judgelm audit .. --output-dir D"),
    **MISSING,
}
"""a section and which command gives what it needs"""


def build_context(
    samples: Sequence[JudgedSample],
    summary: Summary,
    beside: Beside,
    most: int = MOST_SAMPLES,
    corrected: Corrections | None = None,
) -> dict[str, Any]:
    """What the templates show; `most` samples are shown to be read."""
    known = {name: rate for name, rate in summary.rates.items() if rate.value is not None}
    shares = [(RATES[name].label, rate) for name, rate in known.items() if RATES[name].share]
    context = {
        **beside.described(),
        "samples": summary.samples,
        "labelled": summary.labelled,
        "questions": summary.questions,
        "brief": in_brief(samples, summary, corrected),
        "cards": [rate_row(RATES[name], known[name]) for name in _CARDS if name in known],
        "rates": [rate_row(RATES[name], rate) for name, rate in summary.rates.items()],
        "rates_picture": pictures.shares(shares, "Rates with their 95 % intervals"),
        "unparsed": _unparsed(summary),
        "confusion": _confusion(summary),
        "alternative": describe_alternative(summary.alternative),
        "position": _position(samples, known),
        "aspects": describe_aspects(RATES, summary.rates, [(each.name, each.rates) for each in summary.aspects or ()]),
        "reliability": _reliability(summary),
        "corrected": describe_corrections(corrected),
        "groups": _groups(summary),
        "scores_picture": _scores_picture(samples),
        "shown": [_shown(sample) for sample in largest(samples, most)],
        "kinds": KINDS,
        "columns": ("truth", "judge", "forward", "reversed"),
        "order": ("with the largest disagreement", "the largest disagreement first"),
        "explained": _EXPLAINED.format("the truth's" if summary.labelled else "that of the other order"),
    }
    return context | {"missing": [said for name, said in _MISSING.items() if not context[name]]}


def _unparsed(summary: Summary) -> dict[str, Any] | None:
    given = summary.unparsed
    if given is None:
        return None
    rules = {"counted as ties": given.as_tie, "counted as errors": given.as_error, "left out": given.excluded}
    rows = [row(words, rate) for words, rate in rules.items() if rate is not None and rate.value is not None]
    return {"count": given.count, "rows": rows}


def _confusion(summary: Summary) -> dict[str, Any] | None:
    if not summary.confusion:
        return None
    columns = list(OUTCOMES.values())
    rows = {OUTCOMES[truth]: [said[name] for name in OUTCOMES] for truth, said in summary.confusion.items()}
    cells = []
    for truth, counts in rows.items():
        total = sum(counts)
        said = [f"truth {truth}, judge {name}: {n} of {total}" for name, n in zip(columns, counts, strict=True)]
        cells.append([pictures.Cell(n / max(1, total), str(n), t) for n, t in zip(counts, said, strict=True)])
    title = "Which outcome the judge finds for which truth"
    return {
        "picture": pictures.heat_map(list(rows), columns, cells, title, "truth ↓  judge →"),
        "classes": [
            (OUTCOMES[truth], *map(SHARE.number, (one.precision, one.recall, one.f1)), one.support)
            for truth, one in (summary.classes or {}).items()
        ],
        "rows": [(truth, *counts) for truth, counts in rows.items()],
        "columns": columns,
    }


def _groups(summary: Summary) -> list[dict[str, Any]]:
    titles = {
        "By how far apart the truth's scores are": summary.by_gap,
        "By the answers' lengths": summary.by_length,
        "By category": summary.by_category,
    }
    found = []
    for title, groups in titles.items():
        if not groups:
            continue
        labelled = [(cut(each.label, MOST_NAME), each.agreement) for each in groups]
        counted = [(f"{label} (n = {rate.count})", rate) for label, rate in labelled[:_MOST_BARS]]
        picture = pictures.shares(counted, f"Agreement. {title}", bars=True)
        found.append({"title": title, "rows": [row(*each) for each in labelled], "picture": picture})
    return found


def _scores_picture(samples: Sequence[JudgedSample]) -> str | None:
    """Every answer's score by the truth and by the judge, to the nearest half."""
    scale = samples[0].scale if samples else None
    unit, most = unit_of(scale), scale.most if scale else 10
    pairs = [
        (near(ours, unit), near(theirs, unit))
        for sample in samples
        if sample.truth is not None and sample.truth.scores is not None and sample.scores is not None
        for ours, theirs in zip(sample.truth.scores, sample.scores, strict=True)
    ]
    title = "Scores of all answers, by the teacher and by the judge"
    labels = ("teacher's score", "judge's score")
    return pictures.bubbles(Counter(pairs), (0, most), labels, title, unit)


def _position(samples: Sequence[JudgedSample], rates: Mapping[str, Rate]) -> dict[str, Any] | None:
    names = [name for name in ("consistency", "bias_first", "bias_second") if name in rates]
    both = [(margin(sample.forward), margin(sample.reversed)) for sample in samples]
    scale = samples[0].scale if samples else None
    unit = unit_of(scale)
    leads = [(near(one, unit), near(other, unit)) for one, other in both if one is not None and other is not None]
    if not leads and not names:
        return None
    labels = ("lead of answer 1, shown first", "lead of answer 1, shown second")
    title = "By how many points answer 1 leads, in both orders"
    # with lines at each third unit, and one at 0
    most = 9 if scale is None else 3 * unit * math.ceil((scale.most - scale.least) / unit / 3)
    shares = [(RATES[name].label, rates[name]) for name in names]
    return {
        "rows": [rate_row(RATES[name], rates[name]) for name in names],
        "bars": pictures.shares(shares, "Under swap", bars=True),
        "picture": pictures.bubbles(Counter(leads), (-most, most), labels, title, unit),
    }


def _reliability(summary: Summary) -> dict[str, Any] | None:
    if not summary.reliability:
        return None
    points = [(one.confidence, one.right, one.count) for one in summary.reliability]
    rows = [
        (f"{100 * one.low:.0f} to {100 * one.high:.0f} %", *map(SHARE.number, (one.confidence, one.right)), one.count)
        for one in summary.reliability
    ]
    picture = pictures.reliability(points, "How often the judge is right, by how sure it is")
    return {"picture": picture, "rows": rows, "map": summary.calibration}


def margin(reading: Reading | None) -> float | None:
    """Points by which answer 1 leads, by expected scores where there are some; None without scores."""
    return None if reading is None or reading.points is None else reading.points[0] - reading.points[1]


def distance(sample: JudgedSample) -> float:
    """Points between the judge's lead, mean of its orders, and the truth's.

    A truth without scores counts the points on the wrong side; without a truth it is the points between both orders.
    A judgement without scores leads by 0.
    """
    leads = [margin(reading) or 0.0 for reading in sample.readings]
    if sample.truth is None:
        return max(leads) - min(leads)
    lead = sum(leads) / len(leads)
    if sample.truth.scores is not None:
        return abs(lead - (sample.truth.scores[0] - sample.truth.scores[1]))
    if sample.truth.outcome is Outcome.TIE:
        return abs(lead)
    return max(0.0, -sample.truth.outcome.sign * lead)


def kinds(sample: JudgedSample) -> list[str]:
    """Which of `KINDS` apply."""
    read = all(reading.scores is not None for reading in sample.readings)
    wrong = read and sample.truth is not None and sample.outcome_by("agree") is not sample.truth.outcome
    found = {"wrong": wrong, "flipped": sample.consistent is False, "unread": not read}
    return [name for name, applies in found.items() if applies]


def largest(samples: Sequence[JudgedSample], most: int) -> list[JudgedSample]:
    """The `most` samples with the largest distance, those that are odd first where it is the same."""
    return heapq.nlargest(most, samples, key=lambda sample: (distance(sample), len(kinds(sample))))


def _shown(sample: JudgedSample) -> dict[str, Any]:
    """A sample to be read."""
    truth = sample.truth
    readings = {"forward": _judgement(sample.forward), "reversed": _judgement(sample.reversed)}
    return {
        **sample_words(sample.key, sample.question, sample.category, distance(sample)),
        "answers": [
            (name, model and cut(model, MOST_NAME), cut(text))
            for name, model, text in zip(_names(sample), sample.models, sample.answers, strict=True)
        ],
        "truth": "" if truth is None else OUTCOMES[truth.outcome],
        "truth_scores": "" if truth is None or truth.scores is None else score_pair(truth.scores),
        "cells": [
            ("truth", "–" if truth is None else OUTCOMES[truth.outcome]),
            ("judge", OUTCOMES[sample.outcome_by("agree") or "unparsed"]),
            *((name, one["scores"] if one else "–") for name, one in readings.items()),
        ],
        "judgements": [(*_NOTES[order], one) for order, one in readings.items() if one],
        "kinds": kinds(sample),
    }


def _names(sample: JudgedSample) -> tuple[str, str]:
    if sample.known_answer:
        return "Answer 1, the right one, worth 10", "Answer 2, graded"
    return "Answer 1", "Answer 2"


def _judgement(reading: Reading | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    likely = reading.probabilities or {}
    return {
        "scores": _scores(reading),
        "aspects": [(cut(each.name, MOST_NAME), _scores(each.reading)) for each in reading.aspects],
        "outcome": OUTCOMES[reading.outcome or "unparsed"],
        "probabilities": ", ".join(f"{OUTCOMES[each]} {100 * likely[each]:.0f} %" for each in Outcome if likely),
        "text": cut(reading.text),
    }


def _scores(reading: Reading) -> str:
    return "unread" if reading.points is None else score_pair(reading.points, reading.expected_scores is not None)
