"""Who wins against whom, as a picture (SVG) and as text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from judgelm.errors import one_line
from judgelm.ranking.ranking import RankedPair, Ranking
from judgelm.report.terminal import render_table

_CELL_WIDTH, _CELL_HEIGHT, _GAP = 58, 36, 2
_LETTER = 7.4
"""width of a letter at 13 px, at most about"""
_LONGEST_NAME = 28
_STYLE = """
.judgelm-matrix { color: #1f2328; font: 13px system-ui, sans-serif; }
.judgelm-matrix text { fill: currentColor; dominant-baseline: central; }
.judgelm-matrix .quiet { opacity: 0.65; font-size: 12px; }
.judgelm-matrix .unsure { font-style: italic; opacity: 0.75; }
.judgelm-matrix .won { fill: #2f81f7; }
.judgelm-matrix .lost { fill: #e8762b; }
.judgelm-matrix .empty { fill: #8b949e; fill-opacity: 0.1; }
@media (prefers-color-scheme: dark) { .judgelm-matrix { color: #e6edf3; } }
""".strip()
CAPTION = "win rate of the row against the column in per cent, ties as halves"
UNSURE = "not told apart yet"


def matrix_svg(ranking: Ranking) -> str:
    """The matrix, models best first, on no background: for light pages and dark ones."""
    names = [model.name for model in ranking.models]
    cells = _cells(ranking)
    label_width = 44 + _LETTER * max(len(_shorten(name)) for name in names)
    left, top = label_width + 8, 34
    width = max(left + len(names) * (_CELL_WIDTH + _GAP), 470) + 8
    height = top + len(names) * (_CELL_HEIGHT + _GAP) + 54
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="judgelm-matrix" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(CAPTION)}">',
        f"<style>{_STYLE}</style>",
    ]
    for place, name in enumerate(names):
        x = left + place * (_CELL_WIDTH + _GAP)
        y = top + place * (_CELL_HEIGHT + _GAP)
        middle = y + _CELL_HEIGHT / 2
        parts.append(
            f'<text class="quiet" x="{x + _CELL_WIDTH / 2:.1f}" y="18" text-anchor="middle">{place + 1}</text>'
        )
        parts.append(
            f'<text x="{label_width:.1f}" y="{middle:.1f}" text-anchor="end">{_plain(_shorten(name))}'
            f'<tspan class="quiet" dx="8">{place + 1}</tspan><title>{_plain(name)}</title></text>'
        )
        parts += [
            _cell(cells.get((name, other)), name, other, left + column * (_CELL_WIDTH + _GAP), y)
            for column, other in enumerate(names)
        ]
    bottom = top + len(names) * (_CELL_HEIGHT + _GAP) + 14
    parts.append(f'<text class="quiet" x="8" y="{bottom}">{escape(CAPTION)}</text>')
    colours = f"blue: the row wins, orange: it loses; ~ in italics: {UNSURE}; a dot: never met"
    parts.append(f'<text class="quiet" x="8" y="{bottom + 20}">{escape(colours)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def matrix_text(ranking: Ranking) -> str:
    """The same for a terminal."""
    cells = _cells(ranking)
    names = [model.name for model in ranking.models]
    rows = [
        (str(place), name, *(_said(cells.get((name, other)), "." if name != other else "") for other in names))
        for place, name in enumerate(names, start=1)
    ]
    header = ("", "model", *(str(place) for place in range(1, len(names) + 1)))
    return f"{render_table(header, rows)}\n{CAPTION}; ~ {UNSURE}, . never met"


def _cells(ranking: Ranking) -> Mapping[tuple[str, str], tuple[float, RankedPair]]:
    found = {}
    for pair in ranking.pairs:
        found[pair.first, pair.second] = (pair.win_rate.value, pair)
        found[pair.second, pair.first] = (1 - pair.win_rate.value, pair)
    return found


def _cell(cell: tuple[float, RankedPair] | None, name: str, other: str, x: float, y: float) -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{_CELL_WIDTH}" height="{_CELL_HEIGHT}" rx="4"'
    centre = f'x="{x + _CELL_WIDTH / 2:.1f}" y="{y + _CELL_HEIGHT / 2:.1f}" text-anchor="middle"'
    if cell is None:
        never_met = "" if name == other else f'<text class="quiet" {centre}>·</text>'
        return f'<rect class="empty" {box}/>{never_met}'
    rate, pair = cell
    kind = "won" if rate >= 0.5 else "lost"
    look = "" if pair.told_apart else ' class="unsure"'
    # 0.85 at most: the text stays readable on it in both colours
    return (
        f"<g><title>{_plain(name)} against {_plain(other)}: {100 * rate:.1f} % of {pair.win_rate.count}</title>"
        f'<rect class="{kind}" fill-opacity="{0.08 + 1.1 * abs(rate - 0.5):.2f}" {box}/>'
        f"<text{look} {centre}>{_said(cell, '')}</text></g>"
    )


def _said(cell: tuple[float, RankedPair] | None, otherwise: str) -> str:
    if cell is None:
        return otherwise
    rate, pair = cell
    return f"{'' if pair.told_apart else '~'}{100 * rate:.0f}"


def _plain(text: str) -> str:
    """For XML, which cannot hold control characters."""
    return escape(one_line(text))


def _shorten(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
