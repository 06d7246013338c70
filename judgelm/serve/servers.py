"""What our servers share: addresses, connections, how they run, and their log."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib.util
import ipaddress
import logging
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from types import FrameType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import h11
import httpx
import uvicorn
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from uvicorn.protocols.http.h11_impl import H11Protocol

from judgelm.errors import InputError, one_line
from judgelm.serve.draining import Drain
from judgelm.serve.guard import error_bytes
from judgelm.serve.hosts import ip_of

log = logging.getLogger(__name__)
_T = TypeVar("_T")


def describe(error: ValidationError | RequestValidationError) -> str:
    """What is wrong with a body, in one line that repeats nothing of it."""
    found = error.errors()[:3]
    return one_line("; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {said_of(one)}" for one in found))


_SAID = {
    "json_invalid": "expected JSON",
    "missing": "this field is needed",
    "extra_forbidden": "there is no such field (/docs of the API lists them)",
}
"""in place of pydantic's words, which do not say what to do"""


def said_of(entry: Mapping[str, Any]) -> str:
    """What one of pydantic's errors tells a client."""
    return _SAID.get(entry["type"]) or str(entry["msg"]).removeprefix("Value error, ")


def check_url(url: str, flag: str) -> str:
    """An http(s) address without a path, as workers and controllers have. Raises InputError for another."""
    try:
        parts = urlsplit(url)
        good = parts.hostname and parts.port != 0 and not parts.path.strip("/")
    except ValueError:
        good = False
    # urlsplit passes over tabs and newlines, and others read a backslash as a slash
    if not good or not _URL.fullmatch(url):
        raise InputError(f"{flag} {url}: expected an address such as http://127.0.0.1:21001")
    return url.rstrip("/")


_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z._-]+)(:[0-9]{1,5})?/*", re.IGNORECASE | re.ASCII)
"""without a user, a query or a fragment"""


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    ip = ip_of(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def read_secret(variable: str) -> str | None:
    """A token or keys of the environment, None where there are none. Raises InputError for what cannot be sent."""
    value = os.environ.get(variable)
    if not value:
        return None
    value = value.strip()
    if not value.strip(", ") or not (value.isascii() and value.isprintable()):
        raise InputError(f"{variable} is set, but holds nothing that can be sent in a header; unset it to go without")
    return value


def our_client(timeout_s: float) -> httpx.Client:
    """For what our parts ask of each other, past any proxy of the environment."""
    return httpx.Client(trust_env=False, verify=certificates(), timeout=timeout_s)


@functools.cache
def certificates() -> ssl.SSLContext:
    """Read once: that takes a tenth of a second of a core, and a worker asks at each beat of its heart."""
    return httpx.create_ssl_context(trust_env=False)


def ask(
    url: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout_s: float = 5
) -> httpx.Response:
    """Post to another part of ours; an answer of more than a MiB is an error.

    Raises httpx.HTTPError.
    """
    end = time.monotonic() + timeout_s
    with our_client(timeout_s) as http, http.stream("POST", url, json=body, headers=headers) as response:
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
        if not 0 <= port <= 65535:
            raise OverflowError  # the resolver would take it modulo 65536
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as opened:
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            opened.pop_all()
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


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, on which a connection is closed that sends no whole request head within 30 seconds, or takes
    nothing of its answer for two minutes.
    """

    head_s: float = 30
    stalled_s: float = 120
    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting = self.loop.call_later(self.head_s, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._waiting is None and self.transport.get_protocol() is self and not self.transport.is_closing():
            # the first piece of a further request
            self._waiting = self.loop.call_later(self.head_s, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered as every other mistake is."""
        body = error_bytes(msg, "invalid_request")
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun already
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _Server(uvicorn.Server):
    """Says goodbye and lets what runs end before it lets go of its connections."""

    def __init__(self, config: uvicorn.Config, goodbye: Callable[[], None] | None, drain: Drain | None) -> None:
        super().__init__(config)
        self.goodbye = goodbye
        self.drain = drain
        self.signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signals += 1
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.goodbye is not None:
            await asyncio.to_thread(self.goodbye)
        if self.drain is not None and not await self.drain.close(lambda: self.signals > 1):
            log.warning("%d requests have not ended and are given up", self.drain.running)
        await super().shutdown(sockets)


def run_server(
    app: Any,
    listening: socket.socket,
    *,
    proxied: bool = False,
    access_log: bool = True,
    goodbye: Callable[[], None] | None = None,
    drain: Drain | None = None,
) -> None:
    """Serve until a signal comes; what is open then gets a few seconds to end. SIGTERM ends the process with code 0,
    unless its caller has taken that signal.

    Args:
        proxied: a proxy on this machine may say for whom it asks; else a client is who it is.
        access_log: a line for each request.
        goodbye: called before the connections are closed.
        drain: of the app's guard: what runs has its time to end first, and a second signal cuts that short.
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
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # uvicorn sends itself the signal again once it has ended
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _Server(config, goodbye, drain).run(sockets=[listening])


async def resume(first: _T, rest: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """All of what the first was taken of: until then a refusal still has a status of its own."""
    async with contextlib.aclosing(rest):
        yield first
        async for one in rest:
            yield one


class _Lines(logging.Formatter):
    """An event is one line whatever a client sent; the further lines of a traceback are set off."""

    def format(self, record: logging.LogRecord) -> str:
        event = copy.copy(record)
        event.msg, event.args = one_line(record.getMessage()), ()
        first, *rest = super().format(event).splitlines()
        return "\n".join([first, *(f"    {''.join(filter(str.isprintable, line))}" for line in rest)])


def log_to_stderr() -> None:
    """One line an event, with time and name."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
