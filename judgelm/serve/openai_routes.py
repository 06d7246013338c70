"""OpenAI's completions, chat completions and responses, from the workers of a controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from judgelm.serve.api_errors import worker_error
from judgelm.serve.counters import Metrics
from judgelm.serve.judgement_chat import AskedJudgement, judge_chat
from judgelm.serve.openai_answers import CHAT, JSON, TEXT, ChatForm, Form, TextForm
from judgelm.serve.openai_requests import ChatRequest, CompletionRequest, UnsupportedField
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.responses_answers import RESPONSES, ResponseForm
from judgelm.serve.responses_requests import ResponseRequest
from judgelm.serve.servers import describe, resume
from judgelm.serve.worker_answers import Chunk, Usage
from judgelm.serve.worker_client import Workers, together
from judgelm.serve.worker_requests import GenerateParams

_Step = tuple[int, Chunk | None]
"""a chunk with its text's number among those of the request; None ends a text"""
Chunks = AsyncGenerator[_Step, None]
_Request = ChatRequest | CompletionRequest | ResponseRequest
_MOST_LOGPROBS = 1_000_000
"""numbers of one answer, which are held until it is whole"""


def openai_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The routes, for an app."""
    router, source = APIRouter(), _Source(workers, metrics)

    @router.post(CHAT)
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format: a text, JSON of a schema, or a judgement in JSON of
        a schema.
        """
        request.check_rest()
        form = ChatForm(request.model, _wants_usage(request), request.wanted, request.num_logprobs or 0)
        return await source.answer_chat(form, request)

    @router.post(TEXT)
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        request.check_rest()
        shared = {"echo": bool(request.echo), "logprobs": request.logprobs}
        asked = [prompt | shared for prompt in request.prompts]
        form = TextForm(request.model, _wants_usage(request))
        return await source.answer(form, request, source.texts(request, asked))

    @router.post(RESPONSES)
    async def respond(request: ResponseRequest) -> Any:
        """OpenAI's response, as a chat completion is made."""
        request.check_rest()
        return await source.answer_chat(ResponseForm(request), request)

    return router


def _wants_usage(request: ChatRequest | CompletionRequest) -> bool:
    return bool(request.stream_options and request.stream_options.include_usage)


def _total(ended: Mapping[int, Chunk], copies: int) -> Usage:
    """Of all texts; a prompt counts once, however many continue it."""
    prompts = sum(chunk.usage.prompt_tokens for index, chunk in ended.items() if index % copies == 0)
    return Usage.of(prompts, sum(chunk.usage.completion_tokens for chunk in ended.values()))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where texts come from."""

    workers: Workers
    metrics: Metrics

    async def answer_chat(self, form: Form, request: ChatRequest | ResponseRequest) -> Any:
        """Continue a chat, or judge what its messages hold."""
        turns, wanted = request.turns, request.wanted
        judged = None if wanted is None else AskedJudgement.find(turns, wanted)
        if judged is not None:
            return await self.answer(form, request, self.judgement(request, judged))
        messages = [{"role": speaker, "content": text} for speaker, text in turns]
        schema = None if wanted is None else json.dumps(wanted.schema or {"type": "object"})
        prompt = {"messages": messages, "logprobs": request.num_logprobs, "json_schema": schema}
        return await self.answer(form, request, self.texts(request, [prompt]))

    def texts(self, request: _Request, prompts: Sequence[JSON]) -> Chunks:
        """Every prompt `n` times."""
        shared = {
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "max_new_tokens": 1_000_000 if request.most_tokens is None else request.most_tokens,
            "stop": request.stop or [],
            "stop_token_ids": [],
            "echo": False,
            "logprobs_in_parts": bool(request.stream),
        }
        seed, copies = request.seed, request.n or 1
        # with a seed each copy has random numbers of its own, and the same ones next time
        seeds = [None if seed is None else (seed + copy + 2**63) % 2**64 - 2**63 for copy in range(copies)]
        try:
            asked = [
                GenerateParams.model_validate({**shared, **prompt, "seed": seed})
                for prompt in prompts
                for seed in seeds
            ]
        except ValidationError as error:
            # what an assistant called is longer as JSON than it was
            raise WorkerError(describe(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        return _at_once([self.workers.stream(request.model, params) for params in asked])

    def judgement(self, request: ChatRequest | ResponseRequest, judged: AskedJudgement) -> Chunks:
        """One text. Raises UnsupportedField for what a judgement does not have."""
        given = {"n": request.n not in (None, 1), "stop": request.stop, "logprobs": request.num_logprobs is not None}
        for name, is_asked in given.items():
            if is_asked:
                raise UnsupportedField(name, "of a judgement")
        # a client that says nothing gets what it gets from /v1/judgements
        names = {"temperature", "top_p", "seed"}
        settings = request.model_dump(include=names, exclude_unset=True, exclude_none=True)
        settings |= {} if request.most_tokens is None else {"max_new_tokens": request.most_tokens}
        return _at_once([judge_chat(self.workers, judged, request.model, settings, self.metrics)])

    async def answer(self, form: Form, request: _Request, chunks: Chunks) -> Any:
        """Whole or as server-sent events."""
        if request.stream:
            events = self._events(chunks, form, request.n or 1)
            events = resume(await anext(events), events)
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        found: dict[int, Chunk] = {}
        room = _MOST_LOGPROBS
        with self.metrics.timed(form.route):
            async with contextlib.aclosing(chunks):
                async for index, chunk in chunks:
                    if chunk is None:
                        self.metrics.count(found[index].usage)
                        room -= found[index].num_logprobs
                    else:
                        found[index] = chunk
                    if room < 0:
                        problem = f"logprobs: more than {_MOST_LOGPROBS:,} for one request; ask for fewer at once"
                        raise WorkerError(problem, ErrorCode.VALIDATION_TYPE_ERROR)
        return form.answer([found[index] for index in sorted(found)], _total(found, request.n or 1))

    async def _events(self, chunks: Chunks, form: Form, copies: int) -> AsyncGenerator[str, None]:
        """Server-sent events. Raises WorkerError where nothing was sent yet; later on that is an event too."""
        last: dict[int, Chunk] = {}
        begun = False
        try:
            with self.metrics.timed(form.route):
                async with contextlib.aclosing(chunks):
                    async for index, chunk in chunks:
                        for event in _write(form, index, chunk, last):
                            begun = True
                            yield event
                        if chunk is None:
                            self.metrics.count(last[index].usage)
        except WorkerError as error:
            if not begun:
                raise
            for event in form.error(worker_error(error)):
                yield event
            return
        for event in form.finish(_total(last, copies)):
            yield event


def _write(form: Form, index: int, chunk: Chunk | None, last: dict[int, Chunk]) -> list[str]:
    """The events of a step; `last` has the newest chunk of each text."""
    before = last.get(index)
    if chunk is None:
        assert before is not None
        return list(form.end(index, before))
    last[index] = chunk
    new = chunk.text[len(before.text) if before else 0 :]
    # in this order, as events have numbers
    begun = list(form.begin(index, chunk)) if before is None else []
    return [*begun, form.step(index, new, chunk)] if new or chunk.logprobs else begun


def _at_once(streams: Sequence[AsyncGenerator[Chunk, None]]) -> Chunks:
    """Chunks of all streams as they come. Raises WorkerError where one of them does."""

    async def one(index: int, stream: AsyncGenerator[Chunk, None], queue: asyncio.Queue[_Step]) -> None:
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                await queue.put((index, chunk))
        await queue.put((index, None))

    return together([partial(one, index, stream) for index, stream in enumerate(streams)])
