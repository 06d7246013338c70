"""LoRA on bases whose layers are no plain linear ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUIET, train_byte_tokenizer
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from judgelm.models.folder import find_model
from judgelm.models.loading import load_model

EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
BASES: dict[str, tuple[dict[str, Any], set[str], int]] = {
    "gpt2": ({"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048}, {"c_attn", "c_proj", "c_fc"}, 0),
    "mixtral": (SIZES | EXPERTS, {"q_proj", "k_proj", "v_proj", "o_proj"}, 2),
    "qwen3_moe": (SIZES | EXPERTS | {"head_dim": 16}, {"q_proj", "k_proj", "v_proj", "o_proj"}, 2),
    "qwen2_moe": (
        SIZES | EXPERTS | {"shared_expert_intermediate_size": 32},
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "shared_expert_gate"},
        2,
    ),
}


@pytest.mark.parametrize("kind", BASES)
def test_an_adapter_is_trained_and_judges_as_it_was_trained(
    kind: str, tmp_path: Path, train_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    from judgelm.train.settings import parse
    from judgelm.train.training import train

    sizes, layers, num_experts = BASES[kind]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "judgelm"))
    tokenizer = train_byte_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    output = tmp_path / "judge"
    flags = ["--model_name_or_path", tmp_path / "base", "--data_path", train_file, "--output_dir", output]
    flags += ["--max_steps", "2", "--learning_rate", "0.05", "--per_device_train_batch_size", "2"]
    train(parse([*map(str, flags), *QUIET], lora=True))
    said = capsys.readouterr().err
    assert ("the update leaves the experts out" in said) is bool(num_experts)
    assert "fan_in_fan_out" not in said
    if num_experts:
        assert f"mlp.experts and {num_experts - 1} more stay as they are" in said

    ids = torch.arange(3, 60)[None]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    with torch.inference_mode():
        before = base(ids).logits.clone()
        adapted = PeftModel.from_pretrained(base, output)
        found = {
            name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in adapted.named_parameters() if "lora_A" in name
        }
        assert found == layers
        trained = adapted(ids).logits.clone()
        merged, _ = load_model(find_model(str(output)), dtype="float32", device="cpu")
        torch.testing.assert_close(merged(ids).logits, trained, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(trained, before, atol=1e-3)
