"""POST /v1/judgements, from the workers of a controller."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from judgelm.jsonl import dump_line
from judgelm.serve.api_errors import worker_error
from judgelm.serve.counters import Metrics
from judgelm.serve.judgement_requests import JudgementRequest, Result, ResultOut
from judgelm.serve.judgements import Written, judge_through
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.servers import resume
from judgelm.serve.worker_answers import Usage
from judgelm.serve.worker_client import Workers

ROUTE = "/v1/judgements"
Events = AsyncGenerator[Written | tuple[int, ResultOut], None]
"""texts as they grow, and each sample's place with its result"""


class JudgementResponse(BaseModel):
    """All samples, in the order they were given."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ResultOut]
    usage: Usage


def judgement_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The route, for an app."""
    router = APIRouter()

    @router.post(ROUTE, response_model=JudgementResponse, responses={200: {"content": {"application/x-ndjson": {}}}})
    async def judgements(request: JudgementRequest) -> Any:
        """Judge samples, in one order or both."""
        head: dict[str, Any] = {"id": f"judgement-{uuid.uuid4().hex}", "created": int(time.time())}
        # a mistake must be told before a stream begins
        request.check()
        head["model"] = await choose_model(workers, request.model)
        events = count_results(workers, request.model_copy(update={"model": head["model"]}), metrics)
        if request.stream:
            events = resume(await anext(events), events)
            return StreamingResponse(_ndjson(events, head), media_type="application/x-ndjson")
        async with contextlib.aclosing(events):
            results = dict([event async for event in events if not isinstance(event, Written)])
        data = [results[index] for index in sorted(results)]
        return JudgementResponse(**head, data=data, usage=total_usage(data))

    return router


async def choose_model(workers: Workers, name: str | None) -> str:
    """The model asked for, or the only one. Raises WorkerError."""
    if name:
        return name
    models = await workers.models()
    if len(models) == 1:
        return models[0]
    if not models:
        raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
    raise WorkerError(f"'model' is missing; models served: {', '.join(models)}", ErrorCode.VALIDATION_TYPE_ERROR)


async def count_results(workers: Workers, request: JudgementRequest, metrics: Metrics, route: str = ROUTE) -> Events:
    """What comes of a request that was checked and names its model, counted as the route's."""
    with metrics.timed(route):
        async with contextlib.aclosing(judge_through(workers, request)) as events:
            async for event in events:
                if not isinstance(event, Result):
                    yield event
                    continue
                result = ResultOut.of(event)
                for judgement in result.judgements:
                    metrics.count(judgement.usage)
                    metrics.judgements.labels(judgement.parse).inc()
                yield event.index, result


async def _ndjson(events: Events, head: dict[str, Any]) -> AsyncIterator[str]:
    results: list[ResultOut] = []
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Written):
                    yield dump_line({"event": "text", **event.to_record()})
                    continue
                index, result = event
                results.append(result)
                yield dump_line({"event": "result", "index": index, "result": result.model_dump()})
    except WorkerError as error:
        yield dump_line({"event": "error", "error": worker_error(error).model_dump()})
        return
    yield dump_line({"event": "done", **head, "usage": total_usage(results).model_dump()})


def total_usage(results: Iterable[ResultOut]) -> Usage:
    """Of all judgements."""
    return Usage.total(judgement.usage for result in results for judgement in result.judgements)
