"""Flags of the training scripts: TrainingArguments', ours, and published names that are gone there."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers
from transformers import HfArgumentParser
from transformers.integrations import integration_utils
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from judgelm.errors import InputError, one_line
from judgelm.jsonl import read_json


@dataclass
class ModelArguments:
    """Which model is fine-tuned."""

    model_name_or_path: str = field(
        default="tiny-base", metadata={"help": "hub id, local folder, or tiny-base (the embedded small model)"}
    )
    rope_scaling: str = field(
        default="linear",
        metadata={
            "help": "how positions are stretched where --model_max_length is beyond the model's own context: linear"
            " (as published) or yarn"
        },
    )


@dataclass
class DataArguments:
    """What is trained on, and in which variants."""

    data_path: str = field(metadata={"help": "training rows: a JSONL file, or a data set of the hub"})
    eval_data_path: str | None = field(
        default=None, metadata={"help": "rows whose loss is measured as --eval_strategy says; never augmented"}
    )
    swap_aug_ratio: float = field(
        default=-1.0, metadata={"help": "probability that answers 1 and 2 are exchanged; below 0: never"}
    )
    ref_drop_ratio: float = field(
        default=-1.0,
        metadata={
            "help": "the published name, and its published effect: the probability that the reference is SHOWN; below"
            " 0: never. --reference_prob says the same in clear words"
        },
    )
    reference_prob: float | None = field(
        default=None,
        metadata={
            "help": "probability that the reference is shown, with the judgement the teacher gave with it (default:"
            " --ref_drop_ratio)"
        },
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "put the examples of a device batch into one row, each attending to itself alone: the same loss"
            " without padding; use it with a --per_device_train_batch_size above 1"
        },
    )
    pretokenize: bool = field(
        default=False,
        metadata={"help": "tokenize all variants before training, into the datasets cache, instead of while training"},
    )
    score_loss_weight: float = field(
        default=1.0,
        metadata={
            "help": "weight of the score line's few tokens in the loss; above 1 they stand out against the many of the"
            " reasons"
        },
    )


@dataclass
class TrainingArguments(transformers.TrainingArguments):  # type: ignore[misc]
    """Hugging Face's, with the defaults of the published commands where they differ."""

    output_dir: str | None = field(
        default=None, metadata={"help": "gets checkpoints, the final model and its card; a second start goes on there"}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "where the hub's model files are kept"})
    optim: str = field(default="adamw_torch", metadata={"help": "the optimizer, by its transformers name"})
    model_max_length: int = field(
        default=2048,
        metadata={"help": "most tokens of an example; answers of longer ones are shortened, as in judging"},
    )
    logging_steps: float = field(default=1, metadata={"help": "steps between two lines of the log"})
    # transformers' parser wants None first here
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none", metadata={"help": "where the log goes too: wandb, tensorboard, .. (comma between several)"}
    )


@dataclass
class LoraArguments:
    """Which small matrices are trained in place of the whole model."""

    lora_r: int = field(default=16, metadata={"help": "rank of the update"})
    lora_alpha: int = field(default=32, metadata={"help": "the update is scaled by alpha / r"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout in front of the update"})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"],
        metadata={"help": "names of the layers that get an update, or all-linear", "nargs": "+"},
    )
    lora_first_layer: int = field(
        default=0, metadata={"help": "number of the first transformer layer that gets an update; those below stay"}
    )
    q_lora: bool = field(
        default=False, metadata={"help": "keep the frozen weights in 4 bits (QLoRA; needs a GPU and bitsandbytes)"}
    )


_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "gradient_checkpointing": "activation_checkpointing",
}
_PACKAGES = {"azure_ml": "azureml-sdk", "flyte": "flytekit", "comet_ml": "comet-ml"}
_CHECKS = {"azure_ml": "azureml", "flyte": "flytekit", "comet_ml": "comet"}
"""transformers' own names in is_.._available"""
_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "seed": 0,
}
_OF_A_MODEL = ("galore", "apollo", "lomo", "adalomo")
_WITHOUT_EFFECT = {
    "save_safetensors": "models are always saved as safetensors",
    "group_by_length": "use --packing, which has no padding at all",
    "overwrite_output_dir": "a training goes on where it stopped; choose another --output_dir to start anew",
    "lazy_preprocess": "rows are tokenized lazily unless --pretokenize is given",
}


def translate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags as they are published -> flags of transformers 5, and a line about each that changed."""
    flags, notes = _split(argv), []
    fsdp_config: dict[str, Any] = {}
    kept: list[tuple[str, list[str]]] = []
    for name, values in flags:
        value = values[0] if values else "True"
        if name in _RENAMED and _RENAMED[name] in TrainingArguments.__dataclass_fields__:
            notes.append(f"--{name} is called --{_RENAMED[name]} in transformers 5")
            kept.append((_RENAMED[name], values))
        elif name in _WITHOUT_EFFECT:
            notes.append(f"--{name} has no effect: {_WITHOUT_EFFECT[name]}")
        elif name == "warmup_ratio":
            if not 0 <= _number(name, value) < 1:
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
            fsdp_config = _read_fsdp_config(value) | fsdp_config
        else:
            kept.append((name, values))
    if fsdp_config:
        kept.append(("fsdp_config", [json.dumps(fsdp_config)]))
    return [part for name, values in kept for part in (f"--{name}", *values)], notes


def _split(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    flags: list[tuple[str, list[str]]] = []
    for part in argv:
        if part.startswith("--"):
            name, equals, value = part[2:].partition("=")
            flags.append((name.replace("-", "_"), [value] if equals else []))
        elif flags:
            flags[-1][1].append(part)
        else:
            raise InputError(f"expected a flag first, found {part!r} (--help lists the flags)")
    return flags


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"--{name}: expected a number, found {value!r}") from None


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


def _read_fsdp_config(value: str) -> dict[str, Any]:
    if not value.lstrip().startswith("{"):
        return {name.removeprefix("fsdp_"): entry for name, entry in read_json(value).items()}
    try:
        return {name.removeprefix("fsdp_"): entry for name, entry in json.loads(value).items()}
    except ValueError as error:
        raise InputError(f"--fsdp_config: not JSON that can be read ({error})") from None


def fit_to_machine(args: list[str]) -> tuple[list[str], list[str]]:
    """Leave out what this machine cannot do, and say so: a published command runs without a GPU too."""
    notes = []
    flags = _split(args)
    given = dict(flags)
    on_cpu = not torch.accelerator.is_available() or given.get("use_cpu", ["False"])[:1] not in (["False"], ["false"])
    if on_cpu and "use_cpu" not in given:
        flags.append(("use_cpu", ["True"]))
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
    if given.get("tf32", ["False"])[:1] != ["False"] and not _has_tf32():
        flags = [flag for flag in flags if flag[0] != "tf32"]
        notes.append("--tf32 has no effect: there is no GPU that computes in it")
    return [part for name, values in flags for part in (f"--{name}", *values)], notes


def _has_tf32() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8


class _Parser(HfArgumentParser):  # type: ignore[misc]
    """Answers a mistake with one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the flags)")


@dataclass(frozen=True)
class Settings:
    """All flags of a training, by what they are about."""

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments
    lora: LoraArguments | None

    @property
    def reference_prob(self) -> float:
        given = self.data.ref_drop_ratio if self.data.reference_prob is None else self.data.reference_prob
        return max(0.0, given)


def parse(argv: Sequence[str], lora: bool) -> tuple[Settings, list[str]]:
    """Flags -> settings, and lines about flags that were translated or left out. Raises InputError."""
    if not {"output_dir"} & {name for name, _ in _split(argv)} and not {"-h", "--help"} & set(argv):
        # transformers would choose a folder of its own
        raise InputError("--output_dir is missing: the folder for checkpoints and the final model")
    groups = (ModelArguments, DataArguments, TrainingArguments, *((LoraArguments,) if lora else ()))
    usage = "%(prog)s --data_path FILE --output_dir DIR [FLAG VALUE ..]"
    parser = _Parser(groups, description=_describe(lora), allow_abbrev=False, usage=usage)
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    args, notes = translate(argv)
    _check_json(args)
    args, left_out = fit_to_machine(args)
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(
            args, look_for_args_file=False, return_remaining_strings=True
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise InputError(one_line(str(error))) from None
    if unknown:
        raise InputError(f"unknown flags: {' '.join(unknown)} (--help lists the flags)")
    model, data, training, *rest = parsed
    settings = Settings(model, data, training, rest[0] if lora else None)
    _check(settings)
    return settings, notes + left_out


def _check(settings: Settings) -> None:
    data, training = settings.data, settings.training
    if settings.lora is not None and settings.lora.q_lora:
        if training.use_cpu or not torch.cuda.is_available():
            raise InputError("--q_lora needs a GPU: leave it away to train a LoRA adapter on the CPU")
        if training.fsdp:
            raise InputError("--q_lora with --fsdp: weights in 4 bits cannot be sharded, leave one of them away")
    if training.fp16 and training.use_cpu:
        raise InputError("--fp16 needs a GPU: use --bf16 on a CPU")
    output = Path(training.output_dir or "").expanduser()
    if output.exists() and not output.is_dir():
        raise InputError(f"--output_dir {output}: expected a folder, found a file")
    if data.reference_prob is not None and data.ref_drop_ratio >= 0:
        raise InputError("--reference_prob and --ref_drop_ratio say the same: give one of them")
    for name in ("swap_aug_ratio", "ref_drop_ratio", "reference_prob"):
        value = getattr(data, name)
        if value is not None and value > 1:
            raise InputError(f"--{name} is a probability: expected 0 to 1 (below 0: never), found {value}")
    if not data.score_loss_weight > 0:
        raise InputError(f"--score_loss_weight: expected a number above 0, found {data.score_loss_weight}")
    if training.model_max_length < 1:
        raise InputError(f"--model_max_length: expected a whole number from 1 on, found {training.model_max_length}")
    if settings.model.rope_scaling not in ("linear", "yarn"):
        raise InputError(f"--rope_scaling: expected linear or yarn, found {settings.model.rope_scaling}")
    if training.n_gpu > 1:
        raise InputError(
            f"this process sees {training.n_gpu} GPUs: start one process for each with torchrun --nproc_per_node"
            f" {training.n_gpu}, or show it one GPU with CUDA_VISIBLE_DEVICES"
        )
    if training.eval_strategy != "no" and data.eval_data_path is None:
        raise InputError(f"--eval_strategy {training.eval_strategy.value} needs --eval_data_path")
    if training.label_smoothing_factor:
        raise InputError("--label_smoothing_factor: a judge is trained without label smoothing")
    if training.train_sampling_strategy not in ("random", "sequential"):
        raise InputError(
            f"--train_sampling_strategy {training.train_sampling_strategy}: expected random (drawn by --seed) or"
            " sequential (the order of the file); --packing has no padding in either"
        )
    training.report_to = [name.strip() for part in training.report_to or () for name in part.split(",")]
    for name in training.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise InputError(f"--report_to {name}: expected none or some of {', '.join(INTEGRATION_TO_CALLBACK)}")
        if not _reports_to(name):
            raise InputError(f"--report_to {name}: it is not installed (pip install {_PACKAGES.get(name, name)})")
    if data.eval_data_path is not None and not Path(data.eval_data_path).expanduser().is_file():
        raise InputError(f"--eval_data_path {data.eval_data_path}: no such file")
    for name, least in _LEAST.items():
        if getattr(training, name) < least:
            raise InputError(f"--{name}: expected {least} or more, found {getattr(training, name)}")
    if settings.lora is not None and settings.lora.lora_r < 1:
        raise InputError(f"--lora_r: expected 1 or more, found {settings.lora.lora_r}")
    if settings.lora is not None and not 0 <= settings.lora.lora_dropout < 1:
        raise InputError(f"--lora_dropout: expected 0 to below 1, found {settings.lora.lora_dropout}")
    if training.max_steps <= 0 and not 0 < training.num_train_epochs < math.inf:
        raise InputError(f"--num_train_epochs: expected a number above 0, found {training.num_train_epochs}")
    check_optimizer(training)
    training.remove_unused_columns = False
    training.prediction_loss_only = True


def _reports_to(name: str) -> bool:
    """Whether the package of one of transformers' integrations is there."""
    check = getattr(integration_utils, f"is_{_CHECKS.get(name, name)}_available", None)
    return check is None or bool(check())


def _check_json(args: Sequence[str]) -> None:
    """Raises InputError for flags whose value is an object, in JSON or in a file, and cannot be read."""
    for name, values in _split(args):
        if name not in TrainingArguments._VALID_DICT_FIELDS or not values or not values[0].strip():
            continue
        if values[0].lstrip().startswith("{"):
            try:
                json.loads(values[0])
            except ValueError as error:
                raise InputError(f"--{name}: not JSON that can be read ({error})") from None
        elif name in ("deepspeed", "accelerator_config"):
            try:
                read_json(values[0])
            except InputError as error:
                raise InputError(f"--{name} {error}") from None
        if name == "deepspeed" and find_spec("deepspeed") is None:
            raise InputError("--deepspeed: it is not installed (pip install deepspeed)")


def check_optimizer(training: TrainingArguments, model: Any = None) -> None:
    """Raises InputError for an optimizer whose package is missing, and with a model for one that does not take it."""
    from transformers import Trainer
    from transformers.training_args import OptimizerNames

    try:
        Trainer.get_optimizer_cls_and_kwargs(training, model)
    except (ImportError, ValueError, RuntimeError) as error:
        name = OptimizerNames(training.optim).value
        # these look at a model, too
        if model is None and not isinstance(error, ImportError) and name.startswith(_OF_A_MODEL):
            return
        raise InputError(f"--optim {name}: {one_line(str(error))}") from error


def check_fills_a_batch(training: TrainingArguments, rows: int) -> None:
    """Raises InputError where the rows fill no batch and would all be dropped."""
    batch = training.per_device_train_batch_size * training.world_size
    if training.dataloader_drop_last and rows < batch:
        raise InputError(f"--dataloader_drop_last: {rows} rows fill no batch of {batch}, so none would be trained on")


def _describe(lora: bool) -> str:
    kind = "LoRA or QLoRA adapter" if lora else "judge"
    return (
        f"Fine-tune a {kind} on teacher judgements. Beside the flags of its own it takes those of Hugging Face's"
        " TrainingArguments; start it with torchrun for several processes. A second start with the same flags goes on"
        " from the last checkpoint."
    )
