"""Corrected rates as words: for a terminal, the page and its Markdown."""

from __future__ import annotations

from typing import Any

from judgelm.evaluation.corrections import CorrectedPair, CorrectedRate, Corrections
from judgelm.evaluation.rate import Rate
from judgelm.ranking.ranking import Ranking
from judgelm.report import pictures
from judgelm.report.terminal import cut_table, render_table
from judgelm.report.words import MOST_NAME, POINTS, RATING, WIN_RATE, Form, cut

_HEADER = ("judge only", "people only", "corrected", "Rogan-Gladen", "labels", "judge is worth", "to tell apart")
_RATINGS = ("Bradley-Terry", "judge only", "people only", "corrected", "labels")
_MOST_SAID = 5
"""rates of which a sentence says what the judge is worth"""
_MOST_BARS = 10
_NOTHING = "–"


def corrected_tables(found: Corrections) -> str:
    """For a terminal."""
    rows = [(name, *cells) for name, cells in _lines(found)]
    said = [counted(found), *sentences(found), *(f"note: {note}" for note in found.notes)]
    return "\n".join([cut_table(_header(found), rows), *said])


def rating_table(ranking: Ranking) -> str:
    """Of a ranking that people's labels corrected: the ratings by judge, by people, and corrected."""
    rows = [(name, *cells) for name, cells in _ratings(ranking)]
    return render_table(_RATINGS, rows)


def describe_corrections(found: Corrections | None) -> dict[str, Any] | None:
    """As the templates show it."""
    if found is None:
        return None
    return {
        "counted": counted(found),
        "header": _header(found),
        "rows": [(cut(name, MOST_NAME), cells) for name, cells in _lines(found)],
        "sentences": sentences(found),
        "notes": found.notes,
        "shifts": [(each.what, f"{each.p:.2g}", f"{each.adjusted:.2g}", each.found) for each in found.shifts],
        "picture": _picture(found) if found.shares else None,
    }


def counted(found: Corrections) -> str:
    """How much is labelled."""
    return f"people's labels of {found.labels} of {found.samples} samples, of {found.labelled_questions} questions"


def sentences(found: Corrections) -> list[str]:
    """What the judge is worth, and which models can be told apart: of the first few."""
    worths = [rate for rate in (*found.rates, *found.pairs) if rate.worth is not None][:_MOST_SAID]
    return [*map(_worth, worths), *map(_apart, found.pairs[:_MOST_SAID])]


def _header(found: Corrections) -> tuple[str, ...]:
    return ("by people's labels, in %" if found.shares else "by people's grades", *_HEADER)


def _worth(rate: CorrectedRate) -> str:
    if not rate.worth:
        return f"{rate.name}: your judge is worth no more labels"
    total = rate.labels + rate.worth
    return (
        f"{rate.name}: your judge is worth {rate.worth} more label{'s' * (rate.worth > 1)} ({rate.labels} and the judge"
        f" say as much as {total} would)"
    )


def _apart(pair: CorrectedPair) -> str:
    both = f"{pair.first} and {pair.second}"
    if pair.told_apart:
        return f"{both} are told apart"
    if pair.corrected is None:
        return f"{both} cannot be told apart by so few labels"
    if pair.more_labels is None:
        return f"{both} cannot be told apart, and labels on all of these samples would not do at this rate"
    return f"{both} cannot be told apart: about {_count(pair.more_labels)} more would do at this rate"


def _lines(found: Corrections) -> list[tuple[str, tuple[str, ...]]]:
    """Names of the rates, and cells as in the header; the last one is empty of rates that are not of two models."""
    form = WIN_RATE if found.shares else POINTS
    return [(rate.name, _cells(rate, form)) for rate in (*found.rates, *found.pairs)]


def _cells(rate: CorrectedRate, form: Form) -> tuple[str, ...]:
    numbers = map(form.both, (rate.judge, rate.people, rate.corrected, rate.inverted))
    worth = _NOTHING if rate.worth is None else _count(rate.worth)
    apart = ""
    if isinstance(rate, CorrectedPair):
        more = "more than all" if rate.more_labels is None else f"{_count(rate.more_labels)} more"
        apart = "done" if rate.told_apart else _NOTHING if rate.corrected is None else more
    return (*numbers, str(rate.labels), worth, apart)


def _count(labels: int) -> str:
    return f"{labels} label{'' if labels == 1 else 's'}"


def _ratings(ranking: Ranking) -> list[tuple[str, tuple[str, ...]]]:
    judged = {model.name: model.bradley_terry for model in ranking.models}
    return [
        (one.name, (*map(RATING.both, (judged.get(one.name), one.people, one.corrected)), str(one.labels)))
        for one in (ranking.corrected.ratings if ranking.corrected else [])
    ]


def describe_ratings(ranking: Ranking) -> dict[str, Any] | None:
    """The same as the templates show it; None without labels."""
    if ranking.corrected is None:
        return None
    return {"header": _RATINGS, "rows": [(cut(name, MOST_NAME), cells) for name, cells in _ratings(ranking)]}


def _picture(found: Corrections) -> str | None:
    """Each rate by judge, by people, and corrected, below each other."""
    bars: list[tuple[str, Rate]] = []
    for rate in [*found.rates, *found.pairs][:_MOST_BARS]:
        ways = (("judge only", rate.judge), ("people only", rate.people), ("corrected", rate.corrected))
        bars += [(f"{rate.name}: {way}", each) for way, each in ways if each is not None]
    return pictures.shares(bars, "Rates by judge, by people and corrected")
