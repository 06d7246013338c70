"""A model worker in FastChat's protocol: one model, whose batch all users share.

python -m judgelm.serve.model_worker --model-path tiny
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import requests
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.encoding import PromptTooLong, encode
from judgelm.engine import Request, Sampling
from judgelm.engine.hf import HFEngine
from judgelm.llm_judge.arguments import add_device_arguments
from judgelm.llm_judge.judge import Judge
from judgelm.model import find_model
from judgelm.prompt import TASKS, render_prompt
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.arguments import CONTROLLER_ADDRESS, WORKER_PORT
from judgelm.serve.batcher import Batcher, QueueFull, Ticket, Update
from judgelm.serve.http import Guard, address_of, check_url, describe, listen, log_to_stderr, run_server
from judgelm.serve.protocol import (
    CONVERSATION,
    HEART_BEAT_INTERVAL_S,
    OUR_WORKER,
    TOKEN_VARIABLE,
    BaseModelWorker,
    ErrorCode,
    WorkerError,
    error_body,
    get_conv_template,
)

log = logging.getLogger(__name__)

_STOPS = 16


class Turn(BaseModel):
    """A question to the judge about its judgement, and the reply."""

    question: str
    reply: str


class JudgeSample(BaseModel):
    """What our own clients send beside `prompt`: then the worker itself shortens answers that are too long."""

    question: str
    answers: Annotated[list[str], Field(min_length=2, max_length=MAX_ANSWERS)]
    reference: str | None = None
    task: str = "pair"
    seed_key: str = "0"
    """the question_id, from which the random numbers come too"""
    judgement: str | None = None
    """what the judge wrote, for a follow-up"""
    turns: list[Turn] = []
    followup: str | None = None


class GenerateParams(BaseModel):
    """The body of /worker_generate and /worker_generate_stream. Other fields are passed over."""

    prompt: str = ""
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] | None = 256
    stop: str | Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=_STOPS)] | None = (
        None
    )
    stop_token_ids: Annotated[list[int], Field(max_length=_STOPS)] | None = None
    most_thoughts: Annotated[int, Field(ge=0)] = 0
    """more tokens for thoughts with which the text begins, which no stop string ends"""
    echo: bool | None = False
    seed: int | None = None
    sample: JudgeSample | None = None
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
        conversation: str = CONVERSATION,
    ) -> None:
        super().__init__(
            controller_address,
            worker_address,
            uuid.uuid4().hex[:8],
            model_names[0],
            list(model_names),
            batcher.max_running,
            conv_template=conversation,
        )
        assert isinstance(judge.engine, HFEngine)
        self.engine = judge.engine
        self.constrained = judge.constrained
        self.batcher = batcher
        self.context_len = self.engine.context_length
        self._stopped = threading.Event()

    def make_conv_template(self, conv_template: str | None = None, model_path: str | None = None) -> Any:
        return get_conv_template(conv_template)

    def get_queue_length(self) -> int:
        return self.batcher.queue_length

    def count_token(self, params: dict[str, Any]) -> dict[str, int]:
        return {"count": len(encode(str(params.get("prompt", "")), self.engine.tokenizer)), "error_code": 0}

    def init_heart_beat(self) -> None:
        """Register, and go on saying that the worker lives, in a thread of its own."""
        self.heart_beat_thread = threading.Thread(target=self._beat, name="heart-beat", daemon=True)
        self.heart_beat_thread.start()

    def stop_heart_beat(self) -> None:
        self._stopped.set()

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
            except (requests.RequestException, ValueError, KeyError) as error:
                if known or wait == 0:
                    log.warning("controller %s: %s; trying again", self.controller_addr, type(error).__name__)
                known, wait = False, min(5.0, HEART_BEAT_INTERVAL_S)

    def register_to_controller(self) -> None:
        """Raises requests.RequestException where the controller does not take it."""
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

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = requests.post(self.controller_addr + path, json=body, headers=headers, timeout=5)
        if response.status_code in (401, 403):
            log.error("controller %s refuses this worker: %s", self.controller_addr, response.text[:300])
        response.raise_for_status()
        return response

    def prepare(self, params: GenerateParams) -> Prepared:
        """Encode the prompt. Raises WorkerError where it cannot be generated."""
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
        input_ids = encode(params.prompt, self.engine.tokenizer)
        if len(input_ids) >= self.context_len:
            raise WorkerError(
                f"the prompt has {len(input_ids)} tokens, the model's context {self.context_len}",
                ErrorCode.CONTEXT_OVERFLOW,
            )
        if not input_ids:
            raise WorkerError("the prompt is empty", ErrorCode.VALIDATION_TYPE_ERROR)
        # without a seed every request has random numbers of its own
        key = "0" if params.seed is not None else uuid.uuid4().hex
        sampling = replace(sampling, constrained=bool(params.constrained))
        return Prepared(Request(key, params.prompt, input_ids), sampling, None, params.prompt if params.echo else "")

    def _prepare_sample(self, given: JudgeSample, constrained: bool | None, sampling: Sampling) -> Prepared:
        if given.task not in TASKS:
            raise WorkerError(f"unknown task, expected one of {', '.join(TASKS)}", ErrorCode.VALIDATION_TYPE_ERROR)
        task = TASKS[given.task]
        most = sampling.max_new_tokens
        try:
            sample = Sample(given.seed_key, given.question, tuple(given.answers), given.reference)
            render_prompt(sample, task.name)
            if given.followup is None:
                prompt = self.engine.fit(sample, task.name, most)
                prefill = task.prefill
                free = self.constrained if constrained is None else constrained
                sampling = replace(sampling, constrained=free)
            else:
                turns = [(turn.question, turn.reply) for turn in given.turns]
                judgement = given.judgement or ""
                prompt = self.engine.fit_followup(sample, task.name, judgement, turns, given.followup, most)
                prefill = ""
        except PromptTooLong as error:
            raise WorkerError(str(error), ErrorCode.CONTEXT_OVERFLOW) from None
        except ValueError as error:
            raise WorkerError(str(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        request = Request(given.seed_key, prompt.text, prompt.input_ids, prefill, len(sample.answers))
        return Prepared(request, sampling, prompt.shortened, "")


def create_app(worker: ModelWorker, register: bool = True) -> FastAPI:
    """The worker's HTTP side, with FastChat's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if register:
            worker.init_heart_beat()
        yield
        worker.stop_heart_beat()
        await asyncio.to_thread(worker.batcher.close)

    app = FastAPI(title="JudgeLM model worker", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard)

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
        return await asyncio.to_thread(worker.prepare, params)

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
        return worker.count_token(params if isinstance(params, dict) else {})

    @app.post("/worker_get_conv_template")
    async def conversation() -> Any:
        return worker.get_conv_template()

    @app.post("/model_details")
    async def details() -> Any:
        return {"context_length": worker.context_len, OUR_WORKER: __version__}

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
    parser.add_argument(
        "--conv-template", default=CONVERSATION, metavar="NAME", help="FastChat's name of a chat format"
    )
    parser.add_argument("--no-register", action="store_true", help="do not look for a controller")
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        serve_worker(args)

    run_main(command, kept="the worker has ended")


def serve_worker(args: argparse.Namespace) -> None:
    """Load the model, then serve it."""
    controller = check_url(args.controller_address, "--controller-address")
    listening = listen(args.host, args.port)
    address = check_url(args.worker_address or address_of(listening), "--worker-address")
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
    batcher = Batcher(judge.engine, args.limit_worker_concurrency, args.max_waiting)
    names = args.model_names or [Path(folder.name).name]
    worker = ModelWorker(judge, batcher, controller, address, names, args.conv_template)
    run_server(create_app(worker, register=not args.no_register), listening)


if __name__ == "__main__":
    main()
