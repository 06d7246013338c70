"""A judge's biases: what it is shown is judged round by round, and measured by each check."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.audit import perturbations
from judgelm.audit.checks import CHECKS, CheckVerdict, choose_checks, judge_effect
from judgelm.audit.effects import Evidence
from judgelm.audit.probes import AGAIN, BOTH, PLACED, PLAIN, Round, make_probes, round_of
from judgelm.audit.sources import Source, read_sources
from judgelm.evaluation.results import JudgedSample, read_folder
from judgelm.files import hash_file
from judgelm.jsonl import Record
from judgelm.judge.settings import JudgeSettings
from judgelm.sample import Sample, question_key
from judgelm.samples import PathLike, Samples, read_samples

if TYPE_CHECKING:
    from judgelm.audit.findings import Audit, Finding
    from judgelm.engine.openai.server import Server
    from judgelm.evaluation.metrics.intervals import Estimate
    from judgelm.judge.choice import JudgeChoice, ModelChoice

AUDIT_FILE = "audit.json"
MIN_QUESTIONS = 10
"""with fewer different questions an interval says too little for a verdict"""
MAX_UNREAD = 0.2
"""with a larger share of judgements that cannot be read there is no verdict either"""
NUM_EXAMPLES = 5
"""samples with the largest effects, to look at"""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What an audit measures, and how the judge judges in it."""

    only: Sequence[str] | None = None
    """names of `CHECKS`; None: all"""
    skip: Sequence[str] | None = None
    self_id: str | None = None
    """answers whose model ids hold this text are the judge's own; None: the judge's name"""
    scoring: str | None = None
    """see `JudgeSettings`; None: expected, the cheapest and the finest, or greedy where a server judges"""
    temperature: float = 0.2
    max_new_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        choose_checks(self.only, self.skip)

    @property
    def checks(self) -> list[str]:
        """Names of the checks, in their order."""
        return choose_checks(self.only, self.skip)


def run_audit(
    questions: PathLike | Sequence[Sample],
    output_dir: PathLike,
    judge: ModelChoice | Server | JudgeChoice,
    settings: AuditSettings | None = None,
    *,
    reference_file: PathLike | None = None,
    teacher: PathLike | None = None,
    limit: int | None = None,
    model_id: str | None = None,
) -> Audit:
    """Measure a judge's biases, and write what was found into audit.json.

    Args:
        questions: a file of judge samples, or samples with two answers, of `read_samples` or made by the caller.
        output_dir: gets audit.json, and a folder for each round of judging; an audit that was ended goes on there.
        settings: which checks, and how the judge judges (default: all, expected scores).
        reference_file: right answers for the file's rows (default: their own `reference`).
        teacher: the truth: rows of `question_id` with `text` or `label` (default: those of the samples).
        limit: measure on the first samples only.
        model_id: name of the judge (default: the model's).

    Returns a `judgelm.audit.findings.Audit`; effects are shares from -1 to 1.
    Raises InputError for an unknown check, a file that does not fit, and as `judge_folder`.
    """
    from judgelm.audit.findings import Audit
    from judgelm.judge.choice import prepare
    from judgelm.judge.folder import describe_files

    chosen = prepare(judge)
    name = model_id or chosen.model_id
    settings = _fill(settings or AuditSettings(), chosen, name)
    if isinstance(questions, str | os.PathLike):
        questions = read_samples(questions, reference_file=reference_file)
    samples, files = questions[:limit], _name_files(questions)
    sources = read_sources(samples, files["question_file"], teacher, settings.self_id or name)
    rounds = _Rounds(settings, chosen, name, Path(output_dir).expanduser(), describe_files(samples))
    evidence = _judge_probes(sources, settings.checks, rounds)
    findings = [measure(check, evidence) for check in settings.checks]
    found = Audit(judge=name, settings=_describe(rounds, files, teacher, len(samples)), checks=findings)
    found.write(rounds.folder / AUDIT_FILE, indent=2)
    return found


def _describe(rounds: _Rounds, files: Mapping[str, str | None], teacher: PathLike | None, num_samples: int) -> Record:
    from judgelm.judge.run import versions

    chosen, settings = rounds.chosen, rounds.settings
    return {
        **chosen.described,
        **files,
        "question_file_sha256": rounds.digests["question_file_sha256"],
        "teacher": None if teacher is None else os.fspath(teacher),
        "self_id": settings.self_id,
        "samples": num_samples,
        "scoring": settings.scoring,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "constrained": chosen.constrained,
        "versions": versions(),
    }


def _fill(settings: AuditSettings, chosen: JudgeChoice, name: str) -> AuditSettings:
    """What is left open follows from the judge."""
    likely = "greedy" if chosen.described.get("engine") == "openai" else "expected"
    return replace(settings, scoring=settings.scoring or likely, self_id=settings.self_id or name)


def _name_files(samples: Sequence[Sample]) -> dict[str, str | None]:
    """Those that judgements depend on; None where samples come from no file."""
    given = samples.files if isinstance(samples, Samples) else None
    files = (given.question_file, given.reference_file) if given else (None, None)
    names = ("question_file", "reference_file")
    return {name: str(path) if path else None for name, path in zip(names, files, strict=True)}


@dataclass(frozen=True, slots=True)
class _Rounds:
    """Judges the samples of each round into a folder of its own; the model is loaded once."""

    settings: AuditSettings
    chosen: JudgeChoice
    name: str
    folder: Path
    digests: Mapping[str, Any]
    """of the files"""

    def judge(self, samples: Sequence[Sample], in_round: Round) -> Mapping[str, JudgedSample]:
        """By `question_id`."""
        from judgelm.judge.run import RunFiles, run_judge

        given, folder = self.settings, self.folder / in_round.name
        settings = JudgeSettings(
            scores_only=True,
            temperature=given.temperature if in_round.temperature is None else in_round.temperature,
            max_new_tokens=given.max_new_tokens,
            seed=given.seed + in_round.seed,
            constrained=self.chosen.constrained,
            scoring=given.scoring or "expected" if in_round.temperature is None else "sample",
        )
        described = {
            **self.chosen.described,
            **{name: self.digests[name] for name in ("question_file_sha256", "reference_file_sha256")},
            "perturbations_sha256": hash_file(perturbations.__file__),
        }
        files = RunFiles.in_folder(folder, in_round.orders)
        found = run_judge(self.chosen.load, samples, settings, files, described, self.name)
        if cut := sum(each.counts["shortened"] for each in found.values()):
            print(
                f"judgelm: warning: {in_round.name}: in {cut} judgements the answers did not fit and lost their ends,"
                " and with them what a check may have added there",
                file=sys.stderr,
            )
        keys = {sample.key for sample in samples}
        return {judged.key: judged for judged in read_folder(folder, only=keys)}


def _judge_probes(sources: Sequence[Source], names: Sequence[str], rounds: _Rounds) -> Evidence:
    """Judge what the checks of these names need, each round once."""
    probes = dict.fromkeys(probe for name in names for probe in CHECKS[name].probes)
    judged: dict[str, JudgedSample] = {}
    for in_round in (BOTH, PLACED):
        made = [make_probes(probe, sources) for probe in probes if round_of(probe) is in_round]
        if samples := list(chain.from_iterable(made)):
            judged |= rounds.judge(samples, in_round)
    again = [rounds.judge(make_probes(PLAIN, sources), each) for each in AGAIN] if "again" in probes else []
    return Evidence(sources, judged, again)


def measure(name: str, evidence: Evidence) -> Finding:
    """A check's effect, its interval over questions, and the verdict."""
    from judgelm.evaluation.metrics.intervals import ratio

    check = CHECKS[name]
    found = check.measure(evidence)
    known = [(key, value) for key, value in found if value is not None]
    unread = len(found) - len(known)
    if not known:
        return _finding(name, None, "not measured", "no judgement could be read" if unread else f"needs {check.needs}")
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
    return _finding(name, effect, verdict, "; ".join(notes) or None, most[:NUM_EXAMPLES])


def _finding(
    name: str, effect: Estimate | None, verdict: CheckVerdict, note: str | None, examples: Sequence[int | str] = ()
) -> Finding:
    from judgelm.audit.findings import Finding
    from judgelm.evaluation.summary import Rate

    check = CHECKS[name]
    return Finding(
        name=name,
        title=check.title,
        what=check.what,
        effect=Rate.of(effect) if effect else Rate(value=None),
        threshold=check.threshold,
        two_sided=check.two_sided,
        verdict=verdict,
        note=note,
        examples=list(examples),
    )
