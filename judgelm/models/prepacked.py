"""Linear layers on a CPU whose weights lie as oneDNN's products read them, not rearranged anew for each of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Linear, Parameter

from judgelm.models.weights import change_weight

if TYPE_CHECKING:
    from torch.nn import Module

_DTYPES = (torch.float32, torch.bfloat16)


class PrepackedLinear(Linear):
    """Gives what the layer gave: the same products, up to rounding, of the same weights [N, K].

    `weight` is a copy of these as they were, made when it is asked for, for models that multiply by it themselves.
    """

    prepacked: Parameter
    """[N, K], in an order of oneDNN's own"""

    # torch's compiler cannot look into the weights, and goes on behind it
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """[.., K] -> [.., N]."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.prepacked, self.bias, "none", [], "")
        return found

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.prepacked.to_dense()


def prepack(model: Module, output: Module | None) -> None:
    """All linear layers in place, as they are held by those around them, but the `output` embedding, often the input
    embedding too. Does nothing where oneDNN has no such products.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in model.modules():
        if type(module) is Linear and _can_be_prepacked(module):
            change_weight(module, _prepack_layer, output)


def _can_be_prepacked(layer: Linear) -> bool:
    """Not where the weight is none of numbers alone, such as those of a quantization's own."""
    weight = layer.weight
    plain = type(weight) is Parameter and weight.layout == torch.strided and weight.device.type == "cpu"
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return plain and weight.dtype in _DTYPES and weight.numel() > 0


def _prepack_layer(layer: Linear) -> None:
    prepacked = torch.ops.mkldnn._reorder_linear_weight(layer.weight.data, None)
    del layer.weight
    layer.__class__ = PrepackedLinear
    layer.register_parameter("prepacked", Parameter(prepacked, requires_grad=False))
