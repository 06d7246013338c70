"""Samples judged through workers, both orders at once: for the API and for the web page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from judgelm.engine.interface import Generation
from judgelm.judge.judged import Judged
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.prompt import TASKS
from judgelm.sample import Sample
from judgelm.serve.judgement_requests import JudgementRequest, Result
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.worker_client import Workers, together
from judgelm.serve.worker_requests import GenerateParams, JudgeSample
from judgelm.verdict import Verdict

_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Written:
    """A judgement's text so far."""

    index: int
    """of its sample in the request"""
    question_id: int | str
    order: Order
    text: str


_Made = tuple[int, Judged, str | None]
"""the place of a sample, one order of it, and why nothing was generated, if that is so"""


async def judge_through(
    workers: Workers, request: JudgementRequest, patient: bool = False
) -> AsyncGenerator[Written | Result, None]:
    """Judge all samples of a request that names its model: texts as they grow, and one result for each sample, in the
    order in which they are done.

    A `patient` request waits where the worker's queue is full from the start; others do once they have begun.

    The request is one whose `check` passed. Raises WorkerError where no worker can go on. A sample that does not fit
    the model has an `error` in its result.
    """
    run, orders = _Run(workers, request, begun=patient), request.asked_orders
    samples = [given.sample for given in request.samples]
    jobs = [partial(run.judge, index, sample, order) for index, sample in enumerate(samples) for order in orders]
    done: dict[int, dict[Order, _Made]] = {}
    async with contextlib.aclosing(together(jobs)) as found:
        async for one in found:
            if isinstance(one, Written):
                yield one
                continue
            index = one[0]
            made = done.setdefault(index, {})
            made[one[1].order] = one
            if len(made) == len(orders):
                yield _result(index, samples[index], [made[order] for order in orders])
                del done[index]


def _result(index: int, sample: Sample, made: Sequence[_Made]) -> Result:
    said = {judged.order: judged.judgement for _, judged, _ in made}
    verdict = Verdict.of(sample, said.get("forward"), said.get("reversed"))
    error = next((error for _, _, error in made if error is not None), None)
    return Result(index, verdict, tuple(judged for _, judged, _ in made), error)


@dataclass
class _Run:
    """One request on its way."""

    workers: Workers
    request: JudgementRequest
    begun: bool
    """a worker has taken some of it"""

    async def judge(self, index: int, sample: Sample, order: Order, queue: asyncio.Queue[Written | _Made]) -> None:
        shown = sample.swapped() if order == "reversed" else sample
        while True:
            try:
                return await queue.put((index, await self._generate(index, shown, order, queue), None))
            except WorkerError as error:
                if error.code == ErrorCode.CONTEXT_OVERFLOW:
                    nothing = Judgement.parse("", len(shown.answers))
                    judged = Judged(shown, order, self.request.task, nothing, None, None)
                    return await queue.put((index, judged, str(error)))
                # a queue that is full at the beginning is the client's to wait for, one in the middle ours
                if error.code != ErrorCode.ENGINE_OVERLOADED or not self.begun:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def _generate(self, index: int, shown: Sample, order: Order, queue: asyncio.Queue[Written | _Made]) -> Judged:
        asked = self.request
        sampling = replace(asked.settings.sampling(len(shown.answers)), top_p=asked.top_p)
        params = GenerateParams.of(JudgeSample.of(shown, asked.task), sampling, asked.constrained)
        prefill = TASKS[asked.task].prefill
        chunk = None
        assert asked.model is not None
        async with contextlib.aclosing(self.workers.stream(asked.model, params)) as chunks:
            async for chunk in chunks:
                self.begun = True
                # whoever reads slowly gets fewer, longer steps
                if not queue.full():
                    queue.put_nowait(Written(index, shown.question_id, order, prefill + chunk.text))
        assert chunk is not None
        tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        generation = Generation(shown.key, chunk.text, *tokens, chunk.finish_reason)  # type: ignore[arg-type]
        judgement = Judgement.parse(prefill + chunk.text, len(shown.answers))
        return Judged(shown, order, asked.task, judgement, generation, tuple(chunk.shortened or ()) or None)
