"""inspect_ai: scorers that compare answers with others or grade them, and metrics with our intervals.

>>> Task(dataset, solver=generate(), scorer=pairwise_scorer("tiny", reference_model="openai/gpt-4o-mini"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ChatMessage, Model, get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from judgelm.adapters.judges import AskedJudge, find_judge, interval, make_sample
from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import SHARE
from judgelm.files import PathLike
from judgelm.jsonl import write_lines

_POINTS, _CLUSTER, _CONSISTENT, _SPAN = "win_rate", "cluster", "consistent", "scale"


@metric(scores="unreduced")
def win_rate() -> Metric:
    """How much was won against the other answers, ties as halves, with its 95 % interval; whole clusters are drawn,
    so that epochs of a sample do not count as samples of their own.
    """

    def rate(scores: list[SampleScore]) -> dict[str, float]:
        return interval(_POINTS, *_values(scores), SHARE)

    return rate


@metric(scores="unreduced")
def consistency() -> Metric:
    """How often both orders of two answers agree, with its 95 % interval."""

    def rate(scores: list[SampleScore]) -> dict[str, float]:
        known = [each for each in scores if _said(each).get(_CONSISTENT) is not None]
        agreed = [float(bool(_said(each)[_CONSISTENT])) for each in known]
        return interval("consistency", agreed, [_cluster(each) for each in known], SHARE)

    return rate


@metric(scores="unreduced")
def mean_grade() -> Metric:
    """The mean of all grades, with its 95 % interval."""

    def mean(scores: list[SampleScore]) -> dict[str, float]:
        scales = [_said(each).get(_SPAN) or (0.0, 10.0) for each in scores]
        span = min(low for low, _ in scales), max(high for _, high in scales)
        return interval("mean_grade", *_values(scores), span)

    return mean


def _values(scores: Sequence[SampleScore]) -> tuple[list[float], list[str]]:
    return [each.score.as_float() for each in scores], [_cluster(each) for each in scores]


def _said(score: SampleScore) -> Mapping[str, Any]:
    return score.score.metadata or {}


def _cluster(score: SampleScore) -> str:
    return str(_said(score).get(_CLUSTER, score.sample_id))


@scorer(metrics=[win_rate(), consistency()])
def pairwise_scorer(
    judge: str,
    reference_model: str | Model | None = None,
    field: str | None = None,
    *,
    model: str | None = None,
    criteria: str | None = None,
    scoring: str = "expected",
    cluster: str | None = None,
) -> Scorer:
    """The model's answer against another one, in both orders: 1 where it is better, 0.5 in a tie or where the orders
    contradict each other, 0 where it is worse; not scored where the judge cannot be read.

    Args:
        judge, model, criteria, scoring: see `judgelm.adapters.judges.find_judge`.
        reference_model: whose answer to the sample's input is the other one, asked anew.
        field: of the sample's metadata, where the other answer stands (default, without a model: the target).
        cluster: of the sample's metadata: samples with the same value there are not independent.
    """
    asked = find_judge(judge, "pair", model=model, criteria=criteria, scoring=scoring)
    if reference_model is not None and field is not None:
        raise InputError("the other answer is reference_model's or stands in a field: both are given")

    async def score(state: TaskState, target: Target) -> Score:
        if reference_model is not None:
            said = await get_model(reference_model).generate(state.input)
            other = said.completion
        else:
            # what is not there is said by _score, and the sample not scored
            other = (target.text or None) if field is None else state.metadata.get(field)
        return await _score(asked, state, (state.output.completion, other), None, cluster)

    return score


@scorer(metrics=[mean_grade()])
def grade_scorer(
    judge: str,
    criteria: str | None = None,
    *,
    model: str | None = None,
    scoring: str = "expected",
    with_target: bool = False,
    cluster: str | None = None,
) -> Scorer:
    """The model's answer by itself: a grade on the criteria's scale, without criteria from 1 to 10; not scored where
    the judge cannot be read.

    Args:
        judge, model, criteria, scoring: see `judgelm.adapters.judges.find_judge`.
        with_target: show the judge the sample's target as a reference.
        cluster: of the sample's metadata: samples with the same value there are not independent.
    """
    asked = find_judge(judge, "grade", model=model, criteria=criteria, scoring=scoring)

    async def score(state: TaskState, target: Target) -> Score:
        return await _score(asked, state, (state.output.completion,), target.text if with_target else None, cluster)

    return score


async def _score(
    judge: AskedJudge, state: TaskState, answers: tuple[str, ...], reference: str | None, cluster: str | None
) -> Score:
    about: dict[str, Any] = {"judge": judge.name}
    try:
        about |= {} if cluster is None else {_CLUSTER: _field(state, cluster)}
        sample = make_sample(_asked(state.input), answers, reference)
    except InputError as error:
        return Score.unscored(reason="scoring_failed", answer=answers[0], explanation=str(error), metadata=about)
    (opinion,) = await anyio.to_thread.run_sync(judge.ask, [sample])
    about |= opinion.to_record() | {_SPAN: list(judge.scale)}
    about |= {"other": answers[1]} if len(answers) == 2 else {}
    value = opinion.points if len(answers) == 2 else opinion.grade
    said: dict[str, Any] = {"answer": answers[0], "explanation": opinion.explanation, "metadata": about}
    return Score.unscored(reason="grader_failed", **said) if value is None else Score(value=value, **said)


def _field(state: TaskState, name: str) -> str:
    """A text of the sample's metadata. Raises InputError."""
    value = state.metadata.get(name)
    if isinstance(value, str | int | float):
        return str(value)
    raise InputError(f"sample {state.sample_id}: expected a text in metadata {name!r}, found {type(value).__name__}")


def _asked(said: str | Sequence[ChatMessage]) -> str | list[dict[str, str]]:
    """As OpenAI's messages, where there are more than a question. Raises InputError for parts that are no text."""
    if isinstance(said, str):
        return said
    messages: list[Any] = list(said)
    for message in messages:
        if not isinstance(message.content, str) and any(part.type != "text" for part in message.content):
            raise InputError("a judge is shown text alone: the input has other parts")
    return [{"role": message.role, "content": message.text} for message in messages]


def write_answers(log: EvalLog | PathLike, path: PathLike) -> int:
    """The answers of a log as a file for `judgelm arena`, which ranks many models; gives their number.

    Samples that ended in an error have none. Raises InputError for parts that are no text.
    """
    read = log if isinstance(log, EvalLog) else read_eval_log(str(log))
    several = (read.eval.config.epochs or 1) > 1
    rows = []
    for sample in read.samples or []:
        if sample.error is None:
            asked = _asked(sample.input)
            name = f"{sample.id}/{sample.epoch}" if several else sample.id
            question = {"question_body": asked} if isinstance(asked, str) else {"messages": asked}
            rows.append({"question_id": name, **question, "text": sample.output.completion, "model": read.eval.model})
    write_lines(path, rows)
    return len(rows)
