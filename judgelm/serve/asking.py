"""A served judge, asked by a program: patiently, as others may be asking it too, in parts that it takes, and what it
answers is checked.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from judgelm.documents import describe_fault
from judgelm.engine.openai.requests import Retries
from judgelm.errors import one_line
from judgelm.sample import Sample
from judgelm.serve.client import TIMED_OUT, APIError, Client
from judgelm.serve.judgement_requests import SampleIn

log = logging.getLogger(__name__)

PATIENCE_S = 3600
"""how long a request may take: texts for many samples by a slow server"""
_PASSING = (0, 429, 502, 503, 504)
"""HTTP's status of what another time may go well; 0: nothing answers"""
_TOO_LARGE = 413
_NO_REQUEST, _NO_ANSWER = 422, 200
"""of what was not sent, and of an answer that is none"""
_TOGETHER = 64
"""samples of a request"""
_MOST_CHARACTERS = 1_000_000
"""of a request, if it has two samples or more"""


Found = TypeVar("Found", bound=BaseModel)
Said = TypeVar("Said")


def patiently(call: Callable[[], Said], retries: Retries) -> Said:
    """What a call of a client gives, tried again where the server is busy or away, but not where its time ran out: the
    server would only begin anew. Raises APIError.
    """
    for attempt in itertools.count(1):
        try:
            return call()
        except APIError as error:
            if error.status not in _PASSING or error.code == TIMED_OUT or attempt >= retries.attempts:
                raise
            if attempt == 1:  # once: who waits for minutes is told for what
                log.warning("the judge: %s; trying again", error)
        except (LookupError, TypeError, ValueError) as error:
            said = one_line(f"{type(error).__name__}: {error}")[:100]
            raise APIError(f"not the answer of a judge that judgelm serves ({said})", _NO_ANSWER, None) from None
        time.sleep(retries.wait_s(attempt, None, random.Random()))
    raise AssertionError


def judge_patiently(
    client: Client, samples: Sequence[Sample], settings: Mapping[str, Any], read: type[Found], retries: Retries
) -> list[Found | APIError]:
    """One result a sample, in their order, or why this sample alone cannot be judged: it is too large, or no text.

    Args:
        settings: other fields of POST /v1/judgements.
        read: what a result is read as; it has a `question_id`.

    Raises APIError where the server refuses, does not come back, or answers with anything else.
    """
    found: dict[int, Found | APIError] = {}
    sent: dict[int, SampleIn] = {}
    for place, sample in enumerate(samples):
        try:
            sent[place] = SampleIn.of(sample)
        except ValidationError as error:
            found[place] = APIError(describe_fault(error), _NO_REQUEST, None)
    for part in _parts(sent):
        found |= _judge(client, part, settings, read, retries)
    return [found[place] for place in range(len(samples))]


def _parts(samples: Mapping[int, SampleIn]) -> Iterator[dict[int, SampleIn]]:
    """Those of a request each."""
    part: dict[int, SampleIn] = {}
    size = 0
    for place, sample in samples.items():
        if part and (len(part) == _TOGETHER or size + sample.size > _MOST_CHARACTERS):
            yield part
            part, size = {}, 0
        part[place] = sample
        size += sample.size
    if part:
        yield part


def _judge(
    client: Client, part: Mapping[int, SampleIn], settings: Mapping[str, Any], read: type[Found], retries: Retries
) -> dict[int, Found | APIError]:
    """Of each place; in smaller requests where one is too large for the server."""
    bodies = [each.model_dump(mode="json", exclude_none=True) for each in part.values()]
    try:
        results = patiently(lambda: _read(client.judge_all(bodies, **settings), read), retries)
    except APIError as error:
        if error.status != _TOO_LARGE:
            raise
        if len(part) == 1:
            return dict.fromkeys(part, error)
        places, half = list(part.items()), len(part) // 2
        first, second = (_judge(client, dict(each), settings, read, retries) for each in (places[:half], places[half:]))
        return first | second
    if [getattr(each, "question_id", None) for each in results] != [each.question_id for each in part.values()]:
        raise APIError("the API answers with other samples than it was asked about", _NO_ANSWER, None)
    return dict(zip(part, results, strict=True))


def _read(said: Sequence[Any], read: type[Found]) -> list[Found]:
    try:
        return [read.model_validate(each) for each in said]
    except ValidationError as error:
        raise APIError(f"no result of a judgement ({describe_fault(error)})", _NO_ANSWER, None) from None
