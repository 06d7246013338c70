"""Questions to models behind servers: all servers at once, each with so many requests under way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from judgelm.collection.budget import Budget
from judgelm.collection.models import AnswerModel
from judgelm.collection.replies import KEPT, Ask, Reply
from judgelm.engine.openai.asking import Asker
from judgelm.engine.openai.requests import PATIENT, Words, exact_cost, in_background, seed_of
from judgelm.engine.openai.responses import Answer, Refusal
from judgelm.engine.openai.server import Server
from judgelm.errors import InputError
from judgelm.thinking import split_thoughts

_WORDS = Words(f"{KEPT} is kept, the same command goes on", "api_key_env", "request_fields:", "temperature: 1, or ")
_FRAME = 64
"""tokens, more than any server's own words for a turn take"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is still to be asked of a model behind a server."""

    model: AnswerModel
    server: Server
    asks: Sequence[Ask]
    taken: bool
    """it has answered before"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A server that cannot be used any more."""

    model: str
    reason: str


Found = Reply | Failure


def ask_servers(waiting: Sequence[Waiting], seed: int, budget: Budget) -> Generator[Found, None, None]:
    """The replies as they come; a server that cannot be used ends for itself alone. Closing the iterator cancels what
    is under way.
    """
    places: dict[str, int] = {}
    for each in waiting:
        url, most = each.server.base_url, each.server.max_concurrency
        places[url] = min(most, places.get(url, most))

    async def produce(emit: Callable[[Found], None]) -> None:
        free = {url: asyncio.Semaphore(most) for url, most in places.items()}
        async with asyncio.TaskGroup() as group:
            for each in waiting:
                model = _Model(each, seed, budget, free[each.server.base_url])
                group.create_task(model.ask_all(emit))

    return in_background(produce)


class _Model:
    """One model behind a server; `places` are those that all models of its server share."""

    def __init__(self, waiting: Waiting, seed: int, budget: Budget, places: asyncio.Semaphore) -> None:
        self._waiting = waiting
        self._model, self._server = waiting.model, waiting.server
        self._asker = Asker(waiting.server, PATIENT, _WORDS)
        self._seed, self._budget, self._places = seed, budget, places
        self._uncounted = False
        """an answer does not say what it costs: no more are asked for, and those under way are kept"""

    async def ask_all(self, emit: Callable[[Found], None]) -> None:
        def take(found: tuple[Ask, Answer | Refusal]) -> None:
            emit(self._reply(*found))
            limited = any(self._server.prices or ()) and self._budget.most is not None
            self._uncounted = self._uncounted or (limited and _says_no_tokens(found[1]))

        try:
            await self._asker.ask_all(self._waiting.asks, self._ask, take, self._waiting.taken)
            if self._uncounted:
                raise InputError(f"{self._server.base_url}: its answers have no usage, by which max_cost counts")
        except InputError as error:
            emit(Failure(self._model.name, str(error)))

    async def _ask(self, client: httpx.AsyncClient, ask: Ask) -> Answer | Refusal | None:
        """None where the budget has no room for it, or cannot be kept."""

        def body(room: int) -> dict[str, Any]:
            return self._body(ask, room)

        room = self._model.room
        async with self._places, self._budget.hold(self._most_cost(ask)) as pay:
            if pay is None or self._uncounted:
                return None
            outcome = await self._asker.fit_room(client, body, room)
            pay(exact_cost(outcome.num_prompt_tokens, outcome.num_tokens, self._server.prices or (0, 0)))
            return outcome

    def _most_cost(self, ask: Ask) -> float:
        """No token of a text stands for less than a byte of its message."""
        messages = ask.question.messages(self._model.system)
        size = len(json.dumps(messages).encode()) + _FRAME * len(messages)
        return exact_cost(size, self._model.most_tokens or 0, self._server.prices or (0, 0))

    def _body(self, ask: Ask, room: int) -> dict[str, Any]:
        model = self._model
        body: Mapping[str, Any] = {
            "model": self._server.model,
            "messages": ask.question.messages(model.system),
            "max_tokens": room,
            "temperature": model.temperature,
            "top_p": model.top_p if model.top_p < 1 else None,
            "seed": seed_of(self._seed, ask.key),
            **self._server.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _reply(self, ask: Ask, outcome: Answer | Refusal) -> Reply:
        tokens = outcome.num_prompt_tokens, outcome.num_tokens
        if isinstance(outcome, Refusal):
            return Reply.to(ask, "", "refused", tokens, reason=outcome.reason)
        beside = outcome.thoughts
        thinks = self._model.max_thinking_tokens > 0 and beside is None
        within, text = split_thoughts(outcome.text, thinks, outcome.finish_reason == "length")
        thoughts = "\n\n".join(filter(None, ((beside or "").strip(), within)))
        return Reply.to(
            ask, self._hide(text), outcome.finish_reason, tokens, thoughts=self._hide(thoughts) if thoughts else None
        )

    def _hide(self, text: str) -> str:
        """A text without the key, which a server may send back."""
        return text.replace(self._server.key, "***") if self._server.key else text


def _says_no_tokens(outcome: Answer | Refusal) -> bool:
    """Whether an answer lacks a count that cannot be 0."""
    return isinstance(outcome, Answer) and not (
        outcome.num_prompt_tokens and (outcome.num_tokens or not (outcome.text or outcome.thoughts))
    )
