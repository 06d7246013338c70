"""Requests on their way to a server: in the background, spaced out, and tried again after a while."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from judgelm.engine.openai.responses import Answer, End, Fault, Refusal, read_response
from judgelm.engine.openai.server import PATHS, Server
from judgelm.errors import InputError, one_line

T = TypeVar("T")
log = logging.getLogger(__name__)
_CONNECT_TIMEOUT_S = 10
_BUSY_ROUNDS = 3
"""how often all attempts are made at a prompt while others are answered"""
_UNUSABLE_ATTEMPTS = 3
"""each is paid for"""
_MOST_BYTES = 16 << 20
"""of a response"""
_MOST_SHOWN = 300
"""characters of a server's message"""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is tried, and how long it waits in between."""

    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
        """The wait after the attempt with this number, 1 being the first.

        Anything up to a bound that doubles each time ("full jitter": clients that failed together come back apart);
        no less than the server's Retry-After, unless that is above the longest wait.
        """
        bound = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        return min(self.longest_wait_s, max(retry_after_s or 0, rng.uniform(0, bound)))


PATIENT = Retries()
"""about a minute in all, twice that at most"""


@dataclass(frozen=True, slots=True)
class Words:
    """What a user is told to do about a server: in words of the command line, or of a file."""

    kept: str = "what was judged is kept, the same command goes on"
    key: str = "--api-key-variable"
    """where the key's variable is named"""
    fields: str = "--request-fields"
    temperature: str = "--temperature 1, or "

    def way_out(self, reason: str) -> str:
        """What to do about a field that the server does not take."""
        for name in ("max_tokens", "temperature", "top_p", "seed", "stop", "logprobs"):
            if re.search(rf"(?:^|[^\w]){name}(?:$|[^\w])", reason):
                instead = {name: 5 if name == "logprobs" else None}
                instead |= {"max_completion_tokens": 4096} if name == "max_tokens" else {}
                also = self.temperature if name == "temperature" else ""
                return f"; try {also}{self.fields} '{json.dumps(instead)}'"
        return ""


FLAGS = Words()


def in_background(produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
    """What a coroutine hands to its argument, as it comes. Closing the iterator cancels the coroutine.

    The coroutine runs in an event loop and a thread of its own: its requests go on while the caller writes a record,
    and a caller with a running loop, as a notebook has one, can iterate too. Raises what the coroutine raised.
    """
    found: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(produce(lambda item: found.put((item,))))

    def work() -> None:
        # a task of the coroutine's own may outlive it, one that closes connections
        while tasks := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(tasks))
        # another turn of the loop: connections that were closed are let go in it
        loop.run_until_complete(loop.shutdown_asyncgens())
        found.put(None)

    # a daemon: a caller who ends without closing the iterator is not kept until all is answered
    thread = threading.Thread(target=work, name="judgelm requests", daemon=True)
    thread.start()
    try:
        while (item := found.get()) is not None:
            yield item[0]
        task.result()
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
        # looked at, so that asyncio does not complain of an error that came too late for anybody
        _ = task.cancelled() or task.exception()


class Sender:
    """Sends bodies to a server until each is answered; what it has counted lasts from one connection to the next."""

    def __init__(self, server: Server, retries: Retries, words: Words = FLAGS) -> None:
        self.server = server
        self.retries = retries
        self.words = words
        self.num_answers = 0
        self._interval_s = 60 / server.requests_per_minute if server.requests_per_minute else 0.0
        self._next_s = 0.0
        self._rng = random.Random()
        self._troubled = False

    def open(self) -> httpx.AsyncClient:
        """A client for all requests that are under way at once. Raises InputError for a proxy that cannot be used."""
        most = self.server.max_concurrency
        headers = {"Content-Type": "application/json"}
        if self.server.key:
            headers["Authorization"] = f"Bearer {self.server.key}"
        try:
            return httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(self.server.timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                # no proxy leads to this machine
                trust_env=not self.server.is_here,
                # certificates, which take long to read, are for https
                verify=urlsplit(self.server.base_url).scheme != "http",
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise InputError(f"the proxy that the environment names cannot be used: {one_line(str(error))}") from None

    async def _turn(self) -> None:
        """Wait until the next request may leave: evenly, so that no minute sees more of them than is allowed."""
        now = time.monotonic()
        leaves = max(now, self._next_s)
        self._next_s = leaves + self._interval_s
        await asyncio.sleep(leaves - now)

    async def send(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal:
        """Try until there is an answer. Raises InputError where none is to be had."""
        num_before, attempt = 0, 1
        while True:
            await self._turn()
            outcome = await self._try(client, body)
            if isinstance(outcome, End):
                raise InputError(self._explain(outcome))
            if not isinstance(outcome, Fault):
                self._troubled = False
                self.num_answers += isinstance(outcome, Answer)
                return outcome
            # where others are answered after it has failed once, it is this prompt that the server fails at
            num_before = self.num_answers if attempt == 1 else num_before
            others = self.num_answers > num_before
            if attempt >= self._most_attempts(outcome, others):
                if outcome.kind == "away" and not others:
                    reason = f"no answer in {attempt} attempts ({outcome.reason}); {self.words.kept}"
                    raise InputError(f"{self.server.base_url}: {reason}")
                return Refusal(f"{outcome.reason}, {attempt} times", "prompt" if others else "failed")
            if not self._troubled:
                # once, not for each of the prompts that wait
                log.warning("%s: %s; trying again", self.server.base_url, outcome.reason)
            self._troubled = True
            await asyncio.sleep(self.retries.wait_s(attempt, outcome.retry_after_s, self._rng))
            attempt += 1

    def _most_attempts(self, fault: Fault, others: bool) -> int:
        most = self.retries.attempts
        if fault.kind == "unusable":
            return min(most, _UNUSABLE_ATTEMPTS)
        return most * _BUSY_ROUNDS if fault.kind == "away" and others else most

    async def _try(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal | Fault | End:
        try:
            async with asyncio.timeout(self.server.timeout_s):
                response = await self._post(client, body)
        except TimeoutError:
            return Fault(f"no whole answer within {self.server.timeout_s:g} s", kind="broken")
        except httpx.RequestError as error:
            away = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
            return Fault(self.clean(f"{type(error).__name__}: {error}"), kind="away" if away else "broken")
        if response is None:
            return Fault(f"an answer of more than {_MOST_BYTES >> 20} MiB", kind="unusable")
        return read_response(response, self.server.api, self.clean)

    async def _post(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> httpx.Response | None:
        """The whole response; None where it is too long."""
        # escaped to ASCII: texts may hold half a surrogate pair, which UTF-8 cannot
        content = json.dumps(body).encode()
        url = self.server.base_url + PATHS[self.server.api]
        parts, size = [], 0
        async with client.stream("POST", url, content=content) as response:
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    return None
        headers = {name: value for name, value in response.headers.items() if name == "retry-after"}
        return httpx.Response(response.status_code, headers=headers, content=b"".join(parts))

    def _explain(self, end: End) -> str:
        url = self.server.base_url
        if end.status == 401:
            # the message is left out: some repeat parts of the key
            why = "refuses the API key" if self.server.key else "wants an API key, and there is none"
            return f"{url} {why} (401 Unauthorized); keys come from the environment, see {self.words.key}"
        if end.status == 404:
            return (
                f"{url} does not know model {self.server.model} or has no {PATHS[self.server.api]} ({end.reason}); the"
                " base URL of most servers ends in /v1"
            )
        return f"{url} refuses all requests ({end.reason}){self.words.way_out(end.reason)}; {self.words.kept}"

    def clean(self, text: str) -> str:
        """A server's words in one short line, without the key."""
        text = text.replace(self.server.key, "***") if self.server.key else text
        text = one_line(text).rstrip(": ")
        return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + " .."


def seed_of(seed: int, key: str) -> int:
    """A sample's own seed, of 31 bits, which every server takes."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode(errors="surrogatepass")).digest()[:4], "big") >> 1


def exact_cost(prompt_tokens: int, generated_tokens: int, prices: tuple[float, float]) -> float:
    """In the currency of the prices, which are for a million tokens; to be added up."""
    return (prompt_tokens * prices[0] + generated_tokens * prices[1]) / 1_000_000


def cost(prompt_tokens: int, generated_tokens: int, prices: tuple[float, float]) -> float:
    """Of all of them together, to be shown."""
    return round(exact_cost(prompt_tokens, generated_tokens, prices), 6)
