"""What our servers share: addresses, how they run, and their log."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import ipaddress
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from pydantic import ValidationError

from judgelm.errors import InputError, one_line
from judgelm.serve.connection import Protocol

log = logging.getLogger(__name__)


def describe(error: ValidationError, most: int = 3) -> str:
    """What is wrong with a body, in one line that repeats nothing of it."""
    parts = []
    for entry in error.errors(include_url=False, include_context=False, include_input=False)[:most]:
        place = ".".join(str(part) for part in entry["loc"]) or "body"
        parts.append(f"{place}: {entry['msg']}")
    return one_line("; ".join(parts))


def check_url(url: str, flag: str) -> str:
    """An http(s) address without a path, as workers and controllers have. Raises InputError for another."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        # urlsplit passes over tabs and newlines, and others read a backslash as a slash
        not _URL.fullmatch(url) or not parts.hostname or port == 0 or parts.path.strip("/")
    ):
        raise InputError(f"{flag} {url}: expected an address such as http://127.0.0.1:21001")
    return url.rstrip("/")


_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z._-]+)(:[0-9]{1,5})?/*", re.IGNORECASE | re.ASCII)
"""without a user, a query or a fragment"""


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_secret(variable: str) -> str | None:
    """A token or keys of the environment, None where there are none. Raises InputError for what cannot be sent."""
    value = os.environ.get(variable)
    if not value:
        return None
    value = value.strip()
    if not value.strip(", ") or not (value.isascii() and value.isprintable()):
        raise InputError(f"{variable} is set, but holds nothing that can be sent in a header; unset it to go without")
    return value


def ask(
    url: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout_s: float = 5
) -> httpx.Response:
    """Post to another part of ours, past any proxy of the environment; an answer of more than a MiB is an error.

    Raises httpx.HTTPError.
    """
    end = time.monotonic() + timeout_s
    with (
        httpx.Client(trust_env=False, timeout=timeout_s) as http,
        http.stream("POST", url, json=body, headers=headers) as response,
    ):
        content = b""
        for part in response.iter_bytes(1 << 16):
            content += part
            if len(content) > _MOST_ANSWER_BYTES or time.monotonic() > end:
                raise httpx.ReadTimeout("the answer is too long or too slow")
    return httpx.Response(response.status_code, content=content, request=response.request)


_MOST_ANSWER_BYTES = 1 << 20


def bypass_proxies(host: str) -> None:
    """Make libraries of others, which read the environment, ask this machine without a proxy; and forget a SOCKS proxy
    where httpx has not what it needs for one, as it would then ask nobody at all.
    """
    for variable in ("no_proxy", "NO_PROXY"):
        before = os.environ.get(variable, "")
        os.environ[variable] = ",".join(filter(None, [before, "localhost", "127.0.0.1", "::1", host.strip("[]")]))
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        if os.environ[variable].lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
            log.warning("%s is passed over: its kind of proxy needs httpx[socks]", variable)
            del os.environ[variable]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, 0 being any free port. Raises InputError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such host or port"
        raise InputError(f"--host {host} --port {port}: cannot listen there ({reason})") from None
    return listening


def address_of(listening: socket.socket) -> str:
    """Where a client on this machine finds it."""
    host, port = listening.getsockname()[:2]
    return url_of(host, port)


def is_private(listening: socket.socket) -> bool:
    """Whether clients on this machine alone reach it."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def url_of(host: str, port: int) -> str:
    """The address of a server on this machine that listens there."""
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says goodbye before it lets go of its connections."""

    def __init__(self, config: uvicorn.Config, goodbye: Callable[[], None] | None) -> None:
        super().__init__(config)
        self.goodbye = goodbye

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.goodbye is not None:
            await asyncio.to_thread(self.goodbye)
        await super().shutdown(sockets)


def run_server(
    app: Any,
    listening: socket.socket,
    *,
    proxied: bool = False,
    access_log: bool = True,
    goodbye: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal comes; open streams get a few seconds to end.

    Args:
        proxied: a proxy on this machine may say for whom it asks; else a client is who it is.
        access_log: a line for each request.
        goodbye: called before the connections are closed.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        # the log is ours: one line an event
        log_config=None,
        log_level="info",
        access_log=access_log,
        proxy_headers=proxied,
        timeout_graceful_shutdown=3,
        # clients must give up an idle connection before we do, or one that is taken up again may break
        timeout_keep_alive=30,
    )
    _Server(config, goodbye).run(sockets=[listening])


class _Lines(logging.Formatter):
    """An event is one line whatever a client sent; the further lines of a traceback are set off."""

    def format(self, record: logging.LogRecord) -> str:
        event = copy.copy(record)
        event.msg, event.args = one_line(record.getMessage()), ()
        first, *rest = super().format(event).splitlines()
        return "\n".join([first, *(f"    {_printable(line)}" for line in rest)])


def _printable(line: str) -> str:
    return "".join(letter for letter in line if letter.isprintable())


def log_to_stderr() -> None:
    """One line an event, with time and name."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
