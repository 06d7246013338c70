"""A judge's biases: what is asked of it, what each check measures, and the verdict; pure, over a judging function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from judgelm.audit import effects
from judgelm.audit.effects import PLAIN, RIGHT_REFERENCE, Effects, Evidence, Source
from judgelm.audit.perturbations import PERTURBATIONS, perturb, probe_id
from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import Estimate, ratio
from judgelm.evaluation.results import JudgedSample
from judgelm.jsonl import Record
from judgelm.judge.settings import ORDERS, Order
from judgelm.sample import Sample, question_key

Verdict = Literal["pass", "fail", "unclear", "not measured"]
MIN_QUESTIONS = 10
"""with fewer different questions an interval says too little for a verdict"""
MAX_UNREAD = 0.2
"""with a larger share of judgements that cannot be read there is no verdict either"""
NUM_EXAMPLES = 5
"""samples with the largest effects, to look at"""


@dataclass(frozen=True, slots=True)
class Round:
    """Samples that are judged in the same way, each into a folder of its own."""

    name: str
    orders: tuple[Order, ...]
    temperature: float | None = None
    """None: the scoring that the audit was asked for; else what is drawn at this temperature"""
    seed: int = 0
    """added to the audit's"""


BOTH, PLACED = Round("both", ORDERS["both"]), Round("placed", ORDERS["forward"])
AGAIN = tuple(
    Round(f"again-{k}", ORDERS["forward"], temperature, k)
    for k, temperature in enumerate((0.2, 0.2, 1.0, 1.0), start=1)
)
"""the same samples, drawn with other seeds and temperatures"""


class Asked(Protocol):
    """What judges the samples of a round: a judgement for each `question_id`."""

    def __call__(self, samples: Sequence[Sample], in_round: Round, /) -> Mapping[str, JudgedSample]: ...


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
_OF_ITSELF = "preferred more often than the same answer unchanged"
_OF_ANOTHER = "preferred more often to the other answer than before the change"


def _changed(name: str, title: str, threshold: float, two_sided: bool = False) -> Check:
    """The check of a perturbation."""
    perturbation = PERTURBATIONS[name]
    itself = perturbation.against == "itself"
    what = f"{perturbation.what}: {_OF_ITSELF if itself else _OF_ANOTHER}"
    if two_sided:
        what += ", or less often"
    measure = effects.beside_itself if itself else effects.beside_other
    probes = (name,) if itself else (PLAIN, name)
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    check: Check
    verdict: Verdict
    effect: Estimate | None
    note: str | None = None
    examples: tuple[int | str, ...] = ()
    """ids of the samples with the largest effects beyond the threshold"""

    def to_record(self) -> Record:
        nothing = {"value": None, "low": None, "high": None, "count": 0}
        return {
            "name": self.name,
            "title": self.check.title,
            "what": self.check.what,
            "effect": self.effect.to_record() if self.effect else nothing,
            "unit": "share",
            "threshold": self.check.threshold,
            "two_sided": self.check.two_sided,
            "verdict": self.verdict,
            "note": self.note,
            "examples": list(self.examples),
        }


def audit(sources: Sequence[Source], ask: Asked, names: Sequence[str]) -> list[Finding]:
    """Judge what the checks of these names need, and measure them. `ask` is called once for each round."""
    probes = dict.fromkeys(probe for name in names for probe in CHECKS[name].probes)
    judged: dict[str, JudgedSample] = {}
    for in_round in (BOTH, PLACED):
        made = [make_probes(probe, sources) for probe in probes if round_of(probe) is in_round]
        if samples := list(itertools.chain.from_iterable(made)):
            judged |= ask(samples, in_round)
    again = [ask(make_probes(PLAIN, sources), in_round) for in_round in AGAIN] if "again" in probes else []
    evidence = Evidence(sources, judged, again)
    return [measure(name, evidence) for name in names]


def choose_checks(only: Sequence[str] | None, skip: Sequence[str] | None) -> list[str]:
    """Names of checks in their order. Raises InputError for an unknown name, or where none is left."""
    for name in (*(only or ()), *(skip or ())):
        if name not in CHECKS:
            raise InputError(f"unknown check {name!r}, expected some of {', '.join(CHECKS)}")
    names = [name for name in CHECKS if (only is None or name in only) and name not in (skip or ())]
    if not names:
        raise InputError("--only and --skip leave no check")
    return names


def round_of(probe: str) -> Round | None:
    """In which round a probe is judged: one that speaks of its own place in one order only; None for those of AGAIN."""
    if probe in PERTURBATIONS and PERTURBATIONS[probe].placed:
        return PLACED
    return None if probe == "again" else BOTH


def make_probes(probe: str, sources: Sequence[Source]) -> list[Sample]:
    """The samples of a probe: those as they are ("plain"), with a changed answer, or with a reference."""
    if probe in PERTURBATIONS:
        changed = (perturb(source.sample, probe) for source in sources)
        return [sample for sample in changed if sample is not None]
    if probe == PLAIN:
        return [_shown(source, PLAIN, None) for source in sources]
    # without a truth nobody could say what a reference does
    known = [source for source in sources if source.truth is not None and source.sample.reference is not None]
    if probe == RIGHT_REFERENCE:
        return [_shown(source, probe, source.sample.reference) for source in known]
    return [_shown(source, probe, wrong) for k, source in enumerate(known) if (wrong := _wrong_reference(known, k))]


def _shown(source: Source, probe: str, reference: str | None) -> Sample:
    sample = source.sample
    return Sample(probe_id(probe, source.key), sample.question, sample.answers, reference)


def _wrong_reference(sources: Sequence[Source], place: int) -> str | None:
    """That of the next row with another question and another reference; after the last row comes the first."""
    here = sources[place].sample
    for other in itertools.chain(sources[place + 1 :], sources[:place]):
        differs = question_key(other.sample.question) != question_key(here.question)
        if differs and other.sample.reference != here.reference:
            return other.sample.reference
    return None


def measure(name: str, evidence: Evidence) -> Finding:
    """A check's effect, its interval over questions, and the verdict."""
    check = CHECKS[name]
    found = check.measure(evidence)
    known = [(key, value) for key, value in found if value is not None]
    unread = len(found) - len(known)
    if not known:
        reason = "no judgement could be read" if unread else f"needs {check.needs}"
        return Finding(name, check, "not measured", None, reason)
    by_key = {source.key: source.sample for source in evidence.sources}
    clusters = [question_key(by_key[key].question) for key, _ in known]
    effect = ratio([value for _, value in known], clusters, span=(check.least, 1))
    notes = [f"{unread} of {len(found)} could not be read and do not count"] if unread else []
    verdict = judge_effect(effect, check)
    if (count := len(set(clusters))) < MIN_QUESTIONS:
        notes.append(f"{count} different questions, {MIN_QUESTIONS} are needed for a verdict")
        verdict = "unclear"
    if unread > MAX_UNREAD * len(found):
        verdict = "unclear"
    size = {by_key[key].question_id: abs(value) if check.two_sided else value for key, value in known}
    most = sorted((one for one in size if size[one] > check.threshold), key=lambda one: -size[one])
    return Finding(name, check, verdict, effect, "; ".join(notes) or None, tuple(most[:NUM_EXAMPLES]))


def judge_effect(effect: Estimate, check: Check) -> Verdict:
    """pass: the whole interval lies within the threshold; fail: the whole interval lies beyond; unclear: all else.

    Within is below the threshold, and for a two-sided check above its negative too.
    """
    if effect.low is None or effect.high is None:
        return "unclear"
    if effect.low > check.threshold or (check.two_sided and effect.high < -check.threshold):
        return "fail"
    within = effect.high < check.threshold and (not check.two_sided or effect.low > -check.threshold)
    return "pass" if within else "unclear"
