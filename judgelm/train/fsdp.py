"""FSDP2 through accelerate: sharded from the first weight to the last checkpoint, gathered once, at the end."""

from __future__ import annotations

from typing import Any

import torch


def is_possible(args: Any) -> bool:
    """accelerate shards on accelerators alone; elsewhere it trains with DDP, without a word."""
    return torch.accelerator.is_available() and not args.use_cpu


def is_wanted(args: Any) -> bool:
    """Whether this training will be sharded."""
    return args.fsdp_plugin_args is not None and is_possible(args)


def loads_weights(args: Any) -> bool:
    """Whether this process reads the weights, or gets its part of them from the first one."""
    spread = is_wanted(args) and args.fsdp_plugin_args.get("cpu_ram_efficient_loading")
    return not spread or args.process_index == 0


def prepare(args: Any, layer_classes: str, lora: bool) -> None:
    """Settings of `TrainingArguments` that have been asked to shard.

    The first process reads the weights and sends each of the others its part, so that memory does not have to hold them
    once for each GPU. Checkpoints are written in shards, by all processes at once.
    """
    plugin = args.fsdp_plugin_args
    plugin["transformer_cls_names_to_wrap"] = layer_classes
    plugin["state_dict_type"] = args.fsdp_config.get("state_dict_type", "SHARDED_STATE_DICT")
    if not is_possible(args):
        return
    if "cpu_ram_efficient_loading" not in args.fsdp_config:
        plugin["cpu_ram_efficient_loading"] = True
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        # FSDP's own does not gather the weights once more for it, but renames modules: peft would not find its own
        if not lora and getattr(args, name, False):
            plugin["activation_checkpointing"] = True
            setattr(args, name, False)


def check_not_needed(args: Any) -> None:
    """Where sharding was prepared but did not come on, other processes than the first hold no weights."""
    if args.fsdp_plugin_args and args.fsdp_plugin_args.get("cpu_ram_efficient_loading"):
        raise RuntimeError("accelerate did not turn FSDP on, although there is an accelerator")
