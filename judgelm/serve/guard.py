"""The guard in front of each of our servers: who may speak to it, how much, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from judgelm.errors import InputError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Admit = Callable[[str, str], str | None]
"""(path, Authorization header) -> why it is refused, if it is"""

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_BODY_BYTES = 8 << 20
MOST_TOTAL_BYTES = 128 << 20
_FREE_BYTES = 64 << 10
"""of each body, which do not count among the total: so that small requests are served while large ones wait"""
_BODY_S = 60
_HEAD_S = 30
_STALLED_S = 120
_SILENCE_S = 30
"""between two parts of a body"""
_LINGER_S = 5
_MOST_DROPPED_BYTES = 64 << 20
_CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    408: "too_slow",
    413: "too_large",
    415: "not_json",
    429: "overloaded",
}
_NETLOC = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@\\?#\[\]]+))(?::([0-9]{0,5}))?")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names under which a server may be called: a web page that lets its own name point here is refused.

    Loopback addresses and `localhost` are always among them, and on a server that listens on all addresses every one
    that is written as a number.
    """

    own: frozenset[str]
    given: frozenset[str]
    """by the user; pages of these hosts may post. "*" is every host, "*.example.com" all below example.com"""
    any_ip: bool

    def allows(self, netloc: str) -> bool:
        """Whether a Host header names this server."""
        host = _host_of(netloc)
        if host is None:
            return "*" in self.given
        address = ip_of(host)
        if address is not None and (self.any_ip or address.is_loopback):
            return True
        return host in self.own or self.names(host)

    def allows_page(self, origin: str, netloc: str) -> bool:
        """Whether a page of that origin may post to the server that it calls by this Host header."""
        sent = _netloc_of(origin)
        page, called = _NETLOC.fullmatch(sent), _NETLOC.fullmatch(netloc)
        if page is None or called is None or _host_of(sent) != _host_of(netloc):
            return False
        # a proxy in front may leave out the port that it was called by
        usual = "443" if origin.lower().startswith("https:") else "80"
        return not called[3] or called[3] == (page[3] or usual)

    def names_page(self, origin: str) -> bool:
        """Whether the user named the host of this origin."""
        host = _host_of(_netloc_of(origin))
        return host is not None and self.names(host)

    def names(self, host: str) -> bool:
        """Whether the user named this host."""
        above = (f"*{host[place:]}" for place, letter in enumerate(host) if letter == ".")
        return host in self.given or "*" in self.given or any(name in self.given for name in above)


def read_hosts(given: Sequence[str], *listened: str) -> Hosts:
    """Of --allowed-hosts and of what a server listens on. Raises InputError for what is no host."""
    named = set()
    for name in given:
        host = _host_of(name.removeprefix("*."))
        if host is None:
            raise InputError(f"--allowed-hosts {name}: expected a host such as judge.example.com")
        named.add(f"*.{host}" if name.startswith("*.") else host)
    own = {"localhost"}
    for name in listened:
        own.add(name.strip("[]").lower())
        with contextlib.suppress(OSError, UnicodeError):
            own |= {str(entry[4][0]) for entry in socket.getaddrinfo(name.strip("[]"), None)}
    ips = {ip_of(name) for name in own - {"localhost"}}
    if any(ip is not None and not ip.is_loopback for ip in ips):
        own.add(socket.gethostname().lower())
    return Hosts(frozenset(own), frozenset(named), any(ip is not None and ip.is_unspecified for ip in ips))


def ip_of(host: str) -> IP | None:
    """The address that is written there, an IPv4 one within IPv6 as itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _netloc_of(origin: str) -> str:
    """ "host:port" of an Origin header; empty for one that is no address, as "null"."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_of(netloc: str) -> str | None:
    """The host of "host:port", in one form; None for what is no such thing."""
    match = _NETLOC.fullmatch(netloc)
    if match is None:
        return None
    address = ip_of(match[1] or match[2])
    if address is not None:
        return str(address)
    return None if match[1] else match[2].lower().removesuffix(".") or None


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    message: str


class Guard:
    """ASGI middleware that asks, in this order, for a host of this server, a page of its own, a key, JSON, and a body
    that is neither too long nor too slow; what a client asked for is cancelled when it goes away.

    Args:
        limit: most bytes of a body.
        total: most bytes of all bodies whose requests are not answered yet, the first 64 KiB of each left out.
        hosts: None lets every host pass.
        admit: looks at the key, before anything of the body is read.
        json_only: a body that is said to be of another type is answered with 415.
        body_s: seconds in which a body must be there.
    """

    def __init__(
        self,
        app: App,
        limit: int = MOST_BODY_BYTES,
        *,
        total: int = MOST_TOTAL_BYTES,
        hosts: Hosts | None = None,
        admit: Admit | None = None,
        json_only: bool = True,
        body_s: float = _BODY_S,
    ) -> None:
        self.app = app
        self.limit = limit
        self.total = total
        self.hosts = hosts
        self.admit = admit
        self.json_only = json_only
        self.body_s = body_s
        self._held = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._look(scope, headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return
        if refusal is not None:
            await _refuse(refusal, headers, receive, send)
            return
        body = _Body(self, headers.get("content-type", ""))
        try:
            refusal = await body.read(receive)
            if refusal is not None:
                # what was read of it must not wait with the client for its end
                body.drop()
                await _refuse(refusal, headers, receive, send)
            elif body.whole:
                await self._answer(scope, body.messages, receive, send)
        finally:
            body.drop()

    def _look(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> _Refusal | None:
        host = headers.get("host")
        if self.hosts is not None and host is not None and not self.hosts.allows(host):
            return _Refusal(403, "this host is not one of the server's; --allowed-hosts names more")
        if scope.get("method", "GET") not in ("GET", "HEAD", "OPTIONS") and not self._is_own_page(headers, host or ""):
            return _Refusal(403, "a page of another site may not do this; --allowed-hosts names more")
        why = self.admit(scope["path"], headers.get("authorization", "")) if self.admit else None
        if why is not None:
            return _Refusal(401, why)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self.limit:
            return self.too_large()
        return None

    def _is_own_page(self, headers: Mapping[str, str], host: str) -> bool:
        """Browsers alone say from which page a request comes."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if self.hosts is None or (origin is not None and self.hosts.names_page(origin)):
            return True
        return (origin is None or self.hosts.allows_page(origin, host)) and site in (None, "same-origin", "none")

    def too_large(self) -> _Refusal:
        return _Refusal(413, f"the body is larger than {self.limit} bytes")

    def take(self, count: int) -> bool:
        """Whether so many bytes more may be held; if so they are."""
        if count and self._held + count > self.total:
            return False
        self._held += count
        return True

    def give_back(self, count: int) -> None:
        """Bytes that are held no longer."""
        self._held -= count

    async def _answer(
        self, scope: MutableMapping[str, Any], messages: list[Message], receive: Receive, send: Send
    ) -> None:
        # once the body is read, all that can come is the client's end
        gone = asyncio.ensure_future(receive())
        answered = False

        async def replay() -> Message:
            return messages.pop(0) if messages else await asyncio.shield(gone)

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        answering = asyncio.ensure_future(self.app(scope, replay, noted))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answered:
                answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
        finally:
            answering.cancel()
            gone.cancel()


class _Body:
    """A body that is being read."""

    def __init__(self, guard: Guard, content_type: str) -> None:
        self.guard = guard
        # pages of other sites may send other types unasked; one without a type has an origin, which is looked at
        self.is_json = content_type.partition(";")[0].strip().lower() in ("application/json", "")
        self.messages: list[Message] = []
        self.held = 0
        self.whole = False

    async def read(self, receive: Receive) -> _Refusal | None:
        """All of it, unless the client goes away."""
        size = 0
        try:
            async with asyncio.timeout(self.guard.body_s):
                while not self.whole:
                    async with asyncio.timeout(_SILENCE_S):
                        message = await receive()
                    if message["type"] != "http.request":
                        return None
                    size += len(message.get("body", b""))
                    refusal = self._check(size)
                    if refusal is not None:
                        return refusal
                    self.messages.append(message)
                    self.whole = not message.get("more_body", False)
        except TimeoutError:
            most = min(self.guard.body_s, _SILENCE_S)
            return _Refusal(408, f"the body was not there after {self.guard.body_s:g} s, or stopped for {most:g} s")
        return None

    def drop(self) -> None:
        """Give back what it holds."""
        self.guard.give_back(self.held)
        self.held = 0
        self.messages.clear()

    def _check(self, size: int) -> _Refusal | None:
        if size and self.guard.json_only and not self.is_json:
            return _Refusal(415, "expected a body of content type application/json")
        if size > self.guard.limit:
            return self.guard.too_large()
        more = max(0, size - _FREE_BYTES) - self.held
        if not self.guard.take(more):
            return _Refusal(429, "the server holds as many large bodies as it may; try again later")
        self.held += more
        return None


async def _refuse(refusal: _Refusal, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
    if refusal.status != 408 and "100-continue" not in headers.get("expect", "").lower():
        await _drop_body(receive)
    kind = "server_error" if refusal.status == 429 else "invalid_request_error"
    error = {"message": refusal.message, "type": kind, "param": None, "code": _CODES[refusal.status]}
    body = json.dumps({"error": error}).encode()
    extra = {401: [(b"www-authenticate", b"Bearer")], 429: [(b"retry-after", b"2")]}.get(refusal.status, [])
    sent = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


async def _drop_body(receive: Receive) -> None:
    """A client reads its answer only when it has sent its body: some of it is waited for, and none is kept."""
    size, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while more and size < _MOST_DROPPED_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, on which a connection is closed that sends no whole request head within 30 seconds, or takes
    nothing of its answer for two minutes.
    """

    head_s: float = _HEAD_S
    stalled_s: float = _STALLED_S
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

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered as every other mistake is."""
        error = {"message": msg, "type": "invalid_request_error", "param": None, "code": "invalid_request"}
        body = json.dumps({"error": error}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun already
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
