"""Samples judged through workers, both orders at once: for the API and for the web page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from functools import partial

from judgelm.engine.interface import Generation
from judgelm.judge.judged import Judged
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.prompt import TASKS
from judgelm.sample import Sample
from judgelm.serve.judgement_requests import JudgementRequest, Result
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.together import Put, together
from judgelm.serve.worker_client import Workers
from judgelm.serve.worker_requests import GenerateParams, JudgeSample
from judgelm.verdict import Verdict

_AT_ONCE = 32
"""judgements of one request that are generated at once"""
_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Written:
    """A judgement's text so far."""

    index: int
    """of its sample in the request"""
    question_id: int | str
    order: Order
    text: str


async def judge_through(
    workers: Workers, request: JudgementRequest, patient: bool = False
) -> AsyncGenerator[Written | Result, None]:
    """Judge all samples of a request that names its model: texts as they grow, and one result for each sample, in the
    order in which they are done.

    A `patient` request waits where the worker's queue is full from the start; others do once they have begun.

    The request is one whose `check` passed. Raises WorkerError where no worker can go on. A sample that does not fit
    the model has an `error` in its result.
    """
    run = _Run(workers, request, begun=patient)
    jobs = [partial(run.judge, index, given.sample) for index, given in enumerate(request.samples)]
    async with contextlib.aclosing(together(jobs)) as found:
        async for one in found:
            yield one


@dataclass
class _Run:
    """One request on its way."""

    workers: Workers
    request: JudgementRequest
    begun: bool
    """a worker has taken some of it"""
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def judge(self, index: int, sample: Sample, put: Put[Written | Result]) -> None:
        orders = self.request.asked_orders
        made = await asyncio.gather(
            *(self._in_order(index, sample, order, put) for order in orders), return_exceptions=True
        )
        judged: list[Judged] = []
        errors: list[str] = []
        for order, one in zip(orders, made, strict=True):
            if isinstance(one, Judged):
                judged.append(one)
            elif isinstance(one, WorkerError) and one.code == ErrorCode.CONTEXT_OVERFLOW:
                nothing = Judgement.parse("", len(sample.answers))
                judged.append(Judged(_shown(sample, order), order, self.request.task, nothing, None, None))
                errors.append(str(one))
            else:
                raise one
        said = {one.order: one.judgement for one in judged}
        verdict = Verdict.of(sample, said.get("forward"), said.get("reversed"))
        await put(Result(index, verdict, tuple(judged), errors[0] if errors else None))

    async def _in_order(self, index: int, sample: Sample, order: Order, put: Put[Written | Result]) -> Judged:
        async with self.places:
            while True:
                try:
                    return await self._generate(index, sample, order, put)
                except WorkerError as error:
                    # a queue that is full at the beginning is the client's to wait for, one in the middle ours
                    if error.code != ErrorCode.ENGINE_OVERLOADED or not self.begun:
                        raise
                await asyncio.sleep(_AGAIN_S)

    async def _generate(self, index: int, sample: Sample, order: Order, put: Put[Written | Result]) -> Judged:
        asked, shown = self.request, _shown(sample, order)
        sampling = replace(asked.settings.sampling(len(shown.answers)), top_p=asked.top_p)
        params = GenerateParams.of(JudgeSample.of(shown, asked.task), sampling, asked.constrained)
        prefill = TASKS[asked.task].prefill
        chunk = None
        assert asked.model is not None
        async with contextlib.aclosing(self.workers.stream(asked.model, params)) as chunks:
            async for chunk in chunks:
                self.begun = True
                put.if_room(Written(index, sample.question_id, order, prefill + chunk.text))
        assert chunk is not None
        generation = Generation(
            shown.key,
            chunk.text,
            chunk.usage.prompt_tokens,
            chunk.usage.completion_tokens,
            chunk.finish_reason,  # type: ignore[arg-type]
        )
        judgement = Judgement.parse(prefill + chunk.text, len(shown.answers))
        shortened = tuple(chunk.shortened) if chunk.shortened else None
        return Judged(shown, order, asked.task, judgement, generation, shortened)


def _shown(sample: Sample, order: Order) -> Sample:
    return sample.swapped() if order == "reversed" else sample
