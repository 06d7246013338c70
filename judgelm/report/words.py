"""Numbers and texts as words: estimates in one way for terminals, the page and its Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judgelm.errors import one_line

if TYPE_CHECKING:
    from judgelm.evaluation.rate import Rate
    from judgelm.evaluation.summary import Kind

OUTCOMES = {"win": "answer 1", "tie": "tie", "lose": "answer 2", "unparsed": "unread"}
MOST_SAMPLES = 200
"""that the page shows to be read, where nothing else is asked for"""
MOST_NAME = 200
"""characters of a name that the page shows"""
_MOST_TEXT = 8000


@dataclass(frozen=True, slots=True)
class Form:
    """How a number and its interval are written."""

    spec: str = ".1f"
    factor: float = 100
    unit: str = " %"
    nothing: str = "–"
    between: str = " to "
    unit_behind: bool = False
    """of the interval too"""

    def number(self, value: float | None) -> str:
        return self.nothing if value is None or math.isnan(value) else f"{self._digits(value)}{self.unit}"

    def interval(self, estimate: Rate, nothing: str = "") -> str:
        if estimate.low is None or estimate.high is None:
            return nothing
        bounds = f"{self._digits(estimate.low)}{self.between}{self._digits(estimate.high)}"
        return bounds + self.unit * self.unit_behind

    def both(self, estimate: Rate | None) -> str:
        """The number, and its interval in brackets."""
        if estimate is None:
            return self.nothing
        interval = self.interval(estimate)
        return f"{self.number(estimate.value)} ({interval})" if interval else self.number(estimate.value)

    def _digits(self, value: float) -> str:
        return f"{self.factor * value:{self.spec}}"


SHARE, NUMBER = Form(), Form(".3f", 1, "")
EXACT_SHARE = Form(".2f", nothing="-", unit_behind=True)
"""of tables for a terminal"""
EXACT_NUMBER = Form(".3f", 1, "", "-")
DIFFERENCE = Form("+.1f", nothing="-", between=" .. ", unit_behind=True)
WIN_RATE, RATING = Form(unit=""), Form(".0f", 1, "")
POINTS = Form(".2f", 1, "")
GRADE = Form(".2f", nothing="-", between=", ")


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate in words."""

    label: str = ""
    value: str = ""
    interval: str = ""
    count: int | None = None


def row(label: str, estimate: Rate | None, form: Form = SHARE) -> Row:
    """Empty without an estimate."""
    if estimate is None:
        return Row(label)
    return Row(label, form.number(estimate.value), form.interval(estimate), estimate.count)


def rate_row(kind: Kind, estimate: Rate | None) -> Row:
    """In the words and the form of its kind."""
    return row(kind.label, estimate, SHARE if kind.share else NUMBER)


def in_unit(unit: str) -> Form:
    """Of an audit's numbers: shares in per cent."""
    return SHARE if unit == "share" else Form(".3g", 1, f" {unit}" if unit else "")


def rating(value: float) -> Form:
    """Of ratings such as this one."""
    return RATING if abs(value) >= 100 else Form(".2f", 1, "")


def score_pair(scores: Sequence[float], expected: bool = False) -> str:
    """Of answers 1 and 2; with a decimal place where they are expected ones."""
    return " : ".join(f"{score:.1f}" if expected else f"{score:g}" for score in scores)


def cut(text: str, most: int = _MOST_TEXT) -> str:
    """The beginning of a text that is too long for a page."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"


def sample_words(key: str, question: str, category: str | None, apart: float | None) -> dict[str, Any]:
    """What a page says of any sample; `apart` are the points by which it is ordered."""
    return {
        "id": cut(key, MOST_NAME),
        "question": cut(question),
        "short": cut(one_line(question), 120),
        "category": category and cut(category, MOST_NAME),
        "distance": "–" if apart is None else f"{apart:.1f}",
    }


def shorten(text: str, limit: int) -> str:
    """One line of a name or a question, the last letter being an ellipsis where it is longer."""
    text = one_line(text)
    return text if len(text) <= limit else text[: max(1, limit - 1)] + "…"


def setting(value: Any) -> str:
    """A value of run.json; of a fingerprint the beginning."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:12] + "…" if is_hash else text


def settings(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of one object of run.json that are known."""
    return [(str(name), setting(value)) for name, value in table.items() if value is not None]
