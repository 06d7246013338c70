from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from judgelm.models.folder import ModelFolder, find_model
from judgelm.models.loading import load_model, merged_folder


def write_adapter(model_folder: Path, output: Path, seed: int) -> ModelFolder:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(output)
    return find_model(str(output))


def test_an_adapter_is_merged_once_and_anew_when_it_has_changed(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    adapter = write_adapter(model_folder, tmp_path / "adapter", seed=0)
    merged = merged_folder(adapter, "float32")
    assert merged.base is None
    assert "merging" in capsys.readouterr().err
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        ours, theirs = (load_model(f, dtype="float32", device="cpu")[0](ids).logits for f in (merged, adapter))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert merged_folder(adapter, "float32") == merged
    assert capsys.readouterr().err == ""
    assert merged_folder(adapter, "bfloat16").path != merged.path
    trained = write_adapter(model_folder, tmp_path / "adapter", seed=1)
    assert merged_folder(trained, "float32").path != merged.path
    assert not list((tmp_path / "cache").glob("unfinished*"))


def test_a_model_without_an_adapter_is_its_own_merged_folder(model_folder: Path) -> None:
    folder = find_model(str(model_folder))
    assert merged_folder(folder, "float32") is folder
