"""A model worker in FastChat's protocol: one model, whose batch all users share.

python -m judgelm.serve.model_worker --model-path tiny
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.encoding import PromptTooLong
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.flags import add_device_arguments
from judgelm.judge.judge import Judge
from judgelm.models.folder import find_model
from judgelm.prompt import TASKS, render_prompt
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.arguments import (
    CONTROLLER_ADDRESS,
    TOKEN_VARIABLE,
    WORKER_PORT,
    add_allowed_hosts,
    add_chat_format,
    served_name,
)
from judgelm.serve.batcher import Batcher, QueueFull, Ticket, Update
from judgelm.serve.chat_format import ChatFormat, ChatPrompt, ConversationFormat, choose_format
from judgelm.serve.guard import MOST_BODY_BYTES, Guard, Hosts, read_hosts
from judgelm.serve.lengths import count_tokens, cut_answers, exceeds
from judgelm.serve.protocol import (
    CONVERSATION,
    HEART_BEAT_INTERVAL_S,
    OUR_WORKER,
    BaseModelWorker,
    ErrorCode,
    WorkerError,
    error_body,
    get_conv_template,
)
from judgelm.serve.servers import address_of, ask, check_url, describe, listen, log_to_stderr, read_secret, run_server

log = logging.getLogger(__name__)

_STOPS = 16
_PREPARED_AT_ONCE = 2
"""prompts that are being encoded; each may take much memory for a moment"""
_GOODBYE_S = 2
_BEAT_S = 5
_OWN_BYTES = 64 << 10
"""of a request besides the texts that an API passes on, so that what fits there fits here"""

_Text = Annotated[str, StringConstraints(max_length=MOST_BODY_BYTES)]


class Turn(BaseModel):
    """A question to the judge about its judgement, and the reply."""

    question: _Text
    reply: _Text


class Message(BaseModel):
    """A turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class JudgeSample(BaseModel):
    """What our own clients send instead of `prompt`: then the worker itself shortens answers that are too long."""

    question: _Text
    answers: Annotated[list[_Text], Field(min_length=2, max_length=MAX_ANSWERS)]
    reference: _Text | None = None
    task: Annotated[str, StringConstraints(max_length=50)] = "pair"
    seed_key: Annotated[str, StringConstraints(max_length=5000)] = "0"
    """the question_id, from which the random numbers come too"""
    judgement: _Text | None = None
    """what the judge wrote, for a follow-up"""
    turns: Annotated[list[Turn], Field(max_length=1000)] = []
    followup: _Text | None = None


_Stop = Annotated[str, StringConstraints(max_length=200)]


class GenerateParams(BaseModel):
    """The body of /worker_generate and /worker_generate_stream. Other fields are passed over."""

    prompt: _Text = ""
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=2**48)] | None = 256
    stop: _Stop | Annotated[list[_Stop], Field(max_length=_STOPS)] | None = None
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=-1, le=2**31)]], Field(max_length=_STOPS)] | None = None
    most_thoughts: Annotated[int, Field(ge=0, le=2**48)] = 0
    """more tokens for thoughts with which the text begins, which no stop string ends"""
    echo: bool | None = False
    seed: Annotated[int, Field(ge=-(2**64), le=2**64)] | None = None
    sample: JudgeSample | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)] | None = None
    """a chat, in place of the prompt"""
    constrained: bool | None = None
    """allow nothing but a score line first; None is the model's own way"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be generated."""

    request: Request
    sampling: Sampling
    shortened: tuple[int, ...] | None
    echo: str


class ModelWorker(BaseModelWorker):  # type: ignore[misc]
    """FastChat's worker around our engine.

    Its registration and its heart beats do not stop when the controller does: they are tried again at each beat.
    """

    def __init__(
        self,
        judge: Judge,
        batcher: Batcher,
        controller_address: str,
        worker_address: str,
        model_names: Sequence[str],
        chat: ChatFormat | None = None,
    ) -> None:
        self.chat = chat or ConversationFormat(get_conv_template(CONVERSATION))
        super().__init__(
            controller_address,
            worker_address,
            uuid.uuid4().hex[:8],
            model_names[0],
            list(model_names),
            batcher.max_running,
        )
        assert isinstance(judge.engine, HFEngine)
        self.engine = judge.engine
        self.constrained = judge.constrained
        self.batcher = batcher
        self.context_len = self.engine.context_length
        self._stopped = threading.Event()
        self._preparing = asyncio.Semaphore(_PREPARED_AT_ONCE)
        self._counting = asyncio.Semaphore(1)
        self._waiting = 0

    def make_conv_template(self, conv_template: str | None = None, model_path: str | None = None) -> Any:
        """For FastChat's clients, which make prompts themselves: a template of the tokenizer's is not for them."""
        chat = self.chat
        return chat.conversation if isinstance(chat, ConversationFormat) else get_conv_template(CONVERSATION)

    def get_queue_length(self) -> int:
        return self.batcher.queue_length

    async def count_token(self, params: dict[str, Any]) -> dict[str, int]:
        """Beside the event loop, and one text at a time."""
        text = str(params.get("prompt", ""))
        async with self._counting:
            count = await asyncio.to_thread(count_tokens, text, self.engine.tokenizer, self.context_len)
        return {"count": count, "error_code": 0}

    def init_heart_beat(self) -> None:
        """Register, and go on saying that the worker lives, in a thread of its own."""
        self.heart_beat_thread = threading.Thread(target=self._beat, name="heart-beat", daemon=True)
        self.heart_beat_thread.start()

    def stop_heart_beat(self) -> None:
        """Say goodbye, so that the controller sends nobody here any more."""
        self._stopped.set()
        if self.heart_beat_thread is not None:
            self.heart_beat_thread.join(_BEAT_S + _GOODBYE_S)

    def _beat(self) -> None:
        known, wait = False, 0.0
        while not self._stopped.wait(wait):
            try:
                if known:
                    known = self.send_heart_beat()
                if not known:
                    self.register_to_controller()
                    known = True
                wait = HEART_BEAT_INTERVAL_S
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                if known or wait == 0:
                    log.warning("controller %s: %s; trying again", self.controller_addr, type(error).__name__)
                known, wait = False, min(5.0, HEART_BEAT_INTERVAL_S)
        # FastChat's controller knows no goodbye, and in an orderly end of all parts ours may be gone
        with contextlib.suppress(httpx.HTTPError):
            self._post("/deregister_worker", {"worker_name": self.worker_addr}, _GOODBYE_S)

    def register_to_controller(self) -> None:
        """Raises httpx.HTTPError where the controller does not take it."""
        body = {
            "worker_name": self.worker_addr,
            "check_heart_beat": True,
            "worker_status": self.get_status(),
            "multimodal": False,
        }
        self._post("/register_worker", body)
        log.info("registered with %s as %s, models %s", self.controller_addr, self.worker_addr, self.model_names)

    def send_heart_beat(self) -> bool:
        """Whether the controller knows this worker."""
        body = {"worker_name": self.worker_addr, "queue_length": self.get_queue_length()}
        return bool(self._post("/receive_heart_beat", body).json()["exist"])

    def _post(self, path: str, body: dict[str, Any], timeout_s: float = _BEAT_S) -> httpx.Response:
        token = read_secret(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = ask(self.controller_addr + path, body, headers=headers, timeout_s=timeout_s)
        if response.status_code in (401, 403):
            log.error("controller %s refuses this worker: %s", self.controller_addr, response.text[:300])
        return response.raise_for_status()

    async def prepare(self, params: GenerateParams) -> Prepared:
        """Encode the prompt, beside the event loop. Raises WorkerError where it cannot be generated."""
        if self._waiting >= self.batcher.max_waiting:
            raise WorkerError(
                f"the worker is busy: {self._waiting} prompts are waiting to be read; try again later",
                ErrorCode.ENGINE_OVERLOADED,
            )
        self._waiting += 1
        try:
            async with self._preparing:
                return await asyncio.to_thread(self._prepare, params)
        finally:
            self._waiting -= 1

    def _prepare(self, params: GenerateParams) -> Prepared:
        most = params.max_new_tokens or self.context_len
        stop = [params.stop] if isinstance(params.stop, str) else params.stop or []
        sampling = Sampling(
            temperature=params.temperature if params.temperature >= 1e-5 else 0.0,
            max_new_tokens=most,
            stop=tuple(text for text in stop if text),
            constrained=False,
            seed=params.seed or 0,
            top_p=params.top_p,
            stop_token_ids=tuple(params.stop_token_ids or ()),
            most_thoughts=params.most_thoughts,
        )
        if params.sample is not None:
            return self._prepare_sample(params.sample, params.constrained, sampling)
        if params.messages is not None:
            chat = self._render(params.messages)
            sampling = replace(
                sampling,
                stop=(*sampling.stop, *chat.stop),
                stop_token_ids=(*sampling.stop_token_ids, *chat.stop_token_ids),
            )
        else:
            chat = ChatPrompt(params.prompt, ((params.prompt, False),))
        self._refuse_long([chat.text])
        input_ids = chat.encode(self.engine.tokenizer)
        if len(input_ids) >= self.context_len:
            raise _overflow(str(len(input_ids)), self.context_len)
        if not input_ids:
            raise WorkerError("the prompt is empty", ErrorCode.VALIDATION_TYPE_ERROR)
        # without a seed every request has random numbers of its own
        key = "0" if params.seed is not None else uuid.uuid4().hex
        sampling = replace(sampling, constrained=bool(params.constrained))
        return Prepared(Request(key, chat.text, input_ids), sampling, None, chat.text if params.echo else "")

    def _render(self, messages: Sequence[Message]) -> ChatPrompt:
        given = [message.model_dump() for message in messages]
        self._refuse_long([message.content for message in messages])
        try:
            return self.chat.render(given)
        except ValueError as error:
            raise WorkerError(str(error), ErrorCode.VALIDATION_TYPE_ERROR) from None

    def _refuse_long(self, texts: Sequence[str]) -> None:
        if exceeds(texts, self.engine.tokenizer, self.context_len):
            raise _overflow(f"more than {self.context_len}", self.context_len)

    def _prepare_sample(self, given: JudgeSample, constrained: bool | None, sampling: Sampling) -> Prepared:
        if given.task not in TASKS:
            raise WorkerError(f"unknown task, expected one of {', '.join(TASKS)}", ErrorCode.VALIDATION_TYPE_ERROR)
        task = TASKS[given.task]
        most = sampling.max_new_tokens
        try:
            turns = [(turn.question, turn.reply) for turn in given.turns]
            sample = Sample(given.seed_key, given.question, tuple(given.answers), given.reference)
            texts = [text for pair in turns for text in pair]
            self._refuse_long(
                [sample.question, sample.reference or "", given.judgement or "", *texts, given.followup or ""]
            )
            sample, left_out = cut_answers(sample, self.engine.tokenizer, self.context_len)
            render_prompt(sample, task.name)
            if given.followup is None:
                prompt = self.engine.fit(sample, task.name, most)
                prefill = task.prefill
                free = self.constrained if constrained is None else constrained
                sampling = replace(sampling, constrained=free)
            else:
                judgement = given.judgement or ""
                prompt = self.engine.fit_followup(sample, task.name, judgement, turns, given.followup, most)
                prefill = ""
        except PromptTooLong as error:
            raise WorkerError(str(error), ErrorCode.CONTEXT_OVERFLOW) from None
        except ValueError as error:
            raise WorkerError(str(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        request = Request(given.seed_key, prompt.text, prompt.input_ids, prefill, len(sample.answers))
        shortened = prompt.shortened
        if any(left_out):
            # an answer of which anything was left out did not fit
            shortened = tuple(map(sum, zip(shortened or (0,) * len(left_out), left_out, strict=True)))
        return Prepared(request, sampling, shortened, "")


def _overflow(tokens: str, context: int) -> WorkerError:
    return WorkerError(f"the prompt has {tokens} tokens, the model's context {context}", ErrorCode.CONTEXT_OVERFLOW)


def create_app(worker: ModelWorker, register: bool = True, hosts: Hosts | None = None) -> FastAPI:
    """The worker's HTTP side, with FastChat's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if register:
            worker.init_heart_beat()
        yield
        worker.stop_heart_beat()
        await asyncio.to_thread(worker.batcher.close)

    app = FastAPI(title="JudgeLM model worker", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, MOST_BODY_BYTES + _OWN_BYTES, hosts=hosts)

    async def read(http: HTTPRequest) -> Any:
        try:
            return json.loads(await http.body())
        except (ValueError, RecursionError):
            raise WorkerError("the body is not JSON", ErrorCode.VALIDATION_TYPE_ERROR) from None

    async def prepare(http: HTTPRequest) -> Prepared:
        try:
            params = GenerateParams.model_validate(await read(http))
        except ValidationError as error:
            raise WorkerError(describe(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        worker.call_ct += 1
        return await worker.prepare(params)

    @app.exception_handler(WorkerError)
    async def refused(_: HTTPRequest, error: WorkerError) -> JSONResponse:
        # FastChat's clients look into the body, not at the status
        return JSONResponse(error_body(str(error), error.code))

    @app.exception_handler(Exception)
    async def broken(_: HTTPRequest, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return JSONResponse(error_body("the worker failed; its log says why", ErrorCode.INTERNAL_ERROR), 500)

    @app.post("/worker_generate_stream")
    async def generate_stream(http: HTTPRequest) -> Response:
        # the body is read before the answer begins: from then on only the client's end can come
        try:
            prepared = await prepare(http)
        except WorkerError as error:
            return Response(_chunk(error_body(str(error), error.code)))

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async with contextlib.aclosing(generate(worker, prepared)) as bodies:
                    async for body in bodies:
                        yield _chunk(body)
            except WorkerError as error:
                yield _chunk(error_body(str(error), error.code))

        return StreamingResponse(chunks())

    @app.post("/worker_generate")
    async def generate_whole(http: HTTPRequest) -> JSONResponse:
        last: dict[str, Any] = {}
        async with contextlib.aclosing(generate(worker, await prepare(http))) as bodies:
            async for body in bodies:
                last = body
        return JSONResponse(last)

    @app.post("/worker_get_status")
    async def status() -> Any:
        return worker.get_status()

    @app.post("/count_token")
    async def count_token(http: HTTPRequest) -> Any:
        params = await read(http)
        return await worker.count_token(params if isinstance(params, dict) else {})

    @app.post("/worker_get_conv_template")
    async def conversation() -> Any:
        return worker.get_conv_template()

    @app.post("/model_details")
    async def details() -> Any:
        return {"context_length": worker.context_len, OUR_WORKER: __version__, "chat": True}

    @app.post("/worker_get_embeddings")
    async def embeddings() -> Any:
        raise WorkerError("a judge gives no embeddings", ErrorCode.INVALID_MODEL)

    return app


async def generate(worker: ModelWorker, prepared: Prepared) -> AsyncGenerator[dict[str, Any], None]:
    """The bodies of a stream, the last with a finish reason. Closing it ends the generation.

    Raises WorkerError where the queue is full.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    # the newest update only: a slow reader must not make the worker hold all the others
    newest: list[Update] = []

    def put(update: Update) -> None:
        newest[:] = [update]
        changed.set()

    def deliver(update: Update) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(put, update)

    try:
        ticket: Ticket = worker.batcher.submit(prepared.request, prepared.sampling, deliver)
    except QueueFull as error:
        raise WorkerError(f"the worker is busy: {error}; try again later", ErrorCode.ENGINE_OVERLOADED) from None
    try:
        while True:
            await changed.wait()
            changed.clear()
            update = newest[0]
            yield _body(update, prepared)
            if update.last:
                return
    finally:
        worker.batcher.cancel(ticket)


def _chunk(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\0"


def _body(update: Update, prepared: Prepared) -> dict[str, Any]:
    if update.failed:
        return error_body("the worker failed; its log says why", ErrorCode.INTERNAL_ERROR)
    if update.finish_reason == "out_of_memory":
        return error_body("the prompt does not fit the worker's memory", ErrorCode.CUDA_OUT_OF_MEMORY)
    body: dict[str, Any] = {
        "text": prepared.echo + update.text,
        "error_code": 0,
        "usage": {
            "prompt_tokens": update.num_prompt_tokens,
            "completion_tokens": update.num_tokens,
            "total_tokens": update.num_prompt_tokens + update.num_tokens,
        },
        "finish_reason": update.finish_reason,
    }
    if prepared.shortened:
        body["shortened"] = list(prepared.shortened)
    return body


def build_parser() -> Parser:
    """The worker's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.model_worker",
        description="Serve one model to a controller. Users' requests are generated together, in one batch.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=WORKER_PORT, help="port to listen on")
    parser.add_argument("--worker-address", help="address under which others reach it (default: http://HOST:PORT)")
    parser.add_argument("--controller-address", default=CONTROLLER_ADDRESS, help="the controller's address")
    parser.add_argument("--model-path", required=True, metavar="M", help="hub id, local folder, PEFT adapter, or tiny")
    parser.add_argument(
        "--model-names",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="A,B",
        help="names under which clients ask for it (default: the last part of --model-path)",
    )
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs over which the model is spread")
    parser.add_argument("--max-gpu-memory", metavar="SIZE", help="most memory of each of them, such as 37GiB")
    add_device_arguments(parser)
    parser.add_argument(
        "--limit-worker-concurrency", type=int, default=32, metavar="N", help="most requests generated at once"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=256, metavar="N", help="most requests that wait; more are refused"
    )
    add_chat_format(parser)
    parser.add_argument(
        "--conv-template", metavar="NAME", help="FastChat's name of a chat format, in place of --chat-format"
    )
    add_allowed_hosts(parser)
    parser.add_argument("--no-register", action="store_true", help="do not look for a controller")
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        serve_worker(args)

    run_main(command, kept="the worker has ended", argv=argv)


def serve_worker(args: argparse.Namespace) -> None:
    """Load the model, then serve it."""
    controller = check_url(args.controller_address, "--controller-address")
    read_secret(TOKEN_VARIABLE)
    names = args.model_names or [served_name(args.model_path)]
    listening = listen(args.host, args.port)
    address = check_url(args.worker_address or address_of(listening), "--worker-address")
    hosts = read_hosts(args.allowed_hosts, args.host, urlsplit(address).hostname or "")
    folder = find_model(args.model_path)
    judge = Judge.load(
        folder,
        dtype=args.dtype,
        device=args.device,
        num_gpus=args.num_gpus,
        max_gpu_memory=args.max_gpu_memory,
        quantization=args.quantization,
        batch_tokens=args.batch_tokens,
    )
    log.info("loaded %s: %s", folder.name, dict(judge.engine.description))
    assert isinstance(judge.engine, HFEngine)
    chat = choose_format(args.chat_format, judge.engine.tokenizer, args.conv_template)
    batcher = Batcher(judge.engine, args.limit_worker_concurrency, args.max_waiting)
    worker = ModelWorker(judge, batcher, controller, address, names, chat)
    app = create_app(worker, register=not args.no_register, hosts=hosts)
    run_server(app, listening, goodbye=worker.stop_heart_beat)


if __name__ == "__main__":
    main()
