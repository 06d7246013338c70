"""The HTTP API for programs, in front of a controller: judgements, and OpenAI's completions.

python -m judgelm.serve.api
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal, NoReturn

from fastapi import Depends, FastAPI, HTTPException
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.jsonl import InputError, one_line
from judgelm.llm_judge.judge import PROMPT_TOO_LONG, JudgeSettings, Order, Verdict, check_orders
from judgelm.prompt import TASKS, count_markers
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.arguments import API_PORT, CONTROLLER_ADDRESS
from judgelm.serve.http import BodyLimit, check_url, listen, log_to_stderr, run_server
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.workers import Usage, Workers, judgement_params
from judgelm.verdict import Judgement

log = logging.getLogger(__name__)

KEYS_VARIABLE = "JUDGELM_API_KEYS"
"""environment variable: with it, a request must carry one of these keys, which commas separate"""
_MOST_SAMPLES = 1000
_AT_ONCE = 16
"""samples of one request that are judged at once"""
_STATUS = {
    ErrorCode.VALIDATION_TYPE_ERROR: 400,
    ErrorCode.CONTEXT_OVERFLOW: 400,
    ErrorCode.INVALID_MODEL: 404,
    ErrorCode.ENGINE_OVERLOADED: 429,
    ErrorCode.RATE_LIMIT: 429,
    ErrorCode.CONTROLLER_NO_WORKER: 503,
    ErrorCode.CONTROLLER_WORKER_TIMEOUT: 502,
}
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    404: "model_not_found",
    413: "too_large",
    422: "invalid_request",
    429: "overloaded",
    502: "worker_lost",
    503: "no_worker",
}

# at the top of the module: FastAPI looks for names in annotations there alone
_BEARER = HTTPBearer(auto_error=False, description=f"needed where the server has {KEYS_VARIABLE}")

Text = Annotated[str, StringConstraints(max_length=2_000_000)]
Name = Annotated[str, StringConstraints(max_length=200)]


class Strict(BaseModel):
    """A body in which a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid")


class SampleIn(Strict):
    """One question with its answers."""

    question_id: int | Name = Field(0, description="names the sample in the answer and seeds its random numbers")
    question: Text
    answers: Annotated[list[Text], Field(min_length=2, max_length=MAX_ANSWERS)]
    reference: Text | None = Field(None, description="a known good answer, shown to the judge")


class JudgementRequest(Strict):
    """What is to be judged, and how."""

    model: Name | None = Field(None, description="one of GET /v1/models; may be left away where only one is served")
    samples: Annotated[list[SampleIn], Field(min_length=1, max_length=_MOST_SAMPLES)]
    task: Literal["pair", "single", "multi", "mmvet"] = "pair"
    orders: Literal["forward", "reversed", "both"] | None = Field(
        None, description="as given, answers 1 and 2 exchanged, or both (default: both for task pair, else forward)"
    )
    scores_only: bool = Field(False, description="stop after the score line: no reasons")
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(0.2, description="0 is greedy")
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    constrained: bool | None = Field(None, description="nothing but a score line first (default: the model's own way)")
    stream: bool = Field(False, description="answer in NDJSON: events text, result, error, done")


class JudgementOut(BaseModel):
    """What the judge wrote in one order."""

    order: Literal["forward", "reversed"]
    text: str = Field(description="score line and reasons, the task's prefill included")
    scores: list[float] | None = Field(description="one an answer, in the order the judge saw them; null: not readable")
    outcome: Literal["win", "tie", "lose"] | None = Field(description="of the first answer the judge saw")
    parse: Literal["ok", "repaired", "failed"]
    reasons: str
    finish_reason: str
    shortened: list[int] | None = Field(description="tokens cut from each answer, in the order the judge saw them")
    usage: Usage


class ErrorOut(BaseModel):
    """Why something could not be done."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ResultOut(BaseModel):
    """One sample's judgements, and what follows from them."""

    question_id: int | str
    scores: list[float] | None = Field(
        description="one an answer, in the sample's order: the mean of the orders judged"
    )
    outcome: Literal["win", "tie", "lose"] | None = Field(description="of answer 1; a tie where the orders contradict")
    consistent: bool | None = Field(description="whether both orders agree")
    judgements: list[JudgementOut]
    suspicious_markers: int = Field(description="lines of the texts that imitate the prompt's own markers")
    error: ErrorOut | None = None


class JudgementResponse(BaseModel):
    """All samples, in the order they were given."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ResultOut]
    usage: Usage


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorOut


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


class _Metrics:
    """What /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "judgelm_requests", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "judgelm_request_seconds", "until a request was answered whole", ["route"], registry=self.registry
        )
        self.in_progress = Gauge("judgelm_requests_in_progress", "requests not answered yet", registry=self.registry)
        self.tokens = Counter("judgelm_tokens", "tokens by kind", ["kind"], registry=self.registry)
        self.judgements = Counter("judgelm_judgements", "judgements by parse state", ["parse"], registry=self.registry)

    def count(self, usage: Usage) -> None:
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)

    @contextlib.contextmanager
    def timed(self, route: str) -> Iterator[None]:
        started = time.perf_counter()
        self.in_progress.inc()
        try:
            yield
        finally:
            self.in_progress.dec()
            self.seconds.labels(route).observe(time.perf_counter() - started)


class Service:
    """Judges samples through workers."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.metrics = _Metrics()

    async def choose_model(self, name: str | None) -> str:
        """The model asked for, or the only one. Raises WorkerError."""
        if name:
            return name
        models = await self.workers.models()
        if len(models) == 1:
            return models[0]
        if not models:
            raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
        raise WorkerError(f"'model' is missing; models served: {', '.join(models)}", ErrorCode.VALIDATION_TYPE_ERROR)

    async def events(self, request: JudgementRequest, model: str) -> AsyncGenerator[dict[str, Any], None]:
        """Texts as they grow and each sample's result, as they come. Raises WorkerError where nothing can go on."""
        settings = JudgeSettings(
            request.task, request.scores_only, request.temperature, request.max_new_tokens, request.seed
        )
        orders = check_orders(request.orders or ("both" if request.task == "pair" else "forward"), request.task)
        queue: asyncio.Queue[dict[str, Any] | BaseException] = asyncio.Queue(maxsize=64)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(index: int, given: SampleIn) -> None:
            async with places:
                result = await self._judge(index, given, orders, settings, request.constrained, model, queue)
            await queue.put({"event": "result", "index": index, "result": result})

        async def everything() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for index, given in enumerate(request.samples):
                        group.create_task(one(index, given))
            except ExceptionGroup as errors:
                await queue.put(errors.exceptions[0])

        task = asyncio.create_task(everything())
        try:
            left = len(request.samples)
            while left:
                event = await queue.get()
                if isinstance(event, BaseException):
                    raise event
                left -= event["event"] == "result"
                yield event
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _judge(
        self,
        index: int,
        given: SampleIn,
        orders: Sequence[Order],
        settings: JudgeSettings,
        constrained: bool | None,
        model: str,
        queue: asyncio.Queue[Any],
    ) -> ResultOut:
        sample = Sample(given.question_id, given.question, tuple(given.answers), given.reference)
        found: dict[str, Judgement] = {}
        judgements = []
        try:
            for order in orders:
                out, found[order] = await self._in_order(index, sample, order, settings, constrained, model, queue)
                judgements.append(out)
        except WorkerError as error:
            if error.code != ErrorCode.CONTEXT_OVERFLOW:
                raise
            return ResultOut(
                question_id=given.question_id,
                scores=None,
                outcome=None,
                consistent=None,
                judgements=judgements,
                suspicious_markers=count_markers(sample),
                error=ErrorOut(message=str(error), type="invalid_request_error", code=PROMPT_TOO_LONG),
            )
        verdict = Verdict(sample, found.get("forward"), found.get("reversed"))
        return ResultOut(
            question_id=given.question_id,
            scores=None if verdict.scores is None else list(verdict.scores),
            outcome=None if verdict.outcome is None else verdict.outcome.value,
            consistent=verdict.consistent,
            judgements=judgements,
            suspicious_markers=count_markers(sample),
        )

    async def _in_order(
        self,
        index: int,
        sample: Sample,
        order: Order,
        settings: JudgeSettings,
        constrained: bool | None,
        model: str,
        queue: asyncio.Queue[Any],
    ) -> tuple[JudgementOut, Judgement]:
        shown = sample.swapped() if order == "reversed" else sample
        sampling = settings.sampling(len(shown.answers))
        prefill = TASKS[settings.task].prefill
        chunk = None
        async for chunk in self.workers.stream(model, judgement_params(shown, settings.task, sampling, constrained)):
            event = {"event": "text", "index": index, "question_id": sample.question_id, "order": order}
            # whoever reads slowly gets fewer, longer steps
            if not queue.full():
                queue.put_nowait(event | {"text": prefill + chunk.text})
        assert chunk is not None
        assert chunk.finish_reason is not None
        judgement = Judgement.parse(prefill + chunk.text, len(shown.answers))
        self.metrics.count(chunk.usage)
        self.metrics.judgements.labels(judgement.state.value).inc()
        return (
            JudgementOut(
                order=order,
                text=judgement.text,
                scores=None if judgement.scores is None else list(judgement.scores),
                outcome=None if judgement.outcome is None else judgement.outcome.value,
                parse=judgement.state.value,
                reasons=judgement.reasons,
                finish_reason=chunk.finish_reason,
                shortened=chunk.shortened,
                usage=chunk.usage,
            ),
            judgement,
        )


def create_app(controller: str, keys: Sequence[str] = ()) -> FastAPI:
    """The API in front of a controller."""
    service = Service(Workers(controller))
    metrics, workers = service.metrics, service.workers

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await workers.close()

    app = FastAPI(
        title="JudgeLM API",
        version=__version__,
        summary="Judges of language models' answers, and OpenAI-compatible completions.",
        lifespan=lifespan,
        responses={status: {"model": ErrorResponse} for status in (400, 401, 404, 413, 422, 429, 502, 503)},
    )
    app.add_middleware(BodyLimit)

    def check_key(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        given = sent.credentials.encode() if sent else b""
        # all are compared, so that the time tells nothing
        if keys and not sum(hmac.compare_digest(given, key.encode()) for key in keys):
            raise HTTPException(401, "a valid API key is needed: Authorization: Bearer KEY")

    @app.exception_handler(WorkerError)
    async def worker_refused(_: HTTPRequest, error: WorkerError) -> JSONResponse:
        return _error(str(error), _STATUS.get(ErrorCode(error.code), 500) if error.code in list(ErrorCode) else 500)

    @app.exception_handler(InputError)
    async def mistaken(_: HTTPRequest, error: InputError) -> JSONResponse:
        return _error(str(error), 400)

    @app.exception_handler(HTTPException)
    async def http_error(_: HTTPRequest, error: HTTPException) -> JSONResponse:
        return _error(str(error.detail), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HTTPRequest, error: RequestValidationError) -> JSONResponse:
        entries = error.errors()[:3]
        parts = [f"{'.'.join(str(part) for part in entry['loc'][1:]) or 'body'}: {entry['msg']}" for entry in entries]
        return _error(one_line("; ".join(parts)), 422)

    @app.exception_handler(Exception)
    async def broken(_: HTTPRequest, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return _error("the server failed; its log says why", 500)

    @app.middleware("http")
    async def counted(http: HTTPRequest, call_next: Any) -> Response:
        response: Response = await call_next(http)
        route = getattr(http.scope.get("route"), "path", "none")
        metrics.requests.labels(route, response.status_code).inc()
        return response

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether judgements can be had: the controller answers and knows a worker."""
        if not await workers.models():
            raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
        return {"status": "ok", "version": __version__}

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", dependencies=[Depends(check_key)])
    async def models() -> dict[str, Any]:
        """The judges that are served."""
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "judgelm"} for name in await workers.models()
        ]
        return {"object": "list", "data": cards}

    @app.post(
        "/v1/judgements",
        dependencies=[Depends(check_key)],
        response_model=JudgementResponse,
        responses={200: {"content": {"application/x-ndjson": {}}}},
    )
    async def judgements(request: JudgementRequest) -> Any:
        """Judge samples, in one order or both."""
        created, id_ = int(time.time()), f"judgement-{uuid.uuid4().hex}"
        for given in request.samples:
            _check_sample(given, request.task)
        # a mistake in the orders must be told before a stream begins
        check_orders(request.orders or "forward", request.task)
        model = await service.choose_model(request.model)
        events = service.events(request, model)
        if request.stream:
            return StreamingResponse(
                _ndjson(events, {"id": id_, "model": model, "created": created}, metrics),
                media_type="application/x-ndjson",
            )
        results: dict[int, ResultOut] = {}
        with metrics.timed("/v1/judgements"):
            async with contextlib.aclosing(events):
                async for event in events:
                    if event["event"] == "result":
                        results[event["index"]] = event["result"]
        data = [results[index] for index in sorted(results)]
        return JudgementResponse(id=id_, created=created, model=model, data=data, usage=_total(data))

    @app.post("/v1/chat/completions", dependencies=[Depends(check_key)])
    async def chat(request: ChatRequest) -> Any:
        """OpenAI's chat completion, in the model's own chat format."""
        conversation = await workers.conversation(request.model)
        for message in request.messages:
            if message.role == "system":
                conversation.set_system_message(message.text)
            else:
                role = conversation.roles[0 if message.role == "user" else 1]
                conversation.append_message(role, message.text)
        conversation.append_message(conversation.roles[1], None)
        most = request.max_completion_tokens or request.max_tokens
        params = _sampling_params(request, most) | {"prompt": conversation.get_prompt()}
        own = conversation.stop_str
        params["stop"] = [*params["stop"], *([own] if isinstance(own, str) else own or [])]
        params["stop_token_ids"] = conversation.stop_token_ids or []
        return await _complete(workers, metrics, request, [params], _ChatForm(request.model))

    @app.post("/v1/completions", dependencies=[Depends(check_key)])
    async def complete(request: CompletionRequest) -> Any:
        """OpenAI's completion."""
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        shared = _sampling_params(request, request.max_tokens) | {"echo": bool(request.echo)}
        params = [shared | {"prompt": prompt} for prompt in prompts]
        return await _complete(workers, metrics, request, params, _TextForm(request.model))

    return app


def _error(message: str, status: int) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    body = ErrorResponse(error=ErrorOut(message=message, type=kind, code=_CODES.get(status)))
    headers = {"Retry-After": "2"} if status == 429 else None
    return JSONResponse(body.model_dump(), status, headers)


def _check_sample(given: SampleIn, task: str) -> None:
    count, spec = len(given.answers), TASKS[task]
    if count > spec.max_answers:
        raise InputError(f"task {task} takes {spec.max_answers} answers, found {count}")
    if spec.needs_reference and given.reference is None:
        raise InputError(f"task {task} needs a reference")


def _total(data: Sequence[ResultOut]) -> Usage:
    total = Usage()
    for result in data:
        for judgement in result.judgements:
            total += judgement.usage
    return total


async def _ndjson(
    events: AsyncGenerator[dict[str, Any], None], head: dict[str, Any], metrics: _Metrics
) -> AsyncIterator[str]:
    results: list[ResultOut] = []
    with metrics.timed("/v1/judgements"):
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if event["event"] == "result":
                        results.append(event["result"])
                        event = event | {"result": event["result"].model_dump()}
                    yield json.dumps(event) + "\n"
        except WorkerError as error:
            status = _STATUS.get(ErrorCode(error.code), 500) if error.code in list(ErrorCode) else 500
            yield json.dumps({"event": "error", "error": {"message": str(error), "code": _CODES.get(status)}}) + "\n"
            return
        yield json.dumps({"event": "done", **head, "usage": _total(results).model_dump()}) + "\n"


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
    metrics: _Metrics,
    request: ChatRequest | CompletionRequest,
    prompts: Sequence[dict[str, Any]],
    form: _ChatForm | _TextForm,
) -> Any:
    """Every prompt `n` times, whole or as server-sent events."""
    n = request.n or 1
    asked = []
    for params in prompts:
        for copy in range(n):
            # with a seed each copy has random numbers of its own, and the same ones next time
            seed = None if request.seed is None else request.seed + copy
            asked.append(params | {"seed": seed})
    if request.stream:
        wants_usage = bool(request.stream_options and request.stream_options.include_usage)
        streams = [workers.stream(request.model, params) for params in asked]
        # the first piece is waited for: until then a refusal still has its own status
        first = await anext(streams[0])
        return StreamingResponse(
            _sse(streams, first, form, metrics, wants_usage),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache"},
        )

    async def one(params: dict[str, Any]) -> tuple[str, str, Usage]:
        async for chunk in workers.stream(request.model, params):
            last = chunk
        metrics.count(last.usage)
        return last.text, _openai_reason(last.finish_reason), last.usage

    with metrics.timed("completions"):
        found = await asyncio.gather(*(one(params) for params in asked))
    usage = Usage()
    for *_, used in found:
        usage += used
    return form.whole([(text, reason) for text, reason, _ in found], usage)


async def _sse(
    streams: Sequence[AsyncIterator[Any]], first: Any, form: _ChatForm | _TextForm, metrics: _Metrics, usage: bool
) -> AsyncIterator[str]:
    total = Usage()
    with metrics.timed("completions"):
        for index, stream in enumerate(streams):
            opening = form.first(index)
            if opening is not None:
                yield _event(opening)
            sent = 0
            try:
                chunk = first if index == 0 else await anext(stream)
                while True:
                    if len(chunk.text) > sent:
                        yield _event(form.step(index, chunk.text[sent:]))
                        sent = len(chunk.text)
                    try:
                        chunk = await anext(stream)
                    except StopAsyncIteration:
                        break
            except WorkerError as error:
                yield _event({"error": {"message": str(error), "type": "server_error", "code": "worker_lost"}})
                yield "data: [DONE]\n\n"
                return
            metrics.count(chunk.usage)
            total += chunk.usage
            yield _event(form.last(index, _openai_reason(chunk.finish_reason)))
    if usage:
        yield _event(form.usage(total))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _openai_reason(reason: str | None) -> str:
    return "length" if reason == "length" else "stop"


def read_keys() -> list[str]:
    """The API keys of the environment."""
    return [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]


def build_parser() -> Parser:
    """The API's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.api",
        description="Judgements and OpenAI-compatible completions over HTTP, from the workers of a controller. The page"
        f" /docs describes the API. With {KEYS_VARIABLE} in the environment (keys, separated by commas) requests need"
        " one of them.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=API_PORT, help="port to listen on")
    parser.add_argument("--controller-address", default=CONTROLLER_ADDRESS, help="the controller's address")
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        controller = check_url(args.controller_address, "--controller-address")
        run_server(create_app(controller, read_keys()), listen(args.host, args.port))

    run_main(command, kept="the API has ended")


if __name__ == "__main__":
    main()
