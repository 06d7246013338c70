"""Prompts are read without padding, and what they begin with together once: nothing else may come of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_samples
from jaxtyping import TypeCheckError
from test_engine import by_key, load_engine, requests

from judgelm.encoding import encode_prompt
from judgelm.engine.hf import attention
from judgelm.engine.hf.attention import PromptPass, _causal_by_torch, _causal_in_blocks, causal_attention
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.hf.key_values import KeyValues
from judgelm.engine.hf.packed import forward_packed
from judgelm.engine.hf.tree import Tree
from judgelm.engine.interface import Request, Sampling


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> HFEngine:
    return load_engine(model_folder)


def both_orders(engine: HFEngine, count: int) -> list[Request]:
    made = []
    for sample in make_samples(count):
        for order, shown in (("forward", sample), ("reversed", sample.swapped())):
            prompt = encode_prompt(shown, "pair", engine.tokenizer, engine.context_length)
            made.append(Request(f"{order} {sample.key}", prompt.text, prompt.input_ids))
    return made


def test_a_tree_holds_every_prompt_and_shared_beginnings_once() -> None:
    head, draw = list(range(100, 140)), random.Random(0)
    prompts = [
        [*head[: draw.randint(1, 40)], *(draw.randint(0, 3) for _ in range(draw.randint(0, 30)))] for _ in "x" * 40
    ]
    prompts += [prompts[0], head]
    tree = Tree(prompts, least=8)
    for prompt, leaf in zip(prompts, tree.leaves, strict=True):
        assert [token for part in leaf.path for token in tree.input_ids[part]] == prompt
        places = [place for part in leaf.path for place in tree.position_ids[part]]
        assert places == list(range(len(prompt)))
    assert len(tree.input_ids) < 0.6 * sum(map(len, prompts))
    assert len(Tree(prompts, least=1000).input_ids) == sum(len(p) for p in {tuple(p) for p in prompts})


def test_logits_of_shared_and_packed_prompts_are_those_of_each_prompt_alone(engine: HFEngine) -> None:
    prompts = [request.input_ids for request in both_orders(engine, 5)]
    for least in (8, 10_000):
        tree = Tree(prompts, least)
        ends = torch.tensor([leaf.end - 1 for leaf in tree.leaves])
        pack = PromptPass(tree, KeyValues(dense=True))
        with torch.inference_mode():
            ids, positions = torch.tensor(tree.input_ids), torch.tensor(tree.position_ids)
            found = forward_packed(engine.model, ids, positions, ends, pack)
            for prompt, logits in zip(prompts, found, strict=True):
                # without a pack the model computes what transformers does
                expected = engine.model(torch.tensor([prompt])).logits[0, -1]
                torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


def test_shapes_are_checked_in_the_tests() -> None:
    query, key, value = torch.randn(6, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 8, 16)
    with pytest.raises(TypeCheckError, match="value"):
        causal_attention(query, key, value)


def test_both_kinds_of_attention_are_the_same() -> None:
    torch.manual_seed(0)
    for queries, keys in ((300, 300), (5, 300), (140, 301)):
        query, key, value = torch.randn(6, queries, 16), torch.randn(2, keys, 16), torch.randn(2, keys, 16)
        ours, torchs = _causal_in_blocks(query, key, value), _causal_by_torch(query, key, value)
        torch.testing.assert_close(ours, torchs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("without_avx512", "dtype", "queries", "keys", "blocks"),
    [
        (False, torch.float32, 300, 300, True),
        (True, torch.bfloat16, 300, 300, True),
        (True, torch.float32, 300, 300, False),
        (True, torch.float32, 100, 100, True),
        (True, torch.float32, 300, 400, True),
    ],
)
def test_the_kind_of_attention_goes_by_processor_data_type_and_length(
    without_avx512: bool, dtype: torch.dtype, queries: int, keys: int, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []

    def way(by_blocks: bool) -> Any:
        def attend(query: Any, *_: Any) -> Any:
            taken.append(by_blocks)
            return query.new_zeros(queries, 6, 16)

        return attend

    monkeypatch.setattr(attention, "only_avx2", lambda: without_avx512)
    monkeypatch.setattr(attention, "_causal_in_blocks", way(True))
    monkeypatch.setattr(attention, "_causal_by_torch", way(False))
    query, key = torch.randn(6, queries, 16, dtype=dtype), torch.randn(2, keys, 16, dtype=dtype)
    causal_attention(query, key, key)
    assert taken == [blocks]


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=20), Sampling(1.0, 20, seed=2)])
def test_both_orders_together_give_what_each_gives_alone(engine: HFEngine, sampling: Sampling) -> None:
    asked = both_orders(engine, 6)
    together = by_key(engine.generate(asked, sampling))
    alone = {request.key: next(engine.generate([request], sampling)) for request in asked}
    assert together == alone


def test_rows_that_end_make_place_and_the_others_keep_their_keys(engine: HFEngine) -> None:
    asked = requests(engine, 12)
    expected = by_key(engine.generate(asked, Sampling(max_new_tokens=30)))
    batch = engine.open_batch(mixed=True)
    rows = [engine.start(request, Sampling(max_new_tokens=30)) for request in asked]
    batch.join(rows)
    draw = random.Random(1)
    gone = set()
    while batch.rows:
        batch.step()
        if len(batch.rows) > 6:
            leaving = draw.choice(batch.rows)
            gone.add(leaving)
            batch.leave([leaving])
    assert len(gone) > 3
    for row in set(rows) - gone:
        assert row.generation == expected[row.request.key]


def test_a_forced_token_is_not_computed(engine: HFEngine) -> None:
    asked = requests(engine, 6)
    sampling = Sampling(max_new_tokens=12, constrained=True)
    steps = []
    forward = engine.model.forward
    engine.model.forward = lambda **given: steps.append(1) or forward(**given)  # type: ignore[func-returns-value]
    try:
        constrained = by_key(engine.generate(asked, Sampling(max_new_tokens=12, stop=("\n",), constrained=True)))
    finally:
        engine.model.forward = forward
    # "8 7\n": the prompt, the second score, and where one is 1 the choice between it and 10
    assert len(steps) <= 5
    padded = HFEngine(engine.model, engine.tokenizer)
    padded.packs = False
    expected = by_key(padded.generate(asked, sampling))
    assert {key: g.text for key, g in constrained.items()} == {
        key: g.text.split("\n")[0] for key, g in expected.items()
    }
