"""The judge that another tool asks: a model of this process, or a judge that is served."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from judgelm.criteria import Criteria, read_criteria
from judgelm.engine.openai.requests import Retries
from judgelm.errors import InputError, located, one_line
from judgelm.evaluation.rate import mean_rate
from judgelm.files import PathLike
from judgelm.jsonl import Line, dump_json
from judgelm.judge import AnyJudge, JudgeChoice, Judged, JudgeSettings, ModelChoice, check_orders, prepare
from judgelm.judge.judged import PROMPT_TOO_LONG
from judgelm.judgement import Outcome
from judgelm.sample import Sample, refuse_images
from judgelm.verdict import Verdict

if TYPE_CHECKING:
    from judgelm.serve.client import Client
    from judgelm.serve.judgement_requests import ResultOut

KEY_VARIABLE = "JUDGELM_API_KEY"
"""environment variable: the key of a served judge, where it asks for one"""
_POINTS = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSE: 0.0}
_TASKS = ("pair", "grade")
_WAITING = Retries(attempts=6, longest_wait_s=16)
"""half a minute: in an evaluation somebody waits"""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge says of a sample, of all orders that it was shown."""

    scores: tuple[float, ...] | None
    """one an answer, in the sample's order; None where one could not be read"""
    outcome: Outcome | None = None
    """of the first answer; None where it could not be read, and of one answer"""
    consistent: bool | None = None
    """whether both orders agree; None of one order"""
    probabilities: Mapping[Outcome, float] | None = None
    """with scoring `expected`, of two answers"""
    texts: tuple[str, ...] = ()
    """what was written in each order; of the exchanged answers, answer 2 is Assistant 1"""
    error: str | None = None
    """why nothing was judged"""

    @property
    def points(self) -> float | None:
        """What the first answer has won: 1, a half of a tie, or 0."""
        return None if self.outcome is None else _POINTS[self.outcome]

    @property
    def grade(self) -> float | None:
        """The first answer's score."""
        return None if self.scores is None else self.scores[0]

    @property
    def explanation(self) -> str:
        """All that was written, or why nothing was."""
        return self.error or "\n\n".join(text.strip() for text in self.texts)

    def to_record(self) -> dict[str, Any]:
        """As JSON has it, without the texts."""
        likely = self.probabilities
        return {
            "outcome": None if self.outcome is None else self.outcome.value,
            "scores": None if self.scores is None else list(self.scores),
            "consistent": self.consistent,
            "probabilities": None if likely is None else {each.value: share for each, share in likely.items()},
        }


Judging = Callable[[Sequence[Sample]], list[Opinion]]


@dataclass(slots=True)
class _Call:
    """Samples that wait for their opinions, or for what went wrong."""

    samples: Sequence[Sample]
    opinions: list[Opinion] | None = None
    failure: InputError | None = None


@dataclass
class AskedJudge:
    """A judge for callers in many threads, each with a sample or a few: what waits while it judges is judged together.

    Samples are known by their texts: who asks for the same twice, in whatever order and company, is told the same.
    """

    name: str
    scale: tuple[float, float]
    """the lowest and the highest score that is read"""
    judge: Judging
    _calls: list[_Call] = field(default_factory=list)
    _noting: threading.Lock = field(default_factory=threading.Lock)
    _judging: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, samples: Sequence[Sample]) -> list[Opinion]:
        """One opinion a sample, in their order. Raises InputError where the judge cannot be had."""
        call = _Call(samples)
        with self._noting:
            self._calls.append(call)
        with self._judging:
            # who was here before may have had these judged too
            if call.opinions is None and call.failure is None:
                self._judge_all(call)
        if call.failure is not None:
            raise InputError(str(call.failure))
        assert call.opinions is not None
        return call.opinions

    def _judge_all(self, own: _Call) -> None:
        with self._noting:
            calls, self._calls = self._calls, []
        named = [[_by_texts(sample) for sample in call.samples] for call in calls]
        different = {sample.key: sample for samples in named for sample in samples}
        try:
            found = dict(zip(different, self.judge([*different.values()]), strict=True)) if different else {}
        except InputError as error:
            for call in calls:
                call.failure = error
            return
        except BaseException:
            # what this caller is told, the others are not: they try it themselves
            with self._noting:
                self._calls = [*(call for call in calls if call is not own), *self._calls]
            raise
        for call, samples in zip(calls, named, strict=True):
            call.opinions = [found[sample.key] for sample in samples]


def find_judge(
    judge: PathLike | AnyJudge,
    task: str = "pair",
    *,
    model: str | None = None,
    criteria: Criteria | PathLike | None = None,
    scoring: str = "expected",
) -> AskedJudge:
    """The judge that a user of another tool names.

    Args:
        judge: the URL of a judge that `judgelm serve` serves, whose key, where it wants one, stands in
            JUDGELM_API_KEY; or `tiny`, a hub id or a folder, which is loaded in this process when it is asked first.
        task: pair, both orders of two answers, or grade, one answer.
        model: which of the judges behind a URL (default: the one that is served).
        criteria: by what is judged, or the file that says it.
        scoring: sample, greedy or expected; the first two write reasons.

    Raises InputError where there is no such judge, or it does not answer.
    """
    if task not in _TASKS:
        raise InputError(f"task {task!r}: expected {' or '.join(_TASKS)}")
    settings = JudgeSettings(task, criteria=find_criteria(criteria), scoring=scoring)
    scale = float(settings.readable.least), float(settings.readable.most)
    if is_url(judge):
        from judgelm.serve.asking import PATIENCE_S
        from judgelm.serve.client import Client

        served = _Served(Client(judge, find_key(), PATIENCE_S), judge, model, settings)
        return AskedJudge(served.check(), scale, served)
    if model is not None:
        raise InputError(f"model {model!r} is one of a server's: the judge is {judge}, which is no URL")
    choice = prepare(ModelChoice(judge) if isinstance(judge, str | os.PathLike) else judge)
    return AskedJudge(choice.model_id, scale, _Local(choice, choice.settle(settings)))


def is_url(judge: object) -> TypeGuard[str]:
    """Whether a judge is named by the address of an API of `judgelm serve`."""
    return isinstance(judge, str) and judge.startswith(("http://", "https://"))


def find_criteria(given: Criteria | PathLike | None) -> Criteria | None:
    """Criteria, or what the file says that is named."""
    return given if isinstance(given, Criteria | None) else read_criteria(given)


def find_key() -> str | None:
    """The key for a served judge that stands in the environment."""
    return os.environ.get(KEY_VARIABLE) or None


def make_sample(asked: Any, answers: Sequence[Any], reference: str | None = None) -> Sample:
    """A sample of a question, or of OpenAI's messages up to the user's last, and of one answer or two.

    Raises InputError for what cannot be judged.
    """
    if reference is not None and not (isinstance(reference, str) and reference.strip()):
        raise InputError(f"sample: expected the reference to be a text, found {one_line(repr(reference))[:40]}")
    names = ("answer_body",) if len(answers) == 1 else ("answer1_body", "answer2_body")
    how = "messages" if isinstance(asked, list) else "question_body"
    line = Line({"question_id": 0, how: asked, **dict(zip(names, answers, strict=True))}, Path("sample"), 1)
    with located(line.where):
        sample = Sample.from_graded_line(line, reference) if len(answers) == 1 else Sample.from_line(line, 2, reference)
    refuse_images(sample)
    return sample


def _by_texts(sample: Sample) -> Sample:
    """The same with an id that follows from what the judge is shown."""
    shown = sample.dialogue and sample.dialogue.to_fields(sample.question, sample.answers, sample.images)
    texts = dump_json([sample.question, list(sample.answers), sample.reference, shown, repr(sample.images)])
    name = hashlib.sha256(texts.encode(errors="backslashreplace")).hexdigest()[:32]
    return replace(sample, question_id=name, record={**sample.record, "question_id": name})


def _orders(task: str) -> str:
    return "both" if task == "pair" else "forward"


@dataclass(frozen=True, slots=True)
class _Local:
    """A model of this process, or whatever else can be chosen from Python."""

    choice: JudgeChoice
    settings: JudgeSettings

    def __call__(self, samples: Sequence[Sample]) -> list[Opinion]:
        orders = check_orders(_orders(self.settings.task), self.settings.task)
        judged: dict[tuple[str, str], Judged] = {
            (one.order, one.sample.key): one for one in self.choice.load().run(samples, orders, self.settings)
        }
        return [self._opinion(sample, [judged[order, sample.key] for order in orders]) for sample in samples]

    def _opinion(self, sample: Sample, judged: Sequence[Judged]) -> Opinion:
        if any(each.generation is None for each in judged):
            return Opinion(None, error=PROMPT_TOO_LONG)
        readings = {each.order: each.reading for each in judged}
        verdict = Verdict(readings["forward"], readings.get("reversed"), sample)
        texts = tuple(each.judgement.text for each in judged)
        return Opinion(verdict.scores, verdict.outcome, verdict.consistent, verdict.probabilities, texts)


@dataclass(frozen=True, slots=True)
class _Served:
    """A judge behind our API."""

    client: Client
    url: str
    model: str | None
    settings: JudgeSettings

    def check(self) -> str:
        """Its name. Raises InputError where there is none, or not one alone."""
        from judgelm.serve.asking import patiently

        with self._told():
            known = patiently(self.client.models, _WAITING)
        if self.model is not None and self.model not in known:
            raise InputError(f"{self.url} has no judge {self.model!r} (it has {_listed(known)})")
        if self.model is None and len(known) != 1:
            raise InputError(f"{self.url} has {_listed(known)}: model says which of them")
        return self.model or known[0]

    def __call__(self, samples: Sequence[Sample]) -> list[Opinion]:
        """What no request can hold is refused by itself."""
        from judgelm.serve.asking import judge_patiently
        from judgelm.serve.judgement_requests import ResultOut

        task, criteria = self.settings.task, self.settings.criteria
        settings: dict[str, Any] = {"task": task, "orders": _orders(task), "scoring": self.settings.scoring}
        settings |= {"model": self.model} if self.model else {}
        settings |= {"criteria": criteria} if criteria else {}
        with self._told():
            found = judge_patiently(self.client, samples, settings, ResultOut, _WAITING)
        return [_opinion_of(each) if isinstance(each, ResultOut) else _refused(str(each)) for each in found]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the server refuses is the user's to mend."""
        from judgelm.serve.client import APIError

        try:
            yield
        except APIError as error:
            raise InputError(f"{self.url}: {one_line(str(error))}") from None


def _refused(why: str) -> Opinion:
    return Opinion(None, error=one_line(why))


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(names)) or "no judge"


def _opinion_of(result: ResultOut) -> Opinion:
    if result.error is not None:
        return _refused(result.error.message)
    said = result.calibrated.probabilities if result.calibrated else result.probabilities
    likely = None if said is None else said.model_dump()
    return Opinion(
        None if result.scores is None else tuple(result.scores),
        None if result.outcome is None else Outcome(result.outcome),
        result.consistent,
        None if likely is None else {outcome: likely[outcome.value] for outcome in Outcome},
        tuple(one.text for one in result.judgements),
    )


def interval(
    name: str, values: Sequence[float], clusters: Sequence[str], span: tuple[float, float]
) -> dict[str, float]:
    """A mean with its 95 % interval, drawn over clusters, as NAME, NAME_low and NAME_high; without what is not defined.

    `span` is the least and the most that a value can be.
    """
    if not values:
        return {}
    found = mean_rate(values, clusters, span)
    numbers = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {each: number for each, number in numbers.items() if number is not None}
