"""Weights on their way from a folder's files into a model: taken over one by one, so that none is there twice.

transformers maps the files of a folder, and a weight that stays in the data type in which it lies is read when it is
first used. One that must change is changed here, and the file's part of memory is given back at once.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.errors import SettingError
from judgelm.models.devices import give_back_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

QUANTIZATIONS = ("int8",)
_PAGE_OUT = 21
"""of madvise(2): nothing is lost, pages of a file are read again where they are wanted after all"""
_WEIGHTS = ("weight", "bias")
"""how the names of weights end: what else lies in old files is left aside by transformers"""
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""safetensors' names of what is not quantized"""


def stored_dtype(folder: Path) -> torch.dtype | None:
    """The data type in which all of a folder's weights lie; None where there are several, or files cannot be mapped.

    Raises all kinds of errors for damaged files.
    """
    import torch
    from safetensors import safe_open

    names: set[str] = set()
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            here = list(opened.keys())
            kinds = {opened.get_slice(name).get_dtype() for name in here if name.endswith(_WEIGHTS)}
        names |= {_DTYPES.get(kind, kind) for kind in kinds}
    # which of both is there is read
    for file in [] if names else sorted(folder.glob("pytorch_model*.bin")):
        if not zipfile.is_zipfile(file):
            return None
        tensors = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        kinds = {str(tensor.dtype) for name, tensor in tensors.items() if name.endswith(_WEIGHTS)}
        names |= {kind.removeprefix("torch.") for kind in kinds}
    if len(names) != 1 or not names.issubset(_DTYPES.values()):
        return None
    dtype: torch.dtype = getattr(torch, names.pop())
    return dtype


def can_take_over(model: PreTrainedModel) -> bool:
    """Whether nothing but its weights depends on the data type in which a model was loaded."""
    buffers = [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]
    return all(name.endswith("inv_freq") for name in buffers)


def quantizer(name: str) -> Any:
    """What torchao is told for a quantization. Raises SettingError for another name, or where torchao is missing."""
    if name not in QUANTIZATIONS:
        raise SettingError("quantization", f"{name!r}: expected one of {', '.join(QUANTIZATIONS)}")
    try:
        from torchao.quantization import Int8WeightOnlyConfig
    except ImportError:
        raise SettingError("quantization", f"{name} needs torchao: pip install 'judgelm[quantization]'") from None
    return Int8WeightOnlyConfig()


def take_over(model: PreTrainedModel, dtype: torch.dtype, device: str, quantization: Any = None) -> None:
    """Weight by weight in place: the data type, the device, and where that is wanted the quantization.

    What a model keeps in float32 stays so.
    """
    kept = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            old = parameter.data
            parameter.data = old.to(device, old.dtype if kept.intersection(name.split(".")) else dtype)
            if parameter.data_ptr() != old.data_ptr():
                _page_out(old)
        if quantization is not None:
            quantize(module, quantization, model.get_output_embeddings())
        # what a matrix took on its way leaves holes into which the next one need not fit
        give_back_memory()
    # tables and the like
    model.to(device)
    model.config.dtype = dtype


def quantize(module: torch.nn.Module, quantization: Any, output: torch.nn.Module | None) -> None:
    """A module's own weight, with a scale for each row, where it is a linear layer and not the output embedding, which
    often is the input embedding too.
    """
    from torch.nn import Linear
    from torchao.quantization import quantize_

    if isinstance(module, Linear) and module is not output:
        old = module.weight.data
        quantize_(module, quantization, lambda *_: True)
        _page_out(old)


def _page_out(tensor: torch.Tensor) -> None:
    """Give back the memory of a mapped tensor that nobody needs any more; does nothing but on Linux."""
    page = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // page) * page
    length = (tensor.data_ptr() + tensor.nbytes) // page * page - begin
    if sys.platform == "linux" and tensor.device.type == "cpu" and length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _PAGE_OUT)
