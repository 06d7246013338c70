"""OpenAI's completions and chat completions, from the workers of a controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StringConstraints

from judgelm.serve.judging import Name, Text
from judgelm.serve.metrics import Metrics
from judgelm.serve.protocol import WorkerError
from judgelm.serve.workers import Chunk, Usage, Workers


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """OpenAI's stream_options."""

    include_usage: bool = False


class _Completion(BaseModel):
    model: Name
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = 1.0
    stop: (
        Annotated[str, StringConstraints(max_length=200)]
        | Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=16)]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=8)] | None = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class ChatRequest(_Completion):
    """OpenAI's chat completion, as far as a judge can answer it; other fields are passed over."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class CompletionRequest(_Completion):
    """OpenAI's completion: the prompt goes to the model as it is."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = 16
    echo: bool | None = False


def openai_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The routes, for an app."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format."""
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        most = request.max_completion_tokens or request.max_tokens
        params = _sampling_params(request, most) | {"messages": messages}
        return await _complete(workers, metrics, request, [params], _ChatForm(request.model))

    @router.post("/v1/completions")
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        shared = _sampling_params(request, request.max_tokens) | {"echo": bool(request.echo)}
        params = [shared | {"prompt": prompt} for prompt in prompts]
        return await _complete(workers, metrics, request, params, _TextForm(request.model))

    return router


def _sampling_params(request: _Completion, max_tokens: int | None) -> dict[str, Any]:
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
            seed = None if request.seed is None else request.seed + copy
            asked.append(params | {"seed": seed})
    if request.stream:
        wants_usage = bool(request.stream_options and request.stream_options.include_usage)
        events = _events([workers.stream(request.model, params) for params in asked], form, metrics, wants_usage)
        # the first event is waited for: until then a refusal still has its own status
        first = await anext(events)
        return StreamingResponse(
            _resume(first, events), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )

    async def one(params: dict[str, Any]) -> Chunk:
        async with contextlib.aclosing(workers.stream(request.model, params)) as chunks:
            async for chunk in chunks:
                last = chunk
        metrics.count(last.usage)
        return last

    with metrics.timed("completions"):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(params)) for params in asked]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    found = [task.result() for task in tasks]
    usage = Usage()
    for chunk in found:
        usage += chunk.usage
    return form.whole([(chunk.text, _openai_reason(chunk.finish_reason)) for chunk in found], usage)


async def _events(
    streams: Sequence[AsyncGenerator[Chunk, None]], form: _ChatForm | _TextForm, metrics: Metrics, wants_usage: bool
) -> AsyncGenerator[str, None]:
    """Server-sent events. Raises WorkerError where nothing was sent yet; later on that is an event too."""
    total, begun = Usage(), False
    with metrics.timed("completions"):
        try:
            for index, stream in enumerate(streams):
                sent, opening = 0, form.first(index)
                async with contextlib.aclosing(stream):
                    async for chunk in stream:
                        if opening is not None:
                            begun = True
                            yield _event(opening)
                            opening = None
                        if len(chunk.text) > sent:
                            begun = True
                            yield _event(form.step(index, chunk.text[sent:]))
                            sent = len(chunk.text)
                metrics.count(chunk.usage)
                total += chunk.usage
                yield _event(form.last(index, _openai_reason(chunk.finish_reason)))
        except WorkerError as error:
            if not begun:
                raise
            yield _event({"error": {"message": str(error), "type": "server_error", "code": "worker_lost"}})
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
