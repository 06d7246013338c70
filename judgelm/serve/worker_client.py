"""The client of the controller and its workers, in FastChat's protocol: who has a model, and many requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from judgelm.calibration import Calibration
from judgelm.errors import one_line
from judgelm.serve.chat import ConversationFormat
from judgelm.serve.protocol import TOO_LARGE, Conversation, ErrorCode, SeparatorStyle, WorkerError
from judgelm.serve.servers import certificates
from judgelm.serve.worker_answers import (
    MOST_CHUNK_BYTES,
    Chunk,
    ConversationOut,
    Counted,
    Details,
    read_answer,
    read_chunk,
    read_names,
)
from judgelm.serve.worker_counts import ListedWorker, WorkerCounts, WorkerList
from judgelm.serve.worker_requests import GenerateParams

log = logging.getLogger(__name__)

_CONTROLLER_TIMEOUT_S = 30
_DETAILS_S = 5
_COUNTS_S = 2
_SILENCE_S = 300.0
_MOST_MESSAGE = 2000
_MOST_KNOWN = 1024
_KNOWN_S = 10
"""for which what a worker says of itself is taken to hold: another one may have its address by then"""
_AT_ONCE = 32
_MOST_UNREAD = 64
"""found by jobs and not read yet: they wait while the reader is slow"""
_NOT_EXPECTED = "the model's worker cannot read probabilities, as FastChat's and older ones of ours, and some models"
_NOT_FORMS = (
    "the model's worker is FastChat's or an older one of ours: it takes no token ids, no max_tokens of 0, no echo with"
    " logprobs, and no JSON of a schema"
)
_T = TypeVar("_T")


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
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, verify=certificates())
        self._details: dict[str, tuple[float, Details]] = {}
        """with the time at which it was said"""
        self._places: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()

    def limited(self, most_streams: int) -> Workers:
        """The same workers, of whom so many streams are asked at once; others wait."""
        found = copy.copy(self)
        found._places = asyncio.Semaphore(most_streams)
        return found

    async def close(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Names of all models. Raises WorkerError where the controller does not answer."""
        return read_names(await self._ask_controller("/list_models"))

    async def missing(self) -> list[str]:
        """The models of workers that went away without a word; a controller of FastChat's does not know."""
        try:
            return read_names(await self._ask_controller("/list_missing_models"))
        except WorkerError:
            return []

    async def refresh(self) -> None:
        """Let the controller ask all workers whether they still live."""
        with contextlib.suppress(WorkerError):
            await self._ask_controller("/refresh_all_workers")

    async def details(self, model: str) -> Details:
        """What a worker of the model says of it now.

        Raises WorkerError where there is none, or it does not answer soon: who asks would rather do without.
        """
        try:
            async with asyncio.timeout(_DETAILS_S):
                address = await self._address(model, after_another=False)
                self._details.pop(address, None)
                return await self._details_of(address, model)
        except (httpx.HTTPError, TimeoutError):
            raise WorkerError("the worker cannot be reached", ErrorCode.CONTROLLER_WORKER_TIMEOUT) from None

    async def counts(self) -> dict[tuple[str, str], WorkerCounts | None]:
        """What the workers have done, by their models and address; of one that does not say it soon, as FastChat's do
        not, None. A controller of FastChat's does not know where they are.
        """

        async def of(worker: ListedWorker) -> WorkerCounts | None:
            with contextlib.suppress(httpx.HTTPError, WorkerError, TimeoutError):
                async with asyncio.timeout(_COUNTS_S):
                    return read_answer(WorkerCounts, await self._ask(worker.address + "/worker_counts", {}))
            return None

        try:
            known = read_answer(WorkerList, await self._ask_controller("/list_workers")).workers
        except WorkerError:
            return {}
        found = await asyncio.gather(*map(of, known))
        return {worker.labels: counts for worker, counts in zip(known, found, strict=True)}

    async def calibration(self, model: str) -> Calibration | None:
        """The map that the model's workers have of its probabilities. Raises WorkerError where none can be asked."""
        found = (await self.recent_details(model)).calibration
        return None if found is None else found.calibration("the judge's calibration map")

    async def recent_details(self, model: str) -> Details:
        """What a worker of the model said of it lately, or says now. Raises WorkerError where none can be asked."""
        for attempt in range(2):
            address = await self._address(model, after_another=bool(attempt))
            try:
                return await self._details_of(address, model)
            except httpx.HTTPError:
                await self.refresh()
        raise WorkerError("the worker cannot be reached", ErrorCode.CONTROLLER_WORKER_TIMEOUT)

    async def stream(self, model: str, params: GenerateParams) -> AsyncGenerator[Chunk, None]:
        """Generate; each chunk holds the text so far, and the last one a finish reason.

        A worker that cannot be reached, or goes away before its first word, is passed over for another one. Raises
        WorkerError, and ValueError where a sample does not fit its task.
        """
        begun = False
        async with self._places:
            for attempt in range(2):
                address = await self._address(model, after_another=bool(attempt))
                try:
                    body = await self._body(address, model, params)
                    async with contextlib.aclosing(self._stream_from(address, body)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
                    return
                except httpx.HTTPError as error:
                    log.warning("worker %s: %s", address, type(error).__name__)
                    self._details.pop(address, None)
                    await self.refresh()
                    unreached = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ConnectTimeout)
                    if begun or attempt or not unreached:
                        reached = begun or not unreached
                        lost = "went away before the text was complete" if reached else "cannot be reached"
                        raise WorkerError(f"the worker {lost}", ErrorCode.CONTROLLER_WORKER_TIMEOUT) from None

    async def _body(self, address: str, model: str, params: GenerateParams) -> dict[str, Any]:
        """What this worker understands, with each text in it once."""
        details = await self._details_of(address, model)
        if params.scoring is not None and not details.expected:
            raise WorkerError(f"scoring expected: {_NOT_EXPECTED}", ErrorCode.VALIDATION_TYPE_ERROR)
        if params.logprobs is not None and not details.logprobs:
            raise WorkerError("logprobs: the model's worker does not give them", ErrorCode.VALIDATION_TYPE_ERROR)
        if params.needs_forms and not details.forms:
            raise WorkerError(_NOT_FORMS, ErrorCode.VALIDATION_TYPE_ERROR)
        ours = details.judgelm is not None
        if params.sample is not None and params.sample.is_by_criteria:
            # one of an older version would pass over what it does not know
            ours = ours and details.criteria
        if params.sample is not None and params.sample.dialogue is not None:
            ours = ours and details.dialogues
        if params.messages is not None and not (ours and details.chat):
            params = await self._as_prompt(address, model, params)
        if not ours:
            params = await self._fitted(address, model, params, details.context_length)
        return {"model": model, **params.model_dump(exclude_unset=True, exclude_none=True)}

    async def _fitted(self, address: str, model: str, params: GenerateParams, context: int | None) -> GenerateParams:
        """For FastChat's own workers, which take prompts alone and cut the beginning of one that leaves too little
        room, without a word; and for those of ours that know no criteria or no dialogues.
        """
        prompt = params.prompt if params.sample is None else params.sample.prompt
        counted = await self._ask(address + "/count_token", {"model": model, "prompt": prompt})
        count = read_answer(Counted, counted).count
        if context is None:
            raise WorkerError("the worker does not say how long its context is", ErrorCode.INTERNAL_ERROR)
        room = context - count - 2
        if room < 1:
            raise WorkerError(
                f"the prompt has {count} tokens, the model's context {context}", ErrorCode.CONTEXT_OVERFLOW
            )
        most = min(params.max_new_tokens or room, room)
        return params.model_copy(update={"prompt": prompt, "sample": None, "max_new_tokens": most})

    async def _stream_from(self, address: str, params: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        last: Chunk | None = None
        async with self._http.stream("POST", address + "/worker_generate_stream", json=params) as response:
            rest = b""
            async for data in response.aiter_bytes():
                if response.status_code != 200:
                    break
                *parts, rest = (rest + data).split(b"\0")
                if len(rest) > MOST_CHUNK_BYTES:
                    raise WorkerError("the worker's answer is too long", ErrorCode.INTERNAL_ERROR)
                for part in filter(None, parts):
                    last = read_chunk(part)
                    if last.error_code:
                        said = one_line(last.text)[:_MOST_MESSAGE]
                        raise WorkerError(said, last.error_code, last.verdict_format)
                    yield last
            _check_taken(response)
            if response.status_code != 200 or last is None:
                raise WorkerError("the worker failed", ErrorCode.INTERNAL_ERROR)
        if last.finish_reason is None:
            yield last.model_copy(update={"finish_reason": "stop"})

    async def _details_of(self, address: str, model: str) -> Details:
        now = time.monotonic()
        said, found = self._details.get(address, (0.0, None))
        if found is None or now - said > _KNOWN_S:
            found = read_answer(Details, await self._ask(address + "/model_details", {"model": model}))
            if len(self._details) >= _MOST_KNOWN:
                self._details.clear()
            self._details[address] = now, found
        return found

    async def _as_prompt(self, address: str, model: str, params: GenerateParams) -> GenerateParams:
        """A chat for a worker that takes prompts alone, in the format that it names."""
        asked = await self._ask(address + "/worker_get_conv_template", {"model": model})
        given = read_answer(ConversationOut, asked.get("conv"))
        try:
            style = SeparatorStyle(given.sep_style)
            chat = ConversationFormat(Conversation(**(given.model_dump() | {"sep_style": style})))
            prompt = chat.render([message.model_dump() for message in params.messages or []])
        except (ValueError, KeyError, IndexError, TypeError):
            raise WorkerError("the worker has no chat format", ErrorCode.INTERNAL_ERROR) from None
        stops = {
            "stop": [*params.stops, *prompt.stop] or None,
            "stop_token_ids": [*(params.stop_token_ids or []), *prompt.stop_token_ids],
        }
        return params.model_copy(update={"messages": None, "prompt": prompt.text} | stops)

    async def _address(self, model: str, after_another: bool) -> str:
        try:
            address = (await self._ask_controller("/get_worker_address", {"model": model})).get("address")
            if isinstance(address, str) and address:
                return address
            models = await self.models()
            if model in models:
                raise WorkerError(f"no worker of model {model} is alive", ErrorCode.CONTROLLER_NO_WORKER)
            if not models:  # those of a server that begins are loading
                raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
            raise unknown_model(model, models)
        except WorkerError:
            if not after_another:
                raise
            raise WorkerError(
                f"the worker went away, and no other serves {model}", ErrorCode.CONTROLLER_WORKER_TIMEOUT
            ) from None

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
                if len(content) > MOST_CHUNK_BYTES:
                    raise WorkerError("an answer of our own servers is too long", ErrorCode.INTERNAL_ERROR)
        _check_taken(response)
        try:
            response.raise_for_status()
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise WorkerError("an answer of our own servers is not JSON", ErrorCode.INTERNAL_ERROR) from None
        return answer if isinstance(answer, dict) else {}


def _check_taken(response: httpx.Response) -> None:
    """Raises httpx.HTTPError, as where nobody listens any more, for a server that is stopping, and WorkerError for a
    request that is too large.
    """
    if response.status_code == 503:
        raise httpx.RemoteProtocolError("the server is stopping", request=response.request)
    if response.status_code == 413:
        raise WorkerError("the request is larger than the worker takes", TOO_LARGE)


def unknown_model(name: str, models: Sequence[str]) -> WorkerError:
    """The error of a client that asks for a model which nobody serves."""
    return WorkerError(f"unknown model {name}; models served: {', '.join(models) or 'none'}", ErrorCode.INVALID_MODEL)


async def together(
    jobs: Iterable[Callable[[asyncio.Queue[_T]], Coroutine[Any, Any, None]]],
) -> AsyncGenerator[_T, None]:
    """All that the jobs put into their queue, 32 jobs at once. Raises what one of them raises; then, and where it is
    closed, the others end too.
    """
    queue: asyncio.Queue[Any] = asyncio.Queue(_MOST_UNREAD)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Callable[[asyncio.Queue[_T]], Coroutine[Any, Any, None]]) -> None:
        try:
            await job(queue)
        finally:
            places.release()

    async def everything() -> None:
        ended: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    await places.acquire()
                    group.create_task(one(job))
        except ExceptionGroup as errors:
            ended = errors.exceptions[0]
        await queue.put(ended)

    task = asyncio.create_task(everything())
    try:
        while (found := await queue.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
