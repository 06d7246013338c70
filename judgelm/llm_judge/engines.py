"""Which engines there are: a name -> what loads a model into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from judgelm.engine import Engine
from judgelm.model import ModelFolder, load_model


def _load_hf(
    folder: ModelFolder,
    *,
    dtype: str,
    device: str | None,
    batch_tokens: int | None,
    num_gpus: int,
    max_gpu_memory: str | None,
) -> Engine:
    from judgelm.engine.hf import HFEngine

    model, tokenizer = load_model(folder, dtype=dtype, device=device, num_gpus=num_gpus, max_gpu_memory=max_gpu_memory)
    return HFEngine(model, tokenizer, batch_tokens)


def _load_vllm(
    folder: ModelFolder,
    *,
    dtype: str,
    device: str | None,
    batch_tokens: int | None,
    num_gpus: int,
    max_gpu_memory: str | None,
) -> Engine:
    from judgelm.engine.vllm import load_vllm

    return load_vllm(
        folder,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        num_gpus=num_gpus,
        max_gpu_memory=max_gpu_memory,
    )


ENGINES: Mapping[str, Callable[..., Engine]] = {"hf": _load_hf, "vllm": _load_vllm}
