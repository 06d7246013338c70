"""Linear layers on a CPU whose weights lie as oneDNN's products read them, not rearranged anew for each of these."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Linear, Parameter

from judgelm.models.weights import change_weight

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel

_DTYPES = (torch.float32, torch.bfloat16)
_OPERATIONS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
"""of torch, those that its own compiler uses for weights that stay"""


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return found


_compiled = torch.library.custom_op("judgelm::linear", _multiply, mutates_args=())
"""the same for torch's compiler, which takes what it knows apart and cannot look into such weights"""


@_compiled.register_fake
def _shape(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


class PrepackedLinear(Linear):
    """Gives what the layer gave: the same products, up to rounding, of the same weights [N, K].

    `weight` is a copy of these as they were, made when it is asked for, for models that multiply by it themselves.
    """

    prepacked: Parameter
    """[N, K], in an order of oneDNN's own"""

    def forward(self, input: Tensor) -> Tensor:
        """[.., K] -> [.., N]."""
        return (_compiled if torch.compiler.is_compiling() else _multiply)(input, self.prepacked, self.bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.prepacked.to_dense()


def prepack(model: PreTrainedModel) -> None:
    """All linear layers of the text in place, but the output embedding, often the input embedding too."""
    prepack_layers(model.get_decoder(), model.get_output_embeddings())


def prepack_layers(model: Module, output: Module | None) -> None:
    """All but `output`, as they are held by those around them. Does nothing where oneDNN has no such products, or they
    were not measured.
    """
    there = all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)
    if not there or platform.machine().lower() not in ("x86_64", "amd64"):
        return
    # of one weight there may be several
    sharing: dict[int, list[Linear]] = {}
    for module in model.modules():
        if type(module) is Linear and module is not output and _can_be_prepacked(module):
            sharing.setdefault(id(module.weight), []).append(module)
    for first, *others in sharing.values():
        change_weight(first, _prepack, output)
        for layer in others:
            _take(layer, first.get_parameter("prepacked"))


def _can_be_prepacked(layer: Linear) -> bool:
    """Not where a quantization has its own weights, or its own way to multiply."""
    weight = layer.weight
    plain = type(weight) is Parameter and weight.layout == torch.strided and weight.device.type == "cpu"
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return plain and weight.dtype in _DTYPES and weight.numel() > 0 and "forward" not in vars(layer)


def _prepack(layer: Linear) -> None:
    prepacked = torch.ops.mkldnn._reorder_linear_weight(layer.weight.data, None)
    _take(layer, Parameter(prepacked, requires_grad=False))


def _take(layer: Linear, prepacked: Parameter) -> None:
    del layer.weight
    layer.__class__ = PrepackedLinear
    layer.register_parameter("prepacked", prepacked)
