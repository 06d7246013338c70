"""The HTTP API for programs, in front of a controller: judgements, and OpenAI's completions.

python -m judgelm.serve.api
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

from fastapi import Depends, FastAPI, HTTPException
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import Route

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.errors import InputError, one_line
from judgelm.jsonl import dump_line
from judgelm.serve.arguments import API_PORT, CONTROLLER_ADDRESS, add_allowed_hosts
from judgelm.serve.counters import Metrics
from judgelm.serve.guard import App, Guard, Hosts, Message, Receive, Send, read_hosts
from judgelm.serve.judgements import ErrorOut, Event, JudgementRequest, ResultOut, check_request, judge_through
from judgelm.serve.openai_requests import UnsupportedField
from judgelm.serve.openai_routes import openai_router
from judgelm.serve.protocol import TOO_LARGE, ErrorCode, WorkerError
from judgelm.serve.servers import check_url, listen, log_to_stderr, read_secret, run_server
from judgelm.serve.worker_client import Usage, Workers

log = logging.getLogger(__name__)

KEYS_VARIABLE = "JUDGELM_API_KEYS"
"""environment variable: with it, a request must carry one of these keys, which commas separate"""
_NEED_KEY = "a valid API key is needed: Authorization: Bearer KEY"
_STATUS: dict[int, int] = {
    TOO_LARGE: 413,
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
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "not_json",
    422: "invalid_request",
    429: "overloaded",
    500: "server_error",
    502: "worker_lost",
    503: "no_worker",
}
_DOCUMENTED = (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503)
_MOST_MESSAGE = 1000
"""characters of an error's message"""

# at the top of the module: FastAPI looks for names in annotations there alone
_BEARER = HTTPBearer(auto_error=False, description=f"needed where the server has {KEYS_VARIABLE}")


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


def create_app(controller: str, keys: Sequence[str] = (), hosts: Hosts | None = None) -> FastAPI:
    """The API in front of a controller."""
    workers, metrics = Workers(controller), Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await workers.close()

    app = FastAPI(
        title="JudgeLM API",
        version=__version__,
        summary="Judges of language models' answers, and OpenAI-compatible completions.",
        lifespan=lifespan,
        responses={status: {"model": ErrorResponse} for status in _DOCUMENTED},
    )

    def is_key(given: str) -> bool:
        # all are compared, so that the time tells nothing
        return bool(sum(hmac.compare_digest(given.encode(), key.encode()) for key in keys))

    def admit(path: str, authorization: str) -> str | None:
        scheme, _, given = authorization.partition(" ")
        wanted = bool(keys) and path.startswith("/v1/")
        return _NEED_KEY if wanted and not (scheme.lower() == "bearer" and is_key(given.strip())) else None

    app.add_middleware(Guard, hosts=hosts, admit=admit)
    app.add_middleware(_Counted, metrics=metrics)

    def check_key(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        # the guard has looked already, before it read the body; this is for /docs, and for a route elsewhere
        if keys and not is_key(sent.credentials if sent else ""):
            raise HTTPException(401, _NEED_KEY)

    @app.exception_handler(WorkerError)
    async def worker_refused(_: HTTPRequest, error: WorkerError) -> JSONResponse:
        unknown = error.code == ErrorCode.INVALID_MODEL
        return _error(str(error), _status(error), *(("model", "model_not_found") if unknown else ()))

    @app.exception_handler(InputError)
    async def mistaken(_: HTTPRequest, error: InputError) -> JSONResponse:
        return _error(str(error), 400)

    @app.exception_handler(UnsupportedField)
    async def unsupported(_: HTTPRequest, error: UnsupportedField) -> JSONResponse:
        return _error(str(error), 400, error.field, "unsupported_parameter")

    @app.exception_handler(AnyHTTPException)
    async def http_error(_: HTTPRequest, error: AnyHTTPException) -> JSONResponse:
        return _error(str(error.detail), error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HTTPRequest, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[:3]
        places = [_place(entry) for entry in found]
        parts = [f"{place or 'body'}: {_said(entry)}" for place, entry in zip(places, found, strict=True)]
        return _error("; ".join(parts), 422, places[0])

    @app.exception_handler(Exception)
    async def broken(_: HTTPRequest, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return _error("the server failed; its log says why", 500)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether judgements can be had: the controller answers and knows a worker. It is "degraded" while a worker is
        missing that went away without a word.
        """
        if not await workers.models():
            raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
        missing = await workers.missing()
        return {"status": "degraded" if missing else "ok", "version": __version__, "missing": missing}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", dependencies=[Depends(check_key)])
    async def models() -> dict[str, Any]:
        """The judges that are served."""
        return {"object": "list", "data": [_card(name) for name in await workers.models()]}

    @app.get("/v1/models/{name:path}", dependencies=[Depends(check_key)])
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        if not name:  # /v1/models/
            return await models()
        served = await workers.models()
        if name not in served:
            there = ", ".join(served) or "none"
            raise WorkerError(f"unknown model {name}; models served: {there}", ErrorCode.INVALID_MODEL)
        return _card(name)

    @app.post(
        "/v1/judgements",
        dependencies=[Depends(check_key)],
        response_model=JudgementResponse,
        responses={200: {"content": {"application/x-ndjson": {}}}},
    )
    async def judgements(request: JudgementRequest) -> Any:
        """Judge samples, in one order or both."""
        created, id_ = int(time.time()), f"judgement-{uuid.uuid4().hex}"
        # a mistake must be told before a stream begins
        check_request(request)
        chosen = await _choose_model(workers, request.model)
        events = _counting(judge_through(workers, request.model_copy(update={"model": chosen})), metrics)
        if request.stream:
            return StreamingResponse(
                _ndjson(events, {"id": id_, "model": chosen, "created": created}),
                media_type="application/x-ndjson",
            )
        results: dict[int, ResultOut] = {}
        async with contextlib.aclosing(events):
            async for event in events:
                if event["event"] == "result":
                    results[event["index"]] = event["result"]
        data = [results[index] for index in sorted(results)]
        return JudgementResponse(id=id_, created=created, model=chosen, data=data, usage=_total(data))

    app.include_router(openai_router(workers, metrics), dependencies=[Depends(check_key)])
    return app


class _Counted:
    """ASGI middleware: counts requests by route and status; 499 is a client that went away."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            status = 500
            raise
        finally:
            route = scope.get("route")
            self.metrics.requests.labels(route.path_format if isinstance(route, Route) else "none", status).inc()


def _status(error: WorkerError) -> int:
    return _STATUS.get(error.code, 500)


def _error(
    message: str,
    status: int,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The documented body of an error; what a client wrote into its message is one line that UTF-8 can hold."""
    said, place = (
        text and one_line(text.encode(errors="replace").decode())[:_MOST_MESSAGE] for text in (message, param)
    )
    error = ErrorOut(message=said or "", type=_kind(status), param=place, code=code or _CODES.get(status))
    retry = {"Retry-After": "2"} if status == 429 else {}
    return JSONResponse(ErrorResponse(error=error).model_dump(), status, {**(headers or {}), **retry})


def _kind(status: int) -> str:
    return "invalid_request_error" if status < 500 and status != 429 else "server_error"


def _place(entry: Mapping[str, Any]) -> str | None:
    """Where in the body an error is, without pydantic's words for the branches of a union; None for all of it."""
    if entry["type"] == "json_invalid":
        return None
    parts = [str(part) for part in entry["loc"][1:]]
    return ".".join(part for part in parts if part != "str" and not {"-", "["} & set(part)) or None


def _said(entry: Mapping[str, Any]) -> str:
    return "expected JSON" if entry["type"] == "json_invalid" else str(entry["msg"]).removeprefix("Value error, ")


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "judgelm"}


def _total(data: Sequence[ResultOut]) -> Usage:
    total = Usage()
    for result in data:
        for judgement in result.judgements:
            total += judgement.usage
    return total


async def _choose_model(workers: Workers, name: str | None) -> str:
    """The model asked for, or the only one. Raises WorkerError."""
    if name:
        return name
    models = await workers.models()
    if len(models) == 1:
        return models[0]
    if not models:
        raise WorkerError("no worker is there", ErrorCode.CONTROLLER_NO_WORKER)
    raise WorkerError(f"'model' is missing; models served: {', '.join(models)}", ErrorCode.VALIDATION_TYPE_ERROR)


async def _counting(events: AsyncGenerator[Event, None], metrics: Metrics) -> AsyncGenerator[Event, None]:
    with metrics.timed("/v1/judgements"):
        async with contextlib.aclosing(events):
            async for event in events:
                if event["event"] == "result":
                    for judgement in event["result"].judgements:
                        metrics.count(judgement.usage)
                        metrics.judgements.labels(judgement.parse).inc()
                yield event


async def _ndjson(events: AsyncGenerator[Event, None], head: dict[str, Any]) -> AsyncIterator[str]:
    results: list[ResultOut] = []
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                if event["event"] == "result":
                    results.append(event["result"])
                    event = event | {"result": event["result"].model_dump()}
                yield dump_line(event)
    except WorkerError as error:
        status = _status(error)
        said = ErrorOut(message=str(error), type=_kind(status), code=_CODES.get(status))
        yield dump_line({"event": "error", "error": said.model_dump()})
        return
    yield dump_line({"event": "done", **head, "usage": _total(results).model_dump()})


def read_keys() -> list[str]:
    """The API keys of the environment. Raises InputError where the variable is set and holds none."""
    return [key.strip() for key in (read_secret(KEYS_VARIABLE) or "").split(",") if key.strip()]


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
    add_allowed_hosts(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        controller = check_url(args.controller_address, "--controller-address")
        app = create_app(controller, read_keys(), read_hosts(args.allowed_hosts, args.host))
        run_server(app, listen(args.host, args.port), proxied=True)

    run_main(command, kept="the API has ended")


if __name__ == "__main__":
    main()
