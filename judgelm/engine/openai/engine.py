"""Any server that speaks OpenAI's API as the judge: ours, vLLM's, a vendor's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import logging
import random
import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from judgelm.encoding import EncodedPrompt
from judgelm.engine.interface import Generation, LineScores, OnText, Request, Sampling, cut_at
from judgelm.engine.openai.requests import PATIENT, Pace, Retries, in_background
from judgelm.engine.openai.responses import Answer, Api, End, Fault, Refusal, read_response
from judgelm.errors import InputError, one_line
from judgelm.judgement import Judgement
from judgelm.prompt import render_followup, render_prompt
from judgelm.sample import Sample
from judgelm.score_lines import find_score_line, text_begin, thoughts_end

log = logging.getLogger(__name__)

Asked = tuple[Request, Answer | Refusal]
_PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}
_CONNECT_TIMEOUT_S = 10
_LEAST_NEW_TOKENS = 256
"""where prompt and judgement overflow the context together, the room for the judgement is halved down to this"""
_MOST_UNEXPLAINED = 16
"""refusals, and nothing else, after which they are put down to the requests' form and not to the prompts"""
_MOST_FAILED = 64
"""prompts one after the other without a usable answer, after which that is put down to the server"""
_BUSY_ROUNDS = 3
"""how often all attempts are made at a prompt while others are answered"""
_UNUSABLE_ATTEMPTS = 3
"""each is paid for"""
_MOST_BYTES = 16 << 20
"""of a response"""
_KEPT = "what was judged is kept, the same command goes on"
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
    """for one answer, from the request to its last byte"""
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
      taken off; where it is written in another form, or comes after thoughts, the other scores and the reasons are
      what goes on. The newline after the scores is not sent as a stop string: a model that begins with a newline would
      write nothing.

    With scores only (`Sampling.most_thoughts`) little room is asked for, and what follows the scores is cut off. Where
    the room ended before there were scores, because of thoughts or reasons, the prompt is asked again with all the
    room, and if that is the rule, the others are at once.
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
            "thoughts_left_out": 0,
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
        self._num_short = self._num_cut = 0

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

        A prompt to which there is no usable answer is refused. Raises InputError where the server cannot be used: wrong
        key, unknown model, away for so many attempts, or no answer to any prompt yet, those in `done` included.
        """
        if sampling.constrained or sampling.stop_token_ids:
            raise InputError("a server can neither be held to a score line nor told token ids (--constrained)")
        waiting = [request for request in requests if request.key not in done]
        # until the server has said something of a prompt, it may be the request's form that it does not take, and where
        # it fails at one prompt after the other it may be down
        held: list[Asked] = []
        taken = bool(done) or self._num_answers > 0
        with contextlib.closing(self._ask_all(waiting, sampling)) as found:
            for request, outcome in found:
                held.append((request, outcome))
                about = outcome.about if isinstance(outcome, Refusal) else None
                if about == "failed" or (about == "unknown" and not taken):
                    if len(held) < (_MOST_FAILED if about == "failed" else _MOST_UNEXPLAINED):
                        continue
                    raise InputError(self._explain_nothing(held))
                taken = True
                yield from self._release(held, sampling, on_text)
                held = []
        if held and not taken:
            raise InputError(self._explain_nothing(held))
        yield from self._release(held, sampling, on_text)

    def _release(self, held: Sequence[Asked], sampling: Sampling, on_text: OnText | None) -> Iterator[Generation]:
        for request, outcome in held:
            generation = self._finish(request, outcome, sampling)
            if on_text is not None:
                on_text(generation.key, generation.text)
            yield generation

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
        try:
            return httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(self.server.timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                # no proxy leads to this machine
                trust_env=not _is_here(self.server.base_url),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise InputError(f"the proxy that the environment names cannot be used: {one_line(str(error))}") from None

    async def _ask(self, client: httpx.AsyncClient, request: Request, sampling: Sampling) -> Answer | Refusal:
        """One prompt's answer, with all the room for thoughts where less is not enough."""
        whole = replace(sampling, max_new_tokens=sampling.max_new_tokens + sampling.most_thoughts, stop=())
        if not sampling.most_thoughts:
            return await self._fit_room(client, request, sampling)
        if self._num_cut * 2 > self._num_short:
            return await self._fit_room(client, request, whole)
        outcome = await self._fit_room(client, request, sampling)
        if not isinstance(outcome, Answer):
            return outcome
        bodies = [self._body(request, each, each.max_new_tokens) for each in (sampling, whole)]
        cut = bodies[0] != bodies[1] and self._is_cut(request, outcome)
        self._num_short += 1
        self._num_cut += cut
        if not cut:
            return outcome
        again = await self._fit_room(client, request, whole)
        tokens = (outcome.num_prompt_tokens + again.num_prompt_tokens, outcome.num_tokens + again.num_tokens)
        return replace(again, num_prompt_tokens=tokens[0], num_tokens=tokens[1])

    def _is_cut(self, request: Request, answer: Answer) -> bool:
        """Whether the room, or a stop string, ended a text before its scores."""
        if self.server.api == "completions":
            return text_begin(answer.text) is None
        text = continue_prompt(answer.text, request)
        return answer.finish_reason == "length" and _score_end(text, request) is None

    async def _fit_room(self, client: httpx.AsyncClient, request: Request, sampling: Sampling) -> Answer | Refusal:
        """One prompt's answer, its room made smaller where it does not fit the context beside the prompt."""
        room = sampling.max_new_tokens
        while True:
            outcome = await self._send(client, self._body(request, sampling, room))
            if not isinstance(outcome, Refusal) or outcome.about != "context" or room // 2 < _LEAST_NEW_TOKENS:
                return outcome
            room //= 2

    async def _send(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal:
        """Try until there is an answer. Raises InputError where none is to be had."""
        num_answers, attempt = 0, 1
        while True:
            await self._pace.turn()
            outcome = await self._try(client, body)
            if isinstance(outcome, End):
                raise InputError(self._explain(outcome))
            if not isinstance(outcome, Fault):
                self._troubled = False
                self._num_answers += isinstance(outcome, Answer)
                return outcome
            # where others are answered after it has failed once, it is this prompt that the server fails at
            num_answers = self._num_answers if attempt == 1 else num_answers
            others = self._num_answers > num_answers
            if attempt >= self._most_attempts(outcome, others):
                return self._give_up(outcome, attempt, others)
            self._tell(outcome)
            await asyncio.sleep(self.retries.wait_s(attempt, outcome.retry_after_s, self._rng))
            attempt += 1

    def _most_attempts(self, fault: Fault, others: bool) -> int:
        most = self.retries.attempts
        if fault.kind == "unusable":
            return min(most, _UNUSABLE_ATTEMPTS)
        return most * _BUSY_ROUNDS if fault.kind == "away" and others else most

    def _give_up(self, fault: Fault, times: int, others: bool) -> Refusal:
        if fault.kind != "away" or others:
            return Refusal(f"{fault.reason}, {times} times", "prompt" if others else "failed")
        raise InputError(f"{self.server.base_url}: no answer in {times} attempts ({fault.reason}); {_KEPT}")

    async def _try(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> Answer | Refusal | Fault | End:
        try:
            async with asyncio.timeout(self.server.timeout_s):
                response = await self._post(client, body)
        except TimeoutError:
            return Fault(f"no whole answer within {self.server.timeout_s:g} s", kind="broken")
        except httpx.RequestError as error:
            away = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
            return Fault(self._clean(f"{type(error).__name__}: {error}"), kind="away" if away else "broken")
        if response is None:
            return Fault(f"an answer of more than {_MOST_BYTES >> 20} MiB", kind="unusable")
        return read_response(response, self.server.api, self._clean)

    async def _post(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> httpx.Response | None:
        """The whole response; None where it is too long."""
        # escaped to ASCII: texts may hold half a surrogate pair, which UTF-8 cannot
        content = json.dumps(body).encode()
        url = self.server.base_url + _PATHS[self.server.api]
        parts, size = [], 0
        async with client.stream("POST", url, content=content) as response:
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    return None
        headers = {name: value for name, value in response.headers.items() if name == "retry-after"}
        return httpx.Response(response.status_code, headers=headers, content=b"".join(parts))

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
            text = continue_prompt(text, request)
            text = text.lstrip() if any(not stop.strip() for stop in sampling.stop) and not request.prefill else text
        kept = self._cut(text, request, sampling)
        finish_reason = "stop" if kept != text else finish_reason
        return Generation(request.key, kept, outcome.num_prompt_tokens, outcome.num_tokens, finish_reason)

    def _cut(self, text: str, request: Request, sampling: Sampling) -> str:
        """The text up to its first stop string, or with scores only to the end of the scores' line."""
        if not sampling.most_thoughts:
            return cut_at(text, sampling.stop)
        end = _score_end(text, request)
        if end is None and self.server.api == "completions":
            end = text_begin(text)
        # a chat's text without scores is kept as it came
        return cut_at(text, sampling.stop, end)

    def _count(self, outcome: Answer | Refusal) -> None:
        prompt_tokens = int(self._counted["prompt_tokens"]) + outcome.num_prompt_tokens
        generated_tokens = int(self._counted["generated_tokens"]) + outcome.num_tokens
        self._counted |= {"prompt_tokens": prompt_tokens, "generated_tokens": generated_tokens}
        self._counted["thoughts_left_out"] = int(self._counted["thoughts_left_out"]) + (
            isinstance(outcome, Answer) and outcome.reasoned
        )
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
        return f"{url} refuses all requests ({end.reason}){_way_out(end.reason)}; {_KEPT}"

    def _explain_nothing(self, held: Sequence[Asked]) -> str:
        url, (_, last) = self.server.base_url, held[-1]
        assert isinstance(last, Refusal)
        if last.about == "unknown":
            return f"{url} takes no request: {last.reason}{_way_out(last.reason)}"
        return f"{url} gives no usable answer ({last.reason}); {_KEPT}"

    def _clean(self, text: str) -> str:
        """A server's words in one short line, without the key."""
        text = text.replace(self.server.key, "***") if self.server.key else text
        text = one_line(text).rstrip(": ")
        return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + " .."


def _way_out(reason: str) -> str:
    """What to do about a field that the server does not take."""
    for name in ("max_tokens", "temperature", "top_p", "seed", "stop"):
        if re.search(rf"(?:^|[^\w]){name}(?:$|[^\w])", reason):
            instead = {name: None} | ({"max_completion_tokens": 4096} if name == "max_tokens" else {})
            also = "--temperature 1, or " if name == "temperature" else ""
            return f"; try {also}--request-fields '{json.dumps(instead)}'"
    return ""


def continue_prompt(text: str, request: Request) -> str:
    """A chat's answer as if it continued the prompt; see `OpenAIEngine`."""
    prefill = request.prefill
    begun = text.lstrip()
    if not prefill or not begun:
        return begun if prefill else text
    whole = Judgement.parse(begun, request.num_answers)
    if whole.scores is not None and begun.startswith(prefill):
        return begun.removeprefix(prefill)
    # servers strip the space in front of an answer
    visible = begun[thoughts_end(begun) or 0 :].lstrip()
    for more in (f" {begun}", f" {visible}", f"\n{visible}"):
        read = Judgement.parse(prefill + more, request.num_answers).scores
        if read is not None and read[0] == float(prefill):
            return more
    if whole.scores is not None and whole.scores[0] == float(prefill):
        return ", ".join(["", *(f"{score:g}" for score in whole.scores[1:])]) + f"\n{whole.reasons}"
    return f" {visible}"


def _score_end(text: str, request: Request) -> int | None:
    """Where the scores end in what follows the prompt; None where there are none."""
    line = find_score_line(request.prefill + text, request.num_answers)
    return None if line is None else max(0, line.end - len(request.prefill))


def _is_here(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


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
