"""The API by criteria, and with single answers: what workers are asked, what clients are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, make_samples
from serving import HTTP, Address, asked, local_stack

from judgelm.criteria import Criteria, read_criteria
from judgelm.judge.judge import Judge
from judgelm.prompt import render_prompt
from judgelm.sample import Sample
from judgelm.serve.client import Client

HELPFUL = read_criteria(ROOT / "examples" / "criteria" / "helpful.yaml")
CONCISE = read_criteria(ROOT / "examples" / "criteria" / "concise.yaml")
SETTINGS: dict[str, Any] = {"max_new_tokens": 24, "temperature": 0.7, "seed": 5}
"""with another seed a draw may lie so near a border that rounding decides: with 3 one lies 1e-8 from it"""


@pytest.fixture(scope="module")
def servers(model_folder: Path) -> Iterator[tuple[Address, Address, Address]]:
    with local_stack(model_folder) as started:
        yield started


@pytest.fixture(scope="module")
def api(servers: tuple[Address, Address, Address]) -> Address:
    return servers[2]


@pytest.fixture(scope="module")
def judge(model_folder: Path) -> Judge:
    return Judge.load(str(model_folder), dtype="float32", device="cpu", constrained=True)


def one_answer(count: int) -> list[Sample]:
    return [Sample(sample.question_id, sample.question, sample.answers[:1]) for sample in make_samples(count)]


def test_judgements_by_criteria_are_those_of_the_python_api(api: Address, judge: Judge) -> None:
    samples = make_samples(3)
    body = {"samples": asked(samples), "criteria": CONCISE.to_record(), "constrained": True, **SETTINGS}
    answer = api.post("/v1/judgements", body).json()
    verdicts = judge.judge(samples, orders="both", criteria=CONCISE, **SETTINGS)
    for result, verdict in zip(answer["data"], verdicts, strict=True):
        assert verdict.scores is not None
        assert result["scores"] == list(verdict.scores)
        assert result["consistent"] == verdict.consistent
        for order, said in zip(("forward", "reversed"), result["judgements"], strict=True):
            reading = getattr(verdict, order)
            assert (said["order"], said["text"], said["scale"]) == (order, reading.text, [1, 5])
            assert [(part["name"], part["weight"]) for part in said["aspects"]] == [("Brevity", 1), ("Substance", 1)]
            for part, aspect in zip(said["aspects"], reading.aspects, strict=True):
                # those of a reversed judgement are in the order that the judge saw
                seen = aspect.reading.scores[:: 1 if order == "forward" else -1]
                assert (part["text"], part["scores"], part["parse"]) == (aspect.reading.text, list(seen), "ok")
                assert part["text"].startswith("{:g} {:g}".format(*seen))
                assert part["outcome"] in ("win", "tie", "lose")
                assert part["reasons"] == part["text"].partition("\n")[2]
                assert all(1 <= score <= 5 for score in seen)
            means = [sum(column) / 2 for column in zip(*(part["scores"] for part in said["aspects"]), strict=True)]
            assert said["scores"] == means
            assert said["usage"]["completion_tokens"] > 2 * 4


def test_single_answers_are_graded_with_criteria_and_without(api: Address, judge: Judge) -> None:
    samples = one_answer(2)
    body = {"samples": asked(samples), "task": "grade", "constrained": True, **SETTINGS}
    for criteria in (None, HELPFUL):
        given = body if criteria is None else body | {"criteria": criteria.to_record()}
        answer = api.post("/v1/judgements", given).json()
        verdicts = judge.judge(samples, task="grade", criteria=criteria, **SETTINGS)
        for result, verdict in zip(answer["data"], verdicts, strict=True):
            assert verdict.forward is not None
            assert verdict.scores is not None
            (said,) = result["judgements"]
            assert (said["text"], result["scores"]) == (verdict.forward.text, list(verdict.scores))
            assert (result["outcome"], result["consistent"], said["order"]) == (None, None, "forward")
            assert ("aspects" in said) == (criteria is not None)
    assert api.post("/v1/judgements", body | {"orders": "both"}).status_code == 400


def test_many_answers_are_judged_by_criteria(api: Address) -> None:
    given = [{"question": "2 + 2?", "answers": ["4", "5", "four"]}]
    body = {"samples": given, "task": "multi", "criteria": HELPFUL.to_record(), "scores_only": True}
    (result,) = api.post("/v1/judgements", body | {"constrained": True}).json()["data"]
    assert [len(part["scores"]) for part in result["judgements"][0]["aspects"]] == [3, 3, 3]
    weighted = [
        [2, 1, 1][k] * score / 4
        for k, part in enumerate(result["judgements"][0]["aspects"])
        for score in part["scores"]
    ]
    assert result["scores"] == [sum(weighted[k::3]) for k in range(3)]


def test_a_stream_names_the_aspect_of_each_text(api: Address) -> None:
    body = {"samples": asked(make_samples(2)), "criteria": HELPFUL.to_record(), "orders": "forward", **SETTINGS}
    whole = api.post("/v1/judgements", body).json()
    events = [json.loads(line) for line in api.post("/v1/judgements", body | {"stream": True}).text.splitlines()]
    assert (events[-1]["event"], events[-1]["usage"]) == ("done", whole["usage"])
    results = {event["index"]: event["result"] for event in events if event["event"] == "result"}
    assert [results[index] for index in range(2)] == whole["data"]
    texts = [event for event in events if event["event"] == "text"]
    assert {event["aspect"] for event in texts} == {"Task", "Use", "Clarity"}
    for part in whole["data"][1]["judgements"][0]["aspects"]:
        own = [event["text"] for event in texts if (event["index"], event["aspect"]) == (1, part["name"])]
        assert part["text"].startswith(own[0])


def test_without_criteria_an_answer_has_the_fields_that_it_had(api: Address) -> None:
    body = {"samples": asked(make_samples(1)), "orders": "forward", **SETTINGS}
    fields = ["order", "text", "scores", "outcome", "parse", "reasons", "finish_reason", "shortened", "usage"]
    assert list(api.post("/v1/judgements", body).json()["data"][0]["judgements"][0]) == fields
    events = [json.loads(line) for line in api.post("/v1/judgements", body | {"stream": True}).text.splitlines()]
    assert list(events[0]) == ["event", "index", "question_id", "order", "text"]
    assert list(next(e for e in events if e["event"] == "result")["result"]["judgements"][0]) == fields


def test_a_sample_that_does_not_fit_by_criteria_says_so_once(api: Address) -> None:
    hopeless = {"question": "Why? " * 3000, "answers": ["a"]}
    long = {"question": "Why?", "answers": ["word " * 3000]}
    body = {"samples": [hopeless, long], "task": "grade", "criteria": HELPFUL.to_record(), "max_new_tokens": 4}
    first, second = api.post("/v1/judgements", body).json()["data"]
    assert first["error"]["code"] == "prompt_too_long"
    assert (first["judgements"], first["scores"]) == ([], None)
    assert second["error"] is None
    assert second["judgements"][0]["shortened"][0] > 0


ASPECT = {"name": "Truth", "text": "It is true."}


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ("helpful", "expected criteria with the fields name, aspects, scale, found str"),
        ({}, "field 'name' is missing"),
        ({"name": "x", "aspects": []}, "expected 1 to 50, found 0"),
        ({"name": "x", "aspects": [{**ASPECT, "name": f"{k}"} for k in range(51)]}, "expected 1 to 50, found 51"),
        ({"name": "x", "aspects": [ASPECT, ASPECT]}, "'Truth' stands there 2 times"),
        ({"name": "x", "aspects": [{"name": "Truth"}]}, "aspects: 1: field 'text' is missing"),
        ({"name": "x\ny", "aspects": [ASPECT]}, "expected a text of one line"),
        ({"name": "x", "aspects": [ASPECT], "scale": [5, 1]}, "scale"),
        ({"name": "x", "aspects": [ASPECT], "scale": [0, 10**4000]}, "scale"),
        ({"name": "x", "aspects": [{**ASPECT, "weight": 0}]}, "expected a number above 0"),
        ({"name": "x", "aspects": [{**ASPECT, "weight": float("nan")}]}, "expected a number above 0"),
        ({"name": "x", "aspects": [{**ASPECT, "weight": 1e308}]}, "1,000,000 at most"),
        ({"name": "x", "aspects": [{**ASPECT, "weight": 10**400}]}, "1,000,000 at most"),
        ({"name": "x", "aspects": [{**ASPECT, "anchors": {"11": "best"}}]}, "expected scores from 1 to 10"),
        ({"name": "x", "aspects": [{**ASPECT, "anchors": {"9" * 5000: "best"}}]}, "criteria"),
        ({"name": "x", "aspects": [{**ASPECT, "text": "x" * 100_001}]}, "at most 100,000 characters"),
        ({"name": "x", "aspects": [{**ASPECT, "text": "\ud800"}]}, "half a surrogate pair"),
        ({"name": "x", "aspects": [ASPECT], "other": 1}, "'other' is no field of criteria"),
    ],
)
def test_criteria_that_are_none_end_in_one_line(criteria: Any, message: str, api: Address) -> None:
    body = json.dumps({"samples": asked(make_samples(1)), "criteria": criteria})
    refused = HTTP.post(api.url + "/v1/judgements", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422, refused.text
    error = refused.json()["error"]
    assert message in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) <= 1000
    assert error["param"] == "criteria"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "single"}, "criteria cannot be used with task single, whose question is fixed"),
        ({"task": "mmvet"}, "criteria cannot be used with task mmvet"),
        ({"task": "grade"}, "task grade takes 1 answer, found 2"),
        ({"samples": [{"question": "q", "answers": ["a"]}]}, "task pair takes 2 answers, found 1"),
        ({"samples": [{"question": "q" * 1_999_999, "answers": ["a" * 2_000_000] * 2}]}, "too long for 3 aspects"),
    ],
)
def test_a_task_that_does_not_go_with_criteria_is_refused(change: dict[str, Any], message: str, api: Address) -> None:
    body = {"samples": asked(make_samples(1)), "criteria": HELPFUL.to_record(), **change}
    refused = api.post("/v1/judgements", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert message in refused.json()["error"]["message"]


def test_the_client_takes_criteria_as_they_are_read(api: Address) -> None:
    client = Client(api.url)
    for criteria in (CONCISE, CONCISE.to_record()):
        found = client.judge("2 + 2?", ["4"], task="grade", criteria=criteria, scores_only=True, constrained=True)
        assert [part["name"] for part in found["judgements"][0]["aspects"]] == ["Brevity", "Substance"]


def through(details: dict[str, Any], criteria: Criteria | None, sample: Sample, task: str) -> list[dict[str, Any]]:
    """The bodies that a worker gets which says this of itself."""
    from judgelm.serve.judgement_requests import JudgementRequest, SampleIn
    from judgelm.serve.judgements import judge_through
    from judgelm.serve.worker_client import Workers

    bodies: list[dict[str, Any]] = []

    async def sent_by(request: httpx.Request) -> AsyncGenerator[bytes, None]:
        body = json.loads(request.content)
        known = {
            "/get_worker_address": {"address": "http://worker"},
            "/model_details": {"context_length": 4096, **details},
            "/count_token": {"count": 100},
            "/worker_generate_stream": {"text": "4\nGood.", "error_code": 0, "finish_reason": "stop"},
        }
        if request.url.path == "/worker_generate_stream":
            bodies.append(body)
        yield json.dumps(known[request.url.path]).encode() + b"\0" * (request.url.path == "/worker_generate_stream")

    async def ask() -> None:
        workers = Workers("http://controller")
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=sent_by(request)))
        workers._http = httpx.AsyncClient(transport=transport)
        given = {"model": "m", "samples": [SampleIn.of(sample)], "task": task, "criteria": criteria}
        request = JudgementRequest.model_validate(given)
        request.check()
        results = [event async for event in judge_through(workers, request)]
        assert results[-1].verdict.scores == (4,)  # type: ignore[union-attr]

    asyncio.run(ask())
    return bodies


@pytest.mark.parametrize("criteria", [None, CONCISE])
def test_a_worker_that_knows_no_criteria_gets_prompts(criteria: Criteria | None) -> None:
    sample = Sample(1, "2 + 2?", ("4",))
    aspects = criteria.aspects if criteria else (None,)
    prompts = [render_prompt(sample, "grade", aspect) for aspect in aspects]
    # FastChat's, and one of ours from before there were criteria
    for details in ({}, {"judgelm": "0.1.0", "chat": True}):
        bodies = through(details, criteria, sample, "grade")
        assert [body["prompt"] for body in bodies] == prompts
        assert not any("sample" in body for body in bodies)
    bodies = through({"judgelm": "1", "chat": True, "criteria": True}, criteria, sample, "grade")
    assert not any("prompt" in body for body in bodies)
    for body, aspect in zip(bodies, aspects, strict=True):
        assert ("criteria" in body["sample"]) == (aspect is not None)
        if aspect is not None:
            assert Criteria.from_record(body["sample"]["criteria"]).aspects == (aspect,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criteria": HELPFUL.to_record()}, "by one aspect at a time, found 3"),
        (
            {"criteria": {"name": "x", "aspects": [ASPECT]}, "judgement": "8 7", "followup": "Why?"},
            "nothing can be asked",
        ),
        ({"criteria": {"name": "x", "aspects": [ASPECT]}, "task": "single"}, "cannot be used with task single"),
        ({"criteria": {"name": "x", "aspects": []}}, "expected 1 to 50"),
    ],
)
def test_a_worker_refuses_what_it_cannot_judge_by(
    change: dict[str, Any], message: str, servers: tuple[Address, Address, Address]
) -> None:
    sample = {"question": "2 + 2?", "answers": ["4", "5"], **change}
    said = servers[1].post("/worker_generate", {"model": "random-llama", "sample": sample, "max_new_tokens": 4})
    assert message in said.text
    assert "Traceback" not in said.text
