"""The controller in FastChat's protocol: it knows the workers and sends clients to them.

python -m judgelm.serve.controller
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI, HTTPException
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from judgelm.console import Parser, run_main
from judgelm.errors import InputError, one_line
from judgelm.serve.arguments import CONTROLLER_PORT, OPEN_CONTROLLER, TOKEN_VARIABLE, add_allowed_hosts
from judgelm.serve.guard import IP, Guard, Hosts, ip_of, read_hosts
from judgelm.serve.protocol import (
    HEART_BEAT_EXPIRATION_S,
    BaseController,
    DispatchMethod,
    ErrorCode,
    WorkerInfo,
    error_body,
)
from judgelm.serve.servers import (
    ask,
    check_url,
    describe,
    is_private,
    listen,
    log_to_stderr,
    read_secret,
    run_server,
    url_of,
)

log = logging.getLogger(__name__)

_MOST_WORKERS = 1024
_STATUS_TIMEOUT_S = 5
_GENERATE_TIMEOUT_S = 100
_MOST_QUEUE = 1_000_000


def _check_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has printable characters alone")
    return name


_Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_name)]
_Address = Annotated[str, Field(max_length=500)]
_Queue = Annotated[int, Field(ge=0, le=_MOST_QUEUE)]


class WorkerStatus(BaseModel):
    """What a worker says of itself."""

    model_names: Annotated[list[_Name], Field(min_length=1, max_length=64)]
    speed: Annotated[float, Field(gt=1e-6, le=1e6, allow_inf_nan=False)] = 1
    queue_length: _Queue = 0


class WorkerName(BaseModel):
    """The body of /deregister_worker."""

    worker_name: _Address


class Registration(WorkerName):
    """The body of /register_worker."""

    check_heart_beat: bool
    worker_status: WorkerStatus | None = None
    multimodal: bool = False


class HeartBeat(WorkerName):
    """The body of /receive_heart_beat."""

    queue_length: _Queue


class ModelQuestion(BaseModel):
    """The body of /get_worker_address; of a generation it is the part that is read here."""

    model_config = ConfigDict(extra="allow")
    model: Annotated[str, Field(max_length=500)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is."""

    address: str
    """to which clients are sent"""
    ips: frozenset[IP]
    """from which it speaks, where it has no token"""

    def is_of(self, client: str) -> bool:
        """Whether that client is on the worker's machine."""
        speaker = ip_of(client)
        return speaker is not None and all(_same_machine(speaker, ip) for ip in self.ips)


def find_place(name: str, client: str) -> Place | None:
    """The place of a worker that registers itself without a token: every address of its host must be the client's own,
    and one of them is kept, so that the name cannot be made to point elsewhere later on. None for another's.
    """
    parts = urlsplit(name)
    host = parts.hostname or ""
    try:
        found = {ip_of(str(entry[4][0])) for entry in socket.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None
    place = Place(name, frozenset(ip for ip in found if ip is not None))
    if None in found or not place.ips or not place.is_of(client):
        return None
    if host == "localhost" or ip_of(host) is not None:
        return place
    if parts.scheme == "https":
        # its certificate is for the name
        return None
    speaker = ip_of(client)
    ip = speaker if speaker in place.ips else min(place.ips, key=str)
    return replace(place, address=url_of(str(ip), parts.port or 80))


def _same_machine(one: IP, other: IP) -> bool:
    return one == other or (one.is_loopback and other.is_loopback)


class Controller(BaseController):  # type: ignore[misc]
    """FastChat's controller, safe for several threads; workers that are asked for their status are asked at once."""

    def __init__(self, dispatch_method: str) -> None:
        # FastChat's own starts a thread that would keep the process from ending
        self.worker_info: dict[str, Any] = {}
        self.dispatch_method = DispatchMethod.from_str(dispatch_method)
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._places: dict[str, Place] = {}
        self.missing: dict[str, list[str]] = {}
        """models of the workers that went away without a word and were not replaced"""

    def watch(self) -> None:
        """Drop workers whose heart has stopped, until `closing` is set."""
        while not self.closing.wait(max(0.1, HEART_BEAT_EXPIRATION_S / 10)):
            with self.lock:
                before = dict(self.worker_info)
                self.remove_stale_workers_by_expiration()
                for name in set(before) - set(self.worker_info):
                    log.warning("worker %s sent no heart beat for %d s and is dropped", name, HEART_BEAT_EXPIRATION_S)
                    self._miss(name, before[name].model_names)

    def register_worker(
        self,
        worker_name: str,
        check_heart_beat: bool,
        worker_status: dict[str, Any] | None,
        multimodal: bool,
        place: Place | None = None,
    ) -> bool:
        place = place or self._places.get(worker_name) or Place(worker_name, frozenset())
        status = worker_status or _ask_status(worker_name, place.address)
        if not status:
            return False
        with self.lock:
            if worker_name not in self.worker_info:
                if len(self.worker_info) >= _MOST_WORKERS:
                    return False
                log.info("worker %s registered: %s", worker_name, ", ".join(status["model_names"]))
                self._found(worker_name, status["model_names"])
            self._places[worker_name] = place
            self.worker_info[worker_name] = WorkerInfo(
                status["model_names"],
                status["speed"],
                status["queue_length"],
                check_heart_beat,
                time.time(),
                multimodal,
            )
        return True

    def remove_worker(self, worker_name: str) -> None:
        super().remove_worker(worker_name)
        self._places.pop(worker_name, None)

    def deregister_worker(self, worker_name: str) -> bool:
        """A worker that ends says so; whether it was known."""
        with self.lock:
            self.missing.pop(worker_name, None)
            if worker_name not in self.worker_info:
                return False
            self.remove_worker(worker_name)
            log.info("worker %s has said goodbye", worker_name)
            return True

    def place_of(self, worker_name: str) -> Place | None:
        """Where a registered worker is."""
        with self.lock:
            return self._places.get(worker_name)

    def _miss(self, name: str, models: list[str]) -> None:
        if len(self.missing) < _MOST_WORKERS:
            self.missing[name] = models

    def _found(self, name: str, models: list[str]) -> None:
        """A worker that comes back, or another one of the same models, is not missed any more."""
        replaced = [name] if name in self.missing else [key for key, lost in self.missing.items() if lost == models]
        if replaced:
            del self.missing[replaced[0]]

    def get_worker_status(self, worker_name: str) -> dict[str, Any] | None:
        place = self.place_of(worker_name)
        return _ask_status(worker_name, place.address if place else worker_name)

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
                    self._miss(name, self.worker_info[name].model_names)
                    self.remove_worker(name)
                else:
                    self.register_worker(name, known[name].check_heart_beat, status, known[name].multimodal)

    def worker_api_get_status(self) -> dict[str, Any]:
        with self.lock:
            names = list(self.worker_info)
        found = [status for _, status in self._statuses(names) if status is not None]
        return {
            "model_names": sorted({name for status in found for name in status["model_names"]}),
            # no more than a controller takes that has this one as its worker
            "speed": min(1e6, sum(status["speed"] for status in found)),
            "queue_length": min(_MOST_QUEUE, sum(status["queue_length"] for status in found)),
        }

    def _statuses(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        if names:
            with ThreadPoolExecutor(min(32, len(names))) as pool:
                yield from zip(names, pool.map(self.get_worker_status, names), strict=True)

    def get_worker_address(self, model_name: str) -> str:
        with self.lock:
            # the shortest queue counts its own dispatches until the worker's next heart beat
            lottery = self.dispatch_method is DispatchMethod.LOTTERY
            name = self._draw(model_name) if lottery else str(super().get_worker_address(model_name))
            return self._places[name].address if name else ""

    def _draw(self, model_name: str) -> str:
        having = {name: info.speed for name, info in self.worker_info.items() if model_name in info.model_names}
        return random.choices(list(having), list(having.values()))[0] if having else ""

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
            with (
                httpx.Client(trust_env=False, timeout=_GENERATE_TIMEOUT_S) as http,
                http.stream("POST", address + "/worker_generate_stream", json=params) as response,
            ):
                yield from response.iter_bytes()
        except httpx.HTTPError:
            yield _chunk("the worker does not answer", ErrorCode.CONTROLLER_WORKER_TIMEOUT)


def _ask_status(name: str, address: str) -> dict[str, Any] | None:
    try:
        answer = ask(address + "/worker_get_status", timeout_s=_STATUS_TIMEOUT_S).raise_for_status()
        return WorkerStatus.model_validate(answer.json()).model_dump()
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        log.warning("worker %s does not give its status: %s", name, type(error).__name__)
        return None


def _chunk(message: str, code: int) -> bytes:
    return json.dumps(error_body(message, code)).encode() + b"\0"


_WITH_TOKEN = ("/register_worker", "/receive_heart_beat", "/deregister_worker")


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

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HTTPRequest, error: RequestValidationError) -> JSONResponse:
        places = (
            ".".join(str(part) for part in entry["loc"][1:]) + ": " + entry["msg"] for entry in error.errors()[:3]
        )
        return JSONResponse(error_body(one_line("; ".join(places)), ErrorCode.VALIDATION_TYPE_ERROR), 422)

    def read_name(body: WorkerName) -> str:
        try:
            return check_url(body.worker_name, "worker_name")
        except InputError as error:
            raise HTTPException(422, one_line(str(error))) from None

    def may_speak_for(name: str, http: HTTPRequest) -> bool:
        place = controller.place_of(name)
        return bool(token) or place is None or place.is_of(http.client.host if http.client else "")

    @app.post("/register_worker")
    def register_worker(body: Registration, http: HTTPRequest) -> None:
        name = read_name(body)
        # without a token a worker may speak for its own machine only, so that nobody is sent to another's
        place = Place(name, frozenset()) if token else find_place(name, http.client.host if http.client else "")
        if place is None:
            raise HTTPException(
                403, f"{name} is not an address of the machine that registers it; set {TOKEN_VARIABLE} on both sides"
            )
        status = body.worker_status.model_dump() if body.worker_status else None
        if not controller.register_worker(name, body.check_heart_beat, status, body.multimodal, place):
            raise HTTPException(409, "the worker does not answer, or there are too many")

    @app.post("/receive_heart_beat")
    async def receive_heart_beat(body: HeartBeat, http: HTTPRequest) -> Any:
        name = read_name(body)
        return {"exist": may_speak_for(name, http) and controller.receive_heart_beat(name, body.queue_length)}

    @app.post("/deregister_worker")
    async def deregister_worker(body: WorkerName, http: HTTPRequest) -> Any:
        name = read_name(body)
        return {"exist": may_speak_for(name, http) and controller.deregister_worker(name)}

    @app.post("/list_missing_models")
    async def list_missing_models() -> Any:
        with controller.lock:
            return {"models": sorted(name for models in controller.missing.values() for name in models)}

    @app.post("/refresh_all_workers")
    def refresh_all_workers() -> None:
        controller.refresh_all_workers()

    @app.post("/list_models")
    async def list_models() -> Any:
        with controller.lock:
            return {"models": controller.list_models()}

    @app.post("/list_multimodal_models")
    async def list_multimodal_models() -> Any:
        with controller.lock:
            return {"models": controller.list_multimodal_models()}

    @app.post("/list_language_models")
    async def list_language_models() -> Any:
        with controller.lock:
            return {"models": controller.list_language_models()}

    @app.post("/get_worker_address")
    async def get_worker_address(body: ModelQuestion) -> Any:
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
    async def test_connection() -> str:
        return "success"

    return app


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
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        token, hosts = read_secret(TOKEN_VARIABLE), read_hosts(args.allowed_hosts, args.host)
        listening = listen(args.host, args.port)
        if token is None and not is_private(listening):
            log.warning(OPEN_CONTROLLER)
        run_server(create_app(Controller(args.dispatch_method), token, hosts), listening)

    run_main(command, kept="the controller has ended")


if __name__ == "__main__":
    main()
