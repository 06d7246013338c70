"""What an audit found, as audit.json holds it."""

from __future__ import annotations

from typing import Any

from judgelm.audit.checks import CheckVerdict
from judgelm.documents import Document, Section


class Effect(Section):
    """A check's effect, -1 to 1, with its 95 % interval over questions.

    `value` is None where it was not measured, `low` and `high` where nothing can be said of an interval.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    """samples that it is of"""


class Finding(Section):
    """What a check found."""

    name: str
    title: str
    what: str
    """what the effect is"""
    effect: Effect
    unit: str = "share"
    threshold: float
    two_sided: bool
    """an effect below zero is as bad"""
    verdict: CheckVerdict
    note: str | None
    examples: list[int | str]
    """ids of the samples with the largest effects beyond the threshold"""


class Audit(Document):
    """What was found of a judge."""

    what = "an audit"

    judge: str
    settings: dict[str, Any]
    """the judge, the files, how it judged, and versions"""
    checks: list[Finding]
