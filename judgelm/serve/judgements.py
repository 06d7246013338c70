"""Samples judged through workers, all orders at once: for the API and for the web page."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from judgelm.calibration import Calibration, of_samples
from judgelm.criteria import Aspect, Criteria
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.jsonl import Record
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judge.settings import ROTATIONS, JudgeSettings, Order, read_judgement
from judgelm.judgement import Judgement
from judgelm.prompt import TASKS, prompt_fingerprint
from judgelm.sample import Sample, rotation
from judgelm.samples import has_dialogues, has_references
from judgelm.serve.judgement_requests import JudgementRequest, Result
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.worker_answers import Chunk
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
    aspect: str | None = None
    """with criteria: by what it was judged"""

    def to_record(self) -> Record:
        """As a stream tells it."""
        record = asdict(self)
        return record if self.aspect is not None else {name: record[name] for name in record if name != "aspect"}


@dataclass(frozen=True, slots=True)
class _Job:
    """One prompt."""

    index: int
    """of its sample in the request"""
    shown: Sample
    """as the judge sees it"""
    order: Order
    aspect: Aspect | None


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of a job."""

    job: _Job
    judged: Judged
    error: str | None = None
    """why nothing was generated, if that is so"""


async def judge_through(
    workers: Workers, request: JudgementRequest, patient: bool = False
) -> AsyncGenerator[Written | Result, None]:
    """Judge all samples of a request that names its model: texts as they grow, and one result for each sample, in the
    order in which they are done.

    A `patient` request waits where the worker's queue is full from the start; others do once they have begun.

    The request is one whose `check` passed. Raises WorkerError where no worker can go on, and InputError where it asks
    for calibrated probabilities that the judge has no map for. A sample that does not fit the model has an `error` in
    its result.
    """
    calibration = await _find_calibration(workers, request)
    run = _Run(workers, request, request.settings, begun=patient)
    samples = [given.sample for given in request.samples]
    places = [
        [
            (order, aspect)
            for order in request.asked_orders
            if rotation(order) < len(sample.answers)
            for aspect in run.settings.aspects
        ]
        for sample in samples
    ]
    jobs = [
        _Job(index, sample.shown(order), order, aspect)
        for index, sample in enumerate(samples)
        for order, aspect in places[index]
    ]
    done: dict[int, list[_Made]] = defaultdict(list)
    async with contextlib.aclosing(together(partial(run.judge, job) for job in jobs)) as found:
        async for one in found:
            if isinstance(one, Written):
                yield one
                continue
            index = one.job.index
            done[index].append(one)
            if len(done[index]) == len(places[index]):
                given = places[index]
                made = sorted(done.pop(index), key=lambda each: given.index((each.job.order, each.job.aspect)))
                yield _result(index, samples[index], made, request.criteria, calibration)


async def _find_calibration(workers: Workers, request: JudgementRequest) -> Calibration | None:
    """The map that the request's judge has for such a request. Raises InputError where it must have one and has not."""
    assert request.model is not None
    if request.calibrated is False or (not request.calibrated and request.scoring != "expected"):
        return None
    calibration = await workers.calibration(request.model)
    if calibration is None:
        if request.calibrated:
            raise InputError(f"calibrated: {request.model} is served without a calibration map")
        return None
    samples = [given.sample for given in request.samples]
    template = calibration.settings.get("prompt_template")
    fingerprint = template or prompt_fingerprint(request.task, request.criteria, has_dialogues(samples))
    settings = {**request.settings.to_record(), "prompt_fingerprint": fingerprint}
    try:
        calibration.check(of_samples(settings, request.asked_orders, has_references(samples)), "this request's")
    except InputError:
        if request.calibrated:
            raise
        return None
    return calibration


def _result(
    index: int,
    sample: Sample,
    made: Sequence[_Made],
    criteria: Criteria | None,
    calibration: Calibration | None,
) -> Result:
    """Of what was made, in the orders asked for, and by the criteria's aspects in each. Raises WorkerError where that
    was said in several forms, whose scores have no mean.
    """
    judged = [one.judged for one in made]
    if len(forms := sorted({one.judgement.form for one in judged})) > 1:
        problem = f"workers of this model ask for verdicts in different forms: {', '.join(forms)}"
        raise WorkerError(problem, ErrorCode.INTERNAL_ERROR)
    if criteria is not None:
        count = len(criteria.aspects)
        judged = [Judged.by_criteria(criteria, judged[start : start + count]) for start in range(0, len(judged), count)]
    judged = [one.calibrated(calibration) for one in judged]
    said = {one.order: one.reading for one in judged}
    rotations = tuple(said[order] for order in ROTATIONS[1:] if order in said)
    verdict = Verdict(said.get("forward"), said.get("reversed"), sample, rotations=rotations)
    error = next((one.error for one in made if one.error is not None), None)
    return Result(index, verdict, tuple(judged), error)


@dataclass
class _Run:
    """One request on its way."""

    workers: Workers
    request: JudgementRequest
    settings: JudgeSettings
    begun: bool
    """a worker has taken some of it"""

    async def judge(self, job: _Job, queue: asyncio.Queue[Written | _Made]) -> None:
        while True:
            try:
                return await queue.put(_Made(job, await self._generate(job, queue)))
            except WorkerError as error:
                if error.code == ErrorCode.CONTEXT_OVERFLOW:
                    nothing = self._read("", job, error.verdict_format)
                    judged = Judged(job.shown, job.order, self.request.task, nothing, None, None)
                    return await queue.put(_Made(job, judged, str(error)))
                # a queue that is full at the beginning is the client's to wait for, one in the middle ours
                if error.code != ErrorCode.ENGINE_OVERLOADED or not self.begun:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def _generate(self, job: _Job, queue: asyncio.Queue[Written | _Made]) -> Judged:
        asked, shown = self.request, job.shown
        sampling = replace(self.settings.sampling(len(shown.answers)), top_p=asked.top_p)
        expected = self.settings.scoring == "expected"
        params = GenerateParams.of(JudgeSample.of(shown, asked.task, job.aspect), sampling, asked.constrained, expected)
        prefill, name = TASKS[asked.task].prefill, None if job.aspect is None else job.aspect.name
        chunk, text = None, None
        assert asked.model is not None
        async with contextlib.aclosing(self.workers.stream(asked.model, params)) as chunks:
            async for chunk in chunks:
                self.begun = True
                # whoever reads slowly gets fewer, longer steps, and none while the judge thinks
                if not queue.full() and not expected and chunk.text != text:
                    text = chunk.text
                    queue.put_nowait(Written(job.index, shown.question_id, job.order, prefill + text, name))
        assert chunk is not None
        tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        reason, thoughts = chunk.finish_reason, chunk.reasoning
        generation = Generation(shown.key, chunk.text, *tokens, reason, thoughts)  # type: ignore[arg-type]
        judgement = self._read(prefill + chunk.text, job, chunk.verdict_format)
        likelihood = _likelihood(chunk, len(shown.answers)) if expected else None
        return Judged(shown, job.order, asked.task, judgement, generation, chunk.cut, likelihood)

    def _read(self, text: str, job: _Job, verdict_format: str) -> Judgement:
        """In the form in which the worker says that it asks for verdicts."""
        return read_judgement(text, len(job.shown.answers), self.request.criteria, verdict_format)


def _likelihood(chunk: Chunk, num_answers: int) -> Likelihood:
    """Raises WorkerError for a worker that says nothing of it, or of other answers."""
    found = None if chunk.likely is None else chunk.likely.likelihood
    if found is None or len(found.expected) != num_answers or (found.outcomes is None) != (num_answers != 2):
        raise WorkerError("the worker does not say how likely the score lines are", ErrorCode.INTERNAL_ERROR)
    return found
