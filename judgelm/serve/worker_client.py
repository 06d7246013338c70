"""The workers behind a controller, as our page and our API ask them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from judgelm.engine.interface import Sampling
from judgelm.errors import one_line
from judgelm.prompt import render_followup, render_prompt
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.chat_format import ConversationFormat
from judgelm.serve.protocol import TOO_LARGE, Conversation, ErrorCode, SeparatorStyle, WorkerError
from judgelm.serve.servers import describe

log = logging.getLogger(__name__)

_CONTROLLER_TIMEOUT_S = 30
_SILENCE_S = 300.0
_MOST_CHUNK_BYTES = 4 << 20
_MOST_MESSAGE = 2000
_MOST_KNOWN = 1024


_Count = Annotated[int, Field(ge=0, le=2**48)]
_Short = Annotated[str, Field(max_length=1000)]
_Long = Annotated[str, Field(max_length=100_000)]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


class Chunk(BaseModel):
    """What a worker sends; FastChat's workers leave out some of it."""

    text: Annotated[str, Field(max_length=_MOST_CHUNK_BYTES)]
    error_code: Annotated[int, Field(ge=0, le=2**31)]
    usage: Usage = Usage()
    finish_reason: Annotated[str, Field(max_length=50)] | None = None
    shortened: Annotated[list[_Count], Field(max_length=MAX_ANSWERS)] | None = None
    """tokens cut from each answer"""


class Details(BaseModel):
    """What a worker says of its model; FastChat's say the first alone."""

    context_length: Annotated[int, Field(ge=1, le=2**40)] | None = None
    judgelm: _Short | None = None
    """the version of a worker of ours"""
    chat: bool = False
    """it takes a chat's messages and makes the prompt itself"""


class Counted(BaseModel):
    """The tokens of a prompt."""

    count: _Count


class ConversationOut(BaseModel):
    """FastChat's `Conversation`, as a worker sends it."""

    name: _Short
    system_template: _Long = "{system_message}"
    system_message: _Long = ""
    roles: Annotated[list[_Short], Field(min_length=2, max_length=2)]
    messages: Annotated[list[Annotated[list[_Long | None], Field(min_length=2, max_length=2)]], Field(max_length=100)]
    offset: Annotated[int, Field(ge=0, le=100)]
    sep_style: int
    sep: _Short = "\n"
    sep2: _Short | None = None
    stop_str: _Short | Annotated[list[_Short], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[_Count], Field(max_length=16)] | None = None


class Workers:
    """All workers that one controller knows.

    Args:
        silence_s: a worker that sends nothing for so long is given up; a request may wait in its queue.
    """

    def __init__(self, controller: str, silence_s: float = _SILENCE_S) -> None:
        self.controller = controller
        timeout = httpx.Timeout(silence_s, connect=5, pool=None)
        # let go of before a worker closes them, FastChat's after 5 s
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2)
        # no proxy from the environment: these are our own machines
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        self._details: dict[str, Details] = {}

    async def close(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Names of all models. Raises WorkerError where the controller does not answer."""
        return _names(await self._ask_controller("/list_models"))

    async def missing(self) -> list[str]:
        """The models of workers that went away without a word; a controller of FastChat's does not know."""
        try:
            return _names(await self._ask(self.controller + "/list_missing_models", None))
        except (httpx.HTTPError, WorkerError):
            return []

    async def refresh(self) -> None:
        """Let the controller ask all workers whether they still live."""
        with contextlib.suppress(WorkerError):
            await self._ask_controller("/refresh_all_workers")

    async def stream(self, model: str, params: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Generate; each chunk holds the text so far, and the last one a finish reason.

        Args:
            params: a worker's body, whose prompt may also be a chat's "messages", or a "sample" beside the prompt.

        A worker that cannot be reached, or goes away before its first word, is passed over for another one. Raises
        WorkerError.
        """
        begun = False
        for attempt in range(2):
            try:
                address = await self._address(model)
            except WorkerError:
                if not attempt:
                    raise
                raise WorkerError(
                    f"the worker went away, and no other serves {model}", ErrorCode.CONTROLLER_WORKER_TIMEOUT
                ) from None
            try:
                fitted = await self._fit(address, {"model": model, **params})
                async with contextlib.aclosing(self._stream_from(address, fitted)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
                log.warning("worker %s: %s", address, type(error).__name__)
                self._details.pop(address, None)
                await self.refresh()
                if begun:
                    raise WorkerError(
                        "the worker went away before the text was complete", ErrorCode.CONTROLLER_WORKER_TIMEOUT
                    ) from None
                if attempt:
                    raise WorkerError("the worker cannot be reached", ErrorCode.CONTROLLER_WORKER_TIMEOUT) from None
            except httpx.HTTPError as error:
                log.warning("worker %s: %s", address, type(error).__name__)
                await self.refresh()
                raise WorkerError(
                    "the worker went away before the text was complete", ErrorCode.CONTROLLER_WORKER_TIMEOUT
                ) from None

    async def _fit(self, address: str, params: dict[str, Any]) -> dict[str, Any]:
        """The body that this worker understands, with each text in it once.

        FastChat's own workers cut the beginning of a prompt that leaves too little room, without a word.
        """
        details = await self._details_of(address, params["model"])
        if details.judgelm is not None:
            if "sample" in params:
                return {name: value for name, value in params.items() if name != "prompt"}
            if "messages" not in params or details.chat:
                return params
        if "messages" in params:
            params = await self._as_prompt(address, params)
        if details.judgelm is not None:
            return params
        params = {name: value for name, value in params.items() if name != "sample"}
        count = _read(Counted, await self._ask(address + "/count_token", params)).count
        context = details.context_length
        if context is None:
            raise WorkerError("the worker does not say how long its context is", ErrorCode.INTERNAL_ERROR)
        room = context - count - 2
        if room < 1:
            raise WorkerError(
                f"the prompt has {count} tokens, the model's context {context}", ErrorCode.CONTEXT_OVERFLOW
            )
        return params | {"max_new_tokens": min(params["max_new_tokens"], room)}

    async def _stream_from(self, address: str, params: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        last: Chunk | None = None
        async with self._http.stream("POST", address + "/worker_generate_stream", json=params) as response:
            rest = b""
            async for data in response.aiter_bytes():
                if response.status_code != 200:
                    break
                *parts, rest = (rest + data).split(b"\0")
                if len(rest) > _MOST_CHUNK_BYTES:
                    raise WorkerError("the worker's answer is too long", ErrorCode.INTERNAL_ERROR)
                for part in filter(None, parts):
                    last = _read_chunk(part)
                    if last.error_code:
                        raise WorkerError(one_line(last.text)[:_MOST_MESSAGE], last.error_code)
                    yield last
            if response.status_code == 413:
                raise WorkerError("the request is larger than the worker takes", TOO_LARGE)
            if response.status_code != 200 or last is None:
                raise WorkerError("the worker failed", ErrorCode.INTERNAL_ERROR)
        if last.finish_reason is None:
            yield last.model_copy(update={"finish_reason": "stop"})

    async def _details_of(self, address: str, model: str) -> Details:
        found = self._details.get(address)
        if found is None:
            found = _read(Details, await self._ask(address + "/model_details", {"model": model}))
            if len(self._details) >= _MOST_KNOWN:
                self._details.clear()
            self._details[address] = found
        return found

    async def _as_prompt(self, address: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A chat for a worker that takes prompts alone, in the format that it names."""
        asked = await self._ask(address + "/worker_get_conv_template", {"model": params["model"]})
        given = _read(ConversationOut, asked.get("conv"))
        try:
            style = SeparatorStyle(given.sep_style)
            chat = ConversationFormat(Conversation(**(given.model_dump() | {"sep_style": style})))
            prompt = chat.render(params["messages"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise WorkerError("the worker has no chat format", ErrorCode.INTERNAL_ERROR) from None
        rest = {name: value for name, value in params.items() if name != "messages"}
        stops = {
            "stop": [*(params["stop"] or []), *prompt.stop] or None,
            "stop_token_ids": [*(params["stop_token_ids"] or []), *prompt.stop_token_ids],
        }
        return rest | {"prompt": prompt.text} | stops

    async def _address(self, model: str) -> str:
        address = (await self._ask_controller("/get_worker_address", {"model": model})).get("address")
        if not isinstance(address, str) or not address:
            models = await self.models()
            there = ", ".join(models) or "none"
            if model in models:
                raise WorkerError(f"no worker of model {model} is alive", ErrorCode.CONTROLLER_NO_WORKER)
            raise WorkerError(f"unknown model {model}; models served: {there}", ErrorCode.INVALID_MODEL)
        return address

    async def _ask_controller(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await self._ask(self.controller + path, body)
        except httpx.HTTPError:
            raise WorkerError("the controller does not answer", ErrorCode.CONTROLLER_NO_WORKER) from None

    async def _ask(self, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        content = b""
        async with self._http.stream("POST", url, json=body, timeout=_CONTROLLER_TIMEOUT_S) as response:
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MOST_CHUNK_BYTES:
                    raise WorkerError("an answer of our own servers is too long", ErrorCode.INTERNAL_ERROR)
        if response.status_code == 413:
            raise WorkerError("the request is larger than the worker takes", TOO_LARGE)
        try:
            response.raise_for_status()
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise WorkerError("an answer of our own servers is not JSON", ErrorCode.INTERNAL_ERROR) from None
        return answer if isinstance(answer, dict) else {}


def _names(found: Mapping[str, Any]) -> list[str]:
    names = found.get("models")
    return sorted(name for name in names if isinstance(name, str)) if isinstance(names, list) else []


_Answer = TypeVar("_Answer", bound=BaseModel)


def _read(kind: type[_Answer], answer: Any) -> _Answer:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise WorkerError(f"the worker's answer cannot be read: {describe(error)}", ErrorCode.INTERNAL_ERROR) from None


def _read_chunk(data: bytes) -> Chunk:
    try:
        return Chunk.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        raise WorkerError("the worker's answer cannot be read", ErrorCode.INTERNAL_ERROR) from None


def judgement_params(sample: Sample, task: str, sampling: Sampling, constrained: bool | None = None) -> dict[str, Any]:
    """A worker's body for a judgement: the prompt for FastChat's workers, the sample for ours; see `Workers.stream`.

    Raises ValueError where the sample does not fit the task.
    """
    params = _params(sampling) | {"prompt": render_prompt(sample, task), "sample": _given(sample, task)}
    return params if constrained is None else params | {"constrained": constrained}


def followup_params(
    sample: Sample,
    task: str,
    judgement: str,
    turns: Sequence[tuple[str, str]],
    question: str,
    sampling: Sampling,
) -> dict[str, Any]:
    """The same for a further question about a judgement; `judgement` is what was written after the prompt."""
    asked = {
        "judgement": judgement,
        "turns": [{"question": q, "reply": r} for q, r in turns],
        "followup": question,
    }
    prompt = render_followup(render_prompt(sample, task), judgement, turns, question)
    return _params(sampling) | {"prompt": prompt, "sample": _given(sample, task) | asked}


def _params(sampling: Sampling) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_new_tokens,
        "stop": list(sampling.stop) or None,
        "stop_token_ids": list(sampling.stop_token_ids),
        "most_thoughts": sampling.most_thoughts,
        "seed": sampling.seed,
        "echo": False,
    }


def _given(sample: Sample, task: str) -> dict[str, Any]:
    return {
        "question": sample.question,
        "answers": list(sample.answers),
        "reference": sample.reference,
        "task": task,
        "seed_key": sample.key,
    }
