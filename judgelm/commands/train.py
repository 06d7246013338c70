"""`judgelm train`: the training script, in one process for each GPU of this machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from judgelm.errors import InputError

HELP = "fine-tune a judge on this machine"
DESCRIPTION = (
    "Fine-tune a judge on teacher judgements, on the GPUs of this machine or its CPU. All other flags are those of"
    " the training script: judgelm train --help lists them. A second start with the same flags goes on from the"
    " last checkpoint."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that are not the training script's; it gets all others."""
    parser.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of the whole model")
    parser.add_argument("--nproc", type=int, metavar="N", help="processes (default: one for each GPU, else one)")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> None:
    """Train in this process, or through torchrun where there are several GPUs or `--nproc` says so."""
    from judgelm.train.published_flags import check_needed, split_flags

    asks_for_help = bool({"-h", "--help"} & set(args.flags))
    if not asks_for_help:
        # said before anything is loaded
        check_needed(split_flags(args.flags))
    import torch

    from judgelm.train import settings

    if asks_for_help:
        args.parser.print_help()
        print("\nflags of the training script:\n")
    if args.nproc is not None and args.nproc < 1:
        raise InputError(f"--nproc: expected a whole number from 1 on, found {args.nproc}")
    count = args.nproc or max(1, torch.cuda.device_count())
    if count == 1 or "RANK" in os.environ or asks_for_help:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        parsed = settings.parse(args.flags, args.lora, "judgelm train")
        # loads most, and is needed for right flags only
        from judgelm.train.training import train

        train(parsed)
        return
    script = Path(settings.__file__).with_name("train_lora.py" if args.lora else "train.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    sys.exit(subprocess.call([*command, str(script), *args.flags]))
