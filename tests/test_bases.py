"""Models that look as if their attention could be packed, or padded, and need another way than that."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import make_samples, train_byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from judgelm.distribution import line_text, score_lines
from judgelm.encoding import decode_after, encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.hf.padded_lines import score_prompt
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.score_line import line_tokens
from judgelm.errors import InputError

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
QWEN_NEXT = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    # keys of width 24, values of width 12
    "deepseek_v3": (True, DEEPSEEK),
    # its layers do not pass on what comes with a call
    "nemotron": (False, {}),
    # attends twice in a layer, to other values
    "diffllama": (False, {}),
    # two of three layers remember in another way
    "recurrent_gemma": (False, {"num_hidden_layers": 3, "attention_window_size": 200, "lru_width": 64}),
    # layers with a window between others, scores that are capped
    "gemma2": (False, {"head_dim": 16, "sliding_window": 200}),
    "gemma3_text": (False, {"head_dim": 16, "sliding_window": 200, "num_hidden_layers": 6}),
    "mistral": (False, {"head_dim": 16, "sliding_window": 200}),
    "qwen3": (True, {"head_dim": 16}),
    "phi3": (True, {}),
    # a linear layer keeps a state, and its last tokens
    "qwen3_next": (False, QWEN_NEXT),
}


def build(kind: str, tokenizer: Any, **settings: Any) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **{**SIZES, **settings})
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "conv" not in name:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def check_prompt(engine: HFEngine, theirs: Any, ids: list[int]) -> None:
    """A prompt that is read alone, in pieces where it can be, has the model's own probabilities."""
    assert len(ids) > 256
    with torch.inference_mode():
        logits = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
    read = engine.read(ids, 1)
    found = [one.log_prob for one in read.likelihoods[1:]]
    assert found == pytest.approx(logits[range(len(ids) - 1), ids[1:]].tolist(), abs=1e-3)
    likeliest = [one.top[0][0] for one in read.likelihoods[1:]] + [int(read.logits.argmax())]
    # two that are as likely to the last bits may change places
    assert logits[range(len(ids)), likeliest].tolist() == pytest.approx(logits.max(-1).values.tolist(), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_gives_what_transformers_gives_each_prompt_alone(kind: str) -> None:
    packs, settings = KINDS[kind]
    tokenizer = train_byte_tokenizer()
    theirs = build(kind, tokenizer, **settings)
    engine = HFEngine(copy.deepcopy(theirs), tokenizer)
    assert engine.packs is packs
    prompts = [encode_prompt(sample, "pair", tokenizer, 2048) for sample in make_samples(5)]
    asked = [Request(str(number), one.text, one.input_ids) for number, one in enumerate(prompts)]
    found = {one.key: one.text for one in engine.generate(asked, Sampling(max_new_tokens=6))}
    for request in asked:
        ids = torch.tensor([request.input_ids])
        output = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6)
        written = [token for token in output[0, ids.shape[1] :].tolist() if token != 1]
        assert found[request.key] == decode_after(request.input_ids[-4:], written, tokenizer)
    check_prompt(engine, theirs, max((request.input_ids for request in asked), key=len))
    lines = [line_text(scores) for scores in score_lines()]
    if kind == "recurrent_gemma":
        with pytest.raises(InputError, match="type recurrent_gemma keeps a state of its own, so the probabilities"):
            next(engine.score(asked, lines))
        assert engine.room().rows == 1
        return
    line = line_tokens(lines, "", tokenizer)[47]
    for scores in engine.score(asked, lines):
        ids = torch.tensor([[*asked[int(scores.key)].input_ids, *line]])
        with torch.inference_mode():
            logits = theirs(ids).logits[0, -len(line) - 1 : -1].double().log_softmax(-1)
        assert scores.log_probs[47] == pytest.approx(logits[range(len(line)), list(line)].sum().item(), abs=1e-3)


def test_where_memory_is_short_fewer_lines_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_byte_tokenizer()
    engine = HFEngine(build("mistral", tokenizer, **KINDS["mistral"][1]), tokenizer)
    prompt = encode_prompt(make_samples(1)[0], "pair", tokenizer, 2048)
    asked, lines = [Request("0", prompt.text, prompt.input_ids)], [line_text(scores) for scores in score_lines()]
    (expected,) = engine.score(asked, lines)
    tried: list[int] = []

    def limited(model: Any, rope: Any, request: Request, tree: Any, most: int) -> Any:
        tried.append(most)
        if most > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score_prompt(model, rope, request, tree, most)

    monkeypatch.setattr("judgelm.engine.hf.engine.score_prompt", limited)
    room = 3 * len(prompt.input_ids)
    with pytest.warns(UserWarning, match="out of memory"):
        (found,) = engine.score(asked, lines)
    assert tried[-1] <= room < tried[-2]
    assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
    room = 0
    halved = pytest.warns(UserWarning, match="with 1 prompts at once")
    with halved, pytest.warns(UserWarning, match="with question_id 0 alone"):
        assert next(engine.score(asked, lines)).log_probs == ()


def test_a_base_with_a_state_of_its_own_is_refused_in_one_line() -> None:
    tokenizer = train_byte_tokenizer()
    linear = {"layer_types": ["linear_attention", "full_attention"], "block_size": 64, "head_dim": 16}
    minimax = build("minimax", tokenizer, **linear, num_local_experts=4, num_experts_per_tok=2)
    with pytest.raises(InputError, match="a model of type minimax cannot judge here"):
        HFEngine(minimax, tokenizer)
    mamba = build("mamba", tokenizer, state_size=8)
    with pytest.raises(InputError, match="a model of type mamba cannot judge here"):
        HFEngine(mamba, tokenizer)
