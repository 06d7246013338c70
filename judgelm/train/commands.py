"""What `judgelm train-data check` and `judgelm merge` do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from judgelm.encoding import ExampleEncoder
from judgelm.jsonl import InputError, read_lines
from judgelm.merged import write_merged
from judgelm.model import find_model, load_tokenizer
from judgelm.train.summary import Summary


def check_command(args: argparse.Namespace) -> None:
    """Print what a training file holds; exit code 1 where a share is above its threshold."""
    from judgelm.train.dataset import find_rows, scan

    encoder = None
    if args.tokenizer is not None:
        encoder = ExampleEncoder(load_tokenizer(find_model(args.tokenizer)), args.model_max_length)
    summary = Summary.of(scan(read_lines(find_rows(args.file)), encoder))
    print("\n".join(summary.lines()))
    shares = {
        "skipped": 100 * (summary.rows - summary.trained) / summary.rows,
        "shortened": 100 * summary.states["shortened"] / summary.rows,
        "double": 100 * summary.double / summary.rows,
    }
    if args.validation_file is not None:
        validation = Summary.of(scan(read_lines(find_rows(args.validation_file)), None))
        common = summary.overlap(validation)
        print(f"validation: {common} of {len(validation.questions)} questions stand in the training file too")
        shares["overlap"] = 100 * common / max(1, len(validation.questions))
    above = False
    for name, share in shares.items():
        limit = getattr(args, f"max_{name}")
        if share > limit:
            above = True
            print(f"judgelm: {name}: {share:.1f} %, expected at most {limit:g} % (--max-{name})", file=sys.stderr)
    if above:
        sys.exit(1)


def merge_command(args: argparse.Namespace) -> None:
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
