"""Aspects of criteria beside each other, as words and a picture for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judgelm.criteria import READABLE, Scale
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.summary import Kind
from judgelm.report import pictures
from judgelm.report.words import MOST_NAME, NUMBER, SHARE, cut, row

_PICTURED = ("agreement", "within_one", "consistency")
"""the first of these rates that aspects have is shown as a picture"""
_MOST_BARS = 30


def describe_aspects(
    kinds: Mapping[str, Kind], whole: Mapping[str, Rate], aspects: Sequence[tuple[str, Mapping[str, Rate]]]
) -> dict[str, Any] | None:
    """Names, the whole first, and a row of estimates for each rate; None without aspects."""
    if not aspects:
        return None
    sides = [("all", whole), *((cut(name, MOST_NAME), rates) for name, rates in aspects)]
    names = [name for name in kinds if any(name in rates for _, rates in aspects)]
    rows = [
        (kinds[name].label, [row("", rates.get(name), SHARE if kinds[name].share else NUMBER) for _, rates in sides])
        for name in names
    ]
    return {"names": [name for name, _ in sides], "rows": rows, **_picture(kinds, sides, names)}


def _picture(
    kinds: Mapping[str, Kind], sides: Sequence[tuple[str, Mapping[str, Rate]]], names: Sequence[str]
) -> dict[str, Any]:
    name = next((name for name in _PICTURED if name in names), None)
    if name is None:
        return {"picture": None, "pictured": ""}
    shown = [(side, rates[name]) for side, rates in sides[:_MOST_BARS] if name in rates]
    label = kinds[name].label
    return {"picture": pictures.shares(shown, f"By aspect: {label}"), "pictured": f"By aspect: {label}."}


def unit_of(scale: Scale | None) -> float:
    """Points that a picture takes for one: more than 1 on scales that go beyond 10."""
    return max(1.0, (scale or READABLE).most / READABLE.most)


def near(value: float, unit: float) -> float:
    """To the nearest half of a unit."""
    return round(2 * value / unit) / 2 * unit
