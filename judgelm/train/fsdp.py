"""FSDP2 through accelerate: sharded from the first weight to the last checkpoint, gathered once, at the end."""

from __future__ import annotations

import os
from typing import Any

import torch


def is_possible() -> bool:
    """accelerate shards on accelerators alone; elsewhere it trains with DDP, without a word."""
    return torch.accelerator.is_available()


def prepare(args: Any, layer_class: str) -> None:
    """Settings of `TrainingArguments` that have been asked to shard.

    One process on each machine reads the weights and sends them to the others, so that a machine never holds them once
    for each GPU. Checkpoints are written in shards, by all processes at once.
    """
    plugin = args.fsdp_plugin_args
    plugin["transformer_cls_names_to_wrap"] = layer_class
    plugin["state_dict_type"] = args.fsdp_config.get("state_dict_type", "SHARDED_STATE_DICT")
    if not is_possible():
        return
    if "cpu_ram_efficient_loading" not in args.fsdp_config:
        plugin["cpu_ram_efficient_loading"] = True
        # transformers asks the environment when it loads a model
        os.environ["ACCELERATE_USE_FSDP"] = os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "true"
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        # FSDP's own does not gather the weights once more for it
        if getattr(args, name, False):
            plugin["activation_checkpointing"] = True
            setattr(args, name, False)


def check_not_needed(args: Any) -> None:
    """Where sharding was prepared but did not come on, other processes than the first hold no weights."""
    if args.fsdp_plugin_args and args.fsdp_plugin_args.get("cpu_ram_efficient_loading"):
        raise RuntimeError("accelerate did not turn FSDP on, although there is an accelerator")
