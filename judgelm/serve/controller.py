"""The controller in FastChat's protocol: it knows the workers and sends clients to them.

python -m judgelm.serve.controller
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NoReturn

import requests
from fastapi import Depends, FastAPI, HTTPException
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judgelm.console import Parser, run_main
from judgelm.jsonl import InputError
from judgelm.serve.arguments import CONTROLLER_PORT
from judgelm.serve.http import Guard, check_url, describe, listen, log_to_stderr, run_server
from judgelm.serve.protocol import (
    HEART_BEAT_EXPIRATION_S,
    TOKEN_VARIABLE,
    BaseController,
    DispatchMethod,
    ErrorCode,
    WorkerInfo,
    error_body,
)

log = logging.getLogger(__name__)

_MOST_WORKERS = 1024
_STATUS_TIMEOUT_S = 5
_GENERATE_TIMEOUT_S = 100


class WorkerStatus(BaseModel):
    """What a worker says of itself."""

    model_names: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=64)
    ]
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    queue_length: Annotated[int, Field(ge=0)] = 0


class Registration(BaseModel):
    """The body of /register_worker."""

    worker_name: Annotated[str, Field(max_length=500)]
    check_heart_beat: bool
    worker_status: WorkerStatus | None = None
    multimodal: bool = False


class HeartBeat(BaseModel):
    """The body of /receive_heart_beat."""

    worker_name: Annotated[str, Field(max_length=500)]
    queue_length: Annotated[int, Field(ge=0)]


class ModelQuestion(BaseModel):
    """The body of /get_worker_address; of a generation it is the part that is read here."""

    model_config = ConfigDict(extra="allow")
    model: str


class Controller(BaseController):  # type: ignore[misc]
    """FastChat's controller, safe for several threads; workers that are asked for their status are asked at once."""

    def __init__(self, dispatch_method: str) -> None:
        # FastChat's own starts a thread that would keep the process from ending
        self.worker_info: dict[str, Any] = {}
        self.dispatch_method = DispatchMethod.from_str(dispatch_method)
        self.lock = threading.RLock()
        self.closing = threading.Event()

    def watch(self) -> None:
        """Drop workers whose heart has stopped, until `closing` is set."""
        while not self.closing.wait(max(0.1, HEART_BEAT_EXPIRATION_S / 10)):
            with self.lock:
                before = set(self.worker_info)
                self.remove_stale_workers_by_expiration()
                for name in before - set(self.worker_info):
                    log.warning("worker %s sent no heart beat for %d s and is dropped", name, HEART_BEAT_EXPIRATION_S)

    def register_worker(
        self, worker_name: str, check_heart_beat: bool, worker_status: dict[str, Any] | None, multimodal: bool
    ) -> bool:
        status = worker_status or self.get_worker_status(worker_name)
        if not status:
            return False
        with self.lock:
            if worker_name not in self.worker_info:
                if len(self.worker_info) >= _MOST_WORKERS:
                    return False
                log.info("worker %s registered: %s", worker_name, ", ".join(status["model_names"]))
            self.worker_info[worker_name] = WorkerInfo(
                status["model_names"],
                status["speed"],
                status["queue_length"],
                check_heart_beat,
                time.time(),
                multimodal,
            )
        return True

    def get_worker_status(self, worker_name: str) -> dict[str, Any] | None:
        try:
            response = requests.post(
                worker_name + "/worker_get_status", timeout=_STATUS_TIMEOUT_S, allow_redirects=False
            )
            response.raise_for_status()
            return WorkerStatus.model_validate(response.json()).model_dump()
        except (requests.RequestException, ValueError) as error:
            log.warning("worker %s does not give its status: %s", worker_name, type(error).__name__)
            return None

    def refresh_all_workers(self) -> None:
        """Ask every worker; those that do not answer are dropped. Meanwhile clients are served as before."""
        with self.lock:
            known = dict(self.worker_info)
        for name, status in self._statuses(list(known)):
            with self.lock:
                if name not in self.worker_info:
                    continue
                if status is None:
                    log.warning("worker %s is dropped", name)
                    self.remove_worker(name)
                else:
                    self.register_worker(name, known[name].check_heart_beat, status, known[name].multimodal)

    def worker_api_get_status(self) -> dict[str, Any]:
        with self.lock:
            names = list(self.worker_info)
        found = [status for _, status in self._statuses(names) if status is not None]
        return {
            "model_names": sorted({name for status in found for name in status["model_names"]}),
            "speed": sum(status["speed"] for status in found),
            "queue_length": sum(status["queue_length"] for status in found),
        }

    def _statuses(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        if names:
            with ThreadPoolExecutor(min(32, len(names))) as pool:
                yield from zip(names, pool.map(self.get_worker_status, names), strict=True)

    def get_worker_address(self, model_name: str) -> str:
        with self.lock:
            if self.dispatch_method is DispatchMethod.LOTTERY:
                having = [
                    (name, info.speed) for name, info in self.worker_info.items() if model_name in info.model_names
                ]
                if not having:
                    return ""
                names, speeds = zip(*having, strict=True)
                return str(random.choices(names, speeds)[0])
            # it counts its own dispatches until the worker's next heart beat
            return str(super().get_worker_address(model_name))

    def receive_heart_beat(self, worker_name: str, queue_length: int) -> bool:
        with self.lock:
            info = self.worker_info.get(worker_name)
            if info is not None:
                info.queue_length = queue_length
                info.last_heart_beat = time.time()
            return info is not None

    def worker_api_generate_stream(self, params: dict[str, Any]) -> Iterator[bytes]:
        """Pass a generation on, so that a controller can stand as a worker of another one."""
        address = self.get_worker_address(params["model"])
        if not address:
            yield _chunk("no worker has this model", ErrorCode.CONTROLLER_NO_WORKER)
            return
        try:
            with requests.post(
                address + "/worker_generate_stream",
                json=params,
                stream=True,
                timeout=_GENERATE_TIMEOUT_S,
                allow_redirects=False,
            ) as response:
                for chunk in response.iter_lines(chunk_size=1, delimiter=b"\0"):
                    if chunk:
                        yield chunk + b"\0"
        except requests.RequestException:
            yield _chunk("the worker does not answer", ErrorCode.CONTROLLER_WORKER_TIMEOUT)


def _chunk(message: str, code: int) -> bytes:
    return json.dumps(error_body(message, code)).encode() + b"\0"


def create_app(controller: Controller, token: str | None = None) -> FastAPI:
    """The controller's HTTP side, with FastChat's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=controller.watch, name="watch", daemon=True).start()
        yield
        controller.closing.set()

    app = FastAPI(title="JudgeLM controller", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HTTPRequest, error: RequestValidationError) -> JSONResponse:
        places = (
            ".".join(str(part) for part in entry["loc"][1:]) + ": " + entry["msg"] for entry in error.errors()[:3]
        )
        return JSONResponse(error_body("; ".join(places), ErrorCode.VALIDATION_TYPE_ERROR), 422)

    def allowed(http: HTTPRequest) -> None:
        sent = http.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(sent.encode(), token.encode()):
            raise HTTPException(401, f"this controller wants the token of {TOKEN_VARIABLE}")

    @app.post("/register_worker", dependencies=[Depends(allowed)])
    def register_worker(body: Registration, http: HTTPRequest) -> None:
        try:
            address = check_url(body.worker_name, "worker_name")
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        # without a token a worker may speak for its own machine only, so that nobody is sent to another's
        if not token and not _is_clients_own(address, http.client.host if http.client else ""):
            raise HTTPException(
                403, f"{address} is not an address of the machine that registers it; set {TOKEN_VARIABLE} on both sides"
            )
        status = body.worker_status.model_dump() if body.worker_status else None
        if not controller.register_worker(address, body.check_heart_beat, status, body.multimodal):
            raise HTTPException(409, "the worker does not answer, or there are too many")

    @app.post("/receive_heart_beat", dependencies=[Depends(allowed)])
    def receive_heart_beat(body: HeartBeat) -> Any:
        return {"exist": controller.receive_heart_beat(body.worker_name.rstrip("/"), body.queue_length)}

    @app.post("/refresh_all_workers")
    def refresh_all_workers() -> None:
        controller.refresh_all_workers()

    @app.post("/list_models")
    def list_models() -> Any:
        with controller.lock:
            return {"models": controller.list_models()}

    @app.post("/list_multimodal_models")
    def list_multimodal_models() -> Any:
        with controller.lock:
            return {"models": controller.list_multimodal_models()}

    @app.post("/list_language_models")
    def list_language_models() -> Any:
        with controller.lock:
            return {"models": controller.list_language_models()}

    @app.post("/get_worker_address")
    def get_worker_address(body: ModelQuestion) -> Any:
        return {"address": controller.get_worker_address(body.model)}

    @app.post("/worker_generate_stream")
    async def generate_stream(http: HTTPRequest) -> Any:
        try:
            params = ModelQuestion.model_validate_json(await http.body())
        except ValidationError as error:
            return JSONResponse(error_body(describe(error), ErrorCode.VALIDATION_TYPE_ERROR), 422)
        return StreamingResponse(controller.worker_api_generate_stream(params.model_dump()))

    @app.post("/worker_get_status")
    def worker_get_status() -> Any:
        return controller.worker_api_get_status()

    @app.get("/test_connection")
    def test_connection() -> str:
        return "success"

    return app


def _is_clients_own(address: str, client: str) -> bool:
    """Whether the host of an address is the machine that speaks."""
    host = address.split("//", 1)[1].rsplit(":", 1)[0].strip("[]")
    try:
        speaker = ipaddress.ip_address(client)
        found = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (ValueError, OSError, UnicodeError):
        return False
    return speaker in found or (speaker.is_loopback and any(ip.is_loopback for ip in found))


def build_parser() -> Parser:
    """The controller's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.controller",
        description="Know the workers and send clients to them. Workers on other machines need the same"
        f" {TOKEN_VARIABLE} in their environment, if it is set here.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=CONTROLLER_PORT, help="port to listen on")
    parser.add_argument(
        "--dispatch-method",
        choices=("lottery", "shortest_queue"),
        default="shortest_queue",
        help="how one of several workers with the same model is chosen; lottery: at random, by speed",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        app = create_app(Controller(args.dispatch_method), os.environ.get(TOKEN_VARIABLE))
        run_server(app, listen(args.host, args.port))

    run_main(command, kept="the controller has ended")


if __name__ == "__main__":
    main()
