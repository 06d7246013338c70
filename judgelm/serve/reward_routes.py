"""POST /v1/rewards: a group of completions in, a reward for each out, from the workers of a controller."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from judgelm.errors import InputError
from judgelm.judge.rewards import REWARDS, Group, reward_group
from judgelm.serve.counters import Metrics
from judgelm.serve.criteria_field import CriteriaField
from judgelm.serve.dialogue_field import Messages, read_replied
from judgelm.serve.judgement_requests import JudgementRequest, Name, ResultOut, SampleIn, Text
from judgelm.serve.judgement_routes import choose_model, count_results, total_usage
from judgelm.serve.judgements import Written
from judgelm.serve.served_pairs import read_compared
from judgelm.serve.worker_answers import Usage
from judgelm.serve.worker_client import Workers

REWARDS_ROUTE = "/v1/rewards"
MOST_COMPLETIONS = 45
"""whose pairs are no more than the samples of a request for judgements"""
_MOST_READ = 16_000_000
"""characters of all pairs, as often as they are sent to a worker in one order"""


class RewardRequest(BaseModel, extra="forbid"):
    """Completions of one prompt, and how they are compared."""

    model: Name | None = Field(None, description="one of GET /v1/models; may be left away where only one is served")
    question: Text | None = None
    messages: Messages | None = Field(
        default=None,
        description="in place of the question: the dialogue so far as OpenAI's messages, which end in the user's",
    )
    completions: Annotated[list[Text], Field(min_length=2, max_length=MOST_COMPLETIONS)]
    reference: Text | None = Field(default=None, description="a known good answer, shown to the judge")
    criteria: CriteriaField | None = Field(
        None, description="what a file of criteria holds: the pairs are judged by one aspect after the other"
    )
    reward: Literal["win", "score"] = Field(
        "win", description="; ".join(f"{name}: {what}" for name, what in REWARDS.items())
    )
    scoring: Literal["expected", "greedy"] = Field(
        "expected",
        description="expected: probabilities of score lines, in one pass over the prompt; greedy: the likeliest"
        " judgement is written, for judges whose verdict is no line of scores",
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = Field(2048, description="of a judgement, greedy")

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if (self.question is None) == (self.messages is None):
            found = "none" if self.question is None else "both"
            raise ValueError(f"completions have a question or messages, found {found}")
        if self.messages is not None:
            # what is wrong with a dialogue is said at once
            read_replied(self.messages)
        return self

    @property
    def group(self) -> Group:
        messages = [message.model_dump() for message in self.messages or ()]
        return Group.of(messages or self.question or "", self.completions, self.reference)

    def check(self) -> None:
        """Raises InputError where the pairs have too much text."""
        sample = SampleIn(question=self.question, messages=self.messages, answers=[""], reference=self.reference)
        count = len(self.completions)
        size = (count - 1) * sum(map(len, self.completions)) + count * (count - 1) // 2 * sample.size
        size *= len(self.criteria.aspects) if self.criteria else 1
        if size > _MOST_READ:
            raise InputError(
                f"the pairs of these completions have {size:,} characters, at most {_MOST_READ:,} are read"
            )

    def to_judgements(self, model: str, group: Group) -> JudgementRequest | None:
        """Its pairs, in both orders; None where all completions are the same."""
        samples = [SampleIn.of(pair) for pair in group.pairs()]
        if not samples:
            return None
        fields = self.model_dump(include={"scoring", "max_new_tokens"})
        return JudgementRequest(model=model, samples=samples, criteria=self.criteria, orders="both", **fields)


class RewardResponse(BaseModel):
    """What follows for each completion, in the order in which they were given; null where no verdict of it was read."""

    id: str
    object: Literal["rewards"] = "rewards"
    created: int
    model: str
    rewards: list[float | None]
    scores: list[float | None] = Field(description="the mean score of each beside the others")
    wins: list[list[float | None]] = Field(
        description="of each against each: P(better) + P(equally good) / 2; equal texts: 0.5; null: itself, or unread"
    )
    unread: int = Field(description="pairs of different texts without a verdict that can be read")
    usage: Usage


def reward_router(workers: Workers, metrics: Metrics) -> APIRouter:
    """The route, for an app."""
    router = APIRouter()

    @router.post(REWARDS_ROUTE, response_model=RewardResponse)
    async def rewards(request: RewardRequest) -> Any:
        """Compare completions of one prompt in pairs, in both orders."""
        head: dict[str, Any] = {"id": f"rewards-{uuid.uuid4().hex}", "created": int(time.time())}
        request.check()
        group, model = request.group, await choose_model(workers, request.model)
        results: list[ResultOut] = []
        if (asked := request.to_judgements(model, group)) is not None:
            asked.check()
            events = count_results(workers, asked, metrics, REWARDS_ROUTE)
            async with contextlib.aclosing(events):
                results = [event[1] async for event in events if not isinstance(event, Written)]
        compared = {str(result.question_id): read_compared(result) for result in results}
        found = reward_group(group, {key: each for key, each in compared.items() if each is not None})
        return RewardResponse(
            **head,
            model=model,
            rewards=list(found.by(request.reward)),
            scores=list(found.score),
            wins=[list(row) for row in found.wins],
            unread=found.unread,
            usage=total_usage(results),
        )

    return router
