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
from judgelm.serve.worker_answers import Chunk, Usage
from judgelm.serve.worker_client import Workers, together
from judgelm.serve.worker_requests import GenerateParams

_CHAT = "/v1/chat/completions"
_TEXT = "/v1/completions"
_Step = tuple[int, Chunk | None]
"""a chunk with its text's number among those of the request; None ends a text"""
Chunks = AsyncGenerator[_Step, None]


def openai_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The routes, for an app."""
    router = APIRouter()

    @router.post(_CHAT)
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format."""
        request.check_rest()
        messages = [{"role": speaker, "content": text} for speaker, text in request.turns]
        most = request.max_completion_tokens or request.max_tokens
        return await _complete(workers, metrics, request, most, [{"messages": messages}])

    @router.post(_TEXT)
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        request.check_rest()
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        shared = {"echo": bool(request.echo), "logprobs": request.logprobs}
        asked = [{"prompt": prompt, **shared} for prompt in prompts]
        return await _complete(workers, metrics, request, request.max_tokens, asked)

    return router


class _Form:
    """The shapes of a route's answers: those of chats, or of texts."""

    def __init__(self, model: str, chat: bool) -> None:
        self.chat = chat
        self.route = _CHAT if chat else _TEXT
        self.object = "chat.completion" if chat else "text_completion"
        name = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.head = {"id": name, "created": int(time.time()), "model": model}

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> dict[str, Any]:
        """All texts, each with its reason for ending."""
        choices = [
            _choice(
                k, {"message": {"role": "assistant", "content": one.text}} if self.chat else {"text": one.text}, one
            )
            for k, one in enumerate(chunks)
        ]
        return {**self.head, "object": self.object, "choices": choices, "usage": usage.model_dump()}

    def event(self, *choices: dict[str, Any], **more: Any) -> str:
        kind = f"{self.object}.chunk" if self.chat else self.object
        return _event({**self.head, "object": kind, "choices": choices, **more})

    def first(self, index: int) -> str:
        """The event before a chat's text."""
        return self.event(_choice(index, {"delta": {"role": "assistant", "content": ""}}))

    def step(self, index: int, text: str, ended: Chunk | None = None) -> str:
        """The event of the next part of a text, or of its end."""
        delta = {"content": text} if ended is None else {}
        return self.event(_choice(index, {"delta": delta} if self.chat else {"text": text}, ended))


def _choice(index: int, said: dict[str, Any], ended: Chunk | None = None) -> dict[str, Any]:
    reason = None if ended is None else "length" if ended.finish_reason == "length" else "stop"
    logprobs = None if ended is None or ended.logprobs is None else ended.logprobs.model_dump()
    return {"index": index, **said, "finish_reason": reason, "logprobs": logprobs}


async def _complete(
    workers: Workers,
    metrics: Metrics,
    request: ChatRequest | CompletionRequest,
    max_tokens: int | None,
    prompts: Sequence[dict[str, Any]],
) -> Any:
    """Every prompt `n` times, whole or as server-sent events."""
    shared = {
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "max_new_tokens": max_tokens or 1_000_000,
        "stop": request.stop or [],
        "stop_token_ids": [],
        "echo": False,
    }
    # with a seed each copy has random numbers of its own, and the same ones next time
    seeds = [
        None if request.seed is None else (request.seed + copy + 2**63) % 2**64 - 2**63
        for copy in range(request.n or 1)
    ]
    try:
        asked = [
            GenerateParams.model_validate({**shared, **prompt, "seed": seed}) for prompt in prompts for seed in seeds
        ]
    except ValidationError as error:
        # what an assistant called is longer as JSON than it was
        raise WorkerError(describe(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
    chunks = _at_once([workers.stream(request.model, params) for params in asked])
    form = _Form(request.model, isinstance(request, ChatRequest))
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
    return form.answer([found[index] for index in sorted(found)], usage)


def _at_once(streams: Sequence[AsyncGenerator[Chunk, None]]) -> Chunks:
    """Chunks of all streams as they come. Raises WorkerError where one of them does."""

    async def one(index: int, stream: AsyncGenerator[Chunk, None], queue: asyncio.Queue[_Step]) -> None:
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                await queue.put((index, chunk))
        await queue.put((index, None))

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
                    if before is None and form.chat:
                        begun = True
                        yield form.first(index)
                    if chunk is None:
                        assert before is not None
                        metrics.count(before.usage)
                        yield form.step(index, "", before)
                        continue
                    last[index] = chunk
                    if new := chunk.text[len(before.text) if before else 0 :]:
                        begun = True
                        yield form.step(index, new)
    except WorkerError as error:
        if not begun:
            raise
        said = {"message": str(error), "type": "server_error", "param": None, "code": "worker_lost"}
        yield _event({"error": said})
    else:
        if wants_usage:
            yield form.event(usage=Usage.total(chunk.usage for chunk in last.values()).model_dump())
    yield "data: [DONE]\n\n"


async def _resume(first: str, events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    async with contextlib.aclosing(events):
        yield first
        async for event in events:
            yield event


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
