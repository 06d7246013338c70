"""What our servers share: a guard in front of each, and how they run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from pydantic import ValidationError

from judgelm.jsonl import InputError, one_line

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 8 << 20


class Guard:
    """ASGI middleware: a body of more than `limit` bytes is answered with 413 and not read to its end, and what a
    client asked for is cancelled when it goes away.
    """

    def __init__(self, app: App, limit: int = MOST_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.limit:
            await self._refuse(send)
            return
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self.limit:
                await self._refuse(send)
                return
            if not message.get("more_body", False):
                break
        await self._answer(scope, messages, receive, send)

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

    async def _refuse(self, send: Send) -> None:
        body = f'{{"error": {{"message": "the body is larger than {self.limit} bytes", "code": 413}}}}'.encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


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
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise InputError(f"{flag} {url}: expected an address such as http://127.0.0.1:21001")
    return url.rstrip("/")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, 0 being any free port. Raises InputError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise InputError(f"--host {host} --port {port}: cannot listen there ({reason})") from None
    return listening


def address_of(listening: socket.socket) -> str:
    """Where a client on this machine finds it."""
    host, port = listening.getsockname()[:2]
    return url_of(host, port)


def url_of(host: str, port: int) -> str:
    """The address of a server on this machine that listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(app: Any, listening: socket.socket) -> None:
    """Serve until a signal comes; open streams get a few seconds to end."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # clients must give up an idle connection before we do, or one that is taken up again may break
    config = uvicorn.Config(app, log_level="info", timeout_graceful_shutdown=3, timeout_keep_alive=30)
    uvicorn.Server(config).run(sockets=[listening])


def log_to_stderr() -> None:
    """One line an event, with time and name."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
