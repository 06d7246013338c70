"""Cells -> a table for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from judgelm.errors import one_line


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by their width on a terminal. Cells of any origin: control characters are left out."""
    head, *shown = [[_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(_width(row[column]) for row in (head, *shown)) for column in range(len(header))]
    lines = [head, ["-" * width for width in widths], *shown]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(text: str) -> str:
    """One line; spaces in front are kept."""
    return " " * (len(text) - len(text.lstrip(" "))) + one_line(text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)
