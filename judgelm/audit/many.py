"""The checks of task multi: whether the place in which an answer is shown changes its score, and who is best."""

from __future__ import annotations

from functools import partial

from judgelm.audit.checks import CHECKS, UNREAD, Check, Evidence
from judgelm.audit.probes import Source


def _place(evidence: Evidence, source: Source, *, place: int) -> float:
    """Of all answers, each of which was shown once in each place."""
    shown = evidence.many[source.key].rotated
    if not shown:
        return UNREAD
    there = sum(scores[place] for scores in shown) / len(shown)
    everywhere = sum(map(sum, shown)) / sum(map(len, shown))
    return (there - everywhere) / evidence.span


def _inconsistent(evidence: Evidence, source: Source) -> float:
    judged = evidence.many[source.key]
    return float(not judged.is_consistent) if judged.rotated else UNREAD


_ABOVE = "are scored above their mean over all places, as a share of the scale"
MANY_CHECKS = {
    "first_place": Check(
        "Position of many: first",
        f"by how much the answers shown first {_ABOVE}",
        0.05,
        partial(_place, place=0),
        two_sided=True,
    ),
    "last_place": Check(
        "Position of many: last",
        f"by how much the answers shown last {_ABOVE}",
        0.05,
        partial(_place, place=-1),
        two_sided=True,
    ),
    "rotation": Check(
        "Inconsistency under rotation",
        "how often not all orders find the same answers best",
        0.2,
        _inconsistent,
        least=0,
    ),
}
"""by name, those of task multi"""
ALL_CHECKS = CHECKS | MANY_CHECKS
