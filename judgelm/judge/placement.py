"""Where replicas of a model are placed."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from judgelm.errors import InputError
from judgelm.models.loading import choose_dtype, default_device


def check_replicas(args: argparse.Namespace) -> Placement:
    """How many replicas there will be and what each gets.

    Raises InputError where the flags contradict each other or this machine has not what they ask for.
    """
    if args.device == "cpu":
        return _on_cores(args.num_replicas or 1, args.ray_address)
    each: int = args.num_gpus_per_model
    total: int = args.num_gpus_total or each * (args.num_replicas or 1)
    if total % each:
        raise InputError(f"--num-gpus-total {total} is no multiple of --num-gpus-per-model {each}")
    placement = Placement(total // each, each, args.device, args.ray_address)
    if args.num_replicas not in (None, placement.replicas):
        raise InputError(
            f"--num-replicas {args.num_replicas}: --num-gpus-total {total} with --num-gpus-per-model {each} makes"
            f" {placement.replicas}"
        )
    if placement.alone:
        return placement
    if args.device not in (None, "cuda"):
        raise InputError(f"--device {args.device} holds one model: replicas need cuda or cpu")
    return placement if args.ray_address else _place_here(placement, total, args.num_gpus_total is not None)


def _place_here(placement: Placement, total: int, gpus_asked: bool) -> Placement:
    """The replicas on this machine's GPUs, or on its cores where it has no GPU and none was asked for."""
    import torch

    there = torch.cuda.device_count()
    if there >= total:
        return placement
    if there:
        raise InputError(f"{total} GPUs are asked for ({placement.replicas} replicas), this machine has {there}")
    if gpus_asked or placement.gpus_each > 1 or placement.device:
        raise InputError(
            f"{total} GPUs are asked for, this machine has none that can be used; to judge on its CPU leave"
            f" --num-gpus-total out, or say --num-replicas N instead"
        )
    return _on_cores(placement.replicas, None)


def _on_cores(replicas: int, address: str | None) -> Placement:
    cores = os.cpu_count() or 1
    if address is None and replicas > cores:
        raise InputError(f"{replicas} replicas are asked for, this machine has {cores} cores")
    return Placement(replicas, 0, "cpu", address)


@dataclass(frozen=True, slots=True)
class Placement:
    """How many replicas there are, and what each of them holds."""

    replicas: int
    gpus_each: int
    """0: cores"""
    device: str | None
    """None: the best there is"""
    ray_address: str | None
    """of the cluster to join; None starts Ray on this machine"""

    @property
    def alone(self) -> bool:
        """Nothing is shared, so Ray is not needed."""
        return self.replicas == 1 and self.ray_address is None

    @property
    def device_of_each(self) -> str | None:
        """A replica sees its own GPUs alone; None spreads it over several."""
        return "cpu" if self.gpus_each == 0 else "cuda" if self.gpus_each == 1 else None

    def choose_dtype(self, name: str) -> str:
        """What `--dtype auto` means here. A cluster's GPUs may be of many kinds: without one at hand it is bfloat16."""
        if not self.alone and self.gpus_each and default_device() != "cuda":
            return "bfloat16" if name == "auto" else name
        return choose_dtype(name, self.device)
