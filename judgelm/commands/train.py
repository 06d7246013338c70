"""`judgelm train`: the training script, in one process for each GPU of this machine."""

from __future__ import annotations

import argparse

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
    """Train."""
    from judgelm.train.launch import launch

    if {"-h", "--help"} & set(args.flags):
        args.parser.print_help()
        print("\nflags of the training script:\n")
    launch(args.flags, args.lora, args.nproc)
