"""Pictures of numbers as inline SVG: colours come from the page's style, every text is escaped on one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from judgelm.errors import one_line
from judgelm.report.words import SHARE, Estimated, shorten

WIDTH = 440
"""of every picture, so that its text is readable on a phone"""
_MARGIN = 12
_ROW = 42
_WORDS = 158
"""room for a number and its interval"""


@dataclass(frozen=True, slots=True)
class Mark:
    """One number with its interval and the words beside it."""

    label: str
    words: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a heat map: how dark it is from 0 to 1, None for empty; its words, and what a reader hears."""

    share: float | None
    words: str
    title: str
    style: str = "cell"
    look: str = ""
    """of the words: more names of styles, a space before each"""


def mark(label: str, estimate: Estimated) -> Mark:
    """A share that is defined."""
    value = float("nan") if estimate.value is None else estimate.value
    return Mark(label, SHARE.both(estimate), value, estimate.low, estimate.high)


def dots(marks: Sequence[Mark], title: str, low: float = 0, high: float = 1) -> str:
    """A dot and a line for the interval in each row, on a track from `low` to `high`."""
    return _rows(marks, title, low, high, bars=False)


def bars(marks: Sequence[Mark], title: str, low: float = 0, high: float = 1) -> str:
    """The same with a bar from the left to the value."""
    return _rows(marks, title, low, high, bars=True)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    title: str,
    corner: str = "",
    left: float = 130,
    size: tuple[float, float] | None = None,
    below: Sequence[str] = (),
    style: str = "",
) -> str:
    """Named rows and columns; `corner` says which is which, and there may be words `below`.

    Names of rows have room in `left` pixels, and a cell is of the `size` given, or such that all is `WIDTH` wide. With
    a `style` it is a file of its own.
    """
    wide, high = size or ((WIDTH - left - _MARGIN) / max(1, len(columns)), 40 if len(rows) <= 6 else 26)
    top = 44
    parts = [_text(_MARGIN, 16, corner, "soft")]
    for column, name in enumerate(columns):
        parts.append(_text(left + (column + 0.5) * wide, top - 8, shorten(name, int(wide // 7)), "middle", name))
    for row, (name, line) in enumerate(zip(rows, cells, strict=True)):
        y = top + row * high
        parts.append(_text(left - 8, y + high / 2 + 4, shorten(name, int((left - 10) // 8)), "end", name))
        parts += [_cell(cell, left + column * wide, y, wide, high) for column, cell in enumerate(line)]
    bottom = top + len(rows) * high + 6
    parts += [_text(_MARGIN, bottom + 18 + 18 * k, words, "soft") for k, words in enumerate(below)]
    width = max(left + len(columns) * wide + _MARGIN, WIDTH)
    return _svg(bottom + 20 * len(below), title, parts, width, style)


def _cell(cell: Cell, x: float, y: float, width: float, height: float) -> str:
    # half at most, so that the words stay readable on it in light and dark
    strength = 0 if cell.share is None else 0.06 + 0.5 * min(1, max(0, cell.share))
    return (
        f'<g><title>{_plain(cell.title)}</title><rect class="{cell.style}" x="{x + 1:.1f}" y="{y + 1}"'
        f' width="{width - 2:.1f}" height="{height - 2}" rx="3" fill-opacity="{strength:.3f}"/>'
        f"{_text(x + width / 2, y + height / 2 + 4, cell.words, f'middle{cell.look}')}</g>"
    )


def bubbles(
    counts: Mapping[tuple[float, float], int], span: tuple[int, int], labels: tuple[str, str], title: str
) -> str:
    """How often each (x, y) occurs, as areas of circles; the dashed line is where both are the same."""
    frame = _Frame(span[0], span[1], 1 if span[1] - span[0] <= 10 else 3)
    most = max(counts.values(), default=1)
    room = frame.size / (span[1] - span[0] + 1) * 0.62
    parts = [*frame.axes(labels), frame.diagonal()]
    for (x, y), count in sorted(counts.items(), key=lambda item: -item[1]):
        radius = max(2.5, room * (count / most) ** 0.5)
        parts.append(
            f'<circle class="bubble" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{radius:.1f}">'
            f"<title>{_plain(f'{labels[0]} {x:g}, {labels[1]} {y:g}: {count}')}</title></circle>"
        )
    return _svg(frame.height, title, parts)


def reliability(bins: Sequence[tuple[float, float, int]], title: str) -> str:
    """Mean confidence against the share of right verdicts, (x, y, count) a bin; areas are counts."""
    frame = _Frame(0, 1, 0.25)
    labels = ("confidence", "share right")
    most = max((count for _, _, count in bins), default=1)
    line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y, _ in bins)
    parts = [*frame.axes(labels), frame.diagonal(), f'<polyline class="curve" points="{line}"/>']
    for x, y, count in bins:
        said = f"confidence {100 * x:.0f} %: {100 * y:.0f} % right, {count} samples"
        parts.append(
            f'<circle class="dot" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{3 + 9 * (count / most) ** 0.5:.1f}">'
            f"<title>{_plain(said)}</title></circle>"
        )
    return _svg(frame.height, title, parts)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A square with the same axis on both sides."""

    low: float
    high: float
    step: float
    left: int = 62
    top: int = 12
    size: int = 340

    @property
    def height(self) -> int:
        return self.top + self.size + 52

    def x(self, value: float) -> float:
        return self.left + self._share(value) * self.size

    def y(self, value: float) -> float:
        return self.top + (1 - self._share(value)) * self.size

    def _share(self, value: float) -> float:
        # a twentieth of room on both sides, so that a circle on the border is whole
        return 0.05 + 0.9 * (value - self.low) / (self.high - self.low)

    def diagonal(self) -> str:
        low, high = self.low, self.high
        return _line(self.x(low), self.y(low), self.x(high), self.y(high), "diagonal")

    def axes(self, labels: tuple[str, str]) -> list[str]:
        bottom, right = self.top + self.size, self.left + self.size
        parts = [f'<rect class="frame" x="{self.left}" y="{self.top}" width="{self.size}" height="{self.size}"/>']
        value = self.low
        while value <= self.high:
            parts.append(_line(self.x(value), self.top, self.x(value), bottom, "grid"))
            parts.append(_line(self.left, self.y(value), right, self.y(value), "grid"))
            parts.append(_text(self.x(value), bottom + 18, f"{value:g}", "middle soft"))
            parts.append(_text(self.left - 8, self.y(value) + 4, f"{value:g}", "end soft"))
            value += self.step
        parts.append(_text(self.left + self.size / 2, bottom + 42, labels[0], "middle"))
        middle = self.top + self.size / 2
        turned = f'<g transform="rotate(-90 18 {middle})">{_text(18, middle, labels[1], "middle")}</g>'
        return [*parts, turned]


def _rows(marks: Sequence[Mark], title: str, low: float, high: float, bars: bool) -> str:
    span, right = high - low, WIDTH - _MARGIN - _WORDS

    def place(value: float) -> float:
        return _MARGIN + (right - _MARGIN) * min(1, max(0, (value - low) / span))

    parts = []
    for row, mark in enumerate(marks):
        y = row * _ROW + 31
        parts.append(_text(_MARGIN, y - 13, shorten(mark.label, 62), "", mark.label))
        parts.append(_text(WIDTH - _MARGIN, y + 4, mark.words, "end soft"))
        parts.append(_line(_MARGIN, y, right, y, "track"))
        if bars:
            parts.append(_line(_MARGIN, y, place(mark.value), y, "bar"))
        if mark.low is not None and mark.high is not None:
            parts.append(_line(place(mark.low), y, place(mark.high), y, "whisker" if bars else "interval"))
        if not bars:
            parts.append(f'<circle class="dot" cx="{place(mark.value):.1f}" cy="{y}" r="5"/>')
    bottom = len(marks) * _ROW + 24
    for value in (low, (low + high) / 2, high):
        end = {low: "", high: "end"}.get(value, "middle")
        said = f"{100 * value:.0f} %" if (low, high) == (0, 1) else f"{value:g}"
        parts.append(_text(place(value), bottom, said, f"{end} soft"))
    return _svg(bottom + 8, title, parts)


def _svg(height: float, title: str, parts: Sequence[str], width: float = WIDTH, style: str = "") -> str:
    alone, style = (' xmlns="http://www.w3.org/2000/svg"', f"<style>{style}</style>") if style else ("", "")
    return (
        f'<svg{alone} viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>{_plain(title)}</title>{style}{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, style: str = "", full: str | None = None) -> str:
    title = f"<title>{_plain(full)}</title>" if full is not None and full != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{title}{_plain(text)}</text>'


def _plain(text: str) -> str:
    """Text of any origin for XML, which cannot hold control characters."""
    return escape(one_line(text))


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
