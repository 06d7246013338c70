"""The web page as a server, in front of a controller.

python -m judgelm.serve.gradio_web_server_judgelm
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

import httpx

from judgelm.console import Parser, run_main
from judgelm.jsonl import InputError
from judgelm.serve.arguments import CONTROLLER_ADDRESS, PAGE_PORT, add_allowed_hosts
from judgelm.serve.guard import Guard, read_hosts
from judgelm.serve.http import bypass_proxies, check_url, listen, log_to_stderr, tame_uvicorn

log = logging.getLogger(__name__)

_MOST_BODY_BYTES = 32 << 20
_MOST_TOTAL_BYTES = 256 << 20
_UPLOAD_S = 600
_SHARED = "*.gradio.live"
"""where gradio's tunnel shows the page"""
_MOST_UPLOAD = "20mb"


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


def moderator() -> Callable[[str], Awaitable[bool]]:
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


def serve_page(args: argparse.Namespace) -> None:
    """Serve the page until a signal comes."""
    controller = check_url(args.controller_url, "--controller-url")
    logins = read_logins(args.gradio_auth_path) if args.gradio_auth_path else None
    moderate = moderator() if args.moderate else None
    hosts = read_hosts([*args.allowed_hosts, *([_SHARED] if args.share else [])], args.host)
    listen(args.host, args.port).close()  # one clear line where the port is taken
    bypass_proxies(args.host)
    tame_uvicorn()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

    import gradio as gr
    from starlette.middleware import Middleware

    from judgelm.serve.ui import CSS, Page, build_page
    from judgelm.serve.workers import Workers

    # a client may name a web address where a file is expected: the page fetches none
    gr.processing_utils.async_ssrf_protected_download = _refuse_download
    reload_models = args.model_list_mode == "reload"
    page = Page(Workers(controller), Path(args.log_dir), reload_models, moderate, args.concurrency_count)
    blocks = build_page(page)
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    guard = Middleware(Guard, _MOST_BODY_BYTES, total=_MOST_TOTAL_BYTES, hosts=hosts, json_only=False, body_s=_UPLOAD_S)
    blocks.launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share,
        auth=logins,
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=CSS,
        ssr_mode=False,
        footer_links=[],
        max_file_size=_MOST_UPLOAD,
        show_error=False,
        app_kwargs={"middleware": [guard]},
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        log_to_stderr()
        # its temporary files are removed at an orderly end only
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        serve_page(args)

    run_main(command, kept="the page has ended")


if __name__ == "__main__":
    main()
