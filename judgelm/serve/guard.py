"""The guard in front of each of our servers: who may speak to it, how much, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from judgelm.serve.draining import Drain
from judgelm.serve.hosts import Hosts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Admit = Callable[[str, str], str | None]
"""(path within the app, Authorization header) -> why it is refused, if it is"""

MOST_BODY_BYTES = 8 << 20
MOST_TOTAL_BYTES = 128 << 20
_FREE_BYTES = 64 << 10
"""of each body, which do not count among the total: so that small requests are served while large ones wait"""
_BODY_S = 60
_UPLOAD_S = 600
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
    503: "stopping",
}
_RETRY_S = {429: "2", 503: "10"}
_WHILE_CLOSING = "/metrics"
"""a path that is answered to the end"""


def error_bytes(message: str, code: str, kind: str = "invalid_request_error") -> bytes:
    """The body of every error of our servers."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


class _Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class Guard:
    """ASGI middleware that asks, in this order, for a host of this server, a page of its own, a key, JSON, and a body
    that is neither too long nor too slow; what a client asked for is cancelled when it goes away.
    """

    app: App
    limit: int = MOST_BODY_BYTES
    """most bytes of a body"""
    _: KW_ONLY
    total: int = MOST_TOTAL_BYTES
    """most bytes of all bodies whose requests are not answered yet, the first 64 KiB of each left out"""
    hosts: Hosts | None = None
    """None lets every host pass"""
    admit: Admit | None = None
    """looks at the key, before anything of the body is read"""
    json_only: bool = True
    """a body that is said to be of another type is answered with 415"""
    uploads: Mapping[str, int] = field(default_factory=dict)
    """paths whose bodies are of any type, and how many bytes such a body may have"""
    origins: Collection[str] = ()
    """whose pages, of other sites, may post too; "*" is every site's"""
    drain: Drain | None = None
    """once it is closing all is refused"""
    unwaited: str | None = None
    """how paths begin whose requests have no end of their own, which a drain does not wait for"""
    body_s: float = _BODY_S
    """in which a body must be there"""
    linger_s: float = _LINGER_S
    """for which the body of a refused request is waited for"""
    held: int = field(default=0, init=False)
    """bytes of bodies whose requests are not answered yet"""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # where the app is mounted in another one, that stands in front
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        body = _Body(self, headers.get("content-type", ""), self.uploads.get(path))
        try:
            self._look(scope, path, headers)
            body.check_declared(headers.get("content-length", "0"))
            waited = self.unwaited is None or not path.startswith(self.unwaited)
            with self.drain.work() if self.drain and waited else contextlib.nullcontext():
                await body.read(receive)
                if body.whole:
                    await self._answer(scope, body.messages, receive, send)
        except _Refusal as refusal:
            # what was read of it must not wait with the client for its end
            body.drop()
            await self._refuse(refusal, body.whole, scope, receive, send)
        finally:
            body.drop()

    def _look(self, scope: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> None:
        """Raises _Refusal for what can be seen without the body."""
        if self.drain and self.drain.closing and path != _WHILE_CLOSING:
            raise _Refusal(503, "the server is stopping; try again later, or another one")
        host = headers.get("host")
        if self.hosts is not None and host is not None and not self.hosts.allows(host):
            raise _Refusal(403, "this host is not one of the server's; --allowed-hosts names more")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not self._is_own_page(headers, host or ""):
            raise _Refusal(403, "a page of another site may not do this; --allowed-hosts names more")
        if self.admit and (why := self.admit(path, headers.get("authorization", ""))) is not None:
            raise _Refusal(401, why)

    def _is_own_page(self, headers: Mapping[str, str], host: str) -> bool:
        """Browsers alone say from which page a request comes."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if self.hosts is None or (origin is not None and (self.hosts.names_page(origin) or self._takes(origin))):
            return True
        return (origin is None or self.hosts.allows_page(origin, host)) and site in (None, "same-origin", "none")

    def _takes(self, origin: str) -> bool:
        return origin in self.origins or "*" in self.origins

    async def _refuse(
        self, refusal: _Refusal, whole: bool, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        expects = Headers(scope=scope).get("expect", "").lower()
        if not whole and refusal.status != 408 and "100-continue" not in expects:
            await self._drop_body(receive)
        kind = "server_error" if refusal.status in _RETRY_S else "invalid_request_error"
        body = error_bytes(str(refusal), _CODES[refusal.status], kind)
        sent = {"Connection": "close"}
        sent |= {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        sent |= {"Retry-After": _RETRY_S[refusal.status]} if refusal.status in _RETRY_S else {}
        await Response(body, refusal.status, sent, "application/json")(scope, receive, send)

    async def _drop_body(self, receive: Receive) -> None:
        """A client reads its answer only when it has sent its body: some of it is waited for, and none is kept."""
        size, more = 0, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.linger_s):
                while more and size < _MOST_DROPPED_BYTES:
                    message = await receive()
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)

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

    def __init__(self, guard: Guard, content_type: str, upload: int | None) -> None:
        self.guard = guard
        # pages of other sites may send other types unasked; one without a type has an origin, which is looked at
        is_json = content_type.partition(";")[0].strip().lower() in ("application/json", "")
        self.is_right = is_json or not guard.json_only or upload is not None
        self.limit = guard.limit if upload is None else upload
        self.seconds = guard.body_s if upload is None else _UPLOAD_S
        self.messages: list[Message] = []
        self.held = 0
        self.whole = False
        """all that the client sends of it has come"""

    async def read(self, receive: Receive) -> None:
        """All of it, unless the client goes away. Raises _Refusal."""
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while not self.whole:
                    async with asyncio.timeout(_SILENCE_S):
                        message = await receive()
                    if message["type"] != "http.request":
                        return
                    self.whole = not message.get("more_body", False)
                    size += len(message.get("body", b""))
                    self._hold(size)
                    self.messages.append(message)
        except TimeoutError:
            most = min(self.seconds, _SILENCE_S)
            raise _Refusal(408, f"the body was not there after {self.seconds:g} s, or stopped for {most:g} s") from None

    def check_declared(self, length: str) -> None:
        """Raises _Refusal for a body that says that it is too long."""
        if length.isdigit():
            self._check_size(int(length))

    def drop(self) -> None:
        self.guard.held -= self.held
        self.held = 0
        self.messages.clear()

    def _hold(self, size: int) -> None:
        guard = self.guard
        if size and not self.is_right:
            raise _Refusal(415, "expected a body of content type application/json")
        self._check_size(size)
        more = max(0, size - _FREE_BYTES) - self.held
        if more and guard.held + more > guard.total:
            raise _Refusal(429, "the server holds as many large bodies as it may; try again later")
        guard.held += more
        self.held += more

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise _Refusal(413, f"the body is larger than {self.limit} bytes")
