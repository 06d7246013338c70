"""Where the parts find each other by default; and the flags of `judgelm serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.jsonl import InputError
from judgelm.llm_judge.arguments import add_device_arguments

TOKEN_VARIABLE = "JUDGELM_REGISTRATION_TOKEN"
"""environment variable: with it, a controller registers only workers that send the same"""
OPEN_CONTROLLER = (
    "the controller listens beyond this machine without a token: whoever reaches it can register a worker of their own"
    f" and is sent texts to judge; set {TOKEN_VARIABLE}"
)
CONTROLLER_PORT = 21001
WORKER_PORT = 21002
API_PORT = 21003
PAGE_PORT = 7860
CONTROLLER_ADDRESS = f"http://127.0.0.1:{CONTROLLER_PORT}"


def add_allowed_hosts(parser: argparse.ArgumentParser) -> None:
    """The flag that all servers share."""
    parser.add_argument(
        "--allowed-hosts",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        default=[],
        metavar="A,B",
        help="further host names by which it may be called, as behind a proxy; *.A is all below A, * is any",
    )


def add_chat_format(parser: argparse.ArgumentParser) -> None:
    """The flag of whoever starts a worker."""
    parser.add_argument(
        "--chat-format",
        choices=("auto", "model", "vicuna"),
        default="auto",
        help="of chat completions: the tokenizer's own template (model), the released judges' (vicuna), or the first"
        " where there is one (auto)",
    )


def served_name(model: str) -> str:
    """The name under which clients ask for a model: the last part of its folder or hub id.

    Raises InputError where that is no name.
    """
    path = Path(model).expanduser()
    name = path.name if path.name not in ("", "..") else path.resolve().name
    if not name or not name.isprintable() or len(name) > 200:
        raise InputError(f"model {model}: expected a folder with a name of at most 200 printable characters")
    return name


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `judgelm serve`."""
    parser.add_argument(
        "--model", nargs="+", default=["tiny"], metavar="M", help="hub ids, local folders, PEFT adapters, or tiny"
    )
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="workers of each model")
    parser.add_argument("--num-gpus-per-worker", type=int, default=1, metavar="N", help="GPUs over which one is spread")
    add_device_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address on which page and API listen")
    parser.add_argument("--port", type=int, default=PAGE_PORT, help="port of the page")
    parser.add_argument("--api-port", type=int, default=API_PORT, metavar="PORT", help="port of the API")
    parser.add_argument(
        "--controller-host", default="127.0.0.1", metavar="HOST", help="address on which the controller listens"
    )
    parser.add_argument(
        "--controller-port", type=int, default=0, metavar="PORT", help="its port (default: any that is free)"
    )
    parser.add_argument("--worker-host", default="127.0.0.1", metavar="HOST", help="address on which workers listen")
    add_allowed_hosts(parser)
    add_chat_format(parser)
    parser.add_argument(
        "--workers-only",
        action="store_true",
        help="workers for the controller of another machine, without page and API",
    )
    parser.add_argument("--controller-address", metavar="URL", help="that controller, for --workers-only")
    parser.add_argument("--share", action="store_true", help="make the page public through gradio's tunnel")
    parser.add_argument(
        "--gradio-auth-path", metavar="FILE", help="visitors of the page must log in; user:password lines"
    )
    parser.add_argument("--log-dir", default="logs", metavar="FOLDER", help="where all logs and votes.jsonl go")
