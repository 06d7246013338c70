"""A ranking as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judgelm.errors import one_line
from judgelm.report.terminal import render_table

if TYPE_CHECKING:
    from judgelm.ranking.ranking import Ranking, Strength

MAX_PAIRS = 20
"""pairs not told apart that are printed"""


def describe(ranking: Ranking) -> str:
    """The ranking for a terminal: models, matrix, and the pairs that cannot be told apart yet."""
    from judgelm.report.matrix_picture import matrix_text

    rows = [
        (
            str(place),
            model.name,
            str(model.judged),
            _with_interval(model.win_rate, 100, 1),
            _with_interval(model.bradley_terry, 1, 0),
            _with_interval(model.elo, 1, 0),
        )
        for place, model in enumerate(ranking.models, start=1)
    ]
    length = ", at equal length" if ranking.length_controlled else ""
    header = ("", "model", "judged", f"win rate %{length}", "Bradley-Terry", "Elo")
    said = f"{ranking.judgements} judgements, {ranking.unread} unread and left out; outcomes {ranking.rule}"
    parts = [render_table(header, rows), said, *(f"note: {one_line(note)}" for note in ranking.notes), ""]
    return "\n".join([*parts, matrix_text(ranking), "", _undecided(ranking)])


def _with_interval(estimate: Strength, factor: float, places: int) -> str:
    value, *bounds = (
        None if number is None else f"{factor * number:.{places}f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({bounds[0]} to {bounds[1]})" if None not in bounds else f"{value}"


def _undecided(ranking: Ranking) -> str:
    pairs = sorted(
        (pair for pair in ranking.pairs if not pair.told_apart),
        key=lambda pair: float("inf") if pair.more_needed is None else pair.more_needed,
    )
    if not pairs:
        return "all pairs that met can be told apart"
    rows = [
        (
            pair.first,
            pair.second,
            str(pair.win_rate.count),
            _with_interval(pair.win_rate, 100, 1),
            "even: no number would do" if pair.more_needed is None else f"{pair.more_needed}",
        )
        for pair in pairs[:MAX_PAIRS]
    ]
    table = render_table(("not told apart", "", "judged", "win rate %", "more needed at this rate"), rows)
    rest = len(pairs) - len(rows)
    return table + (f"\n({rest} more pairs)" if rest else "")
