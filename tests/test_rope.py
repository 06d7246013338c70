"""Positions that depend on a text's length: what stands beside a text must not change it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from conftest import make_samples, train_byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from judgelm.distribution import line_text, score_lines
from judgelm.encoding import decode_after, encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.score_line import line_tokens

KINDS = {"phi3": None, "phi3 with a window": 300, "llama longrope": None, "dynamic": None}
CONTEXT = 2048


@cache
def tokenizer() -> Any:
    return train_byte_tokenizer()


@cache
def prompts() -> tuple[tuple[str, list[int]], ...]:
    encoded = [encode_prompt(sample, "pair", tokenizer(), CONTEXT) for sample in make_samples(14)]
    return tuple((prompt.text, prompt.input_ids) for prompt in encoded)


def requests() -> list[Request]:
    return [Request(str(number), text, ids) for number, (text, ids) in enumerate(prompts())]


def border() -> int:
    """One prompt grows over it while it is judged, and about as many are shorter as longer."""
    return sorted(len(ids) for _, ids in prompts())[7] + 3


@cache
def config(kind: str) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    rope: dict[str, Any]
    if kind == "dynamic":
        rope = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 1e4}
        return AutoConfig.for_model("llama", max_position_embeddings=border(), rope_parameters=rope, **sizes)
    rope = {
        "rope_type": "longrope",
        "short_factor": [1 + number / 10 for number in range(8)],
        "long_factor": [2 + 1.5 * number for number in range(8)],
        "original_max_position_embeddings": border(),
        "rope_theta": 1e4,
    }
    sizes |= {"max_position_embeddings": CONTEXT, "rope_parameters": rope}
    if kind == "llama longrope":
        return AutoConfig.for_model("llama", **sizes)
    return AutoConfig.for_model("phi3", original_max_position_embeddings=border(), sliding_window=KINDS[kind], **sizes)


def model(kind: str) -> Any:
    """Always the same weights, and nothing left of what was read before."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(kind)).eval()


@cache
def engine(kind: str) -> HFEngine:
    return HFEngine(model(kind), tokenizer())


def alone(kind: str, ids: list[int], num: int) -> list[int]:
    """What transformers writes after a prompt without any other; longrope as Phi-3 has it, read anew at the border."""
    fresh = model(kind)
    if kind != "llama longrope":
        asked = torch.tensor([ids])
        mask = torch.ones_like(asked)
        written: list[int] = fresh.generate(asked, attention_mask=mask, do_sample=False, max_new_tokens=num)[0].tolist()
        return written[len(ids) :]
    with torch.inference_mode():
        for _ in range(num):
            ids = [*ids, int(fresh(torch.tensor([ids])).logits[0, -1].argmax())]
            if ids[-1] == 1:
                break
    return ids[-num:]


def line_alone(kind: str, ids: list[int], line: tuple[int, ...]) -> float:
    """The log probability of a line after a prompt, token by token."""
    fresh, found = model(kind), 0.0
    with torch.inference_mode():
        cache = DynamicCache()
        logits = fresh(torch.tensor([ids]), past_key_values=cache).logits
        for number, token in enumerate(line):
            found += logits[0, -1].double().log_softmax(-1)[token].item()
            if kind == "dynamic":
                logits = fresh(torch.tensor([[token]]), past_key_values=cache).logits
            else:
                logits = fresh(torch.tensor([[*ids, *line[: number + 1]]])).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_that_of_its_prompt_alone_whatever_stands_beside_it(kind: str) -> None:
    expected = {}
    for request in requests():
        written = [token for token in alone(kind, request.input_ids, 10) if token != 1]
        expected[request.key] = decode_after(request.input_ids[-4:], written, tokenizer())
    assert engine(kind).packs is (kind != "phi3 with a window")
    lengths = [len(ids) for _, ids in prompts()]
    assert sum(length <= border() < length + 10 for length in lengths) > 1
    assert min(sum(length > border() for length in lengths), sum(length + 10 <= border() for length in lengths)) > 3
    # all at once, and rows that join while others run
    for most in (None, 1500):
        engine(kind).batch_tokens = most
        found = {one.key: one.text for one in engine(kind).generate(requests(), Sampling(max_new_tokens=10))}
        assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_constrained_text_over_the_border_is_that_of_its_prompt_alone(kind: str) -> None:
    """Forced tokens are read together with the next one, and rows that have none are filled up."""
    sampling = Sampling(max_new_tokens=9, constrained=True)
    together = {one.key: one for one in engine(kind).generate(requests(), sampling)}
    for request in requests():
        assert next(engine(kind).generate([request], sampling)) == together[request.key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lines_probability_is_that_of_its_prompt_alone(kind: str) -> None:
    lines = [line_text(scores) for scores in score_lines()]
    tokens = line_tokens(lines, "", tokenizer())
    asked = {request.key: request for request in requests()}
    for place, scores in enumerate(engine(kind).score(list(asked.values()), lines)):
        number = (0, 47, 99)[place % 3]
        expected = line_alone(kind, asked[scores.key].input_ids, tokens[number])
        assert scores.log_probs[number] == pytest.approx(expected, abs=1e-3)


def test_memory_that_was_short_changes_no_text() -> None:
    """What was written is read again, each token of it with the frequencies that it had."""
    for kind in ("phi3", "dynamic"):
        sampling = Sampling(max_new_tokens=10)
        expected = {one.key: one for one in engine(kind).generate(requests(), sampling)}
        rows = [engine(kind).start(request, sampling) for request in requests()]
        batch = engine(kind).open_batch(mixed=True)
        batch.join(rows)
        for _ in range(4):
            batch.step()
        again = engine(kind).open_batch(mixed=True)
        again.join(batch.rows)
        while again.rows:
            again.step()
        assert {row.request.key: row.generation for row in rows} == expected
