"""What a server's response means, whatever stands in it."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest
from played import GREEDY, QUICK, Played, Reply, ask, make_requests, wrote

from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.requests import Retries
from judgelm.engine.openai.responses import Answer, End, Fault, Refusal, read_response, retry_after_s
from judgelm.engine.openai.server import Server

pytestmark = pytest.mark.usefixtures("without_a_key")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, wrote().body, Answer),
        (200, {"choices": [{"text": 8}]}, Fault),
        (200, {"choices": [{"text": "8 7"}], "usage": {"prompt_tokens": float("inf")}}, Answer),
        (200, {"choices": [{"text": None, "finish_reason": "length"}]}, Answer),
        (200, {"choices": [{"text": None, "finish_reason": "stop"}]}, Fault),
        (200, {"choices": [{"text": "8", "finish_reason": "error"}]}, Fault),
        (200, {"choices": {"0": 1}}, Fault),
        (200, {"choices": [None]}, Fault),
        (200, [], Fault),
        (200, "<html>", Fault),
        (200, {"error": {"message": "the model is loading"}}, Fault),
        (200, {"error": "Provider returned error"}, Fault),
        (200, {"error": {"message": "Provider returned error", "code": 502}}, Fault),
        (200, {"error": {"message": "slow down", "code": "429"}}, Fault),
        (200, {"choices": [{"error": {"message": "moderation", "code": 403}}]}, Refusal),
        (200, {"error": {"message": "no credit left", "code": "insufficient_quota"}}, End),
        (400, [{"error": {"message": "filtered by content management policy", "code": 400}}], Refusal),
        (400, {"error": {"message": "no", "code": "content_filter"}}, Refusal),
        (429, {"error": {"message": "Request too large: limit 10000, requested 12000", "type": "tokens"}}, Refusal),
        (302, "", End),
        (400, {"error": {"message": "no", "code": "unsupported_value"}}, End),
        (400, {"object": "error", "message": "maximum context length is 9", "code": 400}, Refusal),
        (400, {"detail": [{"msg": "no such field"}]}, Refusal),
        (401, {"error": "who are you?"}, End),
        (402, {"error": {"message": "no money"}}, End),
        (403, {"error": {"message": "requires moderation, the input was flagged"}}, Refusal),
        (403, "<html>", End),
        (404, {"error": {"message": "no such model"}}, End),
        (409, "", Fault),
        (413, "", Refusal),
        (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, Fault),
        (429, {"error": {"message": "no credit left", "code": "insufficient_quota"}}, End),
        (500, [[]], Fault),
        (529, "overloaded", Fault),
    ],
)
def test_each_response_is_an_answer_a_fault_a_refusal_or_the_end(status: int, body: Any, kind: type) -> None:
    response = httpx.Response(status, content=body if isinstance(body, str) else json.dumps(body))
    assert type(read_response(response, "completions", str)) is kind


ODD: list[Any] = [None, True, -1, 8, 1e400, float("nan"), 10**30, "", "8", [], [[]], {}, {"a": 1}, "\ud83d", [None, {}]]


@pytest.mark.parametrize(
    "name", ["choices", "usage", "error", "message", "content", "text", "finish_reason", "refusal"]
)
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_whatever_kind_a_field_has_the_response_means_something(name: str, api: Any) -> None:
    for odd in ODD:
        for status in (200, 400, 429, 500):
            body = json.loads(json.dumps(wrote().body))
            found = {"message": body["choices"][0], "text": body["choices"][0], "finish_reason": body["choices"][0]}
            found |= {"content": body["choices"][0]["message"], "refusal": body["choices"][0]["message"]}
            found.get(name, body)[name] = odd
            read = read_response(httpx.Response(status, content=json.dumps(body)), api, str)
            assert isinstance(read, Answer | Fault | Refusal | End)
            if isinstance(read, Answer):
                read.text.encode()
                assert read.num_prompt_tokens >= 0
    for usage in ({"prompt_tokens": odd, "completion_tokens": odd} for odd in ODD):
        body = wrote().body | {"usage": usage}
        read = read_response(httpx.Response(200, content=json.dumps(body)), api, str)
        assert isinstance(read, Answer)
        assert read.num_prompt_tokens in (0, 8)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "8 7\nok"}], "8 7\nok"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "3 4"}]}, {"type": "text", "text": "8 7"}], "8 7"),
        ([{"type": "reasoning", "text": "3 4"}, {"type": "output_text", "text": "8"}, {"text": " 7"}], "8 7"),
        (["8 7", {"type": "image_url", "image_url": "x"}, None, 3], "8 7"),
        ({"type": "text", "text": "8 7"}, "8 7"),
        ("8 7 \ud83d", "8 7 \ufffd"),
    ],
)
def test_text_parts_are_joined_and_thinking_parts_left_out(content: Any, text: str) -> None:
    with Played(lambda *_: Reply(200, {"choices": [{"message": {"content": content}}]})) as server:
        assert ask(server, 1, api="chat")["0"].text == text


def test_a_part_with_a_refusal_and_thoughts_without_a_text_are_no_judgement() -> None:
    parts = {
        0: [{"type": "text", "text": "8 7"}, {"type": "refusal", "refusal": "I will not"}],
        1: [{"type": "thinking", "thinking": "3 4"}],
        2: "8 7",
    }
    with Played(lambda number, _: Reply(200, {"choices": [{"message": {"content": parts[number]}}]})) as server:
        found = ask(server, 3, api="chat")
    assert [found[key].finish_reason for key in "012"] == ["refused", "refused", "stop"]


def test_thoughts_beside_the_text_are_left_out_and_counted() -> None:
    def thought(number: int, _: int) -> Reply:
        text, reason = (None, "length") if number else ("8 7\nok", "stop")
        message = {"content": text, "reasoning_content": "maybe 3 4"}
        return Reply(200, {"choices": [{"message": message, "finish_reason": reason}]})

    with Played(thought) as server:
        engine = OpenAIEngine(Server(server.url, "m", api="chat"), QUICK)
        found = {generation.key: generation for generation in engine.generate(make_requests(2), GREEDY)}
    assert [(found[key].text, found[key].finish_reason) for key in "01"] == [("8 7\nok", "stop"), ("", "length")]
    assert engine.description["thoughts_left_out"] == 2


def test_retry_after_is_a_number_or_a_date_and_bounded() -> None:
    assert retry_after_s("7", 0) == 7
    assert retry_after_s("1.5", 0) == 1.5
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after_s(date, 1445412480 - 30) == 30
    assert retry_after_s(date, 1445412480 + 30) == 0
    for nothing in (None, "", "soon", "-3", "nan", f"Wed, 21 Oct {'9' * 30} 07:28:00 GMT"):
        assert retry_after_s(nothing, 0) is None
    assert Retries().wait_s(1, 3600, random.Random(0)) == 60
