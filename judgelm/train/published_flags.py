"""Flags as they are published -> those of transformers 5, and of them what this machine can do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from judgelm.errors import InputError
from judgelm.jsonl import read_json

Flags = list[tuple[str, list[str]]]
"""names without their dashes, each with the words that follow it"""
_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "gradient_checkpointing": "activation_checkpointing",
}
_WITHOUT_EFFECT = {
    "save_safetensors": "models are always saved as safetensors",
    "group_by_length": "use --packing, which has no padding at all",
    "overwrite_output_dir": "a training goes on where it stopped; choose another --output_dir to start anew",
    "lazy_preprocess": "rows are tokenized lazily unless --pretokenize is given",
}


def split_flags(argv: Sequence[str]) -> Flags:
    """Raises InputError where no flag comes first."""
    flags: Flags = []
    for part in argv:
        if part.startswith("--"):
            name, equals, value = part[2:].partition("=")
            flags.append((name.replace("-", "_"), [value] if equals else []))
        elif flags:
            flags[-1][1].append(part)
        else:
            raise InputError(f"expected a flag first, found {part!r} (--help lists the flags)")
    return flags


def check_needed(flags: Flags) -> None:
    """Raises InputError that names each flag that is needed and missing, and those that there are.

    Without an output_dir transformers would choose a folder of its own.
    """
    given = dict(flags)
    missing = [f"--{name}" for name in ("data_path", "output_dir") if name not in given]
    if missing:
        found = ", ".join(f"--{name}" for name in given) or "no flags"
        verb = "are" if len(missing) > 1 else "is"
        raise InputError(f"{' and '.join(missing)} {verb} missing (found: {found}; --help lists the flags)")


def join_flags(flags: Flags) -> list[str]:
    """The words of a command line."""
    return [part for name, values in flags for part in (f"--{name}", *values)]


def translate(flags: Flags) -> tuple[Flags, list[str]]:
    """Flags as they are published -> flags of transformers 5, and a line about each that changed."""
    import transformers

    notes: list[str] = []
    fsdp_config: dict[str, Any] = {}
    kept: Flags = []
    for name, values in flags:
        value = values[0] if values else "True"
        if name in _RENAMED and _RENAMED[name] in transformers.TrainingArguments.__dataclass_fields__:
            notes.append(f"--{name} is called --{_RENAMED[name]} in transformers 5")
            kept.append((_RENAMED[name], values))
        elif name in _WITHOUT_EFFECT:
            notes.append(f"--{name} has no effect: {_WITHOUT_EFFECT[name]}")
        elif name == "warmup_ratio":
            if not _is_share(value):
                raise InputError(f"--warmup_ratio: expected a share from 0 to below 1, found {value}")
            notes.append(f"--warmup_ratio is given as --warmup_steps {value} in transformers 5: below 1 it is a share")
            kept.append(("warmup_steps", [value]))
        elif name == "fsdp_transformer_layer_cls_to_wrap":
            notes.append(f"--{name} is an entry of --fsdp_config in transformers 5")
            fsdp_config["transformer_layer_cls_to_wrap"] = [part for text in values for part in text.split(",")]
        elif name == "fsdp" and value.lower() in ("", "false"):
            continue
        elif name == "fsdp" and value.lower() != "true":
            notes.append(f'--fsdp "{" ".join(values)}" is given as entries of --fsdp_config in transformers 5')
            fsdp_config |= _fsdp_entries(" ".join(values).split())
            kept.append(("fsdp", []))
        elif name == "fsdp_config":
            entries = read_object(name, value)
            fsdp_config = {key.removeprefix("fsdp_"): entry for key, entry in entries.items()} | fsdp_config
        else:
            kept.append((name, values))
    if fsdp_config:
        kept.append(("fsdp_config", [json.dumps(fsdp_config)]))
    return kept, notes


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) < 1
    except ValueError:
        return False


def _fsdp_entries(words: Sequence[str]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for word in words:
        if word in ("full_shard", "shard_grad_op"):
            entries["reshard_after_forward"] = word == "full_shard"
        elif word == "offload":
            entries["cpu_offload"] = True
        elif word != "auto_wrap":
            raise InputError(f"--fsdp {word}: expected full_shard or shard_grad_op, auto_wrap, offload")
    return entries


def read_object(name: str, value: str) -> dict[str, Any]:
    """The value of a flag that is a JSON object, or a file that holds one. Raises InputError."""
    try:
        entries: dict[str, Any] = json.loads(value) if value.lstrip().startswith("{") else read_json(value)
    except ValueError as error:
        raise InputError(f"--{name}: not JSON that can be read ({error})") from None
    except InputError as error:
        raise InputError(f"--{name} {error}") from None
    return entries


def fit_to_machine(flags: Flags) -> tuple[Flags, list[str]]:
    """Leave out what this machine cannot do, and say so: a published command runs without a GPU too."""
    import torch

    notes, given = [], dict(flags)
    on_cpu = not torch.accelerator.is_available() or given.get("use_cpu", ["False"])[:1] not in (["False"], ["false"])
    if on_cpu and "use_cpu" not in given:
        flags = [*flags, ("use_cpu", ["True"])]
    config = json.loads(given.get("fsdp_config", ["{}"])[0])
    if config.get("cpu_offload"):
        if on_cpu:
            del config["cpu_offload"]
            given["fsdp_config"][0] = json.dumps(config)
            notes.append('--fsdp "offload" has no effect: there is no GPU to make room on')
        else:
            # accelerate opens the process group for CPU tensors too only where the environment says so
            os.environ["ACCELERATE_USE_FSDP"] = os.environ["FSDP_OFFLOAD_PARAMS"] = "true"
    if "fsdp" in given and os.environ.get("WORLD_SIZE", "1") == "1":
        flags = [flag for flag in flags if flag[0] != "fsdp"]
        notes.append("--fsdp has no effect in a single process: torchrun --nproc_per_node starts several")
    has_tf32 = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
    if given.get("tf32", ["False"])[:1] != ["False"] and not has_tf32:
        flags = [flag for flag in flags if flag[0] != "tf32"]
        notes.append("--tf32 has no effect: there is no GPU that computes in it")
    return flags, notes
