"""Judges whose verdicts are known, for rewards: of this process, and behind the API's address."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse
from judging import FakeEngine
from serving import served

from judgelm.engine.interface import LineScores
from judgelm.judge.choice import JudgeChoice
from judgelm.judge.judge import Judge
from judgelm.sample import Sample

Lines = Mapping[str, float]
"""score lines and how likely each is; none: the memory was short"""


class Planted(FakeEngine):
    """Finds lines likely as a function of the answers says, in the order in which they are shown."""

    def __init__(self, likely: Callable[[str, str], Lines]) -> None:
        self.likely = likely
        self.shown: dict[str, Sample] = {}
        self.judged: list[tuple[str, str]] = []
        """answers of each prompt, as they were shown"""

    def fit(self, sample: Sample, *args: Any, **settings: Any) -> Any:
        prompt = super().fit(sample, *args, **settings)
        self.shown[prompt.text] = sample
        return prompt

    def score(self, requests: Any, lines: Sequence[str]) -> Iterator[LineScores]:
        for request in requests:
            first, second = self.shown[request.prompt].answers
            self.judged.append((first, second))
            likely = self.likely(first, second)
            found = [math.log(likely[line.strip()]) if line.strip() in likely else -math.inf for line in lines]
            yield LineScores(request.key, tuple(found) if likely else (), 10, 0, "stop" if likely else "out_of_memory")


def planted(likely: Callable[[str, str], Lines], name: str = "planted") -> tuple[JudgeChoice, Planted]:
    """A judge, and its engine."""
    engine = Planted(likely)
    return JudgeChoice(name, lambda: Judge(engine), {"engine": "planted"}), engine


def brevity(text: str) -> int:
    """The score of an answer, by which shorter ones are better."""
    return max(1, 10 - len(text) // 4)


def prefer_short(first: str, second: str) -> Lines:
    return {f"{brevity(first)} {brevity(second)}": 1.0}


def result(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What the API answers where shorter answers are better."""
    first, second = map(brevity, sample["answers"])
    outcome = "tie" if first == second else "win" if first > second else "lose"
    return {
        "question_id": sample["question_id"],
        "scores": [first, second],
        "outcome": outcome,
        "probabilities": {name: float(name == outcome) for name in ("win", "tie", "lose")},
    }


@contextlib.contextmanager
def judging_api(*faults: tuple[int, Any], key: str | None = None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of an API that prefers short answers, and the bodies that came; the `faults`, each a status and a
    body, are played first. It asks for the `key`.
    """
    app, bodies, left = FastAPI(), [], list(faults)

    @app.post("/v1/judgements")
    def judgements(body: dict[str, Any], authorization: Annotated[str | None, Header()] = None) -> Any:
        if key is not None and authorization != f"Bearer {key}":
            return JSONResponse({"error": {"message": "a key is needed"}}, 401)
        bodies.append(body)
        if left:
            status, said = left.pop(0)
            return JSONResponse(said, status)
        return {"data": [result(sample) for sample in body["samples"]]}

    with served(app) as url:
        yield url, bodies
