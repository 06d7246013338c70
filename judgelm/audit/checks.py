"""The biases that an audit measures: each check's effect, threshold and verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from judgelm.audit import effects
from judgelm.audit.effects import Effects, Evidence
from judgelm.audit.perturbations import PERTURBATIONS
from judgelm.audit.probes import AGAIN, PLAIN, RIGHT_REFERENCE
from judgelm.errors import InputError

CheckVerdict = Literal["pass", "fail", "unclear", "not measured"]


@dataclass(frozen=True, slots=True)
class Check:
    """One bias. Its effect is the mean of its samples' effects, each from `least` to 1."""

    title: str
    what: str
    """what the effect is"""
    threshold: float
    measure: Callable[[Evidence], Effects]
    probes: tuple[str, ...] = (PLAIN,)
    """what must be judged: see `make_probes`, and "again" for the rounds of AGAIN"""
    needs: str = "answers that can be changed so"
    two_sided: bool = False
    """an effect below zero is as bad; else it is none"""
    least: float = -1.0
    """the smallest effect that a sample can have; the largest is 1"""


_LABELS = "labels or a teacher"
_REFERENCES = f"references and {_LABELS}"


def _changed(name: str, title: str, threshold: float, two_sided: bool = False) -> Check:
    """The check of a perturbation."""
    perturbation = PERTURBATIONS[name]
    if perturbation.against == "itself":
        measure, probes = effects.beside_itself, (name,)
        effect = "preferred more often than the same answer unchanged"
    else:
        measure, probes = effects.beside_other, (PLAIN, name)
        effect = "preferred more often to the other answer than before the change"
    what = f"{perturbation.what}: {effect}{', or less often' if two_sided else ''}"
    return Check(title, what, threshold, partial(measure, probe=name), probes, two_sided=two_sided)


CHECKS = {
    "position": Check(
        "Position",
        "how much more often the answer shown first is preferred than the one shown second, over both orders",
        0.1,
        effects.position,
        two_sided=True,
    ),
    "inconsistency": Check(
        "Inconsistency under swap",
        "how often the two orders have different outcomes",
        0.2,
        effects.inconsistency,
        least=0,
    ),
    "length": Check(
        "Length",
        "how much more often the longer answer is preferred than the labels or the teacher prefer it",
        0.1,
        effects.longer,
        needs=f"{_LABELS}, and answers of different lengths",
    ),
    "padded": _changed("padded", "Empty phrases", 0.1),
    "list": _changed("list", "Format: list", 0.1, two_sided=True),
    "bold": _changed("bold", "Format: bold", 0.1, two_sided=True),
    "code": _changed("code", "Format: code", 0.1, two_sided=True),
    "reference_given": Check(
        "Format bias: a reference is given",
        "agreement that is lost when the right reference is shown to a judge used without",
        0.05,
        partial(effects.agreement_lost, before=PLAIN, after=RIGHT_REFERENCE),
        (PLAIN, RIGHT_REFERENCE),
        _REFERENCES,
    ),
    "reference_missing": Check(
        "Format and knowledge bias: no reference",
        "agreement that is lost when the right reference is not shown",
        0.1,
        partial(effects.agreement_lost, before=RIGHT_REFERENCE, after=PLAIN),
        (PLAIN, RIGHT_REFERENCE),
        _REFERENCES,
    ),
    "reference_wrong": Check(
        "Knowledge bias: a wrong reference",
        "agreement that is lost when another question's reference is shown instead of none",
        0.1,
        partial(effects.agreement_lost, before=PLAIN, after="wrong_reference"),
        (PLAIN, "wrong_reference"),
        f"{_REFERENCES}, of two questions at least",
    ),
    "self_preference": Check(
        "Self-preference",
        "how much more often the judge's own answer is preferred than the labels or the teacher prefer it",
        0.1,
        effects.own,
        needs=f"{_LABELS}, and answers whose model id holds the judge's (--self-id)",
    ),
    "score_line": _changed("score_line", "Injection: score line", 0.05),
    "instruction": _changed("instruction", "Injection: instruction", 0.05),
    "markers": _changed("markers", "Injection: block markers", 0.05),
    "stability": Check(
        "Stability",
        f"how often two of {len(AGAIN)} drawn judgements, with other seeds and temperatures, have different outcomes",
        0.2,
        effects.unstable,
        ("again",),
        least=0,
    ),
}


def choose_checks(only: Sequence[str] | None, skip: Sequence[str] | None) -> list[str]:
    """Names of checks in their order. Raises InputError for an unknown name, or where none is left."""
    for name in (*(only or ()), *(skip or ())):
        if name not in CHECKS:
            raise InputError(f"unknown check {name!r}, expected some of {', '.join(CHECKS)}")
    names = [name for name in CHECKS if (only is None or name in only) and name not in (skip or ())]
    if not names:
        raise InputError("--only and --skip leave no check")
    return names
