"""The API as OpenAI's own client and other programs meet it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from serving import HTTP, Address

from judgelm.serve.client import APIError, Client
from judgelm.serve.worker_answers import Chunk, Usage

MODEL = "random-llama"
ASKED = [{"role": "user", "content": "2 + 2?"}]


def chat(client: Any, messages: Sequence[Any], **more: Any) -> Any:
    settings = {"model": MODEL, "messages": messages, "max_tokens": 8, "temperature": 0}
    return client.chat.completions.create(**settings | more)


def said(client: Any, messages: Sequence[Any]) -> tuple[str, int]:
    """The answer and the prompt's tokens: alike where the model saw the same prompt."""
    answer = chat(client, messages)
    return answer.choices[0].message.content, answer.usage.prompt_tokens


def test_the_client_says_which_api_does_not_answer() -> None:
    with pytest.raises(APIError, match=r"the API at http://127\.0\.0\.1:9 does not answer .*judgelm serve") as told:
        Client("http://127.0.0.1:9").judge("2 + 2?", ["4", "5"])
    assert told.value.status == 0


def test_the_address_of_openais_clients_is_one_of_ours_too(api: Address) -> None:
    assert Client(api.url + "/v1").models() == Client(api.url + "/").models() == [MODEL]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/v1/judgement", "POST /v1/judgement: no such address (/docs lists them)"),
        ("GET", "/v1/judgements", "GET /v1/judgements: expected POST"),
        ("POST", "/v1/files", "keeps no files and batches (judgelm serve --batch-dir FOLDER does)"),
        ("POST", "/v1/rewards", "completions: this field is needed"),
    ],
)
def test_a_slip_is_told_with_what_to_do(method: str, path: str, said: str, api: Address) -> None:
    answer = HTTP.request(method, api.url + path, json={})
    assert said in answer.json()["error"]["message"]


def test_of_several_system_and_developer_messages_none_is_lost(client: Any) -> None:
    both = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "developer", "content": [{"type": "text", "text": "Use digits."}]},
    ]
    joined = [{"role": "system", "content": "Be brief.\nUse digits."}, both[1]]
    assert said(client, both) == said(client, joined)
    assert said(client, both)[1] > said(client, both[:2])[1]


def test_what_an_assistant_called_and_a_tool_gave_back_is_read(client: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    talk = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    plain = [
        *ASKED,
        {"role": "assistant", "content": json.dumps(call["function"])},
        {"role": "user", "content": "4"},
    ]
    assert said(client, talk) == said(client, plain)


def test_an_answer_can_be_sent_back_as_it_came(client: Any) -> None:
    first = chat(client, ASKED).choices[0].message
    talk = [*ASKED, first.model_dump(), {"role": "user", "content": "Sure?"}]
    assert said(client, talk)[1] > said(client, ASKED)[1]


def test_a_model_can_be_looked_up_by_its_name(api: Address, client: Any) -> None:
    import openai

    assert client.models.retrieve(MODEL) == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("meta/llama")
    assert missing.value.body == {
        "message": f"unknown model meta/llama; models served: {MODEL}",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert api.get("/v1/models/").json() == api.get("/v1/models").json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_logprobs", 3),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("logit_bias", {"5": 10}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "high"),
        ("service_tier", "priority"),
        ("tempratur", 0),
    ],
)
def test_a_field_that_asks_for_what_is_not_done_is_refused_by_its_name(field: str, value: Any, client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, ASKED, extra_body={field: value})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize("field", ["suffix", "best_of", "top_logprobs", "echos"])
def test_a_completion_is_refused_what_is_not_done_too(field: str, client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="One", extra_body={field: 5})
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}, "messages.0.content"),
        ({"role": "user", "content": None}, "messages.0"),
        ({"role": "judge", "content": "a"}, "messages.0.role"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, "messages.0.tool_calls.0.type"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(message: dict[str, Any], place: str, client: Any) -> None:
    import openai

    with pytest.raises(openai.UnprocessableEntityError) as refused:
        chat(client, [message])
    assert refused.value.param == place


def test_a_message_that_asks_for_more_than_text_is_named(client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, [*ASKED, {"role": "assistant", "content": "4", "audio": {"id": "a1"}}])
    assert refused.value.param == "messages.1.audio"


def test_fields_that_ask_for_nothing_are_taken(client: Any) -> None:
    nothing = {
        **dict.fromkeys(("logprobs", "top_logprobs", "tools", "tool_choice", "logit_bias", "seed", "stop", "n")),
        **{"response_format": {"type": "text"}, "presence_penalty": 0, "frequency_penalty": 0.0, "functions": []},
        **{"user": "ada", "metadata": {"run": "7"}, "store": True, "service_tier": "auto", "parallel_tool_calls": True},
    }
    plain = chat(client, ASKED)
    assert chat(client, ASKED, extra_body=nothing).choices[0] == plain.choices[0]
    text = client.completions.create(model=MODEL, prompt="One", temperature=0, max_tokens=4)
    more = {"suffix": "", "best_of": 1, "logprobs": None, "echo": False}
    assert (
        client.completions.create(model=MODEL, prompt="One", temperature=0, max_tokens=4, extra_body=more).choices
        == text.choices
    )


def test_each_text_of_a_stream_is_whole_and_the_stream_counts_all(client: Any) -> None:
    asked = {"temperature": 1.0, "n": 3, "seed": 2**63 - 2, "max_tokens": 12}
    whole = chat(client, ASKED, **asked)
    parts: dict[int, list[str]] = {0: [], 1: [], 2: []}
    usage = None
    for chunk in chat(client, ASKED, **asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            parts[choice.index].append(choice.delta.content or "")
    assert {k: "".join(texts) for k, texts in parts.items()} == {c.index: c.message.content for c in whole.choices}
    assert usage == whole.usage


def test_the_texts_of_a_stream_are_written_at_once_not_one_after_the_other() -> None:
    from judgelm.serve.openai_routes import _at_once

    first_may_end = asyncio.Event()

    async def first() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="a", error_code=0)
        await first_may_end.wait()
        yield Chunk(text="ab", error_code=0, finish_reason="stop", usage=Usage(total_tokens=2))

    async def second() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="x", error_code=0, finish_reason="stop")
        first_may_end.set()

    async def read() -> list[tuple[int, str | None]]:
        async with asyncio.timeout(10):
            return [(index, chunk.text if chunk else None) async for index, chunk in _at_once([first(), second()])]

    order = asyncio.run(read())
    assert [text for index, text in order if index == 0] == ["a", "ab", None]
    assert order.index((1, "x")) < order.index((0, "ab"))


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("GET", "/nothing", {}, b"", 404, "not_found"),
        ("GET", "/v1/models/other", {}, b"", 404, "model_not_found"),
        ("PUT", "/v1/judgements", {}, b"", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", {}, b"", 405, "method_not_allowed"),
        ("POST", "/v1/judgements", {"content-type": "application/json"}, b"[" * 50_000, 400, "invalid_request"),
        ("POST", "/v1/completions", {"content-type": "application/json"}, b'{"a": "\xff"}', 400, "invalid_request"),
        ("POST", "/v1/judgements", {"content-type": "application/json"}, b"{", 422, "invalid_request"),
        ("POST", "/v1/completions", {"content-type": "application/json"}, b'{"\\ud800": 1}', 422, "invalid_request"),
        ("POST", "/v1/judgements", {"content-type": "text/plain"}, b"{}", 415, "not_json"),
        ("POST", "/v1/judgements", {"content-type": "application/json"}, b" " * (9 << 20), 413, "too_large"),
    ],
)
def test_every_error_has_the_same_shape(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str, api: Address
) -> None:
    answer = HTTP.request(method, api.url + path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (set(answer.json()), set(error)) == ({"error"}, {"message", "type", "param", "code"})
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert status != 405 or answer.headers["allow"]


def test_a_bug_of_ours_is_an_error_of_that_shape_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    from judgelm.serve.api import create_app
    from judgelm.serve.worker_client import Workers

    async def broken(_: Workers) -> list[str]:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(Workers, "models", broken)
    with TestClient(create_app("http://controller"), "http://localhost", raise_server_exceptions=False) as opened:
        answer = opened.get("/v1/models")
    assert answer.status_code == 500
    error = {"message": "the server failed; its log says why", "type": "server_error", "param": None}
    assert answer.json() == {"error": {**error, "code": "server_error"}}


def test_the_counters_name_routes_as_they_are_and_no_others(api: Address, client: Any) -> None:
    chat(client, ASKED)
    client.completions.create(model=MODEL, prompt="One", max_tokens=2)
    api.post("/v1/judgements", {"samples": [{"question": "q", "answers": ["a", "b"]}], "max_new_tokens": 2})
    for name in ("one", "two/three"):
        api.get(f"/v1/models/{name}")
        api.get(f"/nothing/{name}")
    routes: dict[str, set[str]] = {"judgelm_requests_total": set(), "judgelm_request_seconds_count": set()}
    for line in api.get("/metrics").text.splitlines():
        name = line.partition("{")[0]
        if name in routes:
            routes[name].add(line.partition('route="')[2].partition('"')[0])
    generating = {"/v1/judgements", "/v1/completions", "/v1/chat/completions"}
    # other tests ask the same server
    others = {"/v1/rewards", "/v1/responses"}
    assert generating <= routes["judgelm_request_seconds_count"] <= generating | others
    asked = routes["judgelm_requests_total"] - others
    assert asked - {"none", "/health", "/metrics", "/v1/models", "/openapi.json"} == {*generating, "/v1/models/{name}"}


@pytest.mark.parametrize("keys", [" , ", ",", " ", "good,b\u00e4d", "good,b\tad"])
def test_keys_that_would_leave_the_api_open_or_shut_end_in_one_line(
    keys: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from judgelm.serve.api import main

    monkeypatch.setenv("JUDGELM_API_KEYS", keys)
    with pytest.raises(SystemExit) as ended:
        main(["--port", "0"])
    said = capsys.readouterr().err.strip()
    assert (ended.value.code, len(said.splitlines())) == (2, 1), said
    assert "JUDGELM_API_KEYS" in said
    assert "good" not in said
