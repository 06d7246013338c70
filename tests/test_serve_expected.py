"""The API with scoring `expected`: probabilities in both orders, by criteria, and where there are none."""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, make_samples
from serving import Address, asked, local_stack

from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.engine.interface import Request, Sampling
from judgelm.judge.judge import Judge
from judgelm.judgement import Outcome
from judgelm.sample import Sample
from judgelm.serve.batcher import Batcher, Update
from judgelm.serve.client import Client
from judgelm.serve.judgement_requests import JudgementRequest, Result
from judgelm.serve.judgements import judge_through
from judgelm.serve.protocol import WorkerError
from judgelm.serve.worker_answers import Details, read_answer, read_chunk
from judgelm.serve.worker_client import Workers

FIVE = Scale(1, 5)
EXAM = Criteria(
    "exam", (Aspect("Truth", "It is true.", 3.0, (), FIVE), Aspect("Brevity", "It is short.", 1.0, (), FIVE))
)


@pytest.fixture(scope="module")
def servers(model_folder: Path) -> Iterator[tuple[Address, Address, Address]]:
    with local_stack(model_folder) as started:
        yield started


@pytest.fixture(scope="module")
def api(servers: tuple[Address, Address, Address]) -> Address:
    return servers[2]


@pytest.fixture(scope="module")
def judge(model_folder: Path) -> Judge:
    return Judge.load(str(model_folder), dtype="float32", device="cpu")


def plain(likelihood: Mapping[Outcome, float]) -> dict[str, float]:
    return {str(name): value for name, value in likelihood.items()}


def test_probabilities_over_the_api_are_those_of_the_model_itself(api: Address, judge: Judge) -> None:
    samples = make_samples(11)
    data = api.post("/v1/judgements", {"samples": asked(samples), "scoring": "expected"}).json()["data"]
    verdicts = judge.judge(samples, orders="both", scoring="expected")
    for result, verdict in zip(data, verdicts, strict=True):
        assert verdict.forward
        assert verdict.reversed
        assert verdict.reversed.probabilities
        assert verdict.scores
        assert verdict.probabilities
        assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-4)
        assert result["probabilities"] == pytest.approx(plain(verdict.probabilities), abs=1e-4)
        assert (result["outcome"], result["consistent"]) == (verdict.outcome, verdict.consistent)
        forward, back = result["judgements"]
        # the reversed one is of the answers as they were shown
        assert forward["expected_scores"] == pytest.approx(verdict.forward.expected_scores, abs=1e-4)
        assert back["expected_scores"][::-1] == pytest.approx(verdict.reversed.expected_scores, abs=1e-4)
        assert back["probabilities"]["win"] == pytest.approx(verdict.reversed.probabilities[Outcome.LOSE], abs=1e-4)
        assert (forward["text"], forward["reasons"]) == (verdict.forward.text, "")
        assert 0 < forward["score_line_mass"] < 1
        assert forward["usage"]["completion_tokens"] == 0 < forward["usage"]["prompt_tokens"]


def test_aspects_and_grades_have_their_own(api: Address, judge: Judge) -> None:
    samples = make_samples(3)
    one = [Sample(sample.question_id, sample.question, sample.answers[:1]) for sample in samples]
    body = {"scoring": "expected", "criteria": EXAM.to_record()}
    pairs = api.post("/v1/judgements", {"samples": asked(samples), **body}).json()["data"]
    for result, verdict in zip(
        pairs, judge.judge(samples, orders="both", scoring="expected", criteria=EXAM), strict=True
    ):
        assert verdict.forward
        assert verdict.scores
        assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-4)
        parts = result["judgements"][0]["aspects"]
        for part, aspect in zip(parts, verdict.forward.aspects, strict=True):
            assert part["expected_scores"] == pytest.approx(aspect.reading.expected_scores, abs=1e-4)
            assert sum(part["probabilities"].values()) == pytest.approx(1)
        means = [(3 * first + second) / 4 for first, second in zip(*(p["expected_scores"] for p in parts), strict=True)]
        assert result["judgements"][0]["expected_scores"] == pytest.approx(means)
        assert result["judgements"][0]["score_line_mass"] == min(part["score_line_mass"] for part in parts)
    grades = api.post("/v1/judgements", {"samples": asked(one), "task": "grade", **body}).json()["data"]
    for result, verdict in zip(grades, judge.judge(one, task="grade", scoring="expected", criteria=EXAM), strict=True):
        assert verdict.scores
        assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-4)
        assert "probabilities" not in result
        assert "probabilities" not in result["judgements"][0]


def test_a_stream_has_results_and_no_texts_and_the_client_takes_the_field(api: Address) -> None:
    body = {"samples": asked(make_samples(2)), "scoring": "expected", "stream": True}
    events = [json.loads(line) for line in api.post("/v1/judgements", body).text.splitlines()]
    assert [event["event"] for event in events] == ["result", "result", "done"]
    verdict = Client(api.url).judge("2 + 2?", ["4", "5"], scoring="expected")
    assert sum(verdict["probabilities"].values()) == pytest.approx(1)
    sampled = Client(api.url).judge("2 + 2?", ["4", "5"], scoring="greedy", max_new_tokens=8)
    assert not {"probabilities", "expected_scores"} & {*sampled, *sampled["judgements"][0]}


def test_many_answers_have_expected_scores(api: Address, judge: Judge) -> None:
    sample = Sample("m", "2 + 2?", ("4", "5", "four"))
    (result,) = api.post("/v1/judgements", {"samples": asked([sample]), "task": "multi", "scoring": "expected"}).json()[
        "data"
    ]
    (verdict,) = judge.judge([sample], task="multi", scoring="expected")
    assert verdict.scores
    assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"scoring": "likely"}, 422, "scoring: Input should be 'sample', 'greedy' or 'expected'"),
        (
            {"criteria": Criteria("w", (Aspect("A", "B", 1.0, (), Scale(0, 100)),)).to_record()},
            400,
            "scoring expected reads 441 score lines at most: 0 to 100 is too much",
        ),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(
    change: dict[str, Any], status: int, message: str, api: Address
) -> None:
    response = api.post("/v1/judgements", {"samples": asked(make_samples(1)), "scoring": "expected", **change})
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)


def test_a_worker_scores_samples_alone(servers: tuple[Address, Address, Address], model_folder: Path) -> None:
    given = {"question": "2 + 2?", "answers": ["4", "5"]}
    wide = Criteria("w", (Aspect("A", "B", 1.0, (), Scale(0, 100)),)).to_record()
    for body, message in (
        ({"prompt": "2 + 2?"}, "score lines have probabilities where there is a sample to judge"),
        ({"sample": {**given, "followup": "Why?"}}, "score lines have probabilities where there is a sample to judge"),
        (
            {"sample": {**given, "criteria": wide}},
            "scoring expected reads 441 score lines at most: 0 to 100 is too much",
        ),
    ):
        asked_for = {"model": model_folder.name, "scoring": "expected", **body}
        said = servers[1].post("/worker_generate_stream", asked_for).content.rstrip(b"\0")
        assert json.loads(said)["text"] == message


class Scripted(Workers):
    """Workers that say what a test wants."""

    def __init__(self, details: dict[str, Any], *chunks: dict[str, Any]) -> None:
        super().__init__("http://127.0.0.1:9")
        self.known, self.chunks = read_answer(Details, details), chunks

    async def _address(self, model: str, after_another: bool) -> str:
        return "http://127.0.0.1:9"

    async def _details_of(self, address: str, model: str) -> Details:
        return self.known

    async def _stream_from(self, address: str, params: Any) -> AsyncGenerator[Any, None]:
        for chunk in self.chunks:
            yield read_chunk(json.dumps(chunk).encode())


def judged_by(workers: Workers) -> list[Any]:
    request = JudgementRequest.model_validate(
        {"model": "m", "samples": asked(make_samples(1)), "scoring": "expected", "orders": "forward"}
    )

    async def collect() -> list[Any]:
        try:
            return [event async for event in judge_through(workers, request)]
        finally:
            await workers.close()

    return asyncio.run(collect())


@pytest.mark.parametrize("details", [{"context_length": 2048}, {"judgelm": "0.3", "criteria": True}])
def test_a_worker_that_cannot_score_is_told_of_and_not_asked(details: dict[str, Any]) -> None:
    with pytest.raises(WorkerError, match=r"^scoring expected: the model's worker cannot read probabilities"):
        judged_by(Scripted(details))


GOOD = {"expected_scores": [8, 3], "probabilities": {"win": 0.7, "tie": 0.1, "lose": 0.2}, "score_line_mass": 0.5}


@pytest.mark.parametrize(
    "likely",
    [
        None,
        GOOD | {"expected_scores": [8]},
        GOOD | {"expected_scores": [float("nan"), 3]},
        GOOD | {"expected_scores": [1e9, 3]},
        GOOD | {"probabilities": None},
        GOOD | {"probabilities": {"win": 2, "tie": 0, "lose": -1}},
        GOOD | {"score_line_mass": 1.5},
    ],
)
def test_what_a_worker_says_is_checked(likely: Any) -> None:
    ours = {"judgelm": "9", "criteria": True, "expected": True}
    chunk = {"text": "8 3", "error_code": 0, "finish_reason": "stop"}
    (result,) = judged_by(Scripted(ours, {**chunk, "likely": GOOD}))
    assert isinstance(result, Result)
    assert result.verdict.scores == (8.0, 3.0)
    assert result.verdict.outcome is Outcome.WIN
    with pytest.raises(WorkerError, match="the worker"):
        judged_by(Scripted(ours, {**chunk, "likely": likely}))


def test_who_writes_and_who_is_scored_share_the_model(judge: Judge) -> None:
    engine: Any = judge.engine
    scales = [None, Scale(1, 10), FIVE]
    updates: queue.SimpleQueue[tuple[int, Update]] = queue.SimpleQueue()
    batcher = Batcher(engine, max_running=2)
    try:
        for number, sample in enumerate(make_samples(20)):
            request = Request("same", "", engine.fit(sample, "pair", 16).input_ids)
            deliver = partial(lambda number, update: updates.put((number, update)), number)
            batcher.submit(request, Sampling(max_new_tokens=6), deliver, scales[number % 3])
        found: dict[int, Update] = {}
        while len(found) < 20:
            number, update = updates.get(timeout=PATIENCE_S)
            found |= {number: update} if update.last else {}
        assert batcher.queue_length == 0
    finally:
        batcher.close()
    for number, update in found.items():
        most = 10 if number % 3 == 1 else 5
        assert not update.failed
        assert (update.likelihood is None) == (number % 3 == 0)
        assert update.likelihood is None or 1 < max(update.likelihood.expected) < most
        assert (update.num_tokens == 0) == (number % 3 > 0)


def test_who_goes_away_before_being_scored_is_not_scored(judge: Judge) -> None:
    engine: Any = judge.engine
    said: list[Update] = []
    batcher = Batcher(engine)
    try:
        with batcher._changed:
            ids = engine.fit(make_samples(1)[0], "pair", 16).input_ids
            ticket = batcher.submit(Request("k", "", ids), Sampling(), said.append, FIVE)
            batcher.cancel(ticket)
        end = time.monotonic() + PATIENCE_S
        while batcher.queue_length and time.monotonic() < end:
            time.sleep(0.01)
        assert (batcher.queue_length, said) == (0, [])
    finally:
        batcher.close()


def test_every_answer_stands_in_every_place_over_the_api_too(api: Address, judge: Judge) -> None:
    samples = [Sample("a", "2 + 2?", ("4", "5", "four")), Sample("b", "2 + 3?", ("5", "6"))]
    body = {"samples": asked(samples), "task": "multi", "orders": "all", "scoring": "expected"}
    data = api.post("/v1/judgements", body).json()["data"]
    verdicts = judge.judge(samples, task="multi", orders="all", scoring="expected")
    for result, verdict, orders in zip(
        data, verdicts, (["forward", "rotated1", "rotated2"], ["forward", "rotated1"]), strict=True
    ):
        assert verdict.scores
        assert [said["order"] for said in result["judgements"]] == orders
        assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-4)
        assert result["consistent"] == verdict.consistent
        # as they were shown
        shown = [said["expected_scores"] for said in result["judgements"]]
        assert result["place_scores"] == pytest.approx(
            [sum(column) / len(shown) for column in zip(*shown, strict=True)]
        )
    (forward,) = api.post("/v1/judgements", {**body, "samples": asked(samples[:1]), "orders": "forward"}).json()["data"]
    assert "place_scores" not in forward
    refused = api.post("/v1/judgements", {**body, "task": "pair", "samples": asked(samples[1:])})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("orders all are those of task multi")


def test_aspects_of_many_answers_are_means_of_all_orders(api: Address, judge: Judge) -> None:
    sample = Sample("a", "2 + 2?", ("4", "5", "four"))
    settings: dict[str, Any] = {"task": "multi", "orders": "all", "scoring": "greedy", "max_new_tokens": 16}
    body = {"samples": asked([sample]), "criteria": EXAM.to_record(), "constrained": True, **settings}
    (result,) = api.post("/v1/judgements", body).json()["data"]
    constrained = Judge(judge.engine, constrained=True)
    (verdict,) = constrained.judge([sample], criteria=EXAM, **settings)
    assert verdict.scores
    assert result["scores"] == pytest.approx(list(verdict.scores))
    for name, both in verdict.aspects.items():
        # rotated by k answers, the first of the file stands k places before the end
        own = [
            next(part["scores"] for part in said["aspects"] if part["name"] == name)[-steps % 3]
            for steps, said in enumerate(result["judgements"])
        ]
        assert both.scores
        assert both.scores[0] == pytest.approx(sum(own) / 3)
