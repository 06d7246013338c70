"""Models that are damaged or do not fit, and settings that cannot be: one line that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, make_samples, train_byte_tokenizer, write_jsonl
from judging import run_command
from test_merged import write_adapter

from judgelm import Judge
from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.errors import InputError
from judgelm.judge.settings import JudgeSettings
from judgelm.models.folder import find_model
from judgelm.models.loading import load_model

WIDE = Criteria("wide", (Aspect("Any", "Anything.", scale=Scale(0, 100)),))


@pytest.fixture
def copied(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def load(folder: Path) -> None:
    load_model(find_model(str(folder)), device="cpu")


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return written


def without(*names: str) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return written


def config(**changed: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | changed))

    return damage


def as_bin(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        from safetensors.torch import load_file

        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        damage(folder)

    return written


def sharded(index: bytes) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_bytes(index)

    return written


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights cut short": cut("model.safetensors", 0.5),
    "weights empty": cut("model.safetensors", 0),
    "weights of noise": write("model.safetensors", bytes(range(256)) * 40),
    "bin cut short": as_bin(cut("pytorch_model.bin", 0.7)),
    "bin empty": as_bin(cut("pytorch_model.bin", 0)),
    "bin of text": as_bin(write("pytorch_model.bin", b"<html>not found</html>")),
    "bin that would run code": as_bin(write("pytorch_model.bin", b"cos\nsystem\n(S'true'\ntR.")),
    "index that names nothing": sharded(b'{"weight_map": 3}'),
    "index of half a file": sharded(b'{"weight_map": {"lm_head.we'),
    "index of a missing shard": sharded(b'{"metadata": {}, "weight_map": {"lm_head.weight": "model-2.safetensors"}}'),
    "config empty": cut("config.json", 0),
    "config cut short": cut("config.json", 0.5),
    "config a list": write("config.json", b"[1]"),
    "config of bytes": write("config.json", b"\xff\xfe\x00"),
    "config of no model": write("config.json", b"{}"),
    "config of another kind": config(model_type="no_such_model"),
    "config without model type": config(model_type=None),
    "layers below zero": config(num_hidden_layers=-1),
    "layers without end": config(num_hidden_layers=10**9),
    "layers in words": config(num_hidden_layers="two"),
    "heads of zero": config(num_attention_heads=0),
    "width of text": config(hidden_size="wide"),
    "width of zero": config(hidden_size=0),
    "another width": config(hidden_size=128),
    "heads that do not divide": config(num_attention_heads=5),
    "vocabulary below zero": config(vocab_size=-3),
    "a huge vocabulary": config(vocab_size=10**12),
    "an unknown activation": config(hidden_act="magic"),
    "an unknown rope": config(rope_parameters={"rope_type": "magic"}),
    "a rope of text": config(rope_parameters="magic"),
    "tokenizer cut short": cut("tokenizer.json", 0.5),
    "tokenizer empty": cut("tokenizer.json", 0),
    "tokenizer a number": write("tokenizer.json", b"7"),
    "tokenizer of nothing": write("tokenizer.json", b"{}"),
    "tokenizer missing": without("tokenizer.json", "tokenizer_config.json"),
    "tokenizer settings cut short": cut("tokenizer_config.json", 0.5),
    "tokenizer settings a list": write("tokenizer_config.json", b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_one_line(damage: str, copied: Path) -> None:
    DAMAGES[damage](copied)
    with pytest.raises(InputError) as error:
        load(copied)
    assert "\n" not in str(error.value)
    assert str(copied) in str(error.value)


def weights(**changed: torch.Tensor) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        named = {name.replace("__", "."): tensor for name, tensor in changed.items()}
        save_file({**load_file(folder / "model.safetensors"), **named}, folder / "model.safetensors", {"format": "pt"})

    return damage


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_of_another_shape_is_named(dtype: str, copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights(model__norm__weight=torch.ones(3))(copied)
    with pytest.raises(InputError) as error:
        load_model(find_model(str(copied)), device="cpu", dtype=dtype)
    width = json.loads((copied / "config.json").read_text())["hidden_size"]
    assert str(error.value) == f"model {copied}: model.norm.weight is [3] in the weights, by config.json [{width}]"
    assert capfd.readouterr().err == ""


def test_weights_that_the_model_does_not_have_are_told_once(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights(model__layers__7__mlp__up_proj__weight=torch.ones(3, 3), extra=torch.ones(1))(copied)
    for _ in range(2):
        load(copied)
    assert capfd.readouterr().err == (
        f"judgelm: model {copied}: weights that by config.json it does not have are left aside: 2, such as extra\n"
    )


def test_a_file_that_would_run_code_is_not_recommended(copied: Path) -> None:
    DAMAGES["bin that would run code"](copied)
    with pytest.raises(InputError, match=r"a \.bin file holds more than weights, or is damaged: it was not opened"):
        load(copied)


def test_weights_that_are_quantized_already_are_not_quantized_again(copied: Path) -> None:
    config(quantization_config={"quant_method": "gptq", "bits": 4})(copied)
    with pytest.raises(InputError, match=r"quantization int8_dynamic: the weights of model .* are quantized already"):
        load_model(find_model(str(copied)), device="cpu", quantization="int8_dynamic")


def test_an_adapter_without_some_of_its_weights_is_refused(model_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = write_adapter(model_folder, tmp_path / "adapter", seed=0).path
    stored = load_file(file := adapter / "adapter_model.safetensors")
    renamed = {name.replace("base_model", "another"): weight for name, weight in stored.items()}
    for left in (dict(list(stored.items())[1:]), renamed):
        save_file(left, file, {"format": "pt"})
        with pytest.raises(InputError, match=r"the adapter cannot be used .*Found missing adapter keys") as error:
            load(adapter)
        assert len(str(error.value)) < 400 + len(str(adapter))
    file.unlink()
    (adapter / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"a \.bin file holds more than weights"):
        load(adapter)


def test_a_tokenizer_of_another_model_is_one_line(copied: Path) -> None:
    train_byte_tokenizer().save_pretrained(copied)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(copied)
    model.resize_token_embeddings(300)
    model.save_pretrained(copied)
    with pytest.raises(InputError, match="tokens up to 583, the model's embedding 300 rows: they do not belong"):
        load(copied)


def test_an_adapters_base_is_no_adapter_and_is_there(model_folder: Path, tmp_path: Path) -> None:
    first, second = (write_adapter(model_folder, tmp_path / name, seed=0).path for name in ("a", "b"))

    def name_base(adapter: Path, base: object) -> None:
        stored = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps(stored | {"base_model_name_or_path": str(base)}))

    for base in (first, second, tmp_path / "." / "a"):
        name_base(first, base)
        name_base(second, first)
        with pytest.raises(InputError, match=r"names as its base .*, which is an adapter itself"):
            find_model(str(first))
    name_base(first, "tiny")
    with pytest.raises(InputError, match="names as its base tiny, which is an adapter itself"):
        find_model(str(first))
    name_base(first, tmp_path / "gone")
    with pytest.raises(InputError, match=rf"gone: no such folder, but the adapter {first} names it as its base"):
        find_model(str(first))
    name_base(first, model_folder)
    (first / "adapter_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match="the adapter cannot be used"):
        load(first)
    (first / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model_folder), "r": "x"}))
    with pytest.raises(InputError, match="the adapter cannot be used"):
        load(first)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"engine": "x"}, "engine 'x': expected one of hf, vllm"),
        ({"dtype": "float8"}, "dtype 'float8': expected one of auto"),
        ({"dtype": "__name__"}, "dtype '__name__': expected one of auto"),
        ({"quantization": "int3"}, "quantization 'int3': expected one of int8"),
        ({"device": "toaster"}, "device toaster: this machine has no such device"),
        ({"device": 3}, "device 3: expected its name"),
        ({"num_gpus": 0}, "num_gpus 0: expected a whole number from 1 on"),
        ({"num_gpus": "two"}, "num_gpus 'two': expected a whole number from 1 on"),
        ({"batch_tokens": -1}, "batch_tokens -1: expected a whole number from 1 on"),
        ({"max_gpu_memory": "lots"}, "max_gpu_memory 'lots': expected a size such as 37GiB"),
    ],
)
def test_python_is_told_which_setting_cannot_be(settings: dict[str, Any], expected: str, model_folder: Path) -> None:
    with pytest.raises(InputError) as error:
        Judge.load(model_folder, **settings)
    assert str(error.value).startswith(expected)
    assert "--" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scoring": "x"}, "scoring 'x': expected one of sample"),
        ({"scoring": "expected", "criteria": WIDE}, "scoring expected reads 441 score lines at most"),
        ({"task": "single", "criteria": WIDE}, "criteria cannot be used with task single"),
        ({"temperature": -1.0}, "temperature -1.0: expected a number from 0 on"),
        ({"temperature": float("nan")}, "temperature nan: expected"),
        ({"temperature": "hot"}, "temperature 'hot': expected"),
        ({"max_new_tokens": 0}, "max_new_tokens 0: expected a whole number from 1 on"),
    ],
)
def test_python_is_told_which_setting_of_a_judgement_cannot_be(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as error:
        JudgeSettings(**settings)
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--device", "toaster"], "judgelm: error: --device toaster: this machine has no such device"),
        (["--device=toaster"], "judgelm: error: --device toaster: this machine has no such device"),
        (["--max-gpu-memory", "lots"], "judgelm: error: --max-gpu-memory 'lots': expected a size"),
        (["--num-gpus-per-model", "3"], "judgelm: error: --num-gpus-per-model 3: this machine has"),
        (
            ["--task", "single", "--criteria", str(ROOT / "examples" / "criteria" / "concise.yaml")],
            "judgelm: error: --criteria cannot be used with task single",
        ),
    ],
)
def test_the_command_line_is_told_which_flag_cannot_be(
    words: list[str], expected: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(2)])
    given = ["--model", str(model_folder), "--question-file", str(questions), "--output-dir", str(tmp_path / "out")]
    assert run_command(["judge", *given, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_setting_that_no_flag_gave_keeps_its_name(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`judgelm benchmark` and the like choose some settings themselves: they have no flag to be named."""
    from judgelm.console import run_main
    from judgelm.errors import SettingError

    def command() -> None:
        raise SettingError("constrained", "decoding cannot be used: the tokenizer has no token for digits")

    with pytest.raises(SystemExit) as ended:
        run_main(command, argv=["--model", "constrained"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("judgelm: error: constrained decoding cannot be used")
