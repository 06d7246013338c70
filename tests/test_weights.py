"""Weights that are mapped from their files and taken over one by one: the same as if they had been read at once."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from benchmarks import big
from benchmarks.made_up import TWO_LAYERS, VICUNA_7B, write_folder
from judgelm.errors import InputError
from judgelm.models import loading
from judgelm.models.folder import find_model
from judgelm.models.loading import load_model
from judgelm.models.weights import _is_of_a_file, _page_out, stored_dtype


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the form of the paper's judges: two shards of float16, pytorch_model-*.bin."""
    folder = tmp_path_factory.mktemp("released") / "judge"
    write_folder(folder, replace(TWO_LAYERS, layers=10), "float16", released=True)
    return folder


def load(folder: Path, dtype: str, **settings: Any) -> Any:
    return load_model(find_model(str(folder)), dtype=dtype, device="cpu", **settings)[0]


def test_a_released_judge_has_shards_and_what_old_files_hold_besides(released: Path) -> None:
    names = sorted(path.name for path in released.glob("*.bin*"))
    assert names == [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ]
    index = json.loads((released / "pytorch_model.bin.index.json").read_text())["weight_map"]
    assert index["model.layers.0.self_attn.rotary_emb.inv_freq"] == names[0]
    assert index["lm_head.weight"] == names[1]


@pytest.mark.parametrize("form", ["bin", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_model_in_another_type_is_what_transformers_makes_of_it(
    released: Path, dtype: str, form: str, tmp_path: Path
) -> None:
    folder = released
    if form == "safetensors":
        folder = tmp_path / "judge"
        write_folder(folder, TWO_LAYERS, "float16")
    model = load(folder, dtype)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    found = dict(model.state_dict())
    assert found.keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert found[name].dtype == getattr(torch, dtype), name
        assert torch.equal(found[name], weight), name
    assert (model.dtype, model.config.dtype) == (getattr(torch, dtype),) * 2
    # tables of positions stay precise
    assert {str(buffer.dtype) for buffer in model.buffers()} == {"torch.float32"}
    assert {str(buffer.dtype) for buffer in expected.buffers()} == {"torch.float32"}


def test_the_type_of_files_is_known_only_where_all_have_one(released: Path, tmp_path: Path) -> None:
    assert stored_dtype(released) is torch.float16
    write_folder(tmp_path / "judge", TWO_LAYERS, "bfloat16")
    assert stored_dtype(tmp_path / "judge") is torch.bfloat16
    file = next((tmp_path / "judge").glob("*.safetensors"))
    weights = load_file(file)
    save_file({**weights, "model.norm.weight": weights["model.norm.weight"].float()}, file, {"format": "pt"})
    assert stored_dtype(tmp_path / "judge") is None
    # and is loaded as ever: what lies there in float32 is not rounded on its way to float32
    assert load(tmp_path / "judge", "float32").dtype is torch.float32
    old = tmp_path / "old"
    shutil.copytree(released, old)
    for shard in old.glob("*.bin"):
        torch.save(torch.load(shard), shard, _use_new_zipfile_serialization=False)
    assert stored_dtype(old) is None
    assert torch.equal(load(old, "bfloat16").lm_head.weight, load(released, "bfloat16").lm_head.weight)


def test_a_model_whose_tables_depend_on_the_type_is_not_taken_over(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = loading.load_weights

    def counted(path: Path, name: str, **settings: Any) -> Any:
        asked.append(settings["dtype"])
        model = real(path, name, **settings)
        if len(asked) == 1:
            model.register_buffer("scale", torch.ones(1, dtype=settings["dtype"]))
        return model

    monkeypatch.setattr(loading, "load_weights", counted)
    model = load(released, "bfloat16")
    assert asked == [torch.float16, torch.bfloat16]
    assert model.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("rule", "part", "dtype"),
    [
        ("_keep_in_fp32_modules_strict", "norm", torch.float32),
        ("_keep_in_fp32_modules_strict", "norm.weight", torch.float32),
        # for float16 alone, which is what is stored
        ("_keep_in_fp32_modules", "norm", torch.bfloat16),
    ],
)
def test_what_a_model_keeps_in_float32_stays_so(
    rule: str, part: str, dtype: torch.dtype, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, rule, {part})
    model = load(released, "bfloat16")
    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    assert kinds["model.norm.weight"] is dtype
    assert kinds["model.layers.0.mlp.up_proj.weight"] is torch.bfloat16


def test_the_type_is_that_of_the_files_that_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "judge", TWO_LAYERS, "float32")
    (shard,) = (tmp_path / "judge").glob("*.safetensors")
    index = tmp_path / "judge" / "model.safetensors.index.json"
    weights = load_file(shard)
    halves = {name: weight.half() for name, weight in weights.items()}
    # one of other names, and beside it what nobody reads
    shard.rename(tmp_path / "judge" / "part.safetensors")
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "part.safetensors")}))
    torch.save(halves, tmp_path / "judge" / "pytorch_model.bin")
    assert stored_dtype(tmp_path / "judge") is torch.float32
    old = tmp_path / "old"
    shutil.copytree(tmp_path / "judge", old)
    torch.save(weights, old / "pytorch_model.bin")
    (old / index.name).unlink()
    (old / "part.safetensors").unlink()
    save_file(halves, old / "model_before.safetensors", {"format": "pt"})
    assert stored_dtype(old) is torch.float32
    for folder in (tmp_path / "judge", old):
        assert torch.equal(load(folder, "float32").lm_head.weight, weights["lm_head.weight"])
    # experts have no name that ends in weight
    save_file({**halves, "model.layers.0.mlp.experts.down_proj": torch.ones(2, 2)}, old / "model.safetensors")
    assert stored_dtype(old) is None


def test_the_first_cpu_is_the_cpu(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[dict[str, Any]] = []
    real = loading.load_weights

    def counted(path: Path, name: str, **settings: Any) -> Any:
        read.append(settings)
        return real(path, name, **settings)

    monkeypatch.setattr(loading, "load_weights", counted)
    model = load_model(find_model(str(released)), dtype="float32", device="cpu:0")[0]
    assert read == [{"dtype": torch.float16}]
    assert model.dtype is torch.float32


def test_memory_that_is_given_back_loses_nothing(tmp_path: Path) -> None:
    values = torch.arange(1 << 20, dtype=torch.float32)
    torch.save(values, tmp_path / "values.bin")
    mapped = torch.load(tmp_path / "values.bin", mmap=True)
    # a page of its own, which is in no file
    mapped[5000] = -1.0
    _page_out(mapped)
    own = values.clone()
    _page_out(own)
    if sys.platform == "linux":
        # what lies in no file would be written to the swap before it is freed
        assert (_is_of_a_file(mapped.data_ptr()), _is_of_a_file(own.data_ptr())) == (True, False)
    values[5000] = -1.0
    assert torch.equal(mapped, values)
    assert own[5000] == 5000


def test_weights_in_8_bits_are_those_of_a_model_that_was_loaded_whole(released: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed here")
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = load(released, "bfloat16", quantization="int8")
    whole = load(released, "bfloat16")
    quantize_(whole.model, Int8WeightOnlyConfig())
    ids = torch.tensor([[1, 5, 7, 300]])
    assert torch.equal(model(ids).logits, whole(ids).logits)
    assert type(model.lm_head.weight.data) is torch.Tensor
    assert type(model.model.layers[9].mlp.down_proj.weight.data) is not torch.Tensor


def test_the_benchmark_of_big_judges_runs_at_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "big.json"
    monkeypatch.setattr(big, "WAYS", {"bfloat16": None})
    monkeypatch.setattr(sys, "argv", ["big", "--dry-run", "--work", str(tmp_path / "work"), "--output", str(output)])
    assert big.main() == 0
    found = json.loads(output.read_text())["ways"]["bfloat16"]
    assert (found["new_tokens"], 400 < found["prompt_tokens"] < 1000) == (4, True)
    assert found["load_s"] > 0
    assert list((tmp_path / "work").iterdir()) == []


def test_the_benchmark_of_big_judges_removes_what_it_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "mine").touch()
    monkeypatch.setattr(big, "WAYS", {})
    big.run(TWO_LAYERS, tmp_path, tmp_path / "big.json", "")
    assert [path.name for path in tmp_path.rglob("*")] == ["judge", "mine"]


def test_too_little_room_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 3 << 30}))
    with pytest.raises(InputError, match="14 GiB of disk are needed, and 3 are free"):
        big.check_room(tmp_path, VICUNA_7B)


def test_bytes_of_a_big_judge() -> None:
    assert big.weights_in_memory(VICUNA_7B, None) == 2 * 6_738_415_616
    # a byte for each of the layers' weights, two for each of their rows, the rest in bfloat16
    rest = 2 * (2 * 32000 * 4096 + 65 * 4096)
    assert big.weights_in_memory(VICUNA_7B, "int8") == 6_476_005_376 + 2 * 32 * (5 * 4096 + 2 * 11008) + rest
