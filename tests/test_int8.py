"""Linear layers whose products are of whole numbers: near to those of the model, and the same whatever is beside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import train_byte_tokenizer
from test_bases import KINDS, build
from test_engine import by_key, load_engine, requests

from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Sampling
from judgelm.errors import InputError
from judgelm.models.folder import find_model
from judgelm.models.int8 import Int8Linear, quantize_on_cpu, whole_numbers
from judgelm.models.loading import load_model
from judgelm.models.weights import change_weight, quantizer

LINES = ["8 7\n", "7 8\n", "10 1\n"]


def load(folder: Path, compile: str = "off") -> HFEngine:
    made = load_model(find_model(str(folder)), dtype="float32", device="cpu", quantization="int8_dynamic")
    return HFEngine(*made, compile=compile)


def test_whole_numbers_are_rows_by_a_scale_of_their_own() -> None:
    numbers, scales = whole_numbers(torch.tensor([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0], [-2.54, 1.0, 0.02]]))
    assert numbers.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 50, 1]]
    assert scales[[0, 2], 0].tolist() == pytest.approx([1.0, 0.02])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "inputs", "outputs"), [(1, 576, 192), (3, 33, 17), (70, 64, 8)])
def test_a_layer_gives_nearly_what_it_gave(dtype: torch.dtype, tokens: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(inputs, outputs, bias=tokens == 3).to(dtype)
    given = torch.randn(2, tokens, inputs).to(dtype)
    with torch.inference_mode():
        before = layer(given).float()
        quantize_on_cpu(layer)
        after = layer(given)
        assert (after.dtype, after.shape, layer.weight.dtype) == (dtype, before.shape, torch.int8)
        assert ((after - before).norm() / before.norm()).item() < 0.02
        # a token alone, and beside others that are far larger
        assert torch.equal(layer(given[1, :1]), after[1, :1])
        assert torch.equal(layer(torch.cat([given[0], 1000 * given[1]]))[:tokens], after[0])


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_all_kinds_can_be_in_8_bits(kind: str) -> None:
    model = build(kind, train_byte_tokenizer(), **KINDS[kind][1])
    asked = torch.tensor([[1, 5, 7, 9, 20]])
    with torch.inference_mode():
        before = model(input_ids=asked).logits
        for module in model.modules():
            change_weight(module, quantize_on_cpu, model.get_output_embeddings())
        after = model(input_ids=asked).logits
    assert 0 < ((after - before).norm() / before.norm()).item() < 0.2


def test_a_layer_that_computes_in_a_way_of_its_own_stays_whole() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    layer = Doubled(4, 3)
    quantize_on_cpu(layer)
    assert (type(layer), layer.weight.dtype) == (Doubled, torch.float32)


def test_a_judge_in_8_bits_says_much_the_same_and_does_not_ask_who_is_beside(model_folder: Path) -> None:
    plain, small = load_engine(model_folder), load(model_folder)
    layers = [module for module in small.model.modules() if isinstance(module, torch.nn.Linear)]
    assert [layer for layer in layers if not isinstance(layer, Int8Linear)] == [small.model.get_output_embeddings()]
    asked = requests(plain, 8)
    one, other = ({each.key: each.log_probs for each in engine.score(asked, LINES)} for engine in (plain, small))
    for key in one:
        assert one[key] == pytest.approx(other[key], abs=0.3)
        assert one[key] != other[key]
    greedy = Sampling(max_new_tokens=8)
    together = by_key(small.generate(asked, greedy))
    alone = {request.key: each for request in asked for each in small.generate([request], greedy)}
    assert together == alone


def test_it_is_for_a_cpu(model_folder: Path) -> None:
    with pytest.raises(InputError, match="quantization int8_dynamic is for a CPU, and the model is on cuda"):
        quantizer("int8_dynamic", "cuda")
    with pytest.raises(InputError, match="quantization 'int3': expected one of int8, int8_dynamic"):
        load_model(find_model(str(model_folder)), device="cpu", quantization="int3")
