"""Any server that speaks OpenAI's API as the judge: ours, vLLM's, a vendor's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import random
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from judgelm.encoding import EncodedPrompt
from judgelm.engine import Generation, LineScores, OnText, Request, Sampling
from judgelm.engine.outgoing import PATIENT, Pace, Retries, in_background
from judgelm.engine.responses import Answer, Api, End, Fault, Refusal, read_response
from judgelm.jsonl import InputError, one_line
from judgelm.prompt import render_followup, render_prompt
from judgelm.sample import Sample
from judgelm.verdict import Judgement

log = logging.getLogger(__name__)

Asked = tuple[Request, Answer | Refusal]
_PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}
_CONNECT_TIMEOUT_S = 10
_LEAST_NEW_TOKENS = 256
"""where prompt and judgement overflow the context together, the room for the judgement is halved down to this"""
_MOST_UNEXPLAINED = 16
"""refusals, and nothing else, after which they are put down to the requests' form and not to the prompts"""
_MOST_SHOWN = 300
"""characters of a server's message"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and how it is asked."""

    base_url: str
    """up to, not including, /completions or /chat/completions"""
    model: str
    """by the server's name for it"""
    api: Api = "completions"
    key: str | None = field(default=None, repr=False)
    max_concurrency: int = 16
    requests_per_minute: float | None = None
    timeout_s: float = 600
    """for one answer"""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """set in the body of every request; None leaves a field out"""
    prices: tuple[float, float] | None = None
    """of a million prompt tokens and of a million generated ones"""


class OpenAIEngine:
    """Asks a server, several prompts at a time; see `Engine`.

    No tokenizer is known, so prompts are sent whole: what is too long is the server's to refuse.

    The two APIs differ where the prompt's last characters are the judgement's first (a task's prefill, "10"), and at
    the end of a score line:

    - completions: the server continues the prompt itself, as the released judges need it.
    - chat: the prompt, prefill included, is the one message of the user. Some models go on (" 7"), others begin anew
      ("10 7"); a score line for all answers that begins with the prefill is taken for the latter and the prefill is
      taken off. The newline after the scores is not sent as a stop string: a model that begins with a newline would
      write nothing. The first line with anything in it is cut out here instead.
    """

    def __init__(self, server: Server, retries: Retries = PATIENT) -> None:
        self.server = server
        self.retries = retries
        self._counted: dict[str, str | int | float] = {
            "engine": "openai",
            "base_url": server.base_url,
            "api": server.api,
            "max_concurrency": server.max_concurrency,
            "prompt_tokens": 0,
            "generated_tokens": 0,
        }
        if server.prices:
            self._counted |= {"prices_per_million_tokens": "{:g} {:g}".format(*server.prices), "cost": 0.0}
        # what is counted grows as answers come
        self.description: Mapping[str, str | int | float] = self._counted
        # one prompt's answer does not depend on others
        self.block = 1024
        self._pace = Pace(server.requests_per_minute)
        self._rng = random.Random()
        self._num_answers = 0
        self._troubled = False

    def fit(self, sample: Sample, task: str, max_new_tokens: int) -> EncodedPrompt:
        """The prompt as it is; see `Engine.fit`."""
        return EncodedPrompt(render_prompt(sample, task), [], None)

    def fit_followup(
        self,
        sample: Sample,
        task: str,
        judgement: str,
        turns: Sequence[tuple[str, str]],
        question: str,
        max_new_tokens: int,
    ) -> EncodedPrompt:
        """The prompt of a further question as it is; see `Engine.fit_followup`."""
        return EncodedPrompt(render_followup(render_prompt(sample, task), judgement, turns, question), [], None)

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`; always InputError."""
        raise InputError("--scoring expected needs a model in this process: a server does not give all probabilities")

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        done: Collection[str] = (),
        on_text: OnText | None = None,
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Closing the iterator cancels what is under way.

        Raises InputError where the server cannot be used: wrong key, unknown model, no answer in so many attempts, or
        nothing but refusals that do not speak of the prompt.
        """
        if sampling.constrained or sampling.stop_token_ids:
            raise InputError("a server can neither be held to a score line nor told token ids (--constrained)")
        waiting = [request for request in requests if request.key not in done]
        # until the server has said something of a prompt, it may be the request's form that it does not take
        held: list[Asked] = []
        taken = bool(done) or self._num_answers > 0
        with contextlib.closing(self._ask_all(waiting, sampling)) as found:
            for request, outcome in found:
                held.append((request, outcome))
                taken = taken or not (isinstance(outcome, Refusal) and outcome.about == "unknown")
                if not taken and isinstance(outcome, Refusal):
                    if len(held) == min(_MOST_UNEXPLAINED, len(waiting)):
                        raise InputError(f"{self.server.base_url} takes no request: {outcome.reason}")
                    continue
                for known in held:
                    generation = self._finish(*known, sampling)
                    if on_text is not None:
                        on_text(generation.key, generation.text)
                    yield generation
                held = []

    def _ask_all(self, requests: Sequence[Request], sampling: Sampling) -> Generator[Asked, None, None]:
        waiting = iter(requests)
        most = self.server.max_concurrency

        async def produce(emit: Callable[[Asked], None]) -> None:
            async def work() -> None:
                for request in waiting:
                    emit((request, await self._ask(client, request, sampling)))

            client = self._open(most)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(most, len(requests))):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            finally:
                # to its end, even where that is when we are cancelled
                await asyncio.shield(client.aclose())

        return in_background(produce)

    def _open(self, most: int) -> httpx.AsyncClient:
        headers = {"Content-Type": "application/json"}
        if self.server.key:
            headers["Authorization"] = f"Bearer {self.server.key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(self.server.timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        )

    async def _ask(self, client: httpx.AsyncClient, request: Request, sampling: Sampling) -> Answer | Refusal:
        """One prompt's answer, its room made smaller where it does not fit the context beside the prompt."""
        room = sampling.max_new_tokens
        while True:
            outcome = await self._send(client, self._body(request, sampling, room))
            if not isinstance(outcome, Refusal) or outcome.about != "context" or room // 2 < _LEAST_NEW_TOKENS:
                return outcome
            room //= 2

    async def _send(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal:
        """Try until there is an answer. Raises InputError where none is to be had."""
        num_answers, attempt = self._num_answers, 1
        while True:
            await self._pace.turn()
            outcome = await self._try(client, body)
            if isinstance(outcome, End):
                raise InputError(self._explain(outcome))
            if not isinstance(outcome, Fault):
                self._troubled = False
                self._num_answers += isinstance(outcome, Answer)
                return outcome
            if attempt == self.retries.attempts:
                # where others were answered meanwhile, it is this prompt that the server fails at
                return self._give_up(outcome, self._num_answers > num_answers)
            self._tell(outcome)
            await asyncio.sleep(self.retries.wait_s(attempt, outcome.retry_after_s, self._rng))
            attempt += 1

    def _give_up(self, fault: Fault, others_answered: bool) -> Refusal:
        times = self.retries.attempts
        if others_answered and fault.broken:
            return Refusal(f"{fault.reason}, {times} times", "prompt")
        raise InputError(
            f"{self.server.base_url}: no answer in {times} attempts ({fault.reason}); what was judged is kept, the same"
            " command goes on"
        )

    async def _try(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal | Fault | End:
        try:
            # escaped to ASCII: texts may hold half a surrogate pair, which UTF-8 cannot
            content = json.dumps(body).encode()
            response = await client.post(self.server.base_url + _PATHS[self.server.api], content=content)
        except httpx.RequestError as error:
            return Fault(self._clean(f"{type(error).__name__}: {error}"))
        return read_response(response, self.server.api, self._clean)

    def _body(self, request: Request, sampling: Sampling, max_tokens: int) -> dict[str, Any]:
        chat = self.server.api == "chat"
        stop = [text for text in sampling.stop if text.strip() or not chat]
        body = {
            "model": self.server.model,
            **({"messages": [{"role": "user", "content": request.prompt}]} if chat else {"prompt": request.prompt}),
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if sampling.top_p < 1 else None,
            "stop": stop or None,
            "seed": seed_of(sampling.seed, request.seed_key),
            **self.server.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _finish(self, request: Request, outcome: Answer | Refusal, sampling: Sampling) -> Generation:
        self._count(outcome)
        if isinstance(outcome, Refusal):
            log.warning("question_id %s is refused: %s", one_line(request.seed_key), outcome.reason)
            return Generation(request.key, "", outcome.num_prompt_tokens, outcome.num_tokens, "refused")
        text, finish_reason = outcome.text, outcome.finish_reason
        if self.server.api == "chat":
            text = continue_prompt(text, request, sampling)
        ends = [text.find(stop) for stop in sampling.stop if stop in text]
        if ends:
            text, finish_reason = text[: min(ends)], "stop"
        return Generation(request.key, text, outcome.num_prompt_tokens, outcome.num_tokens, finish_reason)

    def _count(self, outcome: Answer | Refusal) -> None:
        prompt_tokens = int(self._counted["prompt_tokens"]) + outcome.num_prompt_tokens
        generated_tokens = int(self._counted["generated_tokens"]) + outcome.num_tokens
        self._counted |= {"prompt_tokens": prompt_tokens, "generated_tokens": generated_tokens}
        if self.server.prices:
            self._counted["cost"] = cost(prompt_tokens, generated_tokens, self.server.prices)

    def _tell(self, fault: Fault) -> None:
        """Say it once, not for each of the prompts that wait."""
        if not self._troubled:
            log.warning("%s: %s; trying again", self.server.base_url, fault.reason)
        self._troubled = True

    def _explain(self, end: End) -> str:
        url = self.server.base_url
        if end.status == 401:
            # the message is left out: some repeat parts of the key
            why = "refuses the API key" if self.server.key else "wants an API key, and there is none"
            return f"{url} {why} (401 Unauthorized); keys come from the environment, see --api-key-variable"
        if end.status == 404:
            return (
                f"{url} does not know model {self.server.model} or has no {_PATHS[self.server.api]} ({end.reason}); the"
                " base URL of most servers ends in /v1"
            )
        return f"{url} refuses all requests ({end.reason})"

    def _clean(self, text: str) -> str:
        """A server's words in one short line, without the key."""
        text = text.replace(self.server.key, "***") if self.server.key else text
        text = one_line(text).rstrip(": ")
        return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + " .."


def continue_prompt(text: str, request: Request, sampling: Sampling) -> str:
    """A chat's answer as if it continued the prompt; see `OpenAIEngine`."""
    if request.prefill:
        text = text.lstrip()
        whole = Judgement.parse(text, request.num_answers).scores is not None and text.startswith(request.prefill)
        # servers strip the space in front of an answer
        return text.removeprefix(request.prefill) if whole or not text else f" {text}"
    return text.lstrip() if any(not stop.strip() for stop in sampling.stop) else text


def seed_of(seed: int, key: str) -> int:
    """A sample's own seed, of 31 bits, which every server takes."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode(errors="surrogatepass")).digest()[:4], "big") >> 1


def cost(prompt_tokens: int, generated_tokens: int, prices: tuple[float, float]) -> float:
    """In the currency of the prices, which are for a million tokens."""
    return round((prompt_tokens * prices[0] + generated_tokens * prices[1]) / 1_000_000, 6)


def check_base_url(url: str, name: str) -> str:
    """The URL without a slash at its end. Raises InputError for what cannot be one; `name` says where it came from."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
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
