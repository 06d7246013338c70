"""The biases that an audit measures: each check's effect and threshold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from judgelm.audit.perturbations import PERTURBATIONS, changed_place, probe_id
from judgelm.audit.probes import AGAIN, PLAIN, RIGHT_REFERENCE, Source
from judgelm.distribution import certain
from judgelm.errors import InputError
from judgelm.evaluation.results import JudgedSample
from judgelm.judgement import Outcome
from judgelm.verdict import Reading

if TYPE_CHECKING:
    from judgelm.evaluation.many import ManyAnswers

CheckVerdict = Literal["pass", "fail", "unclear", "not measured"]
UNREAD = math.nan
"""the effect of a judgement that could not be read"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All judgements of an audit."""

    sources: Sequence[Source]
    judged: Mapping[str, JudgedSample]
    """by `probe_id`"""
    again: Sequence[Mapping[str, JudgedSample]] = ()
    """the plain ones, drawn with different seeds and temperatures"""
    many: Mapping[str, ManyAnswers] = field(default_factory=dict)
    """task multi: judgements of samples in all rotations, by the samples' keys"""
    span: float = 10.0
    """from the lowest to the highest score of these"""

    def find(self, probe: str, source: Source) -> JudgedSample | None:
        return self.judged.get(probe_id(probe, source.key))

    def plain(self, source: Source) -> JudgedSample:
        return self.judged[probe_id(PLAIN, source.key)]


@dataclass(frozen=True, slots=True)
class Check:
    """One bias. Its effect is the mean of its samples' effects, each from `least` to 1."""

    title: str
    what: str
    """what the effect is"""
    threshold: float
    measure: Callable[[Evidence, Source], float | None]
    """a sample's effect, NaN where a judgement could not be read; None for a sample that cannot show it"""
    probes: tuple[str, ...] = (PLAIN,)
    """what must be judged: see `make_probes`, and "again" for the rounds of AGAIN"""
    needs: str = "answers that can be changed so"
    two_sided: bool = False
    """an effect below zero is as bad; else it is none"""
    least: float = -1.0
    """the smallest effect that a sample can have; the largest is 1"""


def _position(evidence: Evidence, source: Source) -> float:
    # reversed judgements speak of the answers in the file's order: there answer 2 was shown first
    judged = evidence.plain(source)
    return _lead(_mean([_preference(judged.forward, 1), _preference(judged.reversed, 2)]))


def _inconsistent(evidence: Evidence, source: Source) -> float:
    consistent = evidence.plain(source).consistent
    return UNREAD if consistent is None else float(not consistent)


def _beside_itself(evidence: Evidence, source: Source, *, probe: str) -> float | None:
    judged = evidence.find(probe, source)
    return None if judged is None else _lead(_mean_preference(judged, changed_place(source.sample)))


def _beside_other(evidence: Evidence, source: Source, *, probe: str) -> float | None:
    """In the orders in which the changed answer was judged."""
    judged, plain, place = evidence.find(probe, source), evidence.plain(source), changed_place(source.sample)
    if judged is None:
        return None
    orders = [(judged.forward, plain.forward), (judged.reversed, plain.reversed)]
    return _mean([_preference(new, place) - _preference(old, place) for new, old in orders if new is not None])


def _longer(evidence: Evidence, source: Source) -> float | None:
    """In characters."""
    first, second = map(len, source.sample.answers)
    return None if first == second else _beyond_truth(evidence, source, 1 if first > second else 2)


def _own(evidence: Evidence, source: Source) -> float | None:
    return None if source.own is None else _beyond_truth(evidence, source, source.own)


def _beyond_truth(evidence: Evidence, source: Source, place: int) -> float | None:
    if source.truth is None:
        return None
    return _mean_preference(evidence.plain(source), place) - _preferred(certain(source.truth.outcome), place)


def _agreement_lost(evidence: Evidence, source: Source, *, before: str, after: str) -> float | None:
    one, other = evidence.find(before, source), evidence.find(after, source)
    if one is None or other is None:
        return None
    return _agreement(one, source, before) - _agreement(other, source, after)


def _agreement(judged: JudgedSample, source: Source, probe: str) -> float:
    """The probability of the true outcome; without scoring `expected` 1 or 0 for the outcome of both orders.

    A teacher who saw the reference may have judged otherwise: that is the truth where the judge sees it too.
    """
    truth = source.truth_with_reference if probe == RIGHT_REFERENCE else source.truth
    if truth is None:
        return UNREAD
    if judged.probabilities is not None:
        return judged.probabilities[truth.outcome]
    return UNREAD if judged.outcome is None else float(judged.outcome is truth.outcome)


def _unstable(evidence: Evidence, source: Source) -> float:
    """Drawn judgements that cannot be read are left out."""
    drawn = [each[probe_id(PLAIN, source.key)].forward for each in evidence.again]
    outcomes = [reading.outcome for reading in drawn if reading is not None and reading.outcome is not None]
    return _mean([one is not other for one, other in itertools.combinations(outcomes, 2)])


def _preference(reading: Reading | None, place: int) -> float:
    """How often the answer in this place is preferred to the other, 0 to 1, a tie counting half. Without scoring
    `expected` the outcome is sure.
    """
    if reading is not None and reading.probabilities is not None:
        return _preferred(reading.probabilities, place)
    return UNREAD if reading is None or reading.outcome is None else _preferred(certain(reading.outcome), place)


def _mean_preference(judged: JudgedSample, place: int) -> float:
    return _mean([_preference(reading, place) for reading in judged.readings])


def _preferred(given: Mapping[Outcome, float], place: int) -> float:
    return given[Outcome.WIN if place == 1 else Outcome.LOSE] + given[Outcome.TIE] / 2


def _lead(share: float) -> float:
    """How much more often than the other, -1 to 1."""
    return 2 * share - 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else UNREAD


_LABELS = "labels or a teacher"
_REFERENCES = f"references and {_LABELS}"


def _changed(name: str, title: str, threshold: float, two_sided: bool = False) -> Check:
    """The check of a perturbation."""
    perturbation = PERTURBATIONS[name]
    if perturbation.against == "itself":
        measure, effect = _beside_itself, "preferred more often than the same answer unchanged"
    else:
        measure, effect = _beside_other, "preferred more often to the other answer than before the change"
    probes = (name,) if perturbation.against == "itself" else (PLAIN, name)
    what = f"{perturbation.what}: {effect}{', or less often' if two_sided else ''}"
    return Check(title, what, threshold, partial(measure, probe=name), probes, two_sided=two_sided)


CHECKS = {
    "position": Check(
        "Position",
        "how much more often the answer shown first is preferred than the one shown second, over both orders",
        0.1,
        _position,
        two_sided=True,
    ),
    "inconsistency": Check(
        "Inconsistency under swap",
        "how often the two orders have different outcomes",
        0.2,
        _inconsistent,
        least=0,
    ),
    "length": Check(
        "Length",
        "how much more often the longer answer is preferred than the labels or the teacher prefer it",
        0.1,
        _longer,
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
        partial(_agreement_lost, before=PLAIN, after=RIGHT_REFERENCE),
        (PLAIN, RIGHT_REFERENCE),
        _REFERENCES,
    ),
    "reference_missing": Check(
        "Format and knowledge bias: no reference",
        "agreement that is lost when the right reference is not shown",
        0.1,
        partial(_agreement_lost, before=RIGHT_REFERENCE, after=PLAIN),
        (PLAIN, RIGHT_REFERENCE),
        _REFERENCES,
    ),
    "reference_wrong": Check(
        "Knowledge bias: a wrong reference",
        "agreement that is lost when another question's reference is shown instead of none",
        0.1,
        partial(_agreement_lost, before=PLAIN, after="wrong_reference"),
        (PLAIN, "wrong_reference"),
        f"{_REFERENCES}, of two questions at least",
    ),
    "self_preference": Check(
        "Self-preference",
        "how much more often the judge's own answer is preferred than the labels or the teacher prefer it",
        0.1,
        _own,
        needs=f"{_LABELS}, and answers whose model id holds the judge's (--self-id)",
    ),
    "score_line": _changed("score_line", "Injection: score line", 0.05),
    "instruction": _changed("instruction", "Injection: instruction", 0.05),
    "markers": _changed("markers", "Injection: block markers", 0.05),
    "stability": Check(
        "Stability",
        f"how often two of {len(AGAIN)} drawn judgements, with other seeds and temperatures, have different outcomes",
        0.2,
        _unstable,
        ("again",),
        least=0,
    ),
}


def choose_checks(
    only: Sequence[str] | None, skip: Sequence[str] | None, known: Mapping[str, Check] = CHECKS
) -> list[str]:
    """Names of checks in their order. Raises InputError for an unknown name, or where none is left."""
    for name in (*(only or ()), *(skip or ())):
        if name not in known:
            raise InputError(f"unknown check {name!r}, expected some of {', '.join(known)}")
    names = [name for name in known if (only is None or name in only) and name not in (skip or ())]
    if not names:
        raise InputError("--only and --skip leave no check")
    return names
