"""OpenAI's completions and chat completions, from the workers of a controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from judgelm.serve.counters import Metrics
from judgelm.serve.openai_requests import ChatRequest, CompletionRequest
from judgelm.serve.protocol import WorkerError
from judgelm.serve.worker_client import Chunk, Usage, Workers

_AT_ONCE = 32
"""texts of one request that are generated at once"""


def openai_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The routes, for an app."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format."""
        request.check_rest()
        messages = [{"role": speaker, "content": text} for speaker, text in request.turns]
        most = request.max_completion_tokens or request.max_tokens
        params = _sampling_params(request, most) | {"messages": messages}
        return await _complete(workers, metrics, request, [params], _ChatForm(request.model))

    @router.post("/v1/completions")
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        request.check_rest()
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        shared = _sampling_params(request, request.max_tokens) | {"echo": bool(request.echo)}
        params = [shared | {"prompt": prompt} for prompt in prompts]
        return await _complete(workers, metrics, request, params, _TextForm(request.model))

    return router


def _sampling_params(request: ChatRequest | CompletionRequest, max_tokens: int | None) -> dict[str, Any]:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return {
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "max_new_tokens": max_tokens or 1_000_000,
        "stop": stop,
        "stop_token_ids": [],
        "seed": request.seed,
        "echo": False,
    }


class _ChatForm:
    """The shapes of /v1/chat/completions."""

    route = "/v1/chat/completions"

    def __init__(self, model: str) -> None:
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, choices: list[tuple[str, str]], usage: Usage) -> dict[str, Any]:
        made = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": reason,
                "logprobs": None,
            }
            for index, (text, reason) in enumerate(choices)
        ]
        return {**self.head, "object": "chat.completion", "choices": made, "usage": usage.model_dump()}

    def first(self, index: int) -> dict[str, Any] | None:
        return self._chunk(index, {"role": "assistant", "content": ""}, None)

    def step(self, index: int, text: str) -> dict[str, Any]:
        return self._chunk(index, {"content": text}, None)

    def last(self, index: int, reason: str) -> dict[str, Any]:
        return self._chunk(index, {}, reason)

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": usage.model_dump()}

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}


class _TextForm:
    """The shapes of /v1/completions."""

    route = "/v1/completions"

    def __init__(self, model: str) -> None:
        self.head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: list[tuple[str, str]], usage: Usage) -> dict[str, Any]:
        made = [self._choice(index, text, reason) for index, (text, reason) in enumerate(choices)]
        return {**self.head, "choices": made, "usage": usage.model_dump()}

    def first(self, index: int) -> dict[str, Any] | None:
        return None

    def step(self, index: int, text: str) -> dict[str, Any]:
        return {**self.head, "choices": [self._choice(index, text, None)]}

    def last(self, index: int, reason: str) -> dict[str, Any]:
        return {**self.head, "choices": [self._choice(index, "", reason)]}

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {**self.head, "choices": [], "usage": usage.model_dump()}

    def _choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}


async def _complete(
    workers: Workers,
    metrics: Metrics,
    request: ChatRequest | CompletionRequest,
    prompts: Sequence[dict[str, Any]],
    form: _ChatForm | _TextForm,
) -> Any:
    """Every prompt `n` times, whole or as server-sent events."""
    asked = []
    for params in prompts:
        for copy in range(request.n or 1):
            # with a seed each copy has random numbers of its own, and the same ones next time
            seed = None if request.seed is None else (request.seed + copy + 2**63) % 2**64 - 2**63
            asked.append(params | {"seed": seed})
    chunks = _together([workers.stream(request.model, params) for params in asked])
    if request.stream:
        wants_usage = bool(request.stream_options and request.stream_options.include_usage)
        events = _events(chunks, form, metrics, wants_usage)
        # the first event is waited for: until then a refusal still has its own status
        first = await anext(events)
        return StreamingResponse(
            _resume(first, events), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
    found: dict[int, Chunk] = {}
    with metrics.timed(form.route):
        async with contextlib.aclosing(chunks):
            async for index, chunk in chunks:
                found[index] = chunk or found[index]
    usage = Usage()
    for chunk in found.values():
        metrics.count(chunk.usage)
        usage += chunk.usage
    whole = [(found[index].text, _openai_reason(found[index].finish_reason)) for index in sorted(found)]
    return form.whole(whole, usage)


async def _together(streams: Sequence[AsyncGenerator[Chunk, None]]) -> AsyncGenerator[tuple[int, Chunk | None], None]:
    """Chunks of all streams as they come, each with its stream's number; None ends a stream.

    Raises WorkerError where one of them does.
    """
    queue: asyncio.Queue[tuple[int, Chunk | None] | Exception] = asyncio.Queue(maxsize=64)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(index: int, stream: AsyncGenerator[Chunk, None]) -> None:
        async with places, contextlib.aclosing(stream):
            async for chunk in stream:
                await queue.put((index, chunk))
        await queue.put((index, None))

    async def everything() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index, stream in enumerate(streams):
                    group.create_task(one(index, stream))
        except ExceptionGroup as errors:
            await queue.put(errors.exceptions[0])

    task = asyncio.create_task(everything())
    try:
        left = len(streams)
        while left:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            left -= item[1] is None
            yield item
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _events(
    chunks: AsyncGenerator[tuple[int, Chunk | None], None],
    form: _ChatForm | _TextForm,
    metrics: Metrics,
    wants_usage: bool,
) -> AsyncGenerator[str, None]:
    """Server-sent events. Raises WorkerError where nothing was sent yet; later on that is an event too."""
    total, begun = Usage(), False
    last: dict[int, Chunk] = {}
    with metrics.timed(form.route):
        try:
            async with contextlib.aclosing(chunks):
                async for index, chunk in chunks:
                    before = last.get(index)
                    if before is None and (opening := form.first(index)) is not None:
                        begun = True
                        yield _event(opening)
                    if chunk is None:
                        assert before is not None
                        metrics.count(before.usage)
                        total += before.usage
                        yield _event(form.last(index, _openai_reason(before.finish_reason)))
                        continue
                    sent = len(before.text) if before else 0
                    last[index] = chunk
                    if len(chunk.text) > sent:
                        begun = True
                        yield _event(form.step(index, chunk.text[sent:]))
        except WorkerError as error:
            if not begun:
                raise
            yield _event(
                {"error": {"message": str(error), "type": "server_error", "param": None, "code": "worker_lost"}}
            )
            yield "data: [DONE]\n\n"
            return
    if wants_usage:
        yield _event(form.usage(total))
    yield "data: [DONE]\n\n"


async def _resume(first: str, events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    async with contextlib.aclosing(events):
        yield first
        async for event in events:
            yield event


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _openai_reason(reason: str | None) -> str:
    return "length" if reason == "length" else "stop"
