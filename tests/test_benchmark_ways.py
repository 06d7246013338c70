"""What `benchmarks.judge` needs for its ways beside ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import build_model, train_byte_tokenizer
from gguf import GGUFReader
from judging import Scripted
from transformers import AutoModelForCausalLM

from benchmarks import judge
from benchmarks.gguf_q8 import write_gguf
from benchmarks.int8 import judge_block
from judgelm import Judge, Sample


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_holds_the_model_that_it_was_made_of(tied: bool, tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model", train_byte_tokenizer(bos=False), tied=tied)
    write_gguf(folder, tmp_path / "judge.gguf")
    before = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    # transformers reads the format itself
    after = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="judge.gguf", dtype=torch.float32).state_dict()
    assert after.keys() == before.keys()
    for name, weight in before.items():
        # about half a step of 8 bits: rows in another order would be far from it
        assert (weight - after[name]).abs().max() <= weight.abs().max() / 240, name
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "judge.gguf").tensors}
    assert (kinds["blk.1.ffn_down.weight"], kinds["output_norm.weight"]) == ("Q8_0", "F32")
    assert ("output.weight" in kinds) is not tied


def test_a_gguf_file_tells_its_tokens_apart_from_its_signs(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer(bos=True)
    write_gguf(build_model(tmp_path / "model", tokenizer), tmp_path / "judge.gguf")
    fields = GGUFReader(tmp_path / "judge.gguf").fields
    texts = fields["tokenizer.ggml.tokens"].contents()
    assert texts == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert [text for text, kind in zip(texts, kinds, strict=True) if kind == 3] == ["<s>", "</s>", "<pad>"]
    assert fields["tokenizer.ggml.add_bos_token"].contents() is True
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 1


def test_what_a_way_prints_is_not_taken_for_its_numbers() -> None:
    noisy = "lambda model, dtype, mode: lambda prompts: (os.system('echo noise'), print('noise'), (len(prompts), 0))[2]"
    code = f"import os; from benchmarks import ways; ways.WAYS['ours'] = {noisy}; ways.main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "ours", "model", "float32", "scores"],
        input='{"prompts": ["a", "b"]}\n',
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    ready, numbers = result.stdout.splitlines()
    assert (ready, json.loads(numbers)["prompt_tokens"]) == ("ready", 2)
    assert result.stderr.count("noise") == 4


def test_a_sample_is_not_counted_twice() -> None:
    twice = [Sample(1, "2 + 2?", ("4", "5"))] * 2
    with pytest.raises(SystemExit, match="2 samples are needed for a round, and there are 1 that fit"):
        judge_block(Judge(Scripted({"1": "8 7\n"})), twice)


@pytest.mark.parametrize("way", ["openvino@4", "llama_cpp"])
def test_a_way_without_its_model_is_refused_in_one_line(
    way: str, model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["judge", "--data", str(pairs_file), "--model", str(model_folder), "--output", "none.json", "--ways", way]
    monkeypatch.setattr(sys, "argv", [*argv, "--prompt-tokens", "0", "100000"])
    with pytest.raises(SystemExit) as ended:
        judge.main()
    assert ended.value.code == 2
    assert f"{way.partition('@')[0]} needs a model of its own" in capsys.readouterr().err.splitlines()[-1]
