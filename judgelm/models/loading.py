"""A model's name -> its folder -> model and tokenizer: hub id, local folder, PEFT adapter or an embedded one."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.errors import InputError, SettingError, one_line
from judgelm.jsonl import read_json
from judgelm.models.tiny import ADAPTER, NOTES, TINY, TINY_BASE, quiet_progress, tiny_folder
from judgelm.prompt import RESPONSE

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

QUANTIZATIONS = ("int8",)
DTYPES = ("auto", "bfloat16", "float16", "float32")
_WEIGHTS = ("*.safetensors", "*.bin")
_SAMPLED_BYTES = 1 << 20
_NUMBERS_OF_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 10_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""options of glibc's mallopt(3)"""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model's files lie."""

    name: str
    path: Path
    base: ModelFolder | None
    """the model under a PEFT adapter"""

    @property
    def note(self) -> str | None:
        """What a user of this model must know."""
        return NOTES.get(self.name)

    def fingerprint(self) -> str:
        """sha256 over each file's name, size, first and last MiB: quick for any size, and other after training."""
        digest = hashlib.sha256()
        try:
            for file in sorted(self.path.iterdir()):
                if file.suffix in (".json", ".safetensors", ".bin", ".model"):
                    size = file.stat().st_size
                    digest.update(f"{file.name}\0{size}\0".encode())
                    with file.open("rb") as content:
                        digest.update(content.read(_SAMPLED_BYTES))
                        content.seek(max(0, size - _SAMPLED_BYTES))
                        digest.update(content.read(_SAMPLED_BYTES))
        except OSError as error:
            where = error.filename or self.path
            raise InputError(f"model {self.name}: {where} cannot be read ({error.strerror or error})") from error
        if self.base is not None:
            digest.update(self.base.fingerprint().encode())
        return digest.hexdigest()


def find_model(name: str, cache_dir: str | None = None) -> ModelFolder:
    """Resolve a name: `tiny`, `tiny-base`, a folder, or else a hub id, whose files are fetched into the hub's cache.

    Raises InputError for a folder without config or weights, for an adapter whose base is another adapter or itself,
    and for a hub id that cannot be had.
    """
    return _find(name, cache_dir, None)


def _find(name: str, cache_dir: str | None, above: str | None) -> ModelFolder:
    """See `find_model`; `above` is the adapter whose base is looked for."""
    if above is not None and name == TINY:
        raise InputError(_no_base(above, name))
    if name == TINY:
        return ModelFolder(name, ADAPTER, find_model(TINY_BASE))
    if name == TINY_BASE:
        return ModelFolder(name, tiny_folder(), None)
    path = Path(name).expanduser()
    if not path.is_dir():
        if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise InputError(f"model {name}: no such folder{_named_by(above)}")
        path = _fetch(name, cache_dir, above)
    return _check(ModelFolder(name, path, None), cache_dir, above)


def _check(folder: ModelFolder, cache_dir: str | None, above: str | None) -> ModelFolder:
    adapter = folder.path / "adapter_config.json"
    if above is not None and adapter.is_file():
        # itself perhaps, or one of a ring
        raise InputError(_no_base(above, folder.name))
    if not any(file for pattern in _WEIGHTS for file in folder.path.glob(pattern)):
        raise InputError(f"model {folder.name}: the folder holds no weights (*.safetensors or *.bin)")
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise InputError(f"model {folder.name}: adapter_config.json does not name its base model")
        return ModelFolder(folder.name, folder.path, _find(base, cache_dir, folder.name))
    if not (folder.path / "config.json").is_file():
        raise InputError(f"model {folder.name}: the folder holds no config.json")
    return folder


def _no_base(adapter: str, base: str) -> str:
    return (
        f"model {adapter}: its adapter_config.json names as its base {base}, which is an adapter itself (judgelm merge"
        " makes a model of one)"
    )


def _named_by(adapter: str | None) -> str:
    return "" if adapter is None else f", but the adapter {adapter} names it as its base"


def _fetch(name: str, cache_dir: str | None, above: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for weights in ("*.safetensors", "*.bin"):
            patterns = ["*.json", weights, "*.model", "*.txt"]
            folder = Path(snapshot_download(name, allow_patterns=patterns, cache_dir=cache_dir))
            if any(folder.glob(weights)):
                break
    except HFValidationError:
        raise InputError(f"model {name}: no such folder, and not a hub id{_named_by(above)}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name}: no such folder, and the hub did not give it ({reason}){_named_by(above)}"
        ) from None
    return folder


def load_tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    """The folder's own tokenizer, else its base's. Raises InputError where there is none that can be used."""
    from transformers import AutoTokenizer

    path = folder.path if folder.base is None or _has_tokenizer(folder.path) else folder.base.path
    with in_one_line(f"model {folder.name}: its tokenizer cannot be loaded"), quiet_progress():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        # a damaged one may be loaded all the same
        tokenizer.decode(tokenizer(RESPONSE).input_ids)
    return tokenizer


@contextlib.contextmanager
def in_one_line(problem: str) -> Iterator[None]:
    """Around calls into a library that read a user's files: what damaged ones make it raise cannot be foreseen.

    tokenizers raises bare Exceptions, torch, safetensors and transformers all kinds of their own.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{problem} ({_reason(error)})") from error


def load_config(folder: ModelFolder) -> PretrainedConfig:
    """The model's config. Raises InputError where it is damaged, or no model can be made by it."""
    from transformers import AutoConfig

    path = folder.path / "config.json"
    for name, value in read_json(path).items():
        if name in _NUMBERS_OF_LAYERS and not (isinstance(value, int) and 0 < value <= _MOST_LAYERS):
            raise InputError(f"{path}: {name}: expected a whole number from 1 to {_MOST_LAYERS}, found {value!r}")
    with in_one_line(f"model {folder.name}: config.json cannot be loaded"):
        # code that comes with a model is never run
        return AutoConfig.from_pretrained(folder.path, trust_remote_code=False)


def check_tokens(folder: ModelFolder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises InputError where the tokenizer writes tokens for which the model has no embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size <= rows:
        # tokens that were added later and never trained may stand beyond it
        return
    beyond = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids) - set(range(rows))
    if beyond:
        raise InputError(
            f"model {folder.name}: its tokenizer has tokens up to {max(beyond)}, the model's embedding {rows} rows:"
            " they do not belong together"
        )


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


def load_model(
    folder: ModelFolder,
    *,
    dtype: str = "auto",
    device: str | None = None,
    num_gpus: int = 1,
    max_gpu_memory: str | None = None,
    quantization: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights and tokenizer, ready to generate; an adapter is merged into its base.

    `dtype` auto is bfloat16 where the hardware computes in it, else float16 on a GPU and float32 on a CPU. With
    `num_gpus` above 1 layers are spread by accelerate's device map, at most `max_gpu_memory` ("37GiB") on each.
    `quantization` int8 keeps the weights of linear layers in 8 bits, by torchao.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if num_gpus > 1 and device is not None:
        raise SettingError("device", f"{device} cannot be chosen for a model that is spread over {num_gpus} GPUs")
    device = device or default_device()
    if device == "cpu":
        keep_freed_memory()
    base = folder.base or folder
    settings: dict[str, Any] = {"dtype": getattr(torch, choose_dtype(dtype, device)), "trust_remote_code": False}
    if num_gpus > 1:
        check_gpus(num_gpus)
        settings["device_map"] = "auto"
        limit = max_gpu_memory or f"{int(torch.cuda.get_device_properties(0).total_memory * 0.85 / 2**30)}GiB"
        settings["max_memory"] = dict.fromkeys(range(num_gpus), limit)
    elif device != "cpu":
        settings["device_map"] = {"": device}
    load_config(base)
    load = functools.partial(AutoModelForCausalLM.from_pretrained, base.path, output_loading_info=True, **settings)
    tokenizer = load_tokenizer(folder)
    with in_one_line(f"model {folder.name}: cannot be loaded"), quiet_progress():
        try:
            flash = {"attn_implementation": "flash_attention_2"} if _has_flash_attention(device, dtype) else {}
            model, info = load(**flash)
        except ValueError:
            if not flash:
                raise
            # an architecture without flash attention
            model, info = load()
        if info["missing_keys"]:
            raise InputError(f"model {folder.name}: the weights lack {sorted(info['missing_keys'])[0]} and maybe more")
        if folder.base is not None:
            model = add_adapter(model, folder).merge_and_unload()
    check_tokens(folder, model, tokenizer)
    if quantization is not None:
        quantize(model, quantization)
    return model.eval(), tokenizer


def quantize(model: PreTrainedModel, name: str) -> None:
    """Weights of all linear layers but the output embedding as int8, with a scale for each row, in place.

    Raises InputError for another name, or where torchao is missing.
    """
    if name not in QUANTIZATIONS:
        raise SettingError("quantization", f"{name!r}: expected one of {', '.join(QUANTIZATIONS)}")
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError:
        raise SettingError("quantization", f"{name} needs torchao: pip install 'judgelm[quantization]'") from None
    from torch.nn import Linear

    # often it is the input embedding too
    kept = model.get_output_embeddings()
    quantize_(model, Int8WeightOnlyConfig(), lambda module, _: isinstance(module, Linear) and module is not kept)


def add_adapter(model: PreTrainedModel, folder: ModelFolder, trainable: bool = False) -> PeftModel:
    """The base with the folder's adapter on it. Raises InputError for an adapter that does not fit or is damaged."""
    from peft import PeftModel

    with in_one_line(f"model {folder.name}: the adapter cannot be used"), warnings.catch_warnings():
        # peft asks transformers by an old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return PeftModel.from_pretrained(model, folder.path, is_trainable=trainable)


def _reason(error: Exception) -> str:
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return name
    # "'weight_map'" alone says little
    return one_line(lines[0] if isinstance(error, OSError | ValueError | RuntimeError) else f"{name}: {lines[0]}")


def _has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))


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


def _has_flash_attention(device: str, dtype: str) -> bool:
    import torch
    from transformers.utils import is_flash_attn_2_available

    if not device.startswith("cuda") or choose_dtype(dtype, device) == "float32" or not is_flash_attn_2_available():
        return False
    # flash-attn 2 needs Ampere or newer
    return bool(torch.cuda.get_device_capability(device)[0] >= 8)
