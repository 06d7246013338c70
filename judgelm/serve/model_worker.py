"""A model worker as a server in FastChat's protocol.

python -m judgelm.serve.model_worker --model-path tiny
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from judgelm.calibration import of_a_judge
from judgelm.console import Parser, at_least, run_main
from judgelm.engine.shared import SharedEngine
from judgelm.errors import InputError
from judgelm.evaluation.calibration_map import CalibrationFile
from judgelm.flags import add_allowed_hosts, add_chat_format, add_loading_arguments, loading
from judgelm.judge.judge import Judge
from judgelm.judge.settings import tasks_of
from judgelm.models.folder import ModelFolder, find_model
from judgelm.models.prompt_format import find_prompt_format, form_for
from judgelm.prompt_flags import (
    add_calibration_argument,
    add_reasoning_arguments,
    add_template_arguments,
    choose_form,
)
from judgelm.prompt_form import PromptForm
from judgelm.serve.batcher import Batcher
from judgelm.serve.chat import choose_format
from judgelm.serve.draining import Drain
from judgelm.serve.guard import MOST_BODY_BYTES, Guard
from judgelm.serve.hosts import Hosts, read_hosts
from judgelm.serve.protocol import ErrorCode, WorkerError, error_body, error_chunk
from judgelm.serve.servers import address_of, check_url, describe, listen, log_to_stderr, read_secret, run_server
from judgelm.serve.settings import CONTROLLER_ADDRESS, TOKEN_VARIABLE, WORKER_PORT, served_name
from judgelm.serve.worker import ModelWorker
from judgelm.serve.worker_prompts import Prepared
from judgelm.serve.worker_requests import GenerateParams
from judgelm.serve_flags import add_drain_timeout
from judgelm.threads import in_a_passing_thread

log = logging.getLogger(__name__)

_OWN_BYTES = 64 << 10
"""of a request besides the texts that an API passes on, so that what fits there fits here"""


def create_app(
    worker: ModelWorker, register: bool = True, hosts: Hosts | None = None, drain: Drain | None = None
) -> FastAPI:
    """The worker's HTTP side, with FastChat's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if register:
            worker.init_heart_beat()
        yield
        worker.stop_heart_beat()
        await asyncio.to_thread(worker.batcher.close)

    app = FastAPI(title="JudgeLM model worker", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, MOST_BODY_BYTES + _OWN_BYTES, hosts=hosts, drain=drain)
    app.add_exception_handler(WorkerError, _refused)
    app.add_exception_handler(Exception, _broken)
    _add_generation(app, worker)
    _add_status(app, worker)
    return app


async def _refused(_: HTTPRequest, error: Exception) -> Response:
    assert isinstance(error, WorkerError)
    # FastChat's clients look into the body, not at the status
    return JSONResponse(error_body(str(error), error.code, error.verdict_format))


async def _broken(_: HTTPRequest, error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return JSONResponse(error_body("the worker failed; its log says why", ErrorCode.INTERNAL_ERROR), 500)


async def _read(http: HTTPRequest) -> Any:
    try:
        return json.loads(await http.body())
    except (ValueError, RecursionError):
        raise WorkerError("the body is not JSON", ErrorCode.VALIDATION_TYPE_ERROR) from None


def _add_generation(app: FastAPI, worker: ModelWorker) -> None:
    async def prepare(http: HTTPRequest) -> Prepared:
        try:
            params = GenerateParams.model_validate(await _read(http))
        except (ValidationError, InputError) as error:
            said = describe(error) if isinstance(error, ValidationError) else str(error)
            raise WorkerError(said, ErrorCode.VALIDATION_TYPE_ERROR) from None
        return await worker.prompts.prepare(params)

    @app.post("/worker_generate_stream")
    async def generate_stream(http: HTTPRequest) -> Response:
        # the body is read before the answer begins: from then on only the client's end can come
        try:
            prepared = await prepare(http)
        except WorkerError as error:
            return Response(error_chunk(str(error), error.code, error.verdict_format))

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async with contextlib.aclosing(worker.generate(prepared)) as bodies:
                    async for body in bodies:
                        yield json.dumps(body).encode() + b"\0"
            except WorkerError as error:
                yield error_chunk(str(error), error.code)

        return StreamingResponse(chunks())

    @app.post("/worker_generate")
    async def generate_whole(http: HTTPRequest) -> JSONResponse:
        last: dict[str, Any] = {}
        async with contextlib.aclosing(worker.generate(await prepare(http))) as bodies:
            async for body in bodies:
                last = body
        return JSONResponse(last)


def _add_status(app: FastAPI, worker: ModelWorker) -> None:
    for path, answer in {
        "/worker_get_status": worker.get_status,
        "/worker_counts": worker.get_counts,
        "/worker_get_conv_template": worker.get_conv_template,
        "/model_details": worker.get_details,
    }.items():
        app.add_api_route(path, answer, methods=["POST"], response_model=None)

    @app.post("/count_token")
    async def count_token(http: HTTPRequest) -> Any:
        params = await _read(http)
        return await worker.count_token(params if isinstance(params, dict) else {})

    @app.get("/test_connection")
    async def test_connection() -> str:
        return "success"

    @app.post("/worker_get_embeddings")
    async def embeddings() -> Any:
        raise WorkerError("a judge gives no embeddings", ErrorCode.INVALID_MODEL)


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
    add_loading_arguments(parser)
    add_template_arguments(parser)
    add_reasoning_arguments(parser)
    add_calibration_argument(parser)
    parser.add_argument(
        "--limit-worker-concurrency",
        type=at_least(1),
        metavar="N",
        help="most requests generated at once (default: 32, with --engine vllm 128)",
    )
    parser.add_argument(
        "--max-waiting", type=int, default=256, metavar="N", help="most requests that wait; more are refused"
    )
    add_chat_format(parser)
    parser.add_argument(
        "--conv-template", metavar="NAME", help="FastChat's name of a chat format, in place of --chat-format"
    )
    add_allowed_hosts(parser)
    add_drain_timeout(parser)
    parser.add_argument("--no-register", action="store_true", help="do not look for a controller")
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    run_main(lambda: _serve(build_parser().parse_args(argv)), kept="the worker has ended", argv=argv)


def _find_form(args: argparse.Namespace, folder: ModelFolder) -> PromptForm:
    """How the model is asked to judge. Raises InputError, before it is loaded, where it cannot be asked so."""
    form = form_for(folder, args.prompt_format, choose_form(args))
    tasks_of(form)
    # clients are told of a template's file, but not where it lies
    named = form.template and replace(form.template, name=Path(form.template.name).name)
    return replace(form, template=named)


def _find_calibration(args: argparse.Namespace, folder: ModelFolder, form: PromptForm) -> CalibrationFile | None:
    """A map of the model's probabilities. Raises InputError where it is one of another judge."""
    if args.calibration is None:
        return None
    found = CalibrationFile.read(args.calibration)
    asked = find_prompt_format(folder, args.prompt_format)
    settings = {
        "model": folder.name,
        "model_fingerprint": folder.fingerprint(),
        "quantization": args.quantization,
        "prompt_format": asked.name,
        "prompt_template": None if form.template is None else form.template.sha256,
        "chat_template_sha256": asked.template_sha256,
    }
    found.calibration(args.calibration).check(of_a_judge(settings), "this worker's")
    return found


def _load(folder: ModelFolder, args: argparse.Namespace) -> Judge:
    def load() -> Judge:
        return Judge.load(folder, **loading(args))

    # the batcher's thread computes from now on, and no other should; vLLM computes in a process of its own
    return in_a_passing_thread(load) if args.engine == "hf" else load()


def _serve(args: argparse.Namespace) -> None:
    log_to_stderr()
    controller = check_url(args.controller_address, "--controller-address")
    read_secret(TOKEN_VARIABLE)
    names = args.model_names or [served_name(args.model_path)]
    folder = find_model(args.model_path)
    form = _find_form(args, folder)
    calibration = _find_calibration(args, folder, form)
    listening = listen(args.host, args.port)
    address = check_url(args.worker_address or address_of(listening), "--worker-address")
    hosts = read_hosts(args.allowed_hosts, args.host, urlsplit(address).hostname or "")
    judge = _load(folder, args)
    log.info("loaded %s: %s", folder.name, dict(judge.engine.description))
    assert isinstance(judge.engine, SharedEngine)
    chat = choose_format(args.chat_format, judge.engine.tokenizer, args.conv_template)
    batcher = Batcher(judge.engine, args.limit_worker_concurrency, args.max_waiting)
    worker = ModelWorker(judge, batcher, controller, address, names, chat, form, calibration)
    drain = Drain(args.drain_timeout)
    app = create_app(worker, register=not args.no_register, hosts=hosts, drain=drain)
    run_server(app, listening, goodbye=worker.stop_heart_beat, drain=drain)


if __name__ == "__main__":
    main()
