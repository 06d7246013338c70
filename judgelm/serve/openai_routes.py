"""OpenAI's completions and chat completions, from the workers of a controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from judgelm.serve.counters import Metrics
from judgelm.serve.openai_requests import ChatRequest, CompletionRequest
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.servers import describe
from judgelm.serve.together import Put, together
from judgelm.serve.worker_answers import Chunk, Usage
from judgelm.serve.worker_client import Workers
from judgelm.serve.worker_requests import GenerateParams

_AT_ONCE = 32
"""texts of one request that are generated at once"""
Chunks = AsyncGenerator[tuple[int, Chunk | None], None]
"""of all texts of a request, each with its text's number; None ends a text"""


def openai_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The routes, for an app."""
    router = APIRouter()

    @router.post(_ChatForm.route)
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format."""
        request.check_rest()
        messages = [{"role": speaker, "content": text} for speaker, text in request.turns]
        most = request.max_completion_tokens or request.max_tokens
        return await _complete(workers, metrics, request, most, [{"messages": messages}], _ChatForm(request.model))

    @router.post(_TextForm.route)
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        request.check_rest()
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        asked = [{"prompt": prompt, "echo": bool(request.echo)} for prompt in prompts]
        return await _complete(workers, metrics, request, request.max_tokens, asked, _TextForm(request.model))

    return router


class _Form:
    """The shapes of a route's answers."""

    route: str
    prefix: str
    whole: str
    part: str

    def __init__(self, model: str) -> None:
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def answer(self, choices: Sequence[tuple[str, str]], usage: Usage) -> dict[str, Any]:
        """All texts, each with its reason for ending."""
        made = [self.choice(index, text, reason) for index, (text, reason) in enumerate(choices)]
        return {**self.head, "object": self.whole, "choices": made, "usage": usage.model_dump()}

    def event(self, choice: dict[str, Any] | None, **more: Any) -> str:
        """A server-sent event."""
        choices = [] if choice is None else [choice]
        return _event({**self.head, "object": self.part, "choices": choices, **more})

    def choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        """A text, whole."""
        raise NotImplementedError

    def step(self, index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        """The next part of a text, or its end."""
        raise NotImplementedError

    def first(self, index: int) -> dict[str, Any] | None:
        """What comes before a text, if anything does."""
        return None


class _ChatForm(_Form):
    route, prefix = "/v1/chat/completions", "chatcmpl"
    whole, part = "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "finish_reason": reason, "logprobs": None}

    def step(self, index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return self._delta(index, {} if reason else {"content": text}, reason)

    def first(self, index: int) -> dict[str, Any] | None:
        return self._delta(index, {"role": "assistant", "content": ""}, None)

    def _delta(self, index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}


class _TextForm(_Form):
    route, prefix = "/v1/completions", "cmpl"
    whole = part = "text_completion"

    def choice(self, index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}

    step = choice


async def _complete(
    workers: Workers,
    metrics: Metrics,
    request: ChatRequest | CompletionRequest,
    max_tokens: int | None,
    prompts: Sequence[dict[str, Any]],
    form: _Form,
) -> Any:
    """Every prompt `n` times, whole or as server-sent events."""
    shared = {
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "max_new_tokens": max_tokens or 1_000_000,
        "stop": [request.stop] if isinstance(request.stop, str) else request.stop or [],
        "stop_token_ids": [],
        "echo": False,
    }
    asked = []
    for prompt in prompts:
        for copy in range(request.n or 1):
            # with a seed each copy has random numbers of its own, and the same ones next time
            seed = None if request.seed is None else (request.seed + copy + 2**63) % 2**64 - 2**63
            asked.append(_params({**shared, **prompt, "seed": seed}))
    chunks = _at_once([workers.stream(request.model, params) for params in asked])
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
    usage = Usage.total(chunk.usage for chunk in found.values())
    metrics.count(usage)
    return form.answer([(found[index].text, _reason(found[index])) for index in sorted(found)], usage)


def _params(given: dict[str, Any]) -> GenerateParams:
    try:
        return GenerateParams.model_validate(given)
    except ValidationError as error:
        # what an assistant called is longer as JSON than it was
        raise WorkerError(describe(error), ErrorCode.VALIDATION_TYPE_ERROR) from None


def _at_once(streams: Sequence[AsyncGenerator[Chunk, None]]) -> Chunks:
    """Chunks of all streams as they come. Raises WorkerError where one of them does."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(index: int, stream: AsyncGenerator[Chunk, None], put: Put[tuple[int, Chunk | None]]) -> None:
        async with places, contextlib.aclosing(stream):
            async for chunk in stream:
                await put((index, chunk))
        await put((index, None))

    return together([partial(one, index, stream) for index, stream in enumerate(streams)])


async def _events(chunks: Chunks, form: _Form, metrics: Metrics, wants_usage: bool) -> AsyncGenerator[str, None]:
    """Server-sent events. Raises WorkerError where nothing was sent yet; later on that is an event too."""
    last: dict[int, Chunk] = {}
    begun = False
    try:
        with metrics.timed(form.route):
            async with contextlib.aclosing(chunks):
                async for index, chunk in chunks:
                    before = last.get(index)
                    if before is None and (opening := form.first(index)) is not None:
                        begun = True
                        yield form.event(opening)
                    if chunk is None:
                        assert before is not None
                        metrics.count(before.usage)
                        yield form.event(form.step(index, "", _reason(before)))
                        continue
                    last[index] = chunk
                    if new := chunk.text[len(before.text) if before else 0 :]:
                        begun = True
                        yield form.event(form.step(index, new))
    except WorkerError as error:
        if not begun:
            raise
        said = {"message": str(error), "type": "server_error", "param": None, "code": "worker_lost"}
        yield _event({"error": said})
    else:
        if wants_usage:
            usage = Usage.total(chunk.usage for chunk in last.values())
            yield form.event(None, usage=usage.model_dump())
    yield "data: [DONE]\n\n"


async def _resume(first: str, events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    async with contextlib.aclosing(events):
        yield first
        async for event in events:
            yield event


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _reason(chunk: Chunk) -> str:
    return "length" if chunk.finish_reason == "length" else "stop"
