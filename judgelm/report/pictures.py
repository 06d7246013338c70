"""Pictures of numbers as inline SVG: colours come from the page's style, every text is escaped on one line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from judgelm.errors import one_line
from judgelm.evaluation.rate import Rate
from judgelm.report.words import SHARE, Form, shorten

WIDTH = 440
"""of every picture, so that its text is readable on a phone"""
STANDALONE = """svg { color: #1f2328; font: 13px system-ui, sans-serif; }
text { fill: currentColor; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.soft { opacity: 0.65; font-size: 12px; }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; } }"""
"""style of a picture in a file of its own, on light pages and dark ones, on no background"""
_MARGIN = 12
_ROW = 42
_WORDS = 158
"""room for a number and its interval"""
_LEFT, _TOP, _SIZE = 62, 12, 340
"""of the square with axes"""
_FRAME_HEIGHT = _TOP + _SIZE + 52


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a heat map: how dark it is from 0 to 1, None for empty; its words, and what a reader hears."""

    share: float | None
    words: str
    title: str
    style: str = "cell"
    look: str = ""
    """of the words: more names of styles, a space before each"""


def shares(
    rates: Sequence[tuple[str, Rate]], title: str, bars: bool = False, form: Form = SHARE, most: float = 1
) -> str | None:
    """Named ones: in each row a dot, or a bar from the left, and a line for the interval, on a track up to `most`; None
    without any.
    """
    if not rates:
        return None
    right = WIDTH - _MARGIN - _WORDS

    def place(value: float | None) -> float:
        return _MARGIN + (right - _MARGIN) * min(1, max(0, (value or 0) / most))

    parts = []
    for row, (label, rate) in enumerate(rates):
        y = row * _ROW + 31
        parts.append(_text(_MARGIN, y - 13, shorten(label, 62), "", label))
        parts.append(_text(WIDTH - _MARGIN, y + 4, form.both(rate), "end soft"))
        parts.append(_line(_MARGIN, y, right, y, "track"))
        if bars:
            parts.append(_line(_MARGIN, y, place(rate.value), y, "bar"))
        if rate.low is not None and rate.high is not None:
            parts.append(_line(place(rate.low), y, place(rate.high), y, "whisker" if bars else "interval"))
        if not bars:
            parts.append(f'<circle class="dot" cx="{place(rate.value):.1f}" cy="{y}" r="5"/>')
    bottom = len(rates) * _ROW + 24
    for value, style in ((0, " soft"), (0.5, "middle soft"), (1, "end soft")):
        parts.append(_text(place(value * most), bottom, f"{form.factor * value * most:g}{form.unit}", style))
    return _svg(bottom + 8, title, parts)


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
    counts: Mapping[tuple[float, float], int],
    span: tuple[float, float],
    labels: tuple[str, str],
    title: str,
    unit: float = 1,
) -> str | None:
    """How often each (x, y) occurs, as areas of circles; the dashed line is where both are the same. Circles of values
    that are a `unit` apart have room. None where none does.
    """
    if not counts:
        return None
    units = (span[1] - span[0]) / unit
    frame = _Frame(span[0], span[1], unit if units <= 10 else 3 * unit)
    most = max(counts.values())
    room = _SIZE / (units + 1) * 0.62
    parts = frame.axes(labels)
    for (x, y), count in sorted(counts.items(), key=lambda item: -item[1]):
        said = f"{labels[0]} {x:g}, {labels[1]} {y:g}: {count}"
        parts.append(frame.circle(x, y, max(2.5, room * (count / most) ** 0.5), "bubble", said))
    return _svg(_FRAME_HEIGHT, title, parts)


def reliability(bins: Sequence[tuple[float, float, int]], title: str) -> str:
    """Mean confidence against the share of right verdicts, (x, y, count) a bin; areas are counts."""
    frame = _Frame(0, 1, 0.25)
    most = max((count for _, _, count in bins), default=1)
    line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y, _ in bins)
    parts = [*frame.axes(("confidence", "share right")), f'<polyline class="curve" points="{line}"/>']
    for x, y, count in bins:
        said = f"confidence {100 * x:.0f} %: {100 * y:.0f} % right, {count} samples"
        parts.append(frame.circle(x, y, 3 + 9 * (count / most) ** 0.5, "dot", said))
    return _svg(_FRAME_HEIGHT, title, parts)


def curve(
    points: Sequence[tuple[float, float, str]],
    levels: Sequence[tuple[str, float]],
    labels: tuple[str, str],
    title: str,
    style: str = "",
) -> str:
    """Points (x, y, what a reader hears) in per cent, joined in their order; `levels` are named lines across. With a
    `style` it is a file of its own.
    """
    heights = [y for _, y, _ in points] + [y for _, y in levels]
    low, high = 5 * math.floor(min(heights) / 5), 5 * math.ceil(max(heights) / 5)
    low, high = (low, high) if high > low else (low - 5, low + 5)
    frame = _Frame(0, 100, 25, (low, high, 5 if high - low <= 30 else 10))
    parts = frame.axes(labels)
    for number, (name, y) in enumerate(levels):
        parts.append(_line(frame.x(0), frame.y(y), frame.x(100), frame.y(y), "diagonal"))
        # a curve begins near the first and ends near the second
        x, anchor = (frame.x(0), "") if number else (frame.x(100), "end ")
        parts.append(_text(x, frame.y(y) - 5, shorten(name, 44), f"{anchor}soft", name))
    line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y, _ in points)
    parts.append(f'<polyline class="curve" points="{line}"/>')
    parts += [frame.circle(x, y, 5, "dot", said) for x, y, said in points]
    return _svg(_FRAME_HEIGHT, title, parts, style=style)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A square with axes from `low` to `high`."""

    low: float
    high: float
    step: float
    side: tuple[float, float, float] | None = None
    """the same of the left axis, where it is another"""

    def x(self, value: float) -> float:
        return _LEFT + self._share(value, self.low, self.high) * _SIZE

    def y(self, value: float) -> float:
        low, high, _ = self._left
        return _TOP + (1 - self._share(value, low, high)) * _SIZE

    @property
    def _left(self) -> tuple[float, float, float]:
        return self.side or (self.low, self.high, self.step)

    def _share(self, value: float, low: float, high: float) -> float:
        # a twentieth of room on both sides, so that a circle on the border is whole
        return 0.05 + 0.9 * (value - low) / (high - low)

    def circle(self, x: float, y: float, radius: float, style: str, said: str) -> str:
        return (
            f'<circle class="{style}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:.1f}">'
            f"<title>{_plain(said)}</title></circle>"
        )

    def axes(self, labels: tuple[str, str]) -> list[str]:
        """Grid, numbers and names of the axes, and the diagonal where both are the same."""
        bottom, right = _TOP + _SIZE, _LEFT + _SIZE
        parts = [f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_SIZE}" height="{_SIZE}"/>']
        for value in _steps(self.low, self.high, self.step):
            parts.append(_line(self.x(value), _TOP, self.x(value), bottom, "grid"))
            parts.append(_text(self.x(value), bottom + 18, f"{value:g}", "middle soft"))
        for value in _steps(*self._left):
            parts.append(_line(_LEFT, self.y(value), right, self.y(value), "grid"))
            parts.append(_text(_LEFT - 8, self.y(value) + 4, f"{value:g}", "end soft"))
        middle = _TOP + _SIZE / 2
        turned = f'<g transform="rotate(-90 18 {middle})">{_text(18, middle, labels[1], "middle")}</g>'
        parts += [_text(_LEFT + _SIZE / 2, bottom + 42, labels[0], "middle"), turned]
        low, high = self.low, self.high
        same = _line(self.x(low), self.y(low), self.x(high), self.y(high), "diagonal")
        return parts if self.side else [*parts, same]


def _steps(low: float, high: float, step: float) -> Iterator[float]:
    while low <= high:
        yield low
        low += step


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
