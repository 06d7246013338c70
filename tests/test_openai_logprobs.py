"""How likely tokens are, by OpenAI's own forms: of chats, of completions, and of prompts that are read alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from serving import Address

MODEL = "random-llama"
PROMPT = "The sky is blue. The grass is"


@pytest.fixture(scope="module")
def loaded(model_folder: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(model_folder).float().eval(), AutoTokenizer.from_pretrained(
        model_folder
    )


def likelihoods(loaded: tuple[Any, Any], ids: list[int]) -> Any:
    """[T - 1, V], each place's after those before it."""
    import torch

    with torch.inference_mode():
        return loaded[0](torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)


def complete(client: Any, prompt: Any, **more: Any) -> Any:
    return client.completions.create(model=MODEL, prompt=prompt, temperature=0, **more)


@pytest.mark.parametrize("length", [1, 2, 40, 300])
def test_a_prompts_tokens_are_as_likely_as_the_model_itself_finds_them(
    length: int, client: Any, loaded: tuple[Any, Any]
) -> None:
    import torch

    # beyond one piece, which is 256 tokens
    ids = torch.randint(3, 500, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    answer = complete(client, ids, max_tokens=0, echo=True, logprobs=3)
    found = answer.choices[0].logprobs
    expected = likelihoods(loaded, ids)
    assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
    own = [float(row[token]) for row, token in zip(expected, ids[1:], strict=True)]
    assert found.token_logprobs[1:] == pytest.approx(own, abs=1e-4)
    for top, row in zip(found.top_logprobs[1:], expected, strict=True):
        assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (length, 0)
    assert answer.choices[0].finish_reason == "length"


def test_an_echoed_text_goes_on_as_it_would_without_echo(client: Any, loaded: tuple[Any, Any]) -> None:
    ids = loaded[1](PROMPT).input_ids
    plain = complete(client, PROMPT, max_tokens=6, logprobs=2).choices[0]
    for prompt in (PROMPT, ids):
        echoed = complete(client, prompt, max_tokens=6, logprobs=2, echo=True).choices[0]
        assert echoed.text == PROMPT + plain.text
        assert echoed.logprobs.tokens[-6:] == plain.logprobs.tokens
        assert echoed.logprobs.token_logprobs[-6:] == pytest.approx(plain.logprobs.token_logprobs, abs=1e-4)
        assert len(echoed.logprobs.tokens) == len(ids) + 6
        # each token stands where it says that it does
        for token, offset in zip(echoed.logprobs.tokens, echoed.logprobs.text_offset, strict=True):
            assert token == "<s>" or echoed.text[offset:].startswith(token)
    one = complete(client, ids, max_tokens=1, logprobs=1, echo=True).choices[0]
    assert one.text == PROMPT + plain.logprobs.tokens[0]


def test_several_prompts_as_tokens_each_get_their_own(client: Any, loaded: tuple[Any, Any]) -> None:
    texts = ["One", "Two and three", PROMPT]
    ids = [loaded[1](text).input_ids for text in texts]
    by_text, by_ids = (complete(client, prompts, max_tokens=4).choices for prompts in (texts, ids))
    assert [one.text for one in by_ids] == [one.text for one in by_text]
    read = complete(client, ids, max_tokens=0, echo=True)
    assert [one.text for one in read.choices] == texts
    assert [one.logprobs for one in read.choices] == [None] * 3


def test_a_prompt_may_fill_the_context_where_nothing_follows(client: Any, loaded: tuple[Any, Any]) -> None:
    import openai

    context = loaded[0].config.max_position_embeddings
    full = [5] * context
    answer = complete(client, full, max_tokens=0, echo=True, logprobs=1)
    assert len(answer.choices[0].logprobs.tokens) == context
    for prompt, most in ((full, 1), ([5] * (context + 1), 0)):
        with pytest.raises(openai.BadRequestError, match=f"the model's context {context}"):
            complete(client, prompt, max_tokens=most, echo=True)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"prompt": [5, 10_000]}, 400, "tokens, found token 10000"),
        ({"prompt": [-1]}, 422, "prompt"),
        ({"prompt": [True]}, 422, "prompt"),
        ({"prompt": []}, 422, "prompt"),
        ({"prompt": [[5], "a"]}, 422, "prompt"),
        ({"prompt": [5], "max_tokens": 0}, 400, "max_tokens: this is not supported here of 0 without echo"),
        ({"prompt": "One", "logprobs": 1, "max_tokens": 2049, "stream": True}, 400, "max_tokens"),
    ],
)
def test_what_is_no_prompt_is_refused(body: Any, status: int, said: str, api: Address) -> None:
    answer = api.post("/v1/completions", {"model": MODEL, **body})
    assert answer.status_code == status, answer.text
    assert said in answer.text


def test_a_chats_tokens_have_probabilities_in_the_form_of_chats(client: Any) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    settings = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 5, "logprobs": True}
    (choice,) = client.chat.completions.create(**settings, top_logprobs=3).choices
    content = choice.logprobs.content
    assert len(content) == 5
    assert "".join(one.token for one in content) == choice.message.content
    for one in content:
        # greedy: each is the likeliest of its place
        assert len(one.top_logprobs) <= 3
        assert (one.token, one.logprob) == (one.top_logprobs[0].token, one.top_logprobs[0].logprob)
        assert one.bytes is None or bytes(one.bytes).decode() == one.token
    (bare,) = client.chat.completions.create(**settings).choices
    assert [one.top_logprobs for one in bare.logprobs.content] == [[]] * 5
    assert [one.logprob for one in bare.logprobs.content] == [one.logprob for one in content]


def test_a_stream_of_a_chat_says_with_each_part_how_likely_its_tokens_were(client: Any) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    asked = {"model": MODEL, "messages": messages, "seed": 3, "max_tokens": 40, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked, n=2).choices
    parts: dict[int, list[Any]] = {0: [], 1: []}
    for chunk in client.chat.completions.create(**asked, n=2, stream=True):
        (choice,) = chunk.choices
        if choice.logprobs:
            parts[choice.index].append((choice.delta.content, choice.logprobs.content))
    for choice in whole:
        found = [one for _, each in parts[choice.index] for one in each]
        assert [one.token for one in found] == [one.token for one in choice.logprobs.content]
        own, again = ([one.logprob for one in each] for each in (choice.logprobs.content, found))
        assert again == pytest.approx(own, abs=1e-4)
        assert "".join(text or "" for text, _ in parts[choice.index]) == choice.message.content
        assert len(parts[choice.index]) > 1


def test_a_stream_of_a_completion_goes_on_with_the_offsets(client: Any) -> None:
    asked = {"max_tokens": 20, "logprobs": 1, "echo": True}
    whole = complete(client, [PROMPT, "One"], **asked).choices
    texts: dict[int, str] = {0: "", 1: ""}
    parts: dict[int, list[Any]] = {0: [], 1: []}
    for chunk in complete(client, [PROMPT, "One"], **asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        parts[choice.index] += [choice.logprobs] if choice.logprobs else []
    for choice in whole:
        found = parts[choice.index]
        assert texts[choice.index] == choice.text
        assert [token for each in found for token in each.tokens] == choice.logprobs.tokens
        assert [offset for each in found for offset in each.text_offset] == choice.logprobs.text_offset
        assert len(found) > 1


def test_likelihoods_are_held_for_so_many_tokens_alone(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    monkeypatch.setattr("judgelm.serve.openai_routes._MOST_LOGPROBS", 40)
    asked = {"max_tokens": 4, "logprobs": 1}
    # 4 tokens, and 1 or 2 likely ones beside each
    assert len(complete(client, ["One"] * 3, **asked).choices) == 3
    with pytest.raises(openai.BadRequestError, match="logprobs: more than 40 for one request"):
        complete(client, ["One"] * 11, **asked)
    assert len([*complete(client, ["One"] * 11, **asked, stream=True)]) > 11


def test_tokens_that_a_schema_forces_have_probabilities_too(client: Any) -> None:
    schema = {"const": {"a": 1}}
    (choice,) = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        logprobs=True,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    ).choices
    assert choice.message.content == '{"a":1}'
    assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
    assert all(one.logprob < 0 for one in choice.logprobs.content)
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        logprobs=True,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert "".join(one.token for one in final.logprobs.content) == final.message.content == '{"a":1}'


def test_users_that_read_prompts_and_users_that_write_share_the_worker(client: Any, loaded: tuple[Any, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ids = loaded[1](PROMPT * 3).input_ids
    alone = complete(client, ids, max_tokens=3, echo=True, logprobs=1).choices[0]
    text = complete(client, PROMPT, max_tokens=20).choices[0].text
    with ThreadPoolExecutor(6) as pool:
        read = [pool.submit(complete, client, ids, max_tokens=3, echo=True, logprobs=1) for _ in range(4)]
        written = [pool.submit(complete, client, PROMPT, max_tokens=20) for _ in range(2)]
        assert {one.result().choices[0].text for one in written} == {text}
        for one in read:
            found = one.result().choices[0]
            assert found.text == alone.text
            assert found.logprobs.token_logprobs[1:] == pytest.approx(alone.logprobs.token_logprobs[1:], abs=1e-4)
