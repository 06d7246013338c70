"""Samples judged through workers: what may be asked, what comes back, and the texts on the way.

The API and the web page both judge here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from judgelm.errors import InputError
from judgelm.judge.judged import PROMPT_TOO_LONG
from judgelm.judge.settings import JudgeSettings, Order, check_orders
from judgelm.judgement import Judgement
from judgelm.prompt import TASKS, count_markers
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.worker_client import Usage, Workers, judgement_params
from judgelm.verdict import Verdict

MOST_SAMPLES = 1000
_AT_ONCE = 32
"""judgements of one request that are generated at once"""
_AGAIN_S = 0.5

Text = Annotated[str, StringConstraints(max_length=2_000_000)]
Name = Annotated[str, StringConstraints(max_length=200)]


class Strict(BaseModel):
    """A body in which a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid")


class SampleIn(Strict):
    """One question with its answers."""

    question_id: int | Name = Field(
        default=0, description="names the sample in the answer and seeds its random numbers"
    )
    question: Text
    answers: Annotated[list[Text], Field(min_length=2, max_length=MAX_ANSWERS)]
    reference: Text | None = Field(default=None, description="a known good answer, shown to the judge")


class JudgementRequest(Strict):
    """What is to be judged, and how."""

    model: Name | None = Field(None, description="one of GET /v1/models; may be left away where only one is served")
    samples: Annotated[list[SampleIn], Field(min_length=1, max_length=MOST_SAMPLES)]
    task: Literal["pair", "single", "multi", "mmvet"] = "pair"
    orders: Literal["forward", "reversed", "both"] | None = Field(
        None, description="as given, answers 1 and 2 exchanged, or both (default: both for task pair, else forward)"
    )
    scores_only: bool = Field(False, description="stop after the score line: no reasons")
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(0.2, description="0 is greedy")
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    constrained: bool | None = Field(
        default=None, description="nothing but a score line first (default: the model's own way)"
    )
    stream: bool = Field(default=False, description="answer in NDJSON: events text, result, error, done")


class JudgementOut(BaseModel):
    """What the judge wrote in one order."""

    order: Literal["forward", "reversed"]
    text: str = Field(description="score line and reasons, the task's prefill included")
    scores: list[float] | None = Field(description="one an answer, in the order the judge saw them; null: not readable")
    outcome: Literal["win", "tie", "lose"] | None = Field(description="of the first answer the judge saw")
    parse: Literal["ok", "repaired", "failed"]
    reasons: str
    finish_reason: str
    shortened: list[int] | None = Field(description="tokens cut from each answer, in the order the judge saw them")
    usage: Usage


class ErrorOut(BaseModel):
    """Why something could not be done."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ResultOut(BaseModel):
    """One sample's judgements, and what follows from them."""

    question_id: int | str
    scores: list[float] | None = Field(
        description="one an answer, in the sample's order: the mean of the orders judged"
    )
    outcome: Literal["win", "tie", "lose"] | None = Field(description="of answer 1; a tie where the orders contradict")
    consistent: bool | None = Field(description="whether both orders agree")
    judgements: list[JudgementOut]
    suspicious_markers: int = Field(description="lines of the texts that imitate the prompt's own markers")
    error: ErrorOut | None = None


Event = dict[str, Any]
"""{"event": "text", "index", "question_id", "order", "text"} as a text grows, or {"event": "result", "index",
"result": ResultOut} once for each sample, in the order in which they are done"""


async def judge_through(
    workers: Workers, request: JudgementRequest, patient: bool = False
) -> AsyncGenerator[Event, None]:
    """Judge all samples of a request that names its model, both orders at once.

    A `patient` request waits where the worker's queue is full from the start; others do once they have begun.

    The request is one that `check_request` let pass. Raises WorkerError where no worker can go on. A sample that does
    not fit the model has an `error` in its result.
    """
    orders = check_orders(request.orders or ("both" if request.task == "pair" else "forward"), request.task)
    run = _Run(workers, request, orders, begun=patient)
    task = asyncio.create_task(run.everything())
    try:
        left = len(request.samples)
        while left:
            event = await run.queue.get()
            if isinstance(event, BaseException):
                raise event
            left -= event["event"] == "result"
            yield event
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def check_request(request: JudgementRequest) -> None:
    """Raises InputError for a sample or an order that the task does not take."""
    for given in request.samples:
        _check_sample(given, request.task)
    check_orders(request.orders or "forward", request.task)


def _check_sample(given: SampleIn, task: str) -> None:
    count, spec = len(given.answers), TASKS[task]
    if count > spec.max_answers:
        raise InputError(f"task {task} takes {spec.max_answers} answers, found {count}")
    if spec.needs_reference and given.reference is None:
        raise InputError(f"task {task} needs a reference")


@dataclass
class _Run:
    """One request on its way."""

    workers: Workers
    request: JudgementRequest
    orders: tuple[Order, ...]
    queue: asyncio.Queue[Event | BaseException] = field(default_factory=lambda: asyncio.Queue(maxsize=64))
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    begun: bool = False
    """a worker has taken some of it"""

    def __post_init__(self) -> None:
        asked = self.request
        self.settings = JudgeSettings(
            asked.task, asked.scores_only, asked.temperature, asked.max_new_tokens, asked.seed
        )

    async def everything(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index, given in enumerate(self.request.samples):
                    group.create_task(self._judge(index, given))
        except ExceptionGroup as errors:
            await self.queue.put(errors.exceptions[0])

    async def _judge(self, index: int, given: SampleIn) -> None:
        sample = Sample(given.question_id, given.question, tuple(given.answers), given.reference)
        found = await asyncio.gather(
            *(self._in_order(index, sample, order) for order in self.orders), return_exceptions=True
        )
        errors = [one for one in found if isinstance(one, BaseException)]
        judged = [one for one in found if not isinstance(one, BaseException)]
        for error in errors:
            if not isinstance(error, WorkerError) or error.code != ErrorCode.CONTEXT_OVERFLOW:
                raise error
        verdict = Verdict.of(sample, self._of(judged, "forward"), self._of(judged, "reversed"))
        whole = not errors
        result = ResultOut(
            question_id=given.question_id,
            scores=list(verdict.scores) if whole and verdict.scores is not None else None,
            outcome=verdict.outcome.value if whole and verdict.outcome is not None else None,
            consistent=verdict.consistent if whole else None,
            judgements=[out for out, _ in judged],
            suspicious_markers=count_markers(sample),
            error=ErrorOut(message=str(errors[0]), type="invalid_request_error", code=PROMPT_TOO_LONG)
            if errors
            else None,
        )
        await self.queue.put({"event": "result", "index": index, "result": result})

    @staticmethod
    def _of(judged: list[tuple[JudgementOut, Judgement]], order: str) -> Judgement | None:
        return next((judgement for out, judgement in judged if out.order == order), None)

    async def _in_order(self, index: int, sample: Sample, order: Order) -> tuple[JudgementOut, Judgement]:
        async with self.places:
            while True:
                try:
                    return await self._generate(index, sample, order)
                except WorkerError as error:
                    # a queue that is full at the beginning is the client's to wait for, one in the middle ours
                    if error.code != ErrorCode.ENGINE_OVERLOADED or not self.begun:
                        raise
                await asyncio.sleep(_AGAIN_S)

    async def _generate(self, index: int, sample: Sample, order: Order) -> tuple[JudgementOut, Judgement]:
        asked = self.request
        shown = sample.swapped() if order == "reversed" else sample
        sampling = replace(self.settings.sampling(len(shown.answers)), top_p=asked.top_p)
        prefill = TASKS[asked.task].prefill
        params = judgement_params(shown, asked.task, sampling, asked.constrained)
        chunk = None
        assert asked.model is not None
        async with contextlib.aclosing(self.workers.stream(asked.model, params)) as chunks:
            async for chunk in chunks:
                self.begun = True
                # whoever reads slowly gets fewer, longer steps
                if not self.queue.full():
                    event = {"event": "text", "index": index, "question_id": sample.question_id, "order": order}
                    self.queue.put_nowait(event | {"text": prefill + chunk.text})
        assert chunk is not None
        assert chunk.finish_reason is not None
        judgement = Judgement.parse(prefill + chunk.text, len(shown.answers))
        out = JudgementOut(
            order=order,
            text=judgement.text,
            scores=None if judgement.scores is None else list(judgement.scores),
            outcome=None if judgement.outcome is None else judgement.outcome.value,
            parse=judgement.state.value,
            reasons=judgement.reasons,
            finish_reason=chunk.finish_reason,
            shortened=chunk.shortened,
            usage=chunk.usage,
        )
        return out, judgement
