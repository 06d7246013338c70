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
from typing import TYPE_CHECKING

from judgelm.errors import SettingError
from judgelm.jsonl import read_json
from judgelm.models.devices import give_back_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch.nn import Linear, Module
    from transformers import PreTrainedModel

DYNAMIC = "int8_dynamic"
QUANTIZATIONS = ("int8", DYNAMIC)
_PAGE_OUT = 21
"""of madvise(2): nothing is lost, pages of a file are read again where they are wanted after all"""
_TABLES = ("inv_freq", "position_ids")
"""how the names of what lies in old files beside the weights end: transformers leaves it aside"""
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""safetensors' names of what is not quantized"""
_FORMS = ("model.safetensors", "pytorch_model.bin")
"""names of a file with all weights, beside or instead of which an index of several may lie, in the order in which
transformers looks for them"""


def stored_dtype(folder: Path) -> torch.dtype | None:
    """The data type in which all of a folder's weights lie; None where there are several, or files cannot be mapped.

    Raises all kinds of errors for damaged files.
    """
    import torch
    from safetensors import safe_open

    found: set[str] = set()
    for file in _files(folder):
        kinds: dict[str, str] = {}
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                kinds = {name: opened.get_slice(name).get_dtype() for name in list(opened.keys())}
        elif zipfile.is_zipfile(file):
            tensors = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
            kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        else:
            return None
        found |= {_DTYPES.get(kind, kind) for name, kind in kinds.items() if not name.endswith(_TABLES)}
    if len(found) != 1 or not found.issubset(_DTYPES.values()):
        return None
    dtype: torch.dtype = getattr(torch, found.pop())
    return dtype


def _files(folder: Path) -> list[Path]:
    """Those that transformers reads: others may lie beside them."""
    for form in _FORMS:
        whole, index = folder / form, folder / f"{form}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return sorted({folder / name for name in read_json(index)["weight_map"].values()})
    return []


def can_take_over(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Whether all that a model would be in another data type is its weights, each in that type."""
    buffers = [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]
    kept = any(model._get_dtype_plan(each) for each in (model.dtype, dtype))
    alike = all(weight.dtype == model.dtype for weight in model.parameters())
    return alike and not kept and all(name.endswith("inv_freq") for name in buffers)


def quantizer(name: str, device: str) -> Callable[[Linear], None]:
    """What puts a layer's weight in 8 bits. Raises SettingError for another name, another device than it is for, and
    where torchao is missing.
    """
    if name not in QUANTIZATIONS:
        raise SettingError("quantization", f"{name!r}: expected one of {', '.join(QUANTIZATIONS)}")
    if name == DYNAMIC:
        if device != "cpu":
            raise SettingError("quantization", f"{name} is for a CPU, and the model is on {device}")
        from judgelm.models.int8 import quantize_on_cpu

        return quantize_on_cpu
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError:
        raise SettingError("quantization", f"{name} needs torchao: pip install 'judgelm[quantization]'") from None
    return lambda layer: quantize_(layer, Int8WeightOnlyConfig(), lambda *_: True)


def take_over(
    model: PreTrainedModel, dtype: torch.dtype, device: str, quantization: Callable[[Linear], None] | None = None
) -> None:
    """Weight by weight in place: the data type, the device, and where that is wanted the quantization."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            old = parameter.data
            parameter.data = old.to(device, dtype)
            if parameter.data_ptr() != old.data_ptr():
                _page_out(old)
        if quantization is not None:
            change_weight(module, quantization, model.get_output_embeddings())
        if own:
            # what a matrix took on its way leaves holes into which the next one need not fit
            give_back_memory()
    # tables and the like
    model.to(device)
    model.config.dtype = dtype


def change_weight(module: Module, change: Callable[[Linear], None], output: Module | None) -> None:
    """A module's own weight, where it is a linear layer and not the output embedding, often the input embedding too."""
    from torch.nn import Linear

    if isinstance(module, Linear) and module is not output:
        old = module.weight.data
        change(module)
        _page_out(old)


def _page_out(tensor: torch.Tensor) -> None:
    """Give back the memory of a mapped tensor that nobody needs any more; does nothing but on Linux."""
    page = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // page) * page
    length = (tensor.data_ptr() + tensor.nbytes) // page * page - begin
    if sys.platform == "linux" and tensor.device.type == "cpu" and length > 0 and _is_of_a_file(begin):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _PAGE_OUT)


def _is_of_a_file(address: int) -> bool:
    """Memory that is none of a file would be written to the swap first."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            begin, end = (int(each, 16) for each in fields[0].split("-"))
            if begin <= address < end:
                # the inode
                return fields[4] != "0"
    return False
