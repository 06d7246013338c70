"""Where the parts find each other by default; and the flags of `judgelm serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.errors import InputError

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
