"""Linear layers in 8 bits on a CPU, whose products are those of whole numbers: faster than those of float32."""

from __future__ import annotations

import torch
from torch import Tensor

_MOST = 127
_LEAST_SCALE = 1e-12
"""so that a row of zeros can be divided by it"""


class Int8Linear(torch.nn.Linear):
    """Weights [N, K] are whole numbers with a scale for each output, inputs get theirs for each token: so what a token
    becomes depends on nothing that is computed beside it. Only sums of whole numbers are made, and these are exact.
    """

    scales: Tensor
    """[N], float32"""

    def forward(self, input: Tensor) -> Tensor:
        """[.., K] -> [.., N], of the input's data type."""
        flat = input.reshape(-1, self.in_features)
        numbers, scales = whole_numbers(flat)
        found = torch._int_mm(numbers, self.weight.t()) * (scales * self.scales)
        if self.bias is not None:
            found += self.bias
        return found.to(input.dtype).view(*input.shape[:-1], self.out_features)


def whole_numbers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [M, K] -> numbers [M, K] in 8 bits and scales [M, 1] in float32, whose products they nearly are."""
    scales = rows.abs().amax(dim=1, keepdim=True).float().div_(_MOST).clamp_(min=_LEAST_SCALE)
    return (rows / scales).round_().to(torch.int8), scales


def quantize_on_cpu(layer: torch.nn.Linear) -> None:
    """In place, as layers are held by those around them; one that computes in a way of its own stays whole."""
    if type(layer).forward is not torch.nn.Linear.forward:
        return
    numbers, scales = whole_numbers(layer.weight.data)
    layer.__class__ = Int8Linear
    layer.weight = torch.nn.Parameter(numbers, requires_grad=False)
    layer.register_buffer("scales", scales.flatten(), persistent=False)
