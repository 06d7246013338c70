"""Where replicas of a model are placed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from judgelm.errors import InputError
from judgelm.models.devices import choose_dtype, default_device


@dataclass(frozen=True, slots=True)
class Placement:
    """How many replicas there are, and what each of them holds."""

    replicas: int = 1
    gpus_each: int = 1
    """0: cores"""
    device: str | None = None
    """None: the best there is"""
    ray_address: str | None = None
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


def place(
    device: str | None = None,
    gpus_per_model: int = 1,
    gpus_total: int | None = None,
    replicas: int | None = None,
    ray_address: str | None = None,
) -> Placement:
    """How many replicas there will be and what each gets.

    Raises InputError, in the words of the flags, where they contradict each other or this machine has not what they ask
    for.
    """
    if device == "cpu":
        return _on_cores(replicas or 1, ray_address)
    total = gpus_total or gpus_per_model * (replicas or 1)
    if total % gpus_per_model:
        raise InputError(f"--num-gpus-total {total} is no multiple of --num-gpus-per-model {gpus_per_model}")
    placement = Placement(total // gpus_per_model, gpus_per_model, device, ray_address)
    if replicas not in (None, placement.replicas):
        raise InputError(
            f"--num-replicas {replicas}: --num-gpus-total {total} with --num-gpus-per-model {gpus_per_model} makes"
            f" {placement.replicas}"
        )
    if placement.alone:
        return placement
    if device not in (None, "cuda"):
        raise InputError(f"--device {device} holds one model: replicas need cuda or cpu")
    return placement if ray_address else _place_here(placement, total, gpus_total is not None)


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
