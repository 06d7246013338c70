"""A judge's biases: what it is shown is judged round by round, and measured by each check."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.audit import perturbations
from judgelm.audit.checks import CHECKS, Check, Evidence, choose_checks
from judgelm.audit.many import MANY_CHECKS
from judgelm.audit.probes import AGAIN, ALL, BOTH, PLACED, PLAIN, Round, Source, make_probes, read_sources, round_of
from judgelm.criteria import Criteria
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.results import JudgedSample, read_folder
from judgelm.files import hash_file
from judgelm.forms import Columns
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt_template import PromptTemplate
from judgelm.sample import Sample, rotation
from judgelm.samples import PathLike, Samples, read_samples, say_thoughts
from judgelm.verdict_forms import SCORES

if TYPE_CHECKING:
    from judgelm.audit.findings import Audit
    from judgelm.judge.choice import AnyJudge, JudgeChoice

JudgeRound = Callable[[Sequence[Sample], Round], Mapping[str, JudgedSample]]
"""samples and their round -> what was judged, by `question_id`"""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What an audit measures, and how the judge judges in it."""

    only: Sequence[str] | None = None
    """names of the task's checks; None: all"""
    skip: Sequence[str] | None = None
    self_id: str | None = None
    """answers whose model ids hold this text are the judge's own; None: the judge's name"""
    scoring: str | None = None
    """see `JudgeSettings`; None: expected, the cheapest and the finest, or greedy where a server judges"""
    temperature: float = 0.2
    max_new_tokens: int = 2048
    seed: int = 0
    criteria: Criteria | None = None
    """by what answers are judged; see `JudgeSettings`"""
    prompt_template: PromptTemplate | None = None
    verdict_format: str = SCORES
    """how they are asked for; see `JudgeSettings`"""
    reasoning: bool = False
    max_reasoning_tokens: int = 4096
    task: str = "pair"
    """pair, or multi, whose samples of any number of answers are judged in all rotations"""

    def __post_init__(self) -> None:
        if self.task not in ("pair", "multi"):
            raise SettingError("task", f"{self.task!r}: an audit is of pair or multi")
        choose_checks(self.only, self.skip, self._known)
        self.judging  # noqa: B018 - what does not go together is told at once

    @property
    def judging(self) -> JudgeSettings:
        """How a round is judged."""
        return JudgeSettings(
            self.task,
            # a verdict of another form may come last
            scores_only=self.verdict_format == SCORES,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            scoring=self.scoring or "greedy",
            criteria=self.criteria,
            prompt_template=self.prompt_template,
            verdict_format=self.verdict_format,
            reasoning=self.reasoning,
            max_reasoning_tokens=self.max_reasoning_tokens,
        )

    def scoring_of(self, judge: JudgeChoice) -> str:
        """The one asked for, else expected, where the judge can be read so."""
        writes = judge.described.get("engine") == "openai" or self.verdict_format != SCORES or self.reasoning
        return self.scoring or ("greedy" if writes else "expected")

    @property
    def _known(self) -> Mapping[str, Check]:
        return MANY_CHECKS if self.task == "multi" else CHECKS

    @property
    def checks(self) -> list[str]:
        """Names of the checks, in their order."""
        return choose_checks(self.only, self.skip, self._known)


def run_audit(
    questions: PathLike | Sequence[Sample],
    output_dir: PathLike,
    judge: AnyJudge,
    settings: AuditSettings | None = None,
    *,
    reference_file: PathLike | None = None,
    teacher: PathLike | None = None,
    limit: int | None = None,
    model_id: str | None = None,
    columns: Columns | None = None,
    keep_thinking: bool = False,
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
        columns: of a file whose fields have other names.
        keep_thinking: show the judge thoughts at the beginning of a file's answers; see `read_samples`.

    Returns a `judgelm.audit.findings.Audit`; effects are shares from -1 to 1.
    Raises InputError for an unknown check, a file that does not fit, and as `judge_folder`.
    """
    from judgelm.audit.findings import Audit, measure
    from judgelm.judge.choice import prepare
    from judgelm.judge.folder import describe_files

    chosen, settings = prepare(judge), settings or AuditSettings()
    name = model_id or chosen.model_id
    settings = replace(settings, scoring=settings.scoring_of(chosen), self_id=settings.self_id or name)
    samples = _read(questions, settings.task, reference_file, columns, keep_thinking)[:limit]
    chosen.check_images(samples)
    folder = Path(output_dir).expanduser()
    digests = describe_files(samples)
    chosen = chosen.going_on(*(folder / each.name / "run.json" for each in (BOTH, PLACED, *AGAIN)))
    described = _describe(settings, chosen, samples, teacher, digests)
    judge_round = partial(_judge_round, settings, chosen, name, folder, digests)
    if settings.task == "multi":
        evidence = _judge_many(samples, teacher, folder, _judge_settings(settings, chosen, ALL), judge_round)
    else:
        evidence = _judge_probes(read_sources(samples, teacher, settings.self_id or name), settings.checks, judge_round)
    found = Audit(judge=name, settings=described, checks=[measure(check, evidence) for check in settings.checks])
    found.write(folder / "audit.json", indent=2)
    return found


def _read(
    questions: PathLike | Sequence[Sample],
    task: str,
    reference_file: PathLike | None,
    columns: Columns | None,
    keep_thinking: bool,
) -> Sequence[Sample]:
    if not isinstance(questions, str | os.PathLike):
        return questions
    read = read_samples(questions, task, reference_file=reference_file, columns=columns, keep_thinking=keep_thinking)
    say_thoughts(read)
    return read


def _describe(
    settings: AuditSettings,
    chosen: JudgeChoice,
    samples: Sequence[Sample],
    teacher: PathLike | None,
    digests: Mapping[str, Any],
) -> dict[str, Any]:
    from judgelm.judge.description import versions

    files = samples.files if isinstance(samples, Samples) else None
    return {
        **chosen.described,
        "question_file": str(files.question_file) if files else None,
        "reference_file": str(files.reference_file) if files and files.reference_file else None,
        "question_file_sha256": digests["question_file_sha256"],
        "thoughts_left_out": digests["thoughts_left_out"],
        "teacher": None if teacher is None else os.fspath(teacher),
        "self_id": settings.self_id,
        "samples": len(samples),
        "scoring": settings.scoring,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "constrained": chosen.constrained,
        "prompt_format": chosen.prompt_format,
        **({"task": settings.task} if settings.task != "pair" else {}),
        **({"criteria": settings.criteria.to_record()} if settings.criteria else {}),
        **({"prompt_template": settings.prompt_template.sha256} if settings.prompt_template else {}),
        **({"verdict_format": settings.verdict_format} if settings.verdict_format != SCORES else {}),
        **({"max_reasoning_tokens": settings.max_reasoning_tokens} if settings.reasoning else {}),
        "versions": versions(),
    }


def _judge_probes(sources: Sequence[Source], names: Sequence[str], judge: JudgeRound) -> Evidence:
    """Judge what the checks of these names need, each round once."""
    probes = dict.fromkeys(probe for name in names for probe in CHECKS[name].probes)
    judged: dict[str, JudgedSample] = {}
    for in_round in (BOTH, PLACED):
        made = [make_probes(probe, sources) for probe in probes if round_of(probe) is in_round]
        if samples := list(chain.from_iterable(made)):
            judged |= judge(samples, in_round)
    again = [judge(make_probes(PLAIN, sources), each) for each in AGAIN] if "again" in probes else []
    return Evidence(sources, judged, again)


def _judge_many(
    samples: Sequence[Sample], teacher: PathLike | None, folder: Path, settings: JudgeSettings, judge: JudgeRound
) -> Evidence:
    """Judge samples of any number of answers in all rotations, without their references."""
    from judgelm.evaluation.many import index_many

    if teacher is not None:
        raise InputError("no check of task multi needs a teacher")
    sources = [Source(sample.without_reference()) for sample in samples]
    judge([source.sample for source in sources], ALL)
    return Evidence(
        sources, {}, many=index_many(folder / ALL.name), span=settings.readable.most - settings.readable.least
    )


def _judge_settings(given: AuditSettings, chosen: JudgeChoice, in_round: Round) -> JudgeSettings:
    drawn = in_round.temperature
    asked = replace(given.judging, seed=given.seed + in_round.seed)
    return chosen.settle(asked if drawn is None else replace(asked, temperature=drawn, scoring="sample"))


def _judge_round(
    given: AuditSettings,
    chosen: JudgeChoice,
    name: str,
    output_dir: Path,
    digests: Mapping[str, Any],
    samples: Sequence[Sample],
    in_round: Round,
) -> Mapping[str, JudgedSample]:
    """Judge the samples of a round into a folder of its own; the model is loaded once."""
    from judgelm.judge.run import RunFiles, run_judge

    folder, settings = output_dir / in_round.name, _judge_settings(given, chosen, in_round)
    described = {
        **chosen.described,
        **{name: digests[name] for name in ("question_file_sha256", "reference_file_sha256", "thoughts_left_out")},
        "perturbations_sha256": hash_file(perturbations.__file__),
    }
    most = max(len(sample.answers) for sample in samples)
    files = RunFiles.in_folder(folder, [order for order in in_round.orders if rotation(order) < most])
    found = run_judge(chosen.load, samples, settings, files, described, name)
    if cut := sum(each.counts["shortened"] for each in found.values()):
        print(
            f"judgelm: warning: {in_round.name}: in {cut} judgements the answers did not fit and lost their ends,"
            " and with them what a check may have added there",
            file=sys.stderr,
        )
    if in_round is ALL:
        return {}
    keys = {sample.key for sample in samples}
    return {judged.key: judged for judged in read_folder(folder, only=keys)}
