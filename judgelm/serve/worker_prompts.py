"""What a worker is asked -> a prompt that can be generated."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from judgelm.criteria import Scale
from judgelm.dialogue import LeftOut, Shortened
from judgelm.encoding import PromptTooLong
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.errors import InputError
from judgelm.judge.judge import Judge
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt import TASKS
from judgelm.prompt_form import PromptForm
from judgelm.serve.chat import ChatFormat, ChatPrompt
from judgelm.serve.lengths import cut_texts, exceeds
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.worker_requests import GenerateParams, JudgeSample, Message

_AT_ONCE = 2
"""prompts that are being encoded; each may take much memory for a moment"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be generated."""

    request: Request
    sampling: Sampling
    shortened: Shortened | None = None
    echo: str = ""
    scored: Scale | None = None
    """score lines whose probabilities are read in place of writing"""


def _scored(prepared: Prepared, given: JudgeSample) -> Prepared:
    """Raises ValueError for a follow-up, InputError for more lines than are read at once."""
    if given.followup is not None:
        raise ValueError("score lines have probabilities where there is a sample to judge")
    settings = JudgeSettings(given.task, scoring="expected", criteria=given.criteria)
    return replace(prepared, scored=settings.scale)


class Prompts:
    """Makes prompts for one model, beside the event loop.

    Args:
        judge: its engine reads them; whether judgements begin with a score line where the request does not say, and in
            which format they are asked for, is its own way.
        max_waiting: most requests that wait to be read; more are refused.
    """

    def __init__(self, judge: Judge, chat: ChatFormat, max_waiting: int) -> None:
        assert isinstance(judge.engine, HFEngine)
        self.engine = judge.engine
        self.chat = chat
        self.constrained = judge.constrained
        self.form = PromptForm(judge.prompt_format == "chat")
        self.max_waiting = max_waiting
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def prepare(self, params: GenerateParams) -> Prepared:
        """Raises WorkerError where it cannot be generated."""
        if self._waiting >= self.max_waiting:
            raise WorkerError(
                f"the worker is busy: {self._waiting} prompts are waiting to be read; try again later",
                ErrorCode.ENGINE_OVERLOADED,
            )
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.to_thread(self._prepare, params)
        except PromptTooLong as error:
            raise WorkerError(str(error), ErrorCode.CONTEXT_OVERFLOW) from None
        except (ValueError, InputError) as error:
            raise WorkerError(str(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        finally:
            self._waiting -= 1

    def _prepare(self, params: GenerateParams) -> Prepared:
        sampling = Sampling(
            temperature=params.temperature if params.temperature >= 1e-5 else 0.0,
            max_new_tokens=params.max_new_tokens or self.engine.context_length,
            stop=params.stops,
            constrained=bool(params.constrained),
            seed=params.seed or 0,
            top_p=params.top_p,
            stop_token_ids=tuple(params.stop_token_ids or ()),
            most_thoughts=params.most_thoughts,
            logprobs=params.logprobs,
        )
        if params.sample is not None:
            prepared = self._prepare_sample(params.sample, params.constrained, sampling)
            return prepared if params.scoring is None else _scored(prepared, params.sample)
        if params.scoring is not None:
            raise ValueError("score lines have probabilities where there is a sample to judge")
        if params.messages is not None:
            chat = self._render(params.messages)
        else:
            chat = ChatPrompt(params.prompt, ((params.prompt, False),))
        self._refuse_long([chat.text])
        input_ids = chat.encode(self.engine.tokenizer)
        if len(input_ids) >= self.engine.context_length:
            raise self._overflow(str(len(input_ids)))
        if not input_ids:
            raise ValueError("the prompt is empty")
        # without a seed every request has random numbers of its own
        key = "0" if params.seed is not None else uuid.uuid4().hex
        sampling = replace(
            sampling, stop=(*sampling.stop, *chat.stop), stop_token_ids=(*sampling.stop_token_ids, *chat.stop_token_ids)
        )
        return Prepared(Request(key, chat.text, input_ids), sampling, echo=chat.text if params.echo else "")

    def _render(self, messages: Sequence[Message]) -> ChatPrompt:
        self._refuse_long([message.content for message in messages])
        return self.chat.render([message.model_dump() for message in messages])

    def _prepare_sample(self, given: JudgeSample, constrained: bool | None, sampling: Sampling) -> Prepared:
        if given.task not in TASKS:
            raise ValueError(f"unknown task, expected one of {', '.join(TASKS)}")
        aspect = given.aspect
        said = [given.judgement or "", *(text for pair in given.talk for text in pair), given.followup or ""]
        never_cut = [given.question, given.reference or "", *said, *(given.answers if given.dialogue else ())]
        self._refuse_long(never_cut)
        sample, left_out = cut_texts(given.sample, self.engine.tokenizer, self.engine.context_length)
        most, prefill = sampling.max_new_tokens, ""
        if given.followup is None:
            prompt = self.engine.fit(sample, given.task, most, aspect, self.form)
            prefill = TASKS[given.task].prefill
            sampling = replace(sampling, constrained=self.constrained if constrained is None else constrained)
        else:
            sampling = replace(sampling, constrained=False)
            judgement = given.judgement or ""
            prompt = self.engine.fit_followup(
                sample, given.task, judgement, given.talk, given.followup, most, form=self.form
            )
        scale = None if aspect is None else aspect.scale
        request = Request(given.seed_key, prompt.text, prompt.input_ids, prefill, len(sample.answers), scale)
        return Prepared(request, sampling, _in_all(left_out, prompt.shortened))

    def _refuse_long(self, texts: Sequence[str]) -> None:
        context = self.engine.context_length
        if exceeds(texts, self.engine.tokenizer, context):
            raise self._overflow(f"more than {context}")

    def _overflow(self, tokens: str) -> WorkerError:
        context = self.engine.context_length
        return WorkerError(f"the prompt has {tokens} tokens, the model's context {context}", ErrorCode.CONTEXT_OVERFLOW)


def _in_all(first: Shortened, then: Shortened | None) -> Shortened | None:
    """What was cut of very long texts, and then of those that are shown."""
    if isinstance(first, LeftOut):
        both = LeftOut.total([first, *([then] if isinstance(then, LeftOut) else [])])
        return both if any(both.tokens) else None
    if not any(first):
        return then
    # an answer of which anything was left out did not fit
    more = then if isinstance(then, tuple) else (0,) * len(first)
    return tuple(map(sum, zip(more, first, strict=True)))
