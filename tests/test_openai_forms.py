"""Whole answers, streams, refusals and errors, by the types of OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter
from scripted_worker import scripted_worker
from serving import HTTP, Address, local_controller, served

from judgelm.serve.api import create_app

MODEL = "random-llama"
PAIR = json.dumps({"question": "2 + 2?", "answers": ["4", "5"]})
UNREAD = "Nothing that the judge wrote can be read as a judgement in this schema."
SCRIPTED = {"model": "scripted", "temperature": 0}


class Verdict(BaseModel):
    """Who is better."""

    winner: Literal["A", "B", "tie"]


SCHEMA = Verdict.model_json_schema()
FORM = {"type": "json_schema", "json_schema": {"name": "v", "schema": SCHEMA}}
TOOLS = [{"type": "function", "function": {"name": "give", "parameters": SCHEMA}}]
TEXT = {"format": {"type": "json_schema", "name": "v", "schema": SCHEMA}}


@pytest.fixture
def scripted() -> Iterator[Any]:
    """OpenAI's client of a worker that says what it is given."""
    import contextlib

    import openai

    with contextlib.ExitStack() as opened:

        def start(*chunks: dict[str, Any]) -> Any:
            controller = opened.enter_context(local_controller())
            opened.enter_context(scripted_worker(controller, chunks=chunks))
            url = opened.enter_context(served(create_app(controller.url)))
            return opened.enter_context(openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0))

        yield start


@pytest.fixture
def unreadable(scripted: Any) -> Any:
    return scripted({"text": "I would rather not say.", "error_code": 0, "finish_reason": "stop"})


def said(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def events(api: Address, path: str, body: dict[str, Any]) -> list[Any]:
    with HTTP.stream("POST", api.url + path, json={**body, "stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


CHATS: Sequence[dict[str, Any]] = (
    {"messages": said("Hello"), "n": 2, "logprobs": True, "top_logprobs": 2},
    {"messages": said("Hello"), "response_format": FORM},
    {"messages": said(PAIR), "tools": TOOLS, "tool_choice": "required"},
)
RESPONSES: Sequence[dict[str, Any]] = (
    {"input": "Hello", "instructions": "Be brief.", "metadata": {"run": "7"}},
    {"input": PAIR, "text": TEXT, "tools": [], "tool_choice": "auto", "reasoning": {"effort": None}},
)


def test_answers_and_events_have_all_that_openais_types_need(api: Address) -> None:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import Response, ResponseStreamEvent

    shared = {"model": MODEL, "temperature": 0}
    part: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for asked in CHATS:
        body = {**shared, "max_tokens": 30, "stream_options": {"include_usage": True}, **asked}
        ChatCompletion.model_validate(api.post("/v1/chat/completions", body).json())
        for event in events(api, "/v1/chat/completions", body):
            ChatCompletionChunk.model_validate(event)
    for asked in RESPONSES:
        body = {**shared, "max_output_tokens": 30, **asked}
        whole = Response.model_validate(api.post("/v1/responses", body).json())
        assert whole.metadata == asked.get("metadata", {})
        found = [part.validate_python(event) for event in events(api, "/v1/responses", body)]
        assert [event.sequence_number for event in found] == list(range(len(found)))
    Completion.model_validate(api.post("/v1/completions", {**shared, "prompt": "One", "logprobs": 2}).json())


def test_a_prompt_counts_once_however_many_texts_continue_it(client: Any) -> None:
    asked = {"model": MODEL, "prompt": ["One", "Two and three"], "temperature": 0, "max_tokens": 3}
    once, thrice = (client.completions.create(**asked, n=n).usage for n in (1, 3))
    assert (thrice.prompt_tokens, thrice.completion_tokens) == (once.prompt_tokens, 3 * once.completion_tokens)
    assert thrice.total_tokens == thrice.prompt_tokens + thrice.completion_tokens
    stream = client.completions.create(**asked, n=3, stream=True, stream_options={"include_usage": True})
    assert [chunk.usage for chunk in stream if chunk.usage] == [thrice]


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "give"}}, "stop")],
)
def test_a_call_ends_as_openais_do(choice: Any, reason: str, client: Any) -> None:
    asked = {"model": MODEL, "messages": said(PAIR), "tools": TOOLS, "tool_choice": choice, "temperature": 0}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == reason
    # a place is for parts alone
    assert "index" not in whole.message.tool_calls[0].model_dump()
    *_, last = client.chat.completions.create(**asked, stream=True)
    assert last.choices[0].finish_reason == reason


def test_a_function_without_parameters_is_called_without_any(client: Any) -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": None}}]
    asked = {"model": MODEL, "messages": said("Hello"), "tools": tools, "tool_choice": "required"}
    (call,) = client.chat.completions.create(**asked).choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("now", "{}")


def test_a_judge_that_cannot_be_read_is_a_refusal_in_a_chat(unreadable: Any) -> None:
    asked = {"messages": said(PAIR), **SCRIPTED}
    (whole,) = unreadable.chat.completions.parse(response_format=Verdict, **asked).choices
    assert (whole.message.content, whole.message.parsed, whole.message.refusal) == (None, None, UNREAD)
    assert whole.finish_reason == "stop"
    with unreadable.chat.completions.stream(response_format=Verdict, **asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_completion().choices[0].message
    assert (streamed.content, streamed.refusal, "refusal.done" in kinds) == (None, UNREAD, True)
    called = {"tools": TOOLS, "tool_choice": "required", **asked}
    (call,) = unreadable.chat.completions.create(**called).choices
    assert (call.message.refusal, call.message.tool_calls, call.finish_reason) == (UNREAD, None, "stop")
    deltas = [chunk.choices[0].delta for chunk in unreadable.chat.completions.create(**called, stream=True)]
    assert "".join(delta.refusal or "" for delta in deltas) == UNREAD
    assert not any(delta.tool_calls for delta in deltas)


def test_a_judge_that_cannot_be_read_is_a_refusal_in_a_response(unreadable: Any) -> None:
    asked = {"input": PAIR, **SCRIPTED}
    whole = unreadable.responses.parse(text_format=Verdict, **asked)
    ((part,),) = [item.content for item in whole.output]
    assert (part.type, part.refusal, whole.output_parsed, whole.status) == ("refusal", UNREAD, None, "completed")
    with unreadable.responses.stream(text_format=Verdict, **asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert streamed.output[0].content[0].refusal == UNREAD
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.refusal.delta", "response.refusal.done", "response.content_part.done"),
        *("response.output_item.done", "response.completed"),
    ]


def test_a_refusal_can_be_sent_back_as_it_came(client: Any) -> None:
    part = {"type": "refusal", "refusal": UNREAD}
    refused = {"role": "assistant", "content": [part]}
    plain = {"role": "assistant", "content": UNREAD}
    last = said("And now?")[0]

    def size(message: Any) -> tuple[int, int]:
        talk = [*said("Hello"), message, last]
        chat = client.chat.completions.create(model=MODEL, messages=talk, max_tokens=1)
        response = client.responses.create(model=MODEL, input=talk, max_output_tokens=1)
        return chat.usage.prompt_tokens, response.usage.input_tokens

    assert size(refused) == size(plain)


def test_what_ends_a_stream_has_its_own_kind(scripted: Any) -> None:
    import openai

    begun = {"text": "8", "error_code": 0, "finish_reason": None}
    kinds = {40303: ("invalid_request_error", "invalid_request"), 50001: ("server_error", "server_error")}
    for code, kind in kinds.items():
        client = scripted(begun, {"text": "no more", "error_code": code})
        stream = client.completions.create(prompt="Go", stream=True, **SCRIPTED)
        assert next(stream).choices[0].text == "8"
        with pytest.raises(openai.APIError, match="no more") as ended:
            next(stream)
        assert (ended.value.type, ended.value.code) == kind


def test_who_hangs_up_leaves_the_batch(api: Address) -> None:
    def running() -> float:
        shown = api.get("/metrics").text.splitlines()
        counts = [float(line.split()[-1]) for line in shown if line.startswith("judgelm_worker_requests_")]
        if not counts:
            # a worker that does not say it soon has none here, which is no 0
            raise ValueError("the worker has not said it")
        return sum(counts)

    asked = {"model": MODEL, "n": 8, "max_tokens": 1500, "temperature": 2, "stream": True}
    for path, body in (("chat/completions", {"messages": said("Hello")}), ("completions", {"prompt": ["a", "b"]})):
        with HTTP.stream("POST", f"{api.url}/v1/{path}", json={**asked, **body}) as response:
            lines = response.iter_lines()  # httpx ends the stream with it
            next(lines)
            api.wait(lambda: running() > 0)
        api.wait(lambda: running() == 0)
