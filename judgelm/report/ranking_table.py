"""A ranking as text for a terminal, and who wins against whom as a picture of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judgelm.errors import one_line
from judgelm.report.pictures import STANDALONE, Cell, heat_map
from judgelm.report.terminal import cut_table, render_table
from judgelm.report.words import POINTS, RATING, SHARE, WIN_RATE, shorten

if TYPE_CHECKING:
    from judgelm.ranking.ranking import RankedPair, Ranking

MAX_PAIRS = 20
"""pairs not told apart that are printed"""
CAPTION = "win rate of the row against the column in per cent, ties as halves"
UNSURE = "not told apart yet"
_LEGEND = (CAPTION, "blue: the row wins, orange: it loses", f"~ in italics: {UNSURE}; a dot: never met")
_LONGEST_NAME = 28
_CELL = (60, 38)
_LETTER = 7.4
"""width of a letter at 13 px, at most about"""
_STYLE = """
.unsure { font-style: italic; opacity: 0.75; }
.won { fill: #2f81f7; }
.lost { fill: #e8762b; }
.cell { fill: none; }
"""
"""for light pages and dark ones, on no background"""


def describe(ranking: Ranking) -> str:
    """The ranking for a terminal: models, matrix, and the pairs that cannot be told apart yet."""
    graded = any(model.grade for model in ranking.models)
    rows = [
        (
            *(str(place), model.name, str(model.judged), WIN_RATE.both(model.win_rate)),
            *map(RATING.both, (model.bradley_terry, model.elo)),
            *([POINTS.both(model.grade) if model.grade else POINTS.nothing] if graded else ()),
        )
        for place, model in enumerate(ranking.models, start=1)
    ]
    length = ", at equal length" if ranking.length_controlled else ""
    last = ("Elo", "mean grade") if graded else ("Elo",)
    header = ("", "model", "judged", f"win rate %{length}", "Bradley-Terry", *last)
    said = f"{ranking.judgements} judgements, {ranking.unread} unread and left out; outcomes {ranking.rule}"
    parts = [render_table(header, rows), said, *(f"note: {one_line(note)}" for note in ranking.notes), ""]
    return "\n".join([*parts, matrix_text(ranking), "", _undecided(ranking)])


def matrix_text(ranking: Ranking) -> str:
    """Who wins against whom, models best first."""
    met, names = _met(ranking), [model.name for model in ranking.models]
    rows = [
        (str(place), name, *(_said(met.get((name, other)), "." if name != other else "") for other in names))
        for place, name in enumerate(names, start=1)
    ]
    header = ("", "model", *(str(place) for place in range(1, len(names) + 1)))
    return f"{render_table(header, rows)}\n{CAPTION}; ~ {UNSURE}, . never met"


def matrix_svg(ranking: Ranking) -> str:
    """The same as a picture in a file of its own."""
    met, names = _met(ranking), [model.name for model in ranking.models]
    rows = [f"{place} {shorten(name, _LONGEST_NAME)}" for place, name in enumerate(names, start=1)]
    return heat_map(
        rows,
        [str(place) for place in range(1, len(names) + 1)],
        [[_cell(name, other, met.get((name, other))) for other in names] for name in names],
        CAPTION,
        left=60 + _LETTER * max(map(len, rows)),
        size=_CELL,
        below=_LEGEND,
        style=STANDALONE + _STYLE,
    )


def _met(ranking: Ranking) -> dict[tuple[str, str], tuple[float, RankedPair]]:
    """The win rate of the first against the second, and the pair."""
    pairs = ranking.pairs
    found = {(pair.first, pair.second): (pair.win_rate.value, pair) for pair in pairs}
    return found | {(pair.second, pair.first): (1 - pair.win_rate.value, pair) for pair in pairs}


def _cell(name: str, other: str, met: tuple[float, RankedPair] | None) -> Cell:
    if met is None:
        return Cell(None, "" if name == other else "·", name if name == other else f"{name} against {other}: never met")
    rate, pair = met
    title = f"{name} against {other}: {SHARE.number(rate)} of {pair.win_rate.count}"
    style, look = "won" if rate >= 0.5 else "lost", "" if pair.told_apart else " unsure"
    return Cell(2 * abs(rate - 0.5), _said(met, ""), title, style, look)


def _said(met: tuple[float, RankedPair] | None, otherwise: str) -> str:
    if met is None:
        return otherwise
    rate, pair = met
    return f"{'' if pair.told_apart else '~'}{100 * rate:.0f}"


def _undecided(ranking: Ranking) -> str:
    pairs = [pair for pair in ranking.pairs if not pair.told_apart]
    if not pairs:
        return "all pairs that met can be told apart"
    pairs.sort(key=lambda pair: float("inf") if pair.more_needed is None else pair.more_needed)
    rows = []
    for pair in pairs:
        more = "even: no number would do" if pair.more_needed is None else f"{pair.more_needed}"
        rows.append((pair.first, pair.second, str(pair.win_rate.count), WIN_RATE.both(pair.win_rate), more))
    return cut_table(
        ("not told apart", "", "judged", "win rate %", "more needed at this rate"), rows, MAX_PAIRS, "more pairs"
    )
