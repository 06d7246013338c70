"""The controller in FastChat's protocol: it knows the workers and sends clients to them.

python -m judgelm.serve.controller
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Annotated, Any, NoReturn

from fastapi import FastAPI, HTTPException
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import AfterValidator, BaseModel, Field

from judgelm.console import Parser, run_main
from judgelm.errors import InputError
from judgelm.flags import add_allowed_hosts
from judgelm.serve.guard import Guard
from judgelm.serve.hosts import Hosts, read_hosts
from judgelm.serve.protocol import ErrorCode, error_body
from judgelm.serve.registry import Controller, Place, QueueLength, WorkerStatus, find_place
from judgelm.serve.servers import check_url, describe, is_private, listen, log_to_stderr, read_secret, run_server
from judgelm.serve.settings import CONTROLLER_PORT, OPEN_CONTROLLER, TOKEN_VARIABLE

log = logging.getLogger(__name__)

_WITH_TOKEN = ("/register_worker", "/receive_heart_beat", "/deregister_worker")


def _check_address(name: str) -> str:
    try:
        return check_url(name, "worker_name")
    except InputError as error:
        raise ValueError(str(error)) from None


class WorkerName(BaseModel):
    """The body of /deregister_worker."""

    worker_name: Annotated[str, Field(max_length=500), AfterValidator(_check_address)]


class Registration(WorkerName):
    """The body of /register_worker."""

    check_heart_beat: bool
    worker_status: WorkerStatus | None = None
    multimodal: bool = False


class HeartBeat(WorkerName):
    """The body of /receive_heart_beat."""

    queue_length: QueueLength


class ModelQuestion(BaseModel, extra="allow"):
    """The body of /get_worker_address; of a generation it is the part that is read here."""

    model: Annotated[str, Field(max_length=500)]


def create_app(controller: Controller, token: str | None = None, hosts: Hosts | None = None) -> FastAPI:
    """The controller's HTTP side, with FastChat's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=controller.watch, name="watch", daemon=True).start()
        yield
        controller.closing.set()

    def admit(path: str, authorization: str) -> str | None:
        sent = authorization.removeprefix("Bearer ").encode("latin-1", "replace")
        if token and path in _WITH_TOKEN and not hmac.compare_digest(sent, token.encode()):
            return f"this controller wants the token of {TOKEN_VARIABLE}"
        return None

    app = FastAPI(title="JudgeLM controller", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, hosts=hosts, admit=admit)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_routes_of_workers(app, controller, bool(token))
    _add_routes_of_clients(app, controller)
    return app


async def _invalid(_: HTTPRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(error_body(describe(error), ErrorCode.VALIDATION_TYPE_ERROR), 422)


def _add_routes_of_workers(app: FastAPI, controller: Controller, with_token: bool) -> None:
    def may_speak_for(name: str, http: HTTPRequest) -> bool:
        place = controller.place_of(name)
        return with_token or place is None or place.is_of(_speaker(http))

    @app.post("/register_worker")
    def register_worker(body: Registration, http: HTTPRequest) -> None:
        name = body.worker_name
        # without a token a worker may speak for its own machine only, so that nobody is sent to another's
        place = Place(name, frozenset()) if with_token else find_place(name, _speaker(http))
        if place is None:
            raise HTTPException(
                403, f"{name} is not an address of the machine that registers it; set {TOKEN_VARIABLE} on both sides"
            )
        if not controller.register_worker(name, body.check_heart_beat, body.worker_status, body.multimodal, place):
            raise HTTPException(409, "the worker does not answer, or there are too many")

    @app.post("/receive_heart_beat")
    async def receive_heart_beat(body: HeartBeat, http: HTTPRequest) -> Any:
        name = body.worker_name
        return {"exist": may_speak_for(name, http) and controller.receive_heart_beat(name, body.queue_length)}

    @app.post("/deregister_worker")
    async def deregister_worker(body: WorkerName, http: HTTPRequest) -> Any:
        name = body.worker_name
        return {"exist": may_speak_for(name, http) and controller.deregister_worker(name)}


def _speaker(http: HTTPRequest) -> str:
    return http.client.host if http.client else ""


def _add_routes_of_clients(app: FastAPI, controller: Controller) -> None:
    def listed(names: Callable[[], list[str]]) -> Callable[[], Any]:
        async def answer() -> dict[str, list[str]]:
            return {"models": names()}

        return answer

    lists: dict[str, Callable[[], list[str]]] = {
        "/list_models": controller.list_models,
        "/list_multimodal_models": partial(controller.list_models, multimodal=True),
        "/list_language_models": partial(controller.list_models, multimodal=False),
        "/list_missing_models": controller.list_missing_models,
    }
    for path, names in lists.items():
        app.add_api_route(path, listed(names), methods=["POST"])
    app.add_api_route("/refresh_all_workers", controller.refresh_all_workers, methods=["POST"])
    app.add_api_route("/worker_get_status", controller.worker_api_get_status, methods=["POST"])

    @app.post("/list_workers")
    async def list_workers() -> Any:
        return {"workers": controller.list_workers()}

    @app.post("/get_worker_address")
    async def get_worker_address(body: ModelQuestion) -> Any:
        return {"address": controller.get_worker_address(body.model)}

    @app.post("/worker_generate_stream")
    async def generate_stream(body: ModelQuestion) -> Any:
        return StreamingResponse(controller.worker_api_generate_stream(body.model_dump()))

    @app.get("/test_connection")
    async def test_connection() -> str:
        return "success"


def build_parser() -> Parser:
    """The controller's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.controller",
        description="Know the workers and send clients to them. Workers on other machines need the same"
        f" {TOKEN_VARIABLE} in their environment, if it is set here.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=CONTROLLER_PORT, help="port to listen on")
    add_allowed_hosts(parser)
    parser.add_argument(
        "--dispatch-method",
        choices=("lottery", "shortest_queue"),
        default="shortest_queue",
        help="how one of several workers with the same model is chosen; lottery: at random, by speed",
    )
    # `judgelm serve`, which starts it, has said that it is open
    parser.add_argument("--warned", action="store_true", help=argparse.SUPPRESS)
    return parser


def _serve(args: argparse.Namespace) -> None:
    log_to_stderr()
    token, hosts = read_secret(TOKEN_VARIABLE), read_hosts(args.allowed_hosts, args.host)
    listening = listen(args.host, args.port)
    if token is None and not args.warned and not is_private(listening):
        log.warning(OPEN_CONTROLLER)
    run_server(create_app(Controller(args.dispatch_method), token, hosts), listening)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    run_main(lambda: _serve(build_parser().parse_args(argv)), kept="the controller has ended")


if __name__ == "__main__":
    main()
