"""The HTTP API for programs, in front of a controller: judgements, and OpenAI's completions.

python -m judgelm.serve.api
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NoReturn

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware.cors import CORSMiddleware

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.flags import add_allowed_hosts
from judgelm.serve.api_errors import DOCUMENTED, Caught, ErrorResponse, add_error_handlers
from judgelm.serve.batches.routes import FILES, batches_router, files_router, key_of
from judgelm.serve.batches.runner import TEXTS_AT_ONCE, Runner
from judgelm.serve.batches.store import Store
from judgelm.serve.counters import Counted, Metrics
from judgelm.serve.draining import Drain
from judgelm.serve.guard import Admit, Guard
from judgelm.serve.hosts import Hosts, read_hosts, read_origins
from judgelm.serve.judgement_routes import judgement_router
from judgelm.serve.openai_routes import openai_router
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.reward_routes import reward_router
from judgelm.serve.servers import check_url, listen, log_to_stderr, read_secret, run_server
from judgelm.serve.settings import API_PORT, CONTROLLER_ADDRESS
from judgelm.serve.worker_client import Workers, unknown_model
from judgelm.serve.worker_counts import WorkerCollector
from judgelm.serve_flags import add_api_arguments, add_drain_timeout, add_root_path

KEYS_VARIABLE = "JUDGELM_API_KEYS"
"""environment variable: with it, a request must carry one of these keys, which commas separate"""
_NEED_KEY = "a valid API key is needed: Authorization: Bearer KEY"
# for /docs alone: the guard asks for the key before it reads the body
_BEARER = Depends(HTTPBearer(auto_error=False, description=f"needed where the server has {KEYS_VARIABLE}"))

_FORM_BYTES = 64 << 10
"""of an upload besides its file"""
# it stands around the guard, so that a page can read why it is refused
_CROSS_ORIGIN: Mapping[str, Any] = {
    "allow_methods": ("GET", "POST", "DELETE"),
    # OpenAI's client for browsers sends many of its own
    "allow_headers": ("*",),
    "expose_headers": ("Retry-After",),
}


def create_app(
    controller: str,
    keys: Sequence[str] = (),
    hosts: Hosts | None = None,
    *,
    origins: Collection[str] = (),
    root_path: str = "",
    store: Store | None = None,
    drain: Drain | None = None,
) -> FastAPI:
    """The API in front of a controller; with a `store` it takes files and batches.

    Args:
        origins: whose pages, of other sites, may ask.
        root_path: under which a proxy shows the API.
        drain: of its server; once it is closing all is refused.
    """
    workers, metrics, drain = Workers(controller), Metrics(), drain or Drain()
    judging, for_batches = (_judging(each, metrics) for each in (workers, workers.limited(TEXTS_AT_ONCE)))
    runner = None if store is None else Runner(store, _bare(for_batches), metrics, drain)
    app = FastAPI(
        title="JudgeLM API",
        version=__version__,
        summary="Judges of language models' answers, and OpenAI-compatible completions.",
        lifespan=_lifespan(workers, runner),
        root_path=root_path,
        responses={status: {"model": ErrorResponse} for status in DOCUMENTED},
    )
    uploads = {FILES: store.limits.file_bytes + _FORM_BYTES} if store else {}
    app.add_middleware(Guard, hosts=hosts, admit=_admit(keys), uploads=uploads, origins=origins, drain=drain)
    app.add_middleware(Caught)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CROSS_ORIGIN)
    app.add_middleware(Counted, metrics=metrics)
    add_error_handlers(app)
    _add_state(app, workers, metrics)
    routers = [_models(workers), *judging]
    if store is not None and runner is not None:
        metrics.batches.set_function(lambda: len(store.unfinished()))
        owner_of = key_of if keys else _nobody
        routers += [files_router(store, owner_of), batches_router(store, owner_of, runner, _paths(judging))]
    for each in routers:
        app.include_router(each, dependencies=[_BEARER])
    return app


def _lifespan(workers: Workers, runner: Runner | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with runner.running() if runner else contextlib.nullcontext():
            yield
        await workers.close()

    return lifespan


def _judging(workers: Workers, metrics: Metrics) -> list[APIRouter]:
    return [make(workers, metrics) for make in (judgement_router, reward_router, openai_router)]


def _paths(routers: Sequence[APIRouter]) -> set[str]:
    return {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}


def _bare(routers: Sequence[APIRouter]) -> FastAPI:
    """The same routes for requests that have passed the guard before: those of batches."""
    app = FastAPI()
    add_error_handlers(app)
    for router in routers:
        app.include_router(router)
    return app


def _nobody(_: Request) -> str:
    """Whose a file is without keys: everybody's."""
    return ""


def _admit(keys: Sequence[str]) -> Admit:
    def admit(path: str, authorization: str) -> str | None:
        if not keys or not path.startswith("/v1/"):
            return None
        scheme, _, given = authorization.partition(" ")
        # all are compared, so that the time tells nothing
        found = sum(hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys)
        return None if scheme.lower() == "bearer" and found else _NEED_KEY

    return admit


def _add_state(app: FastAPI, workers: Workers, metrics: Metrics) -> None:
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
        """For Prometheus: the API's own counts, and those of all its workers."""
        counts = CollectorRegistry()
        counts.register(WorkerCollector(await workers.counts()))
        shown = generate_latest(metrics.registry) + generate_latest(counts)
        return Response(shown, media_type=CONTENT_TYPE_LATEST)


def _models(workers: Workers) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The judges that are served."""
        return {"object": "list", "data": [_card(name) for name in await workers.models()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of them, and how it is asked and says its verdict, where it has a way of its own."""
        if not name:  # /v1/models/
            return await models()
        served = await workers.models()
        if name not in served:
            raise unknown_model(name, served)
        form: dict[str, Any] = {}
        # that its worker says nothing now is told to who asks it
        with contextlib.suppress(WorkerError):
            form = (await workers.details(name)).form
        return {**_card(name), **({"judge": form} if form else {})}

    return router


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "judgelm"}


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
    add_api_arguments(parser)
    add_root_path(parser)
    add_drain_timeout(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        controller = check_url(args.controller_address, "--controller-address")
        keys, hosts, origins = read_keys(), read_hosts(args.allowed_hosts, args.host), read_origins(args.allow_origin)
        drain, listening = Drain(args.drain_timeout), listen(args.host, args.port)
        with contextlib.closing(Store(Path(args.batch_dir))) if args.batch_dir else contextlib.nullcontext() as store:
            app = create_app(
                controller, keys, hosts, origins=origins, root_path=args.root_path, store=store, drain=drain
            )
            run_server(app, listening, proxied=True, drain=drain)

    run_main(command, kept="the API has ended")


if __name__ == "__main__":
    main()
