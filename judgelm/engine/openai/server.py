"""A server with OpenAI's API: where it is and how requests go to it, checked."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from judgelm.errors import InputError

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}

NEEDS_COMPLETIONS = (
    "--scoring expected asks a server how each beginning of a score line goes on, and a chat says that of its own first"
    " word alone: it needs --api completions"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and how requests go to it. Raises InputError for fields with which no reply could be used."""

    base_url: str
    """up to, not including, /completions or /chat/completions"""
    model: str
    """by the server's name for it"""
    api: Api = "completions"
    key: str | None = field(default=None, repr=False)
    max_concurrency: int = 16
    requests_per_minute: float | None = None
    timeout_s: float = 600
    """for one answer, from the request to its last byte"""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """set in the body of every request; None leaves a field out"""
    prices: tuple[float, float] | None = None
    """of a million prompt tokens and of a million generated ones"""

    def __post_init__(self) -> None:
        if self.fields.get("stream"):
            raise InputError(f"{self.model}: request field stream: a reply in parts is not read, though it is paid for")
        for name in ("messages", "prompt"):
            if name in self.fields:
                raise InputError(
                    f"{self.model}: request field {name}: would be sent in place of all that is to be asked"
                )

    @property
    def is_here(self) -> bool:
        """Whether the URL leads to this machine."""
        host = urlsplit(self.base_url).hostname or ""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(host).is_loopback
        return host == "localhost" or host.endswith(".localhost")


def check_base_url(url: str, name: str) -> str:
    """The URL without a slash at its end. Raises InputError for what cannot be one; `name` says where it came from."""
    try:
        parts = urlsplit(url)
        # these raise for a port or a host that is none
        parts.port, httpx.URL(url).host
    except (ValueError, httpx.InvalidURL):
        parts = urlsplit("")
    if parts.username or parts.password:
        # not repeated: it would stand in the terminal and in run.json
        raise InputError(f"{name}: a user or password in the URL would be written down; a key goes into a variable")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(f"{name} {url!r}: expected a URL such as http://127.0.0.1:8000/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise InputError(f"{name} {url!r}: expected the part before /completions or /chat/completions")
    return url.rstrip("/")


def check_key(key: str, variable: str) -> str:
    """The key without white space around it. Raises InputError where it cannot be sent; the key is not shown."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(f"the environment's {variable} holds characters that no API key has")
    return key
