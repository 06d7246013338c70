"""Flags of servers that several of their commands have, and how they are read."""

from __future__ import annotations

import argparse
import re

from judgelm.console import from_zero

_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def add_api_arguments(parser: argparse.ArgumentParser) -> None:
    """What the API is told."""
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin such as https://app.example.com whose pages may ask the API from the browser; may be given"
        " several times; * is any (default: none)",
    )
    parser.add_argument(
        "--batch-dir",
        metavar="FOLDER",
        help="take files and batches of requests (/v1/files, /v1/batches), which are kept in this folder (default: take"
        " none)",
    )


def add_root_path(parser: argparse.ArgumentParser) -> None:
    """Where a proxy shows what is served."""
    parser.add_argument(
        "--root-path",
        type=_root_path,
        default="",
        metavar="PATH",
        help="the path under which a proxy shows it, such as /judge",
    )


def add_drain_timeout(parser: argparse.ArgumentParser) -> None:
    """How long a server takes to end."""
    parser.add_argument(
        "--drain-timeout",
        type=from_zero,
        default=20.0,
        metavar="SECONDS",
        help="for which requests under way are waited for after SIGTERM, while new ones are refused",
    )


def _root_path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r}: expected a path such as /judge")
    return value.rstrip("/")
