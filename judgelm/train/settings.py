"""A command line -> settings, checked before any long work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser
from transformers.integrations import integration_utils
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from judgelm.console import Formatter
from judgelm.errors import InputError, one_line
from judgelm.train.arguments import DataArguments, LoraArguments, ModelArguments, Settings, TrainingArguments
from judgelm.train.published_flags import (
    Flags,
    check_needed,
    fit_to_machine,
    join_flags,
    read_object,
    split_flags,
    translate,
)
from judgelm.train.sample import COLUMNS

Checks = Iterator[tuple[bool, str]]
"""whether something cannot be, and what to say then"""
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
_HELP = {"-h", "--help"}


class _Parser(HfArgumentParser):  # type: ignore[misc]
    """Answers a mistake with one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the flags)")


def parse(argv: Sequence[str], lora: bool, prog: str | None = None) -> Settings:
    """The settings of a command line; `prog` is how the script was called. Raises InputError."""
    groups = (ModelArguments, DataArguments, TrainingArguments, *((LoraArguments,) if lora else ()))
    kind = "LoRA or QLoRA adapter" if lora else "judge"
    parser = _Parser(
        groups,
        description=f"Fine-tune a {kind} on teacher judgements. Beside the flags of its own it takes those of Hugging"
        " Face's TrainingArguments; start it with torchrun for several processes. A second start with the same flags"
        " goes on from the last checkpoint.",
        allow_abbrev=False,
        formatter_class=Formatter,
        prog=prog,
        usage="%(prog)s --data_path FILE --output_dir DIR [FLAG VALUE ..]",
    )
    if _HELP & set(argv):
        parser.parse_args(["--help"])
    flags = split_flags(argv)
    check_needed(flags)
    flags, translated = translate(flags)
    _check_json(flags)
    flags, left_out = fit_to_machine(flags)
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(
            join_flags(flags), look_for_args_file=False, return_remaining_strings=True
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise InputError(one_line(str(error))) from None
    if unknown:
        raise InputError(f"unknown flags: {' '.join(unknown)} (--help lists the flags)")
    model, data, training, *rest = parsed
    settings = Settings(model, data, training, rest[0] if lora else None, (*translated, *left_out))
    _check(settings)
    return settings


def _check_json(flags: Flags) -> None:
    """Raises InputError for flags whose value is an object, in JSON or in a file, and cannot be read."""
    for name, values in flags:
        if name not in TrainingArguments._VALID_DICT_FIELDS or not values or not values[0].strip():
            continue
        if values[0].lstrip().startswith("{") or name in ("deepspeed", "accelerator_config"):
            read_object(name, values[0])
        if name == "deepspeed" and find_spec("deepspeed") is None:
            raise InputError("--deepspeed: it is not installed (pip install deepspeed)")


def _check(settings: Settings) -> None:
    training = settings.training
    training.report_to = [name.strip() for part in training.report_to or () for name in part.split(",")]
    groups = (
        _of_lora(settings),
        _of_data(settings),
        _of_method(settings),
        _of_training(training),
        _of_reports(training),
    )
    for wrong, message in chain(*groups):
        if wrong:
            raise InputError(message)
    check_optimizer(training)
    training.remove_unused_columns = False
    training.prediction_loss_only = True


def _of_lora(settings: Settings) -> Checks:
    lora, training = settings.lora, settings.training
    if lora is None:
        return
    if lora.q_lora:
        on_cpu = training.use_cpu or not torch.cuda.is_available()
        yield on_cpu, "--q_lora needs a GPU: leave it away to train a LoRA adapter on the CPU"
        yield bool(training.fsdp), "--q_lora with --fsdp: weights in 4 bits cannot be sharded, leave one of them away"
    yield lora.lora_r < 1, f"--lora_r: expected 1 or more, found {lora.lora_r}"
    yield not 0 <= lora.lora_dropout < 1, f"--lora_dropout: expected 0 to below 1, found {lora.lora_dropout}"


def _of_data(settings: Settings) -> Checks:
    data, evaluation, scaling = settings.data, settings.training.eval_strategy, settings.model.rope_scaling
    if (columns := settings.columns) is not None:
        columns.check(COLUMNS, "a training file")
    both = data.reference_prob is not None and data.ref_drop_ratio >= 0
    yield both, "--reference_prob and --ref_drop_ratio say the same: give one of them"
    for name in ("swap_aug_ratio", "ref_drop_ratio", "reference_prob"):
        value = getattr(data, name)
        wrong = value is not None and value > 1
        yield wrong, f"--{name} is a probability: expected 0 to 1 (below 0: never), found {value}"
    weight = data.score_loss_weight
    yield not weight > 0, f"--score_loss_weight: expected a number above 0, found {weight}"
    weight = data.swap_consistency
    yield not 0 <= weight < math.inf, f"--swap_consistency: expected a number from 0 on, found {weight}"
    yield scaling not in ("linear", "yarn"), f"--rope_scaling: expected linear or yarn, found {scaling}"
    file = data.eval_data_path
    yield evaluation != "no" and file is None, f"--eval_strategy {evaluation.value} needs --eval_data_path"
    missing = file is not None and not Path(file).expanduser().is_file()
    yield missing, f"--eval_data_path {file}: no such file"


def _of_method(settings: Settings) -> Checks:
    data, method = settings.data, settings.data.method
    yield method not in ("sft", "dpo"), f"--method {method}: expected sft or dpo"
    beta = data.dpo_beta
    yield not 0 < beta < math.inf, f"--dpo_beta: expected a number above 0, found {beta}"
    if not settings.prefers:
        yield beta != DataArguments.dpo_beta, "--dpo_beta goes with --method dpo alone"
        return
    yield find_spec("trl") is None, "--method dpo needs TRL, which is not installed (pip install 'judgelm[rl]')"
    given = {
        "packing": data.packing,
        "pretokenize": data.pretokenize,
        "columns": data.columns is not None,
        "swap_aug_ratio": settings.swap_prob > 0,
        "ref_drop_ratio": data.ref_drop_ratio >= 0,
        "reference_prob": data.reference_prob is not None,
        "score_loss_weight": data.score_loss_weight != 1.0,
        "swap_consistency": data.swap_consistency != 0.0,
        "lora_dropout": settings.lora is not None and settings.lora.lora_dropout > 0,
        "fsdp": bool(settings.training.fsdp),
    }
    for name, wrong in given.items():
        yield wrong, f"--{name} does not go with --method dpo: leave it away"


def _of_training(training: TrainingArguments) -> Checks:
    yield training.fp16 and training.use_cpu, "--fp16 needs a GPU: use --bf16 on a CPU"
    output = Path(training.output_dir or "").expanduser()
    yield output.exists() and not output.is_dir(), f"--output_dir {output}: expected a folder, found a file"
    longest = training.model_max_length
    yield longest < 1, f"--model_max_length: expected a whole number from 1 on, found {longest}"
    yield (
        training.n_gpu > 1,
        f"this process sees {training.n_gpu} GPUs: start one process for each with torchrun --nproc_per_node"
        f" {training.n_gpu}, or show it one GPU with CUDA_VISIBLE_DEVICES",
    )
    smoothed = bool(training.label_smoothing_factor)
    yield smoothed, "--label_smoothing_factor: a judge is trained without label smoothing"
    yield (
        training.train_sampling_strategy not in ("random", "sequential"),
        f"--train_sampling_strategy {training.train_sampling_strategy}: expected random (drawn by --seed) or"
        " sequential (the order of the file); --packing has no padding in either",
    )
    for name, least in _LEAST.items():
        found = getattr(training, name)
        yield found < least, f"--{name}: expected {least} or more, found {found}"
    epochs = training.num_train_epochs
    endless = training.max_steps <= 0 and not 0 < epochs < math.inf
    yield endless, f"--num_train_epochs: expected a number above 0, found {epochs}"


def _of_reports(training: TrainingArguments) -> Checks:
    for name in training.report_to or ():
        known = ", ".join(INTEGRATION_TO_CALLBACK)
        yield name not in INTEGRATION_TO_CALLBACK, f"--report_to {name}: expected none or some of {known}"
        available = getattr(integration_utils, f"is_{_CHECKS.get(name, name)}_available", None)
        missing = available is not None and not available()
        yield missing, f"--report_to {name}: it is not installed (pip install {_PACKAGES.get(name, name)})"


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
