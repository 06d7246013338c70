"""What an audit found, as audit.json holds it."""

from __future__ import annotations

from typing import Any

from judgelm.audit.checks import CheckVerdict
from judgelm.documents import Document, Section
from judgelm.evaluation.summary import Rate


class Finding(Section):
    """What a check found."""

    name: str
    title: str
    what: str
    """what the effect is"""
    effect: Rate
    """-1 to 1, with its interval over questions; the value is None where it was not measured"""
    unit: str = "share"
    threshold: float
    """beyond which a judge fails"""
    two_sided: bool
    """an effect below zero is as bad"""
    verdict: CheckVerdict
    note: str | None
    """why there is no verdict, or what weakens it"""
    examples: list[int | str]
    """ids of the samples with the largest effects beyond the threshold"""


class Audit(Document):
    """What was found of a judge."""

    what = "an audit"

    judge: str
    settings: dict[str, Any]
    """the judge, the files, how it judged, and versions"""
    checks: list[Finding]
