"""`judgelm train`: the training script, in one process for each GPU of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from judgelm.errors import InputError


def launch(flags: Sequence[str], lora: bool, num_processes: int | None) -> None:
    """Train in this process, or through torchrun where there are several GPUs or `num_processes` says so."""
    import torch

    from judgelm.train.train import train

    if num_processes is not None and num_processes < 1:
        raise InputError(f"--nproc: expected a whole number from 1 on, found {num_processes}")
    count = num_processes or max(1, torch.cuda.device_count())
    if count == 1 or "RANK" in os.environ or {"-h", "--help"} & set(flags):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        train(flags, lora=lora)
        return
    script = Path(__file__).with_name("train_lora.py" if lora else "train.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    sys.exit(subprocess.call([*command, str(script), *flags]))
