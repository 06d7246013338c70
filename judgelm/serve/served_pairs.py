"""Pairs compared by a served judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from judgelm.criteria import Criteria
from judgelm.engine.openai.requests import Retries
from judgelm.judge.rewards import Compared
from judgelm.judgement import Outcome
from judgelm.sample import Sample
from judgelm.serve.asking import judge_patiently
from judgelm.serve.client import APIError, Client
from judgelm.serve.judgement_requests import ResultOut
from judgelm.serve.worker_answers import CalibratedOut, Probabilities, Score

PATIENT = Retries(attempts=30, longest_wait_s=30)
"""about six minutes: in a training a judge that starts again, or is busy with others, is waited for"""


class PairOut(BaseModel):
    """What is read of a result."""

    question_id: int | str
    outcome: Literal["win", "tie", "lose"] | None
    scores: Annotated[list[Score], Field(min_length=2, max_length=2)] | None
    probabilities: Probabilities | None = None
    calibrated: CalibratedOut | None = None


def read_compared(result: PairOut | ResultOut) -> Compared | None:
    """What the API says of a pair."""
    said = result.calibrated.probabilities if result.calibrated else result.probabilities
    probabilities = None if said is None else {outcome: getattr(said, outcome.value) for outcome in Outcome}
    outcome = None if result.outcome is None else Outcome(result.outcome)
    return Compared.of(probabilities, outcome, result.scores)


@dataclass(frozen=True, slots=True)
class ServedPairs:
    """Compares pairs through an API of ours; it is one of `rewards.Compare`."""

    client: Client
    model: str | None = None
    """None: the only one that is served"""
    criteria: Criteria | None = None
    scoring: str = "expected"
    retries: Retries = PATIENT

    def __call__(self, samples: Sequence[Sample]) -> list[Compared | None]:
        """Raises APIError where the server refuses, or does not come back."""
        settings: dict[str, Any] = {"orders": "both", "scoring": self.scoring}
        settings |= {"model": self.model} if self.model is not None else {}
        settings |= {"criteria": self.criteria} if self.criteria is not None else {}
        found = []
        for each in judge_patiently(self.client, samples, settings, PairOut, self.retries):
            if isinstance(each, APIError):
                raise each
            found.append(read_compared(each))
        return found
