"""Any server that speaks OpenAI's API as the judge: ours, vLLM's, a vendor's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from judgelm.criteria import Aspect
from judgelm.encoding import EncodedPrompt
from judgelm.engine.interface import Generation, LineScores, OnText, Request, Sampling, cut_at
from judgelm.engine.openai.asking import Asker
from judgelm.engine.openai.lines import Walk
from judgelm.engine.openai.logprobs import read_likeliest
from judgelm.engine.openai.requests import PATIENT, Retries, cost, in_background, seed_of
from judgelm.engine.openai.responses import Answer, Refusal, continue_prompt, score_end
from judgelm.engine.openai.server import NEEDS_COMPLETIONS, Server
from judgelm.errors import InputError, one_line
from judgelm.images import Shown
from judgelm.prompt import Turns, render_followup
from judgelm.prompt_form import PUBLISHED_FORM, PromptForm
from judgelm.sample import Sample, refuse_images
from judgelm.score_lines import text_begin, thoughts_end
from judgelm.thinking import strip_tags

log = logging.getLogger(__name__)

T = TypeVar("T")
_NO_LOGPROBS = (
    "its answers have no logprobs, which --scoring expected needs: judgelm serve, vLLM and llama.cpp give them"
)
_LIKELIEST = 20
"""tokens, as many as vLLM says by default"""


class OpenAIEngine:
    """A server that answers several prompts at a time; see `Engine`.

    No tokenizer is known, so prompts are sent whole: what is too long is the server's to refuse.

    The two APIs differ where the prompt's last characters are the judgement's first (a task's prefill, "10"), and at
    the end of a score line:

    - completions: the server continues the prompt itself, as the released judges need it.
    - chat: prompt, prefill and images are the one message of the user. Some models go on (" 7"), others begin anew
      ("10 7"); a score line for all answers that begins with the prefill is taken for the latter and the prefill is
      taken off; where it is written in another form, or comes after thoughts, the other scores and the reasons are
      what goes on. The newline after the scores is not sent as a stop string: a model that begins with a newline would
      write nothing.

    With scores only (`Sampling.most_thoughts`) the room for new tokens is small, and what follows the scores is cut
    off. Where it ended before there were scores, because of thoughts or reasons, the prompt is sent again with all the
    room, and if that is the rule, the others are at once.
    """

    def __init__(self, server: Server, retries: Retries = PATIENT) -> None:
        self.server = server
        self._asker = Asker(server, retries)
        self.description: dict[str, Any] = {
            "engine": "openai",
            "base_url": server.base_url,
            "api": server.api,
            "max_concurrency": server.max_concurrency,
            "prompt_tokens": 0,
            "generated_tokens": 0,
            "thoughts_left_out": 0,
        }
        if server.prices:
            self.description |= {"prices_per_million_tokens": "{:g} {:g}".format(*server.prices), "cost": 0.0}
        # one prompt's answer does not depend on others
        self.block = 1024
        self._num_short = self._num_cut = 0
        self._last_walk = "", Walk()

    def fit(
        self,
        sample: Sample,
        task: str,
        max_new_tokens: int,
        aspect: Aspect | None = None,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """The prompt as it is, with its images; see `Engine.fit`."""
        if self.server.api != "chat":
            refuse_images(sample)
        shown = form.show(sample, task, aspect)
        return EncodedPrompt(shown.text, [], None, shown.images)

    def fit_followup(
        self,
        sample: Sample,
        task: str,
        judgement: str,
        turns: Turns,
        question: str,
        max_new_tokens: int,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """The prompt of a further question as it is, and no images; see `Engine.fit_followup`."""
        refuse_images(sample)
        return EncodedPrompt(render_followup(form.render(sample, task), judgement, turns, question), [], None)

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`: the server is asked for the likeliest tokens after the prompt, then after each beginning
        of a line that is likely enough, so that a line gets -inf where others are a thousand times likelier.

        A prompt after which no line is likely is refused. Raises InputError where the server gives no probabilities,
        and as `generate` does.
        """
        if self.server.api == "chat":
            raise InputError(NEEDS_COMPLETIONS)
        places = asyncio.Semaphore(self.server.max_concurrency)

        async def follow(client: httpx.AsyncClient, request: Request) -> Walk | Refusal:
            walk = self._walk_of(request)
            while begun := walk.unknown(lines):
                looks = [asyncio.ensure_future(self._look(client, places, request, each)) for each in begun]
                try:
                    found = await asyncio.gather(*looks)
                finally:
                    for look in looks:
                        look.cancel()
                for each, likeliest in zip(begun, found, strict=True):
                    if isinstance(likeliest, Refusal):
                        return likeliest
                    walk.take(each, *likeliest)
            return walk

        with contextlib.closing(self._ask_all(requests, follow, self._asker.is_used)) as found:
            for request, outcome in found:
                yield self._read_walk(request, outcome, lines)

    def _walk_of(self, request: Request) -> Walk:
        """Of more than two answers the sample before goes on, as one is scored in several passes that begin alike."""
        if request.num_answers <= 2:
            return Walk()
        prompt, walk = self._last_walk
        self._last_walk = request.prompt, walk if prompt == request.prompt else Walk()
        return self._last_walk[1]

    async def _look(
        self, client: httpx.AsyncClient, places: asyncio.Semaphore, request: Request, begun: str
    ) -> tuple[Answer, Mapping[str, float]] | Refusal:
        """The likeliest tokens after a beginning of a line."""
        body = {
            "model": self.server.model,
            "prompt": request.prompt + begun,
            "max_tokens": 1,
            # at which those servers that change probabilities by it give the model's own
            "temperature": 1.0,
            "logprobs": _LIKELIEST,
            **self.server.fields,
        }
        async with places:
            answer = await self._asker.sender.send(
                client, {name: value for name, value in body.items() if value is not None}
            )
        self._count(answer, reasoning=False)
        if isinstance(answer, Refusal):
            return answer
        try:
            likeliest = read_likeliest(answer.logprobs)
        except ValueError as error:
            return Refusal(one_line(str(error)), "failed", answer.num_prompt_tokens, answer.num_tokens)
        if likeliest is None:
            raise InputError(f"{self.server.base_url}: {_NO_LOGPROBS}")
        return answer, likeliest

    def _read_walk(self, request: Request, outcome: Walk | Refusal, lines: Sequence[str]) -> LineScores:
        log_probs: tuple[float, ...] = ()
        if isinstance(outcome, Walk):
            log_probs = outcome.log_probs(lines)
        if any(value > -math.inf for value in log_probs):
            return LineScores(request.key, log_probs, outcome.num_prompt_tokens, outcome.num_tokens)
        why = outcome.reason if isinstance(outcome, Refusal) else "no score line is among what is likeliest"
        log.warning("question_id %s is refused: %s", one_line(request.seed_key), why)
        return LineScores(request.key, (), outcome.num_prompt_tokens, outcome.num_tokens, "refused")

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, done: Collection[str] = (), on_text: OnText = None
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Closing the iterator cancels what is under way.

        A prompt to which there is no usable answer is refused. Raises InputError where the server cannot be used: wrong
        key, unknown model, away for so many attempts, or no answer to any prompt yet, those in `done` included.
        """
        if sampling.constrained or sampling.stop_token_ids:
            raise InputError("a server can neither be held to a score line nor told token ids (--constrained)")
        waiting = [request for request in requests if request.key not in done]
        taken = bool(done) or self._asker.is_used

        async def answer(client: httpx.AsyncClient, request: Request) -> Answer | Refusal:
            return await self._answer(client, request, sampling)

        with contextlib.closing(self._ask_all(waiting, answer, taken)) as answered:
            for request, outcome in answered:
                generation = self._finish(request, outcome, sampling)
                if on_text is not None:
                    on_text(generation.key, generation.text)
                yield generation

    def _ask_all(
        self,
        requests: Sequence[Request],
        ask: Callable[[httpx.AsyncClient, Request], Awaitable[T | Refusal]],
        taken: bool,
    ) -> Generator[tuple[Request, T | Refusal], None, None]:
        return in_background(lambda emit: self._asker.ask_all(requests, ask, emit, taken))

    async def _answer(self, client: httpx.AsyncClient, request: Request, sampling: Sampling) -> Answer | Refusal:
        """One prompt's answer, with all the room for thoughts where less is not enough."""
        whole = replace(sampling, max_new_tokens=sampling.max_new_tokens + sampling.most_thoughts, stop=())
        if not sampling.most_thoughts:
            return await self._fit_room(client, request, sampling)
        if sampling.reasoning:
            return await self._fit_room(client, request, whole)
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
        return answer.finish_reason == "length" and score_end(text, request) is None

    async def _fit_room(self, client: httpx.AsyncClient, request: Request, sampling: Sampling) -> Answer | Refusal:
        """One prompt's answer, its room made smaller where it does not fit the context beside the prompt."""

        def body(room: int) -> dict[str, Any]:
            return self._body(request, sampling, room)

        return await self._asker.fit_room(client, body, sampling.max_new_tokens)

    def _body(self, request: Request, sampling: Sampling, max_tokens: int) -> dict[str, Any]:
        chat = self.server.api == "chat"
        content = Shown(request.prompt, request.images).to_content()
        stop = [text for text in sampling.stop if text.strip() or not chat]
        body = {
            "model": self.server.model,
            **({"messages": [{"role": "user", "content": content}]} if chat else {"prompt": request.prompt}),
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if sampling.top_p < 1 else None,
            "stop": stop or None,
            "seed": seed_of(sampling.seed, request.seed_key),
            **self.server.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _finish(self, request: Request, outcome: Answer | Refusal, sampling: Sampling) -> Generation:
        self._count(outcome, sampling.reasoning)
        if isinstance(outcome, Refusal):
            log.warning("question_id %s is refused: %s", one_line(request.seed_key), outcome.reason)
            return Generation(request.key, "", outcome.num_prompt_tokens, outcome.num_tokens, "refused")
        text, finish_reason, thoughts = outcome.text, outcome.finish_reason, None
        if sampling.reasoning:
            # beside the text, or in tags at its beginning, which may lack their end
            end = thoughts_end(text)
            said = (outcome.thoughts or "").strip(), strip_tags(text[:end])
            text, thoughts = "" if end is None else text[end:].lstrip(), "\n\n".join(filter(None, said))
        if self.server.api == "chat":
            text = continue_prompt(text, request)
            text = text.lstrip() if any(not stop.strip() for stop in sampling.stop) and not request.prefill else text
        kept = self._cut(text, request, sampling)
        finish_reason = "stop" if kept != text else finish_reason
        return Generation(request.key, kept, outcome.num_prompt_tokens, outcome.num_tokens, finish_reason, thoughts)

    def _cut(self, text: str, request: Request, sampling: Sampling) -> str:
        """The text up to its first stop string, or with scores only to the end of the scores' line."""
        if not sampling.most_thoughts:
            return cut_at(text, sampling.stop)
        end = score_end(text, request)
        if end is None and self.server.api == "completions":
            end = text_begin(text)
        # a chat's text without scores is kept as it came
        return cut_at(text, sampling.stop, end)

    def _count(self, outcome: Answer | Refusal, reasoning: bool) -> None:
        counts = self.description
        counts["prompt_tokens"] += outcome.num_prompt_tokens
        counts["generated_tokens"] += outcome.num_tokens
        counts["thoughts_left_out"] += isinstance(outcome, Answer) and outcome.thoughts is not None and not reasoning
        if self.server.prices:
            counts["cost"] = cost(counts["prompt_tokens"], counts["generated_tokens"], self.server.prices)
