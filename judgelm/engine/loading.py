"""A model's folder -> the engine that holds it, by the engine's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from judgelm.engine import Engine
from judgelm.model import ModelFolder, load_model


@dataclass(frozen=True, slots=True)
class Holding:
    """How a model is to be held; None chooses."""

    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = None
    num_gpus: int = 1
    max_gpu_memory: str | None = None
    quantization: str | None = None


def _load_hf(folder: ModelFolder, holding: Holding) -> Engine:
    from judgelm.engine.hf import HFEngine

    model, tokenizer = load_model(
        folder,
        dtype=holding.dtype,
        device=holding.device,
        num_gpus=holding.num_gpus,
        max_gpu_memory=holding.max_gpu_memory,
        quantization=holding.quantization,
    )
    return HFEngine(model, tokenizer, holding.batch_tokens)


def _load_vllm(folder: ModelFolder, holding: Holding) -> Engine:
    from judgelm.engine.vllm import load_vllm

    return load_vllm(folder, holding)


LOADERS: Mapping[str, Callable[[ModelFolder, Holding], Engine]] = {"hf": _load_hf, "vllm": _load_vllm}
