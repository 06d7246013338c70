"""The web page as a server, in front of a controller.

python -m judgelm.serve.gradio_web_server_judgelm
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from judgelm.console import Parser, run_main
from judgelm.errors import InputError, one_line
from judgelm.flags import add_allowed_hosts
from judgelm.serve.draining import Drain
from judgelm.serve.guard import App, Guard, Receive, Send
from judgelm.serve.hosts import Hosts, read_hosts
from judgelm.serve.page.files import private_folder, remove_old
from judgelm.serve.servers import bypass_proxies, check_url, listen, log_to_stderr, run_server
from judgelm.serve.settings import CONTROLLER_ADDRESS, PAGE_PORT
from judgelm.serve_flags import add_drain_timeout, add_root_path

if TYPE_CHECKING:
    from judgelm.serve.page.shared import Moderate

log = logging.getLogger(__name__)

_MOST_BODY_BYTES = 32 << 20
_MOST_TOTAL_BYTES = 256 << 20
_UPLOAD_S = 600
_MOST_UPLOAD = "20mb"
_HEARTBEAT = "/gradio_api/heartbeat/"
"""as long as a visitor has the page open"""


def build_parser() -> Parser:
    """The page's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.gradio_web_server_judgelm",
        description="A web page on which people judge, with the workers of a controller.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=PAGE_PORT, help="port to listen on")
    parser.add_argument("--controller-url", default=CONTROLLER_ADDRESS, metavar="URL", help="the controller's address")
    parser.add_argument(
        "--model-list-mode",
        choices=["once", "reload"],
        default="reload",
        help="ask for the models at the start only, or whenever the page is opened",
    )
    parser.add_argument(
        "--concurrency-count", type=int, default=16, metavar="N", help="most judgements that run at once for the page"
    )
    parser.add_argument("--share", action="store_true", help="also make the page public through gradio's tunnel")
    parser.add_argument(
        "--gradio-auth-path", metavar="FILE", help="visitors must log in; FILE holds user:password, one a line"
    )
    parser.add_argument(
        "--moderate",
        action="store_true",
        help="refuse texts that OpenAI's moderation flags; they are sent there, with the key in OPENAI_API_KEY",
    )
    parser.add_argument("--log-dir", default="logs", metavar="FOLDER", help="where votes.jsonl gets its lines")
    add_allowed_hosts(parser)
    add_root_path(parser)
    add_drain_timeout(parser)
    return parser


def read_logins(path: str) -> list[tuple[str, str]]:
    """user:password, one a line or separated by commas. Raises InputError; a password is never repeated."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--gradio-auth-path {path}: cannot be read ({type(error).__name__})") from None
    logins = []
    for number, line in enumerate(text.splitlines(), start=1):
        for entry in filter(None, (part.strip() for part in line.split(","))):
            user, colon, password = entry.partition(":")
            if not user or not colon or not password:
                raise InputError(f"{path}:{number}: expected user:password")
            logins.append((user, password))
    if not logins:
        raise InputError(f"{path}: expected user:password, found nothing")
    return logins


def moderator() -> Moderate:
    """Asks OpenAI whether it flags a text. Raises InputError without a key."""
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise InputError("--moderate: expected a key in OPENAI_API_KEY, found none")
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/") + "/moderations"

    async def flagged(text: str) -> bool:
        try:
            async with httpx.AsyncClient(timeout=15) as client:
                answer = await client.post(url, json={"input": text}, headers={"Authorization": f"Bearer {key}"})
                answer.raise_for_status()
                return any(bool(entry["flagged"]) for entry in answer.json()["results"])
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            log.error("moderation failed: %s", type(error).__name__)
            raise InputError("The moderation service does not answer; try again later.") from None

    return flagged


async def _refuse_download(*_: object, **__: object) -> NoReturn:
    raise ValueError("files are uploaded here, not fetched from elsewhere")


def create_app(
    args: argparse.Namespace,
    folder: Path,
    hosts: Hosts,
    logins: list[tuple[str, str]] | None = None,
    moderate: Moderate | None = None,
    drain: Drain | None = None,
) -> FastAPI:
    """The page as an app whose files are in `folder`; gradio reads some of its settings when it is first imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    import gradio as gr

    from judgelm.serve.page.page import CSS, build_page
    from judgelm.serve.page.shared import Page
    from judgelm.serve.worker_client import Workers

    # a client may name a web address where a file is expected: the page fetches none
    gr.processing_utils.async_ssrf_protected_download = _refuse_download
    taken_home = folder / "results"
    taken_home.mkdir(mode=0o700)
    reload = args.model_list_mode == "reload"
    workers = Workers(args.controller_url)
    blocks = build_page(Page(workers, Path(args.log_dir), taken_home, reload, moderate, args.concurrency_count))
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    app = FastAPI(title="JudgeLM", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnRoutes, uploads=folder / "uploads")
    # gradio's own rule lets the pages of other sites read this one
    app.add_middleware(CORSMiddleware, allow_origins=[])
    limits: dict[str, Any] = {"total": _MOST_TOTAL_BYTES, "json_only": False, "body_s": _UPLOAD_S}
    app.add_middleware(Guard, _MOST_BODY_BYTES, hosts=hosts, drain=drain, unwaited=_HEARTBEAT, **limits)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        auth=logins,
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=CSS,
        ssr_mode=False,
        footer_links=[],
        max_file_size=_MOST_UPLOAD,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        root_path=args.root_path or None,
    )
    return mounted


class OwnRoutes:
    """ASGI middleware: what gradio has and this page does not need is not there; old uploads go as new ones come."""

    _NOT_HERE = (
        *("process_recording", "deep_link", "proxy=", "file=http", "file/http"),
        *("run-history", "runs", "openapi.json", "mcp"),
    )

    def __init__(self, app: App, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/gradio_api/")
            if path != scope["path"] and path.lower().startswith(self._NOT_HERE):
                await PlainTextResponse("Not Found", 404)(scope, receive, send)
                return
            if path == "upload":
                await asyncio.to_thread(remove_old, self.uploads)
        await self.app(scope, receive, send)


def _share(listening: socket.socket) -> str | None:
    """The host of gradio's public tunnel to the page; where it cannot be had the page is served all the same."""
    from gradio.exceptions import ChecksumMismatchError, ShareCertificateWriteError
    from gradio.networking import setup_tunnel

    host, port = listening.getsockname()[:2]
    try:
        url = setup_tunnel(host, port, secrets.token_urlsafe(32), None, None)
        print(f"public page {url}", flush=True)
        return urlsplit(url).hostname
    except (
        *(OSError, RuntimeError, ValueError, httpx.HTTPError),
        *(ChecksumMismatchError, ShareCertificateWriteError),
    ) as error:
        log.error("--share: no public page (%s: %s)", type(error).__name__, one_line(str(error)))
    return None


def _serve(args: argparse.Namespace) -> None:
    log_to_stderr()
    # its temporary files are removed at an orderly end only
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    args.controller_url = check_url(args.controller_url, "--controller-url")
    logins = read_logins(args.gradio_auth_path) if args.gradio_auth_path else None
    moderate = moderator() if args.moderate else None
    read_hosts(args.allowed_hosts, args.host)
    listening = listen(args.host, args.port)
    bypass_proxies(args.host)
    # of all tunnels, which anybody can open, this one alone is ours
    shared = _share(listening) if args.share else None
    hosts = read_hosts([*args.allowed_hosts, *([shared] if shared else [])], args.host)
    drain = Drain(args.drain_timeout)
    with private_folder() as folder:
        app = create_app(args, folder, hosts, logins, moderate, drain)
        # an address of the page names its visitor's session
        run_server(app, listening, proxied=True, access_log=False, drain=drain)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    run_main(lambda: _serve(build_parser().parse_args(argv)), kept="the page has ended")


if __name__ == "__main__":
    main()
