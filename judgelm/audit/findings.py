"""What an audit found, as audit.json holds it: each check's effect, interval and verdict."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from judgelm.audit.checks import Check, CheckVerdict, Evidence
from judgelm.audit.many import ALL_CHECKS
from judgelm.documents import Document, Section
from judgelm.evaluation.rate import Rate, mean_rate

MIN_QUESTIONS = 10
"""with fewer different questions an interval says too little for a verdict"""
MAX_UNREAD = 0.2
"""with a larger share of judgements that cannot be read there is no verdict either"""
NUM_EXAMPLES = 5
"""samples with the largest effects, to look at"""


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


def measure(name: str, evidence: Evidence) -> Finding:
    """A check's effect, its interval over questions, and the verdict."""
    check = ALL_CHECKS[name]
    finding = partial(
        Finding, name=name, title=check.title, what=check.what, threshold=check.threshold, two_sided=check.two_sided
    )
    effects = [(source.sample, check.measure(evidence, source)) for source in evidence.sources]
    found = [(sample, value) for sample, value in effects if value is not None]
    known = [(sample, value) for sample, value in found if not math.isnan(value)]
    unread = len(found) - len(known)
    if not known:
        note = "no judgement could be read" if unread else f"needs {check.needs}"
        return finding(effect=Rate(value=None), verdict="not measured", note=note, examples=[])
    clusters = [sample.asked for sample, _ in known]
    effect = mean_rate([value for _, value in known], clusters, (check.least, 1))
    notes = [f"{unread} of {len(found)} could not be read and do not count"] if unread else []
    verdict = judge_effect(effect, check)
    if (count := len(set(clusters))) < MIN_QUESTIONS:
        notes.append(f"{count} different questions, {MIN_QUESTIONS} are needed for a verdict")
        verdict = "unclear"
    if unread > MAX_UNREAD * len(found):
        verdict = "unclear"
    size = {sample.question_id: abs(value) if check.two_sided else value for sample, value in known}
    most = sorted((one for one in size if size[one] > check.threshold), key=lambda one: -size[one])
    told = "; ".join(notes) or None
    return finding(effect=effect, verdict=verdict, note=told, examples=most[:NUM_EXAMPLES])


def judge_effect(effect: Rate, check: Check) -> CheckVerdict:
    """pass: the whole interval lies within the threshold; fail: the whole interval lies beyond; unclear: all else.

    Within is below the threshold, and for a two-sided check above its negative too.
    """
    if effect.low is None or effect.high is None:
        return "unclear"
    if effect.low > check.threshold or (check.two_sided and effect.high < -check.threshold):
        return "fail"
    within = effect.high < check.threshold and (not check.two_sided or effect.low > -check.threshold)
    return "pass" if within else "unclear"
