"""Linear layers whose weights lie as oneDNN reads them: what they give, and that nobody need know."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from types import MethodType

import pytest
import torch
from conftest import train_byte_tokenizer
from test_bases import KINDS, build

from judgelm import Judge
from judgelm.engine.hf.engine import HFEngine
from judgelm.models.int8 import Int8Linear, quantize_on_cpu
from judgelm.models.prepacked import PrepackedLinear, prepack, prepack_layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (0, 1), (2, 300), (5, 33)])
def test_a_layer_gives_what_it_gave_whatever_lies_beside(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    for bias in (False, True):
        model = torch.nn.Sequential(torch.nn.Linear(96, 40, bias=bias), torch.nn.Linear(40, 8)).to(dtype)
        plain, (layer, output) = copy.deepcopy(model), model
        given = torch.randn(*shape, 96).to(dtype)
        with torch.inference_mode():
            prepack_layers(model, output)
            assert type(layer) is PrepackedLinear
            assert type(output) is torch.nn.Linear
            expected, found = plain[0](given), layer(given)
            torch.testing.assert_close(found, expected)
            # rows of a larger tensor that do not lie one behind the other
            torch.testing.assert_close(layer(given[:, ::2]), found[:, ::2])


def test_who_asks_for_the_weight_gets_it_and_it_is_there_once() -> None:
    layer = torch.nn.Linear(33, 17)
    before = layer.weight.detach().clone()
    prepack_layers(torch.nn.Sequential(layer), None)
    assert torch.equal(layer.weight, before)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 33 * 17 + 17
    given = torch.randn(4, 33)
    torch.testing.assert_close(torch.nn.functional.linear(given, layer.weight, layer.bias), layer(given))


def test_layers_of_one_weight_share_it_as_before() -> None:
    one, other = torch.nn.Linear(33, 17, bias=False), torch.nn.Linear(33, 17)
    other.weight = one.weight
    given = torch.randn(4, 33)
    expected = other(given)
    prepack_layers(model := torch.nn.ModuleList([one, other]), None)
    assert sum(parameter.numel() for parameter in model.parameters()) == 33 * 17 + 17
    torch.testing.assert_close(other(given), expected)


def test_layers_of_another_kind_stay_as_they_are() -> None:
    class Doubled(torch.nn.Linear):
        pass

    half, small = torch.nn.Linear(4, 3).half(), torch.nn.Linear(4, 3)
    quantize_on_cpu(small)
    wrapped = torch.nn.Linear(4, 3)
    wrapped.forward = MethodType(torch.nn.Linear.forward, wrapped)  # type: ignore[method-assign]
    model = torch.nn.Sequential(Doubled(4, 3), half, small, wrapped, torch.nn.Linear(4, 3, device="meta"))
    before = [type(layer) for layer in model]
    assert Int8Linear in before
    prepack_layers(model, None)
    assert [type(layer) for layer in model] == before


def test_on_another_processor_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    prepack_layers(model := torch.nn.Sequential(torch.nn.Linear(4, 3)), None)
    assert type(model[0]) is torch.nn.Linear


@pytest.mark.parametrize("kind", [*KINDS, "mamba", "bloom", "mixtral", "gpt_neox", "opt"])
def test_models_of_all_kinds_say_the_same(kind: str) -> None:
    more = {"mamba": {"state_size": 8}, "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}}
    plain = build(kind, train_byte_tokenizer(), **(KINDS[kind][1] if kind in KINDS else more.get(kind, {})))
    model = copy.deepcopy(plain)
    asked = torch.tensor([[1, 5, 7, 9, 20]])
    with torch.inference_mode():
        expected = plain(input_ids=asked).logits
        prepack(model)
        prepack(model)
        torch.testing.assert_close(model(input_ids=asked).logits, expected, atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, PrepackedLinear) for module in model.modules())


def test_a_judge_keeps_few_sizes_of_products_and_what_a_user_set_stays(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1000")
    Judge.load(model_folder, device="cpu")
    assert (os.environ["LRU_CACHE_CAPACITY"], os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) == ("256", "1000")


def test_an_engine_has_them() -> None:
    tokenizer = train_byte_tokenizer()
    engine = HFEngine(build("mistral", tokenizer, **KINDS["mistral"][1]), tokenizer)
    layers = [module for module in engine.model.modules() if isinstance(module, torch.nn.Linear)]
    assert [type(each) for each in layers] == [PrepackedLinear] * (len(layers) - 1) + [torch.nn.Linear]
