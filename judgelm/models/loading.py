"""A model's folder -> model and tokenizer, ready to generate; or a whole folder, where it is an adapter's."""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.errors import InputError, SettingError, one_line
from judgelm.files import cache_folder, keep
from judgelm.jsonl import read_json
from judgelm.models.devices import (
    FLASH,
    check_gpus,
    choose_dtype,
    default_device,
    keep_freed_memory,
    why_no_flash_attention,
)
from judgelm.models.folder import TRAINING_FILE, ModelFolder
from judgelm.models.tiny import quiet_progress
from judgelm.models.weights import can_take_over, change_weight, quantizer, stored_dtype, take_over
from judgelm.prompt import RESPONSE

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_NUMBERS_OF_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 10_000
_SETTINGS_OF_FILES = ("quantization_config", "transformers_weights")
"""of a config, by which files are read in another way, or others are"""
_LONGEST_REASON = 300
"""characters; some name all weights there are"""
_LAYOUT_OF_MERGED = "1"
"""raise it when merging changes, so that an older cache is left aside"""


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
    `quantization` int8 keeps the weights of linear layers in 8 bits, by torchao; layer by layer as they are read, but
    for an adapter, which is merged before, and for layers that are spread.
    """
    import torch

    if num_gpus > 1 and device is not None:
        raise SettingError("device", f"{device} cannot be chosen for a model that is spread over {num_gpus} GPUs")
    device, base = device or default_device(), folder.base or folder
    wanted = getattr(torch, choose_dtype(dtype, device))
    # cpu:0 is the same
    device = "cpu" if device.startswith("cpu") else device
    eight_bits = None if quantization is None else quantizer(quantization, device)
    placed = _placement(device, num_gpus, max_gpu_memory)
    can_flash = wanted != torch.float32 and why_no_flash_attention(device) is None
    flash = {"attn_implementation": FLASH} if can_flash else {}
    config = load_config(base)
    if eight_bits is not None and getattr(config, "quantization_config", None) is not None:
        raise SettingError("quantization", f"{quantization}: the weights of model {base.name} are quantized already")
    tokenizer = load_tokenizer(folder)
    with in_one_line(f"model {folder.name}: cannot be loaded"):
        model = None
        if folder.base is None and num_gpus == 1 and (device == "cpu" or eight_bits is not None):
            model = _load_mapped(folder, config, wanted, eight_bits is not None, flash)
        if model is not None:
            take_over(model, wanted, device, eight_bits)
        else:
            model = _load_placed(base.path, folder.name, flash, dtype=wanted, **placed)
            if folder.base is not None:
                model = add_adapter(model, folder).merge_and_unload()
            if eight_bits is not None:
                for module in model.modules():
                    change_weight(module, eight_bits, model.get_output_embeddings())
    check_tokens(folder, model, tokenizer)
    if device == "cpu":
        # not before: what loading frees is larger than what judging takes again
        keep_freed_memory()
    return model.eval(), tokenizer


def _placement(device: str, num_gpus: int, max_gpu_memory: str | None) -> dict[str, Any]:
    """What transformers is told of where layers go. Raises InputError for more GPUs than there are."""
    import torch

    if num_gpus == 1:
        return {} if device == "cpu" else {"device_map": {"": device}}
    check_gpus(num_gpus)
    limit = max_gpu_memory or f"{int(torch.cuda.get_device_properties(0).total_memory * 0.85 / 2**30)}GiB"
    return {"device_map": "auto", "max_memory": dict.fromkeys(range(num_gpus), limit)}


def _load_mapped(
    folder: ModelFolder, config: PretrainedConfig, wanted: torch.dtype, quantize: bool, flash: dict[str, str]
) -> PreTrainedModel | None:
    """The model as it lies in its files, which are mapped and not read; None where that is no help."""
    apart = any(getattr(config, name, None) is not None for name in _SETTINGS_OF_FILES)
    stored = None if apart else stored_dtype(folder.path)
    if stored is None or (stored == wanted and not quantize):
        return None
    model = _load_placed(folder.path, folder.name, flash, dtype=stored)
    return model if can_take_over(model, wanted) else None


def _load_placed(path: Path, name: str, flash: dict[str, str], **settings: Any) -> PreTrainedModel:
    """With flash attention, if that is wanted and the architecture has it."""
    try:
        return load_weights(path, name, **settings, **flash)
    except ValueError:
        if not flash:
            raise
        return load_weights(path, name, **settings)


def load_weights(path: Path, name: str, **settings: Any) -> PreTrainedModel:
    """The model in a folder; weights that have no place in it are told in a line.

    Raises InputError, which says the name, where weights are missing or of another shape.
    """
    from transformers import AutoModelForCausalLM

    with quiet_progress(), _without_report():
        # code that comes with a model is never run
        model, info = AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **settings
        )
    if info["mismatched_keys"]:
        weight, stored, expected = sorted(info["mismatched_keys"])[0]
        raise InputError(
            f"model {name}: {one_line(weight)} is {list(stored)} in the weights, by config.json {list(expected)}"
        )
    if info["missing_keys"]:
        raise InputError(f"model {name}: the weights lack {sorted(info['missing_keys'])[0]} and maybe more")
    if unknown := sorted(info["unexpected_keys"]):
        _tell_once(
            f"judgelm: model {name}: weights that by config.json it does not have are left aside: {len(unknown)}, such"
            f" as {one_line(unknown[0])}"
        )
    return model


@contextlib.contextmanager
def _without_report() -> Iterator[None]:
    """Without transformers' table of what did not fit."""
    log = logging.getLogger("transformers.modeling_utils")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@functools.cache
def _tell_once(line: str) -> None:
    # a model may be loaded a second time, in another way
    print(line, file=sys.stderr)


def add_adapter(model: PreTrainedModel, folder: ModelFolder, trainable: bool = False) -> PeftModel:
    """The base with the folder's adapter on it. Raises InputError for an adapter that does not fit or is damaged."""
    from peft import PeftModel

    with in_one_line(f"model {folder.name}: the adapter cannot be used"), warnings.catch_warnings():
        # peft asks transformers by an old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # else the base, or half of the adapter, would judge in its name
        warnings.filterwarnings("error", ".*Found missing adapter keys", UserWarning)
        return PeftModel.from_pretrained(model, folder.path, is_trainable=trainable)


def write_merged(folder: ModelFolder, output: Path, dtype: str) -> None:
    """Write base + adapter as one model folder, and how the adapter was trained where it says so; the sum is taken in
    float32. Raises OSError where it cannot.
    """
    import torch

    model, tokenizer = load_model(folder, dtype="float32", device="cpu")
    with quiet_progress():
        model.to(getattr(torch, dtype)).save_pretrained(output)
        tokenizer.save_pretrained(output)
    if (trained := folder.path / TRAINING_FILE).is_file():
        shutil.copyfile(trained, output / TRAINING_FILE)


def merged_folder(folder: ModelFolder, dtype: str) -> ModelFolder:
    """The model without an adapter: the folder itself, or base + adapter in the user's cache, merged at the first call.

    Its name there has the fingerprint of both, so that what was trained on is merged anew.
    """
    if folder.base is None:
        return folder
    merged = cache_folder() / f"merged-{folder.fingerprint()[:16]}-{dtype}-{_LAYOUT_OF_MERGED}"

    def merge(work: Path) -> Path:
        print(f"judgelm: merging {folder.name} into its base (once)", file=sys.stderr)
        write_merged(folder, work / "model", dtype)
        return work / "model"

    try:
        return ModelFolder(folder.name, keep(merged, "merged", merge), None)
    except OSError as error:
        raise InputError(f"{merged}: the merged model cannot be kept there ({error.strerror or error})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        # torch's own words say how to run what is in it
        return "a .bin file holds more than weights, or is damaged: it was not opened"
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return name
    # "'weight_map'" alone says little
    said = one_line(lines[0] if isinstance(error, OSError | ValueError | RuntimeError) else f"{name}: {lines[0]}")
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}.."


def _has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))
