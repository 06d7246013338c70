"""The devices of this machine, and what a model can be on them."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

from judgelm.errors import SettingError

FLASH = "flash_attention_2"
DTYPES = ("auto", "bfloat16", "float16", "float32")
COMPILE = ("auto", "on", "off")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""options of glibc's mallopt(3)"""
_KEPT_PRODUCTS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "256"}
"""how many sizes of a product oneDNN and torch's part of it keep, of 1,024 each: each takes megabytes, and prompts have
all lengths"""


def check_gpus(num: int) -> None:
    """Raises InputError where a model is to be spread over more GPUs than there are."""
    import torch

    if num > max(1, torch.cuda.device_count()):
        raise SettingError("num_gpus", f"{num}: this machine has {torch.cuda.device_count()} GPUs")


def default_device() -> str:
    """The fastest device of this machine."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def own_gpu() -> str | None:
    """The GPU of this process in a training of several; None where there is one process, or no GPU.

    By its name, as what a process has chosen is the choice of one thread: in others `cuda` is the first GPU.
    """
    import torch

    rank = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{int(rank) % torch.cuda.device_count()}" if rank.isdecimal() and torch.cuda.is_available() else None


def choose_dtype(name: str, device: str | None) -> str:
    """What the dtype auto means on a device: see `load_model`. Raises InputError for a device that is not there."""
    import torch

    device = device or default_device()
    _check_device(device)
    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "mps":
        return "float16"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


@functools.cache
def only_avx2() -> bool:
    """Whether this processor is of the kind without AVX512, for which other ways are faster than for those with it."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx2")) and not capabilities.get("avx512_f")


def _check_device(name: str) -> None:
    import torch

    try:
        device = torch.device(name)
        there = {
            "cpu": device.index in (None, 0),
            "cuda": (device.index or 0) < torch.cuda.device_count(),
            "mps": torch.backends.mps.is_available(),
        }.get(device.type, False)
    except RuntimeError:
        there = False
    if not there:
        raise SettingError(
            "device", f"{name}: this machine has no such device that can be used (expected cuda, mps or cpu)"
        )


def why_no_flash_attention(device: str) -> str | None:
    """Why flash-attn 2 cannot be had on a device; None where it can, by models in 16 bits."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    if not device.startswith("cuda") or not torch.cuda.is_available():
        return "there is no GPU"
    if not is_flash_attn_2_available():
        return "it is not installed"
    return "this GPU is older than Ampere" if torch.cuda.get_device_capability(device)[0] < 8 else None


def keep_few_products() -> None:
    """Both are read when the first product is made, whatever was imported before; what users set stays."""
    for name, most in _KEPT_PRODUCTS.items():
        os.environ.setdefault(name, most)


def keep_freed_memory() -> None:
    """Let freed tensors' memory be used again by this process, not go back to Linux, which hands it out page by page.

    glibc gives large blocks back at once; to take them anew for every layer's output may cost more than to compute it
    (benchmarks/README.md). Does nothing with another C library.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, most in ((_M_TRIM_THRESHOLD, 2**31 - 1), (_M_MMAP_THRESHOLD, 2**30)):
            library.mallopt(option, most)


def give_back_memory() -> None:
    """Give Linux now what was freed, holes between what is still needed too. Does nothing with another C library."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
