"""A model's folder -> the engine that holds it, by the engine's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from judgelm.engine.interface import Engine
from judgelm.errors import SettingError
from judgelm.models.loading import DTYPES, QUANTIZATIONS, ModelFolder, load_model

_SIZE = re.compile(r"\d+(\.\d+)?[KMG]i?B", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Holding:
    """How a model is to be held; None chooses."""

    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = None
    num_gpus: int = 1
    max_gpu_memory: str | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        """Raises SettingError for what no machine has; whether this one has it is seen when the model is loaded."""
        if self.dtype not in DTYPES:
            raise SettingError("dtype", f"{self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.quantization is not None and self.quantization not in QUANTIZATIONS:
            raise SettingError("quantization", f"{self.quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
        if self.device is not None and not isinstance(self.device, str):
            raise SettingError("device", f"{self.device!r}: expected its name, such as cuda:1 or cpu")
        if self.max_gpu_memory is not None and not _SIZE.fullmatch(str(self.max_gpu_memory)):
            raise SettingError("max_gpu_memory", f"{self.max_gpu_memory!r}: expected a size such as 37GiB")
        for name in ("batch_tokens", "num_gpus"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("batch_tokens", None):
                raise SettingError(name, f"{value!r}: expected a whole number from 1 on")


def _load_hf(folder: ModelFolder, holding: Holding) -> Engine:
    from judgelm.engine.hf.engine import HFEngine

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


def find_loader(engine: str) -> Callable[[ModelFolder, Holding], Engine]:
    """Raises SettingError for an engine that holds no models."""
    if engine not in LOADERS:
        raise SettingError("engine", f"{engine!r}: expected one of {', '.join(LOADERS)}")
    return LOADERS[engine]


LOADERS: Mapping[str, Callable[[ModelFolder, Holding], Engine]] = {"hf": _load_hf, "vllm": _load_vllm}
