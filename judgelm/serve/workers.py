"""The workers behind a controller, as our page and our API ask them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from judgelm.engine import Sampling
from judgelm.prompt import render_followup, render_prompt
from judgelm.sample import Sample
from judgelm.serve.protocol import OUR_WORKER, Conversation, ErrorCode, SeparatorStyle, WorkerError

log = logging.getLogger(__name__)

_CONTROLLER_TIMEOUT_S = 30
_SILENCE_S = 300.0
_MOST_CHUNK_BYTES = 4 << 20


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    total_tokens: Annotated[int, Field(ge=0)] = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


class Chunk(BaseModel):
    """What a worker sends; FastChat's workers leave out some of it."""

    text: str
    error_code: int
    usage: Usage = Usage()
    finish_reason: str | None = None
    shortened: list[int] | None = None
    """tokens cut from each answer"""


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
        self._details: dict[str, dict[str, Any]] = {}

    async def close(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Names of all models. Raises WorkerError where the controller does not answer."""
        found = await self._ask_controller("/list_models")
        return sorted(str(name) for name in found.get("models", []))

    async def refresh(self) -> None:
        """Let the controller ask all workers whether they still live."""
        with contextlib.suppress(WorkerError):
            await self._ask_controller("/refresh_all_workers")

    async def stream(self, model: str, params: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Generate; each chunk holds the text so far, and the last one a finish reason.

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
        """FastChat's own workers cut the beginning of a prompt that leaves too little room, without a word."""
        if address not in self._details:
            self._details[address] = await self._ask(address + "/model_details", {"model": params["model"]})
        details = self._details[address]
        if OUR_WORKER in details:
            return params
        counted = await self._ask(address + "/count_token", params)
        count, context = counted.get("count"), details.get("context_length")
        if not isinstance(count, int) or not isinstance(context, int):
            raise WorkerError("the worker cannot count tokens", ErrorCode.INTERNAL_ERROR)
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
                *parts, rest = (rest + data).split(b"\0")
                if len(rest) > _MOST_CHUNK_BYTES:
                    raise WorkerError("the worker's answer is too long", ErrorCode.INTERNAL_ERROR)
                for part in filter(None, parts):
                    last = _read_chunk(part)
                    if last.error_code:
                        raise WorkerError(last.text, last.error_code)
                    yield last
            if response.status_code != 200 or last is None:
                raise WorkerError("the worker failed", ErrorCode.INTERNAL_ERROR)
        if last.finish_reason is None:
            yield last.model_copy(update={"finish_reason": "stop"})

    async def conversation(self, model: str) -> Any:
        """An empty conversation in the model's chat format."""
        for attempt in range(2):
            address = await self._address(model)
            try:
                asked = await self._ask(address + "/worker_get_conv_template", {"model": model})
                break
            except httpx.HTTPError:
                log.warning("worker %s cannot be reached", address)
                await self.refresh()
                if attempt:
                    raise WorkerError("the worker cannot be reached", ErrorCode.CONTROLLER_WORKER_TIMEOUT) from None
        conv = asked.get("conv", {})
        try:
            return Conversation(
                name=conv["name"],
                system_template=conv["system_template"],
                system_message=conv["system_message"],
                roles=conv["roles"],
                messages=list(conv["messages"]),
                offset=conv["offset"],
                sep_style=SeparatorStyle(conv["sep_style"]),
                sep=conv["sep"],
                sep2=conv["sep2"],
                stop_str=conv["stop_str"],
                stop_token_ids=conv["stop_token_ids"],
            )
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker has no chat format", ErrorCode.INTERNAL_ERROR) from None

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
        response = await self._http.post(url, json=body, timeout=_CONTROLLER_TIMEOUT_S)
        try:
            response.raise_for_status()
            answer = response.json()
        except ValueError:
            raise WorkerError("an answer of our own servers is not JSON", ErrorCode.INTERNAL_ERROR) from None
        return answer if isinstance(answer, dict) else {}


def _read_chunk(data: bytes) -> Chunk:
    try:
        return Chunk.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        raise WorkerError("the worker's answer cannot be read", ErrorCode.INTERNAL_ERROR) from None


def judgement_params(sample: Sample, task: str, sampling: Sampling, constrained: bool | None = None) -> dict[str, Any]:
    """A worker's body for a judgement: the prompt for FastChat's workers, the sample for ours.

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
