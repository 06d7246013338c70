"""A judgement that is asked for in a chat: what the messages hold to be judged, and the JSON that comes back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from judgelm.errors import InputError, one_line
from judgelm.serve.counters import Metrics
from judgelm.serve.judgement_requests import JudgementRequest, Result, ResultOut, SampleIn
from judgelm.serve.judgement_schema import JudgementSchema
from judgelm.serve.judgements import judge_through
from judgelm.serve.openai_requests import Turns, Wanted
from judgelm.serve.protocol import ErrorCode, WorkerError
from judgelm.serve.servers import describe
from judgelm.serve.worker_answers import REFUSED, Chunk, Usage
from judgelm.serve.worker_client import Workers
from judgelm.verdict_forms import SCORES

_ASKED = ({"question", "answers"}, {"messages", "answers"}, {"conversations"})
"""fields of an object that is there to be judged"""
_UNREAD = "Nothing that the judge wrote can be read as a judgement in this schema."


@dataclass(frozen=True, slots=True)
class AskedJudgement:
    """What is to be judged, and how the judgement is wanted."""

    sample: SampleIn
    schema: JudgementSchema

    @classmethod
    def find(cls, turns: Turns, wanted: Wanted) -> AskedJudgement | None:
        """In a chat's turns; None where they hold nothing to be judged.

        Raises InputError for an object that is no sample, and for a schema that a judgement of it cannot fill.
        """
        sample = _find_sample(turns)
        if sample is None:
            return None
        count = len(sample.answers or sample.conversations or ())
        if wanted.schema is None:
            return cls(sample, JudgementSchema.any_object(count))
        return cls(sample, JudgementSchema.read(wanted.schema, count))

    def request(self, model: str, settings: dict[str, Any], by_line: bool) -> JudgementRequest:
        """`settings` are its temperature and the like; `by_line`: the judge's verdicts are lines of scores, and it is
        held to that. Raises InputError for what is no request.
        """
        count = len(self.sample.answers or self.sample.conversations or ())
        try:
            request = JudgementRequest(
                model=model,
                samples=[self.sample],
                task="grade" if count == 1 else "pair" if count == 2 else "multi",
                criteria=self.schema.criteria,
                scores_only=by_line and not self.schema.has_reasons,
                constrained=True if by_line else None,
                **settings,
            )
        except ValidationError as error:
            raise InputError(describe(error)) from None
        request.check()
        return request


def _find_sample(turns: Turns) -> SampleIn | None:
    """The object that the last message is, or the dialogue whose last reply is judged."""
    role, text = turns[-1]
    if role == "assistant":
        said = [{"role": each, "content": content} for each, content in turns[:-1]]
        return _sample({"messages": said, "answers": [text]}, "the messages, which end in the assistant's")
    if role != "user" or not text.lstrip().startswith("{"):
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not any(fields <= set(given) for fields in _ASKED):
        return None
    return _sample(given, "the last message")


def _sample(given: dict[str, Any], what: str) -> SampleIn:
    try:
        return SampleIn.model_validate(given)
    except ValidationError as error:
        raise InputError(one_line(f"{what}: {describe(error)}")) from None


async def judge_chat(
    workers: Workers, asked: AskedJudgement, model: str, settings: dict[str, Any], metrics: Metrics
) -> AsyncGenerator[Chunk, None]:
    """One chunk, whose text is the object that was asked for.

    Where nothing that the judge wrote can be read it is refused, in a text that says so. Raises WorkerError where no
    worker can go on, or where the sample, or the judge's verdict, has no room.
    """
    by_line = (await workers.recent_details(model)).verdict_format == SCORES
    request = asked.request(model, settings, by_line)
    async with contextlib.aclosing(judge_through(workers, request)) as events:
        (result,) = [event async for event in events if isinstance(event, Result)]
    said = ResultOut.of(result)
    for judgement in said.judgements:
        metrics.judgements.labels(judgement.parse).inc()
    if said.error is not None:
        raise WorkerError(said.error.message, ErrorCode.CONTEXT_OVERFLOW)
    filled = asked.schema.fill(said)
    if filled is None and any(judgement.finish_reason == "length" for judgement in said.judgements):
        problem = "the judge came to no verdict within the tokens that it had; max_tokens can give it more"
        raise WorkerError(problem, ErrorCode.VALIDATION_TYPE_ERROR)
    text, reason = (_UNREAD, REFUSED) if filled is None else (json.dumps(filled, ensure_ascii=False), "stop")
    usage = Usage.total(judgement.usage for judgement in said.judgements)
    yield Chunk(text=text, error_code=0, usage=usage, finish_reason=reason)
