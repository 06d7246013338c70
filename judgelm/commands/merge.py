"""`judgelm merge`: a LoRA adapter into its base."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.errors import InputError
from judgelm.models.folder import find_model
from judgelm.models.loading import write_merged

HELP = "merge a LoRA adapter into its base"
DESCRIPTION = (
    "Write a model folder in which an adapter's update is part of the weights: it loads faster, and "
    "where peft is not known."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm merge`."""
    parser.add_argument("--adapter", required=True, metavar="MODEL", help="adapter folder or hub id")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="gets the whole model; must not exist yet")
    parser.add_argument(
        "--dtype",
        default="bfloat16",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights that are written; the sum is taken in float32",
    )


def run(args: argparse.Namespace) -> None:
    """Write base + adapter as one model folder."""
    folder, output = find_model(args.adapter), Path(args.output_dir).expanduser()
    if folder.base is None:
        raise InputError(f"model {folder.name} is no adapter: it needs no merging")
    if output.exists():
        raise InputError(f"{output} exists already: choose another --output-dir")
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        write_merged(folder, unfinished, args.dtype)
        unfinished.rename(output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error})") from None
    print(f"the merged judge is in {output}")
