"""What a worker is asked -> a prompt that can be generated."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from judgelm.criteria import Scale
from judgelm.dialogue import LeftOut, Shortened
from judgelm.encoding import PromptTooLong
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.shared import SharedEngine
from judgelm.errors import InputError
from judgelm.judge.judge import Judge
from judgelm.judge.requests import make_request
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt import STOP_SCORES_ONLY, TASKS
from judgelm.prompt_form import PromptForm
from judgelm.sample import Sample
from judgelm.serve.chat import ChatFormat, ChatPrompt
from judgelm.serve.lengths import cut_texts, exceeds
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.worker_requests import GenerateParams, JudgeSample
from judgelm.verdict_forms import SCORES

_AT_ONCE = 2
"""prompts that are being encoded; each may take much memory for a moment"""
_MOST_LIKELIHOODS = 100_000
"""of a prompt's tokens, with the likeliest ones beside each: what an answer has room for"""
_AROUND_TOP = 3
"""each of which takes as much room as so many of them"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be generated."""

    request: Request
    sampling: Sampling
    shortened: Shortened | None = None
    echo: str = ""
    scored: Scale | None = None
    """score lines whose probabilities are read in place of writing"""
    reads_prompt: bool = False
    """say how likely the prompt's tokens were, and then write what may be written"""
    verdict_format: str = SCORES
    """of the judgement that is written"""
    logprobs_in_parts: bool = False
    """say with each part of the text how likely its tokens were"""


class Prompts:
    """Makes prompts for one model, beside the event loop.

    Args:
        judge: its engine reads them; whether judgements begin with a score line where the request does not say, is its
            own way.
        form: how it is asked to judge.
        max_waiting: most requests that wait to be read; more are refused.
    """

    def __init__(self, judge: Judge, chat: ChatFormat, max_waiting: int, form: PromptForm) -> None:
        assert isinstance(judge.engine, SharedEngine)
        self.engine = judge.engine
        self.chat = chat
        self.constrained = judge.constrained
        self.form = form
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
            raise WorkerError(str(error), ErrorCode.CONTEXT_OVERFLOW, self.form.verdict_format) from None
        except (ValueError, InputError) as error:
            raise WorkerError(str(error), ErrorCode.VALIDATION_TYPE_ERROR) from None
        finally:
            self._waiting -= 1

    def _prepare(self, params: GenerateParams) -> Prepared:
        sampling = Sampling(
            temperature=params.temperature if params.temperature >= 1e-5 else 0.0,
            max_new_tokens=self.engine.context_length if params.max_new_tokens is None else params.max_new_tokens,
            stop=params.stops,
            constrained=bool(params.constrained),
            seed=params.seed or 0,
            top_p=params.top_p,
            stop_token_ids=tuple(params.stop_token_ids or ()),
            most_thoughts=params.most_thoughts,
            logprobs=params.logprobs,
            json_schema=params.json_schema,
        )
        self.engine.check_sampling(sampling)
        if params.json_schema is not None:
            self.engine.start_schema_text(params.json_schema)
        if params.reads_prompt and not self.engine.can_read:
            raise ValueError("this engine does not say how likely a prompt's tokens were")
        if params.max_new_tokens == 0 and (not params.echo or params.sample is not None):
            raise ValueError("0 new tokens go with echo, of a prompt")
        if params.sample is not None and (params.scoring is None or params.sample.followup is None):
            return self._prepare_sample(params.sample, params, sampling)
        if params.scoring is not None:
            raise ValueError("score lines have probabilities where there is a sample to judge")
        return self._prepare_text(params, sampling)

    def _prepare_text(self, params: GenerateParams, sampling: Sampling) -> Prepared:
        """A chat, a text, or a text's tokens, to be continued."""
        chat, input_ids = self._encode(params)
        if len(input_ids) + min(1, sampling.max_new_tokens) > self.engine.context_length:
            raise self._overflow(str(len(input_ids)))
        if not input_ids:
            raise ValueError("the prompt is empty")
        most = _MOST_LIKELIHOODS // (_AROUND_TOP + (params.logprobs or 0))
        if params.reads_prompt and params.logprobs is not None and len(input_ids) > most:
            raise ValueError(f"logprobs of a prompt of more than {most} tokens, found {len(input_ids)}")
        # without a seed every request has random numbers of its own
        key = "0" if params.seed is not None else uuid.uuid4().hex
        if params.json_schema is None:
            # what ends a chat would end a text in the middle of JSON
            ends, tokens = (*sampling.stop, *chat.stop), (*sampling.stop_token_ids, *chat.stop_token_ids)
            sampling = replace(sampling, stop=ends, stop_token_ids=tokens)
        request = Request(key, chat.text, input_ids)
        return Prepared(
            request,
            sampling,
            echo=chat.text if params.echo else "",
            reads_prompt=params.reads_prompt,
            logprobs_in_parts=params.logprobs_in_parts,
        )

    def _encode(self, params: GenerateParams) -> tuple[ChatPrompt, list[int]]:
        tokenizer = self.engine.tokenizer
        if params.prompt_ids is not None:
            ids, most = params.prompt_ids, self.engine.vocabulary
            if unknown := next((token for token in ids if token >= most), None):
                raise ValueError(f"the model knows {most} tokens, found token {unknown}")
            echoed = len(ids) <= self.engine.context_length and params.echo
            text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) if echoed else ""
            return ChatPrompt(text, ()), ids
        if params.messages is not None:
            self._refuse_long([message.content for message in params.messages])
            chat = self.chat.render([message.model_dump() for message in params.messages])
        else:
            chat = ChatPrompt(params.prompt, ((params.prompt, False),))
        self._refuse_long([chat.text])
        return chat, chat.encode(tokenizer)

    def _settings(self, given: JudgeSample, params: GenerateParams) -> JudgeSettings:
        """How a sample is judged here. Raises InputError for what does not go with the judge's form."""
        settings = JudgeSettings.of_form(
            self.form,
            given.task,
            scores_only=STOP_SCORES_ONLY in params.stops and params.scoring is None,
            constrained=bool(params.constrained),
            scoring=params.scoring or "sample",
            criteria=given.criteria,
        )
        return settings.settled(self.constrained, settings.prompt_format) if params.constrained is None else settings

    def _prepare_sample(self, given: JudgeSample, params: GenerateParams, sampling: Sampling) -> Prepared:
        if given.task not in TASKS:
            raise ValueError(f"unknown task, expected one of {', '.join(TASKS)}")
        aspect = given.aspect
        said = [given.judgement or "", *(text for pair in given.talk for text in pair), given.followup or ""]
        never_cut = [given.question, given.reference or "", *said, *(given.answers if given.dialogue else ())]
        self._refuse_long(never_cut)
        settings = self._settings(given, params)
        whole = given.sample
        settings.check_samples([whole])
        sample, left_out = cut_texts(whole, self.engine.tokenizer, self.engine.context_length)
        if given.followup is not None:
            return self._prepare_followup(sample, given, given.followup, sampling, left_out)
        sampling = replace(sampling, constrained=settings.constrained, reasoning=settings.reasoning)
        if settings.reasoning:
            sampling = replace(sampling, most_thoughts=settings.max_reasoning_tokens)
        request, cut = make_request(self.engine, given.seed_key, sample, settings, sampling, aspect)
        scored = settings.scale if settings.scoring == "expected" else None
        return Prepared(
            request, sampling, _in_all(left_out, cut), scored=scored, verdict_format=settings.verdict_format
        )

    def _prepare_followup(
        self, sample: Sample, given: JudgeSample, question: str, sampling: Sampling, left_out: Shortened
    ) -> Prepared:
        """A question about a judgement, which is answered without thoughts."""
        most, judgement = sampling.max_new_tokens, given.judgement or ""
        prompt = self.engine.fit_followup(sample, given.task, judgement, given.talk, question, most, form=self.form)
        request = Request(given.seed_key, prompt.text, prompt.input_ids, num_answers=len(sample.answers))
        return Prepared(request, replace(sampling, constrained=False), _in_all(left_out, prompt.shortened))

    def _refuse_long(self, texts: Sequence[str]) -> None:
        context = self.engine.context_length
        if exceeds(texts, self.engine.tokenizer, context):
            raise self._overflow(f"more than {context}")

    def _overflow(self, tokens: str) -> WorkerError:
        said = f"the prompt has {tokens} tokens, the model's context {self.engine.context_length}"
        return WorkerError(said, ErrorCode.CONTEXT_OVERFLOW, self.form.verdict_format)


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
