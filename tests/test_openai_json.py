"""JSON from OpenAI's own forms: judgements in a client's schema, texts held to a schema, and responses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from serving import Address

MODEL = "random-llama"
AS_JSON = {"content-type": "application/json"}
PAIR = {"question": "2 + 2?", "answers": ["4", "5"]}


class Verdict(BaseModel):
    """A judgement of two answers in a client's words."""

    score1: float
    score2: float
    winner: Literal["A", "B", "tie"]


class Reply(BaseModel):
    """Nothing that has to do with judging; bounded, so that a model without sense comes to its end."""

    colour: Literal["red", "green"]
    count: Annotated[int, Field(ge=0, le=9)]
    sure: bool


def ask(client: Any, given: Any, form: Any, **more: Any) -> Any:
    text = given if isinstance(given, str) else json.dumps(given)
    settings = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0}
    return client.chat.completions.parse(response_format=form, **settings | more)


def judged(api: Address, **asked: Any) -> Any:
    """The same from the API's own route."""
    settings = {"temperature": 0, "constrained": True, "scores_only": True}
    (found,) = api.post("/v1/judgements", settings | asked).json()["data"]
    return found


def test_two_answers_are_judged_in_the_schema_of_the_client(client: Any, api: Address) -> None:
    answer = ask(client, PAIR, Verdict)
    own = judged(api, samples=[PAIR])
    word = {"win": "A", "lose": "B", "tie": "tie"}[own["outcome"]]
    verdict = answer.choices[0].message.parsed
    assert (verdict.score1, verdict.score2, verdict.winner) == (*own["scores"], word)
    counts = [one["usage"] for one in own["judgements"]]
    assert answer.usage.prompt_tokens == sum(one["prompt_tokens"] for one in counts)
    assert answer.choices[0].finish_reason == "stop"


def test_the_last_reply_of_a_dialogue_is_graded_by_the_schemas_own_numbers(client: Any, api: Address) -> None:
    class Grade(BaseModel):
        accuracy: Annotated[int, Field(ge=0, le=4, description="Is it true?")]
        tone: Annotated[int, Field(ge=0, le=4)]

    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Oslo?"},
        {"role": "assistant", "content": "In Sweden."},
    ]
    found = ask(client, "", Grade, messages=said).choices[0].message.parsed
    aspects = [{"name": "accuracy", "text": "Is it true?"}, {"name": "tone", "text": "tone"}]
    criteria = {"name": "mine", "scale": [0, 4], "aspects": aspects}
    sample = {"messages": said[:-1], "answers": ["In Sweden."]}
    own = judged(api, samples=[sample], task="grade", criteria=criteria)
    scores = [aspect["scores"] for aspect in own["judgements"][0]["aspects"]]
    assert scores == [[found.accuracy], [found.tone]]


def test_an_object_without_a_schema_has_a_judgements_own_fields(client: Any, api: Address) -> None:
    messages = [{"role": "user", "content": json.dumps(PAIR)}]
    settings = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 12}
    answer = client.chat.completions.create(response_format={"type": "json_object"}, **settings)
    own = judged(api, samples=[PAIR], scores_only=False, max_new_tokens=12)
    found = json.loads(answer.choices[0].message.content)
    assert found == {name: own[name] for name in ("scores", "outcome")} | {"reasons": own["judgements"][0]["reasons"]}


def test_a_judgement_comes_in_a_stream_too(client: Any) -> None:
    whole = ask(client, PAIR, Verdict).choices[0].message.content
    form = {"type": "json_schema", "json_schema": {"name": "v", "schema": Verdict.model_json_schema()}}
    settings = {"model": MODEL, "messages": [{"role": "user", "content": json.dumps(PAIR)}], "temperature": 0}
    parts = client.chat.completions.create(response_format=form, stream=True, **settings)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (PAIR | {"judge": 1}, {}, "the last message: judge: there is no such field"),
        ({"question": "q", "answers": []}, {}, "the last message: answers: List should have at least 1 item"),
        ({"question": "q", "answers": ["a"]}, {}, "response_format: winner: expected no enum"),
        (PAIR, {"max_tokens": 1}, "the judge came to no verdict within the tokens that it had"),
        (PAIR, {"n": 2}, "n: this is not supported here of a judgement"),
        (PAIR, {"stop": "x"}, "stop: this is not supported here of a judgement"),
        (PAIR, {"logprobs": True}, "logprobs: this is not supported here of a judgement"),
        ({"question": "q " * 9000, "answers": ["a", "b"]}, {}, "question, reference and instruction alone take"),
    ],
)
def test_what_cannot_be_judged_so_is_refused_in_one_line(given: Any, more: Any, said: str, client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, given, Verdict, **more)
    assert said in str(refused.value)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_text_that_is_no_judgement_is_held_to_its_schema(temperature: float, client: Any) -> None:
    for seed in range(3):
        answer = ask(client, "Which colour?", Reply, temperature=temperature, seed=seed)
        assert answer.choices[0].finish_reason == "stop"
        assert isinstance(answer.choices[0].message.parsed, Reply)


def test_texts_of_different_schemas_and_free_ones_are_written_in_one_batch(client: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    fixed = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [[1, None, "\u00e9"]]}}}
    forms: list[Any] = [Reply, fixed, None, Reply]

    def one(form: Any) -> str:
        messages = [{"role": "user", "content": "Hello"}]
        settings = {"model": MODEL, "messages": messages, "temperature": 1, "seed": 3, "max_tokens": 60}
        if form is Reply:
            return str(client.chat.completions.parse(response_format=form, **settings).choices[0].message.content)
        more = {} if form is None else {"response_format": form}
        return str(client.chat.completions.create(**settings, **more).choices[0].message.content)

    alone = [one(form) for form in forms]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, forms)) == alone
    assert json.loads(alone[1]) == [1, None, "\u00e9"]


def test_json_that_had_no_room_ends_as_any_text_does(client: Any) -> None:
    settings = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "temperature": 0}
    answer = client.chat.completions.create(response_format={"type": "json_object"}, **settings)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content.startswith("{")


def deep(levels: int) -> Any:
    """So many objects within one another."""
    return {"a": deep(levels - 1)} if levels else {}


def links(count: int) -> dict[str, Any]:
    """A schema that refers to one that refers to one .."""
    links = {str(number): {"$ref": f"#/d/{number + 1}"} for number in range(count)}
    return {"d": links | {str(count): {"type": "integer"}}, "$ref": "#/d/0"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nothing"}, "Invalid type: nothing"),
        ({"$ref": "http://example.com/s"}, "retrieving it failed"),
        ({"type": "string", "pattern": "(a"}, "regex parse error"),
        ({"anyOf": [{"$ref": "#"}]}, "no text is of it"),
        ({"enum": ["a" * 199_990]}, "200,004 characters, expected 200,000 at most"),
        ({"const": deep(100)}, "nested too deeply"),
        # llguidance would follow it until its stack is full, and end the worker
        (links(3000), "it is 3004 levels deep with its references, expected 400 at most"),
    ],
)
def test_a_schema_that_no_text_can_be_held_to_is_refused_in_one_line(schema: Any, said: str, client: Any) -> None:
    import openai

    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    settings = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(response_format=form, **settings)
    body: Any = refused.value.body
    assert said in body["message"]
    assert "\n" not in body["message"]


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (float("nan"), "a number that is not finite"),
        ("\ud800", "half a surrogate pair"),
        (deep(300), "nested too deeply"),
    ],
)
def test_a_schema_that_could_not_be_said_again_is_refused_before_anything_is_judged(
    odd: Any, said: str, api: Address
) -> None:
    schema = {"type": "object", "properties": {"winner": {"enum": ["A", "B", "tie"], "default": odd}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "v", "schema": schema}}
    asked = json.dumps(PAIR)
    bodies: dict[str, Any] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": asked}], "response_format": form},
        "/v1/responses": {"input": asked, "text": {"format": {"type": "json_schema", **form["json_schema"]}}},
    }
    for path, body in bodies.items():
        answer = api.post(path, content=json.dumps({"model": MODEL, **body}), headers=AS_JSON)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (400, True), answer.text


def function(name: str, model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema() | {"additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "give"}}])
def test_the_arguments_of_a_function_that_must_be_called_are_a_judgement(choice: Any, client: Any) -> None:
    content = ask(client, PAIR, Verdict).choices[0].message.content
    tools = [function("give", Verdict)] + ([] if choice == "required" else [function("other", Reply)])
    settings = {"model": MODEL, "messages": [{"role": "user", "content": json.dumps(PAIR)}], "temperature": 0}
    whole = client.chat.completions.create(tools=tools, tool_choice=choice, **settings).choices[0].message
    (call,) = whole.tool_calls
    assert (whole.content, call.function.name, call.function.arguments) == (None, "give", content)
    with client.chat.completions.stream(tools=tools, tool_choice=choice, **settings) as stream:
        streamed = stream.get_final_completion().choices[0].message
    (again,) = streamed.tool_calls
    assert (again.function.name, again.function.arguments) == ("give", content)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [function("a", Reply)]}, "tools"),
        ({"tools": [function("a", Reply)], "tool_choice": "auto"}, "tools"),
        ({"tools": [function("a", Reply), function("b", Reply)], "tool_choice": "required"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object", "strict": True}}, "response_format.strict"),
    ],
)
def test_functions_that_a_model_may_choose_from_are_refused(more: Any, param: str, client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}], extra_body=more)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")


def test_a_response_is_what_the_chat_says(client: Any) -> None:
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        temperature=0,
        max_tokens=8,
    )
    asked = {"model": MODEL, "temperature": 0, "max_output_tokens": 8, "instructions": "Be brief."}
    answer = client.responses.create(input="Hello", **asked)
    assert answer.output_text == chat.choices[0].message.content
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (chat.usage.prompt_tokens, 8)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    parts = [{"type": "input_text", "text": "Hello"}]
    assert (
        client.responses.create(input=[{"role": "user", "content": parts}], **asked).output_text == answer.output_text
    )
    longer = client.responses.create(
        input=[{"role": "user", "content": "Hello"}, *answer.output, {"role": "user", "content": "And?"}], **asked
    )
    assert longer.usage.input_tokens > answer.usage.input_tokens


def test_a_response_can_be_a_judgement(client: Any) -> None:
    asked = {"model": MODEL, "input": json.dumps(PAIR), "temperature": 0}
    answer = client.responses.parse(text_format=Verdict, **asked)
    assert answer.output_parsed == ask(client, PAIR, Verdict).choices[0].message.parsed
    assert answer.status == "completed"
    general = client.responses.parse(text_format=Reply, **asked | {"input": "Which colour?"})
    assert isinstance(general.output_parsed, Reply)
    with client.responses.stream(text_format=Verdict, **asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_parsed == answer.output_parsed
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
        *("response.output_item.done", "response.completed"),
    ]


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"previous_response_id": "resp_1"}, 400, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools"),
        ({"background": True}, 400, "background"),
        ({"reasoning": {"effort": "high", "summary": None}}, 400, "reasoning"),
        ({"metadata": {"run": "7" * 513}}, 422, "metadata.run"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            400,
            "input.0.content.0",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "4"}]}, 422, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, 422, "text.format"),
        ({"text": {"format": {"type": "text"}, "verbosity": "high"}}, 400, "text.verbosity"),
    ],
)
def test_of_a_response_too_what_is_not_done_is_named(more: Any, status: int, param: str, api: Address) -> None:
    answer = api.post("/v1/responses", {"model": MODEL, "input": "Hello", **more})
    assert answer.status_code == status, answer.text
    assert str(answer.json()["error"]["param"]).startswith(param)


def test_workers_that_know_nothing_of_it_are_told_from_others(api: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm.serve.worker_answers import Details
    from judgelm.serve.worker_client import Workers

    own = Workers._details_of

    async def older(self: Workers, address: str, model: str) -> Details:
        return (await own(self, address, model)).model_copy(update={"forms": False})

    monkeypatch.setattr(Workers, "_details_of", older)
    asked = {"messages": [{"role": "user", "content": "Hello"}], "response_format": {"type": "json_object"}}
    answer = api.post("/v1/chat/completions", {"model": MODEL, **asked})
    assert (answer.status_code, "an older one of ours" in answer.text) == (400, True)
