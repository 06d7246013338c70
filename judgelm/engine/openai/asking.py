"""Many prompts to one server, so many under way at once; a server that cannot be used ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import httpx

from judgelm.engine.openai.requests import FLAGS, PATIENT, Retries, Sender, Words
from judgelm.engine.openai.responses import Answer, Refusal
from judgelm.engine.openai.server import Server
from judgelm.errors import InputError

Item = TypeVar("Item")
T = TypeVar("T")
_LEAST_NEW_TOKENS = 256
"""where prompt and answer overflow the context together, the room for the answer is halved down to this"""
_MOST_UNEXPLAINED = 16
"""refusals, and nothing else, after which they are put down to the requests' form and not to the prompts"""
_MOST_FAILED = 64
"""prompts one after the other without a usable answer, after which that is put down to the server"""


class Asker:
    """Asks a server, as often as `retries` say; `words` are for its user."""

    def __init__(self, server: Server, retries: Retries = PATIENT, words: Words = FLAGS) -> None:
        self.server = server
        self.sender = Sender(server, retries, words)

    @property
    def is_used(self) -> bool:
        """Whether it has given an answer."""
        return self.sender.num_answers > 0

    async def ask_all(
        self,
        items: Sequence[Item],
        ask: Callable[[httpx.AsyncClient, Item], Awaitable[T | Refusal | None]],
        emit: Callable[[tuple[Item, T | Refusal]], None],
        taken: bool,
    ) -> None:
        """Hand each item to `emit` with what came of it, as it comes, but for those that were not asked after all
        (None).

        Nothing but refusals is told only once the server is known to be one that can be used (`taken`). Raises
        InputError where it cannot be.
        """
        waiting = iter(items)
        trial: _Trial[Item, T] = _Trial(self.sender, taken)

        async def work() -> None:
            for item in waiting:
                outcome = await ask(client, item)
                if outcome is not None:
                    for each in trial.take(item, outcome):
                        emit(each)

        client = self.sender.open()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.server.max_concurrency, len(items))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            # to its end, even where that is when we are cancelled
            await asyncio.shield(client.aclose())
        for each in trial.end():
            emit(each)

    async def fit_room(
        self, client: httpx.AsyncClient, body: Callable[[int], Mapping[str, Any]], room: int
    ) -> Answer | Refusal:
        """The answer to a body made for so many new tokens; to fewer where the context has no room for them."""
        while True:
            outcome = await self.sender.send(client, body(room))
            if not isinstance(outcome, Refusal) or outcome.about != "context" or room // 2 < _LEAST_NEW_TOKENS:
                return outcome
            room //= 2


class _Trial(Generic[Item, T]):
    """Until the server has answered a prompt, it may be the request's form that it does not take, and where it fails at
    one prompt after the other it may be down.
    """

    def __init__(self, sender: Sender, taken: bool) -> None:
        self._sender = sender
        self._taken = taken
        self._unsure: list[tuple[Item, T | Refusal]] = []

    def take(self, item: Item, outcome: T | Refusal) -> list[tuple[Item, T | Refusal]]:
        """What is sure by now. Raises InputError."""
        self._unsure.append((item, outcome))
        about = outcome.about if isinstance(outcome, Refusal) else None
        if about == "failed" or (about == "unknown" and not self._taken):
            if len(self._unsure) < (_MOST_FAILED if about == "failed" else _MOST_UNEXPLAINED):
                return []
            raise InputError(self._explain())
        self._taken = True
        sure, self._unsure = self._unsure, []
        return sure

    def end(self) -> list[tuple[Item, T | Refusal]]:
        """The rest. Raises InputError where nothing at all was answered."""
        if self._unsure and not self._taken:
            raise InputError(self._explain())
        return self._unsure

    def _explain(self) -> str:
        url, words, last = self._sender.server.base_url, self._sender.words, self._unsure[-1][1]
        assert isinstance(last, Refusal)
        if last.about == "unknown":
            return f"{url} takes no request: {last.reason}{words.way_out(last.reason)}"
        return f"{url} gives no usable answer ({last.reason}); {words.kept}"
