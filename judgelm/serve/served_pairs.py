"""Pairs compared by a served judge, which other programs may be asking too: patiently, and its answers are checked."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from judgelm.criteria import Criteria
from judgelm.engine.openai.requests import Retries
from judgelm.judge.rewards import Compared
from judgelm.judgement import Outcome
from judgelm.sample import Sample
from judgelm.serve.client import APIError, Client
from judgelm.serve.judgement_requests import ResultOut, SampleIn
from judgelm.serve.worker_answers import CalibratedOut, Probabilities, Score

PATIENT = Retries(attempts=30, longest_wait_s=30)
"""about six minutes: in a training a judge that starts again, or is busy with others, is waited for"""
_PASSING = (0, 429, 502, 503)
"""HTTP's status of what another time may go well; 0: nothing answers"""
_TOGETHER = 64
"""pairs of a request"""
_MOST_CHARACTERS = 1_000_000
"""of a request, if it has two pairs or more"""


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
        return [found for part in _requests(samples) for found in self._ask(part)]

    def _ask(self, samples: Sequence[SampleIn]) -> Iterator[Compared | None]:
        body: dict[str, Any] = {"orders": "both", "scoring": self.scoring}
        if self.model is not None:
            body["model"] = self.model
        if self.criteria is not None:
            body["criteria"] = self.criteria
        said = [each.model_dump(exclude_none=True) for each in samples]
        for attempt in itertools.count(1):
            try:
                results = [PairOut.model_validate(each) for each in self.client.judge_all(said, **body)]
                break
            except APIError as error:
                if error.status not in _PASSING or attempt >= self.retries.attempts:
                    raise
            except (ValueError, LookupError, TypeError):
                raise APIError("the API's answer holds no results of pairs", 0, None) from None
            time.sleep(self.retries.wait_s(attempt, None, random.Random()))
        if [each.question_id for each in results] != [each.question_id for each in samples]:
            raise APIError("the API answers with other pairs than it was asked about", 0, None)
        yield from map(read_compared, results)


def _requests(samples: Sequence[Sample]) -> Iterator[list[SampleIn]]:
    """Parts that the API takes."""
    part: list[SampleIn] = []
    size = 0
    for sample in samples:
        given = SampleIn.of(sample)
        if part and (len(part) == _TOGETHER or size + given.size > _MOST_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(given)
        size += given.size
    if part:
        yield part
