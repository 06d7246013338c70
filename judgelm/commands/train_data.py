"""`judgelm train-data`: a look at training rows before they are trained on."""

from __future__ import annotations

import argparse
import sys

from judgelm.console import Parser, at_least, percentage
from judgelm.flags import add_columns_argument

HELP = "look at training rows"
DESCRIPTION = "Look at training rows before they are trained on."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions, of which there is one: check."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    check = actions.add_parser(
        "check",
        help="count what a training file holds",
        description="Count rows, skipped rows, scores, double rows and questions shared with a validation file. Exit"
        " code 1 where a share is above its threshold.",
    )
    check.add_argument("file", metavar="FILE", help="training rows: a JSONL file, or a data set of the hub")
    add_columns_argument(check, "question=prompt,answer1=a,answer2=b,judgement=gpt4")
    check.add_argument(
        "--tokenizer", metavar="MODEL", help="count tokens as this model would: hub id, local folder or tiny-base"
    )
    check.add_argument(
        "--model-max-length", type=at_least(1), default=2048, metavar="N", help="most tokens of an example"
    )
    check.add_argument("--validation-file", metavar="FILE", help="training rows on which a judge will be measured")
    for name, default, what in (
        ("skipped", 5.0, "rows that cannot be trained on"),
        ("shortened", 20.0, "rows whose answers must be shortened"),
        ("double", 10.0, "rows with a question and answers that stand in the file already"),
        ("overlap", 0.0, "validation questions that stand in the training file too"),
    ):
        check.add_argument(
            f"--max-{name}", type=percentage, default=default, metavar="PERCENT", help=f"most {what}, in percent"
        )


def run(args: argparse.Namespace) -> None:
    """Print what a training file holds; exit code 1 where a share is above its threshold."""
    from judgelm.models.folder import find_model
    from judgelm.models.loading import load_tokenizer
    from judgelm.train import count_rows
    from judgelm.train.encoder import ExampleEncoder

    encoder = None
    if args.tokenizer is not None:
        encoder = ExampleEncoder(load_tokenizer(find_model(args.tokenizer)), args.model_max_length)
    counts = count_rows(args.file, encoder, args.columns)
    print("\n".join(counts.lines()))
    shares = {
        "skipped": 100 * (counts.rows - counts.trained) / counts.rows,
        "shortened": 100 * counts.states["shortened"] / counts.rows,
        "double": 100 * counts.double / counts.rows,
    }
    if args.validation_file is not None:
        validation = count_rows(args.validation_file, columns=args.columns)
        common = counts.overlap(validation)
        print(f"validation: {common} of {len(validation.questions)} questions stand in the training file too")
        shares["overlap"] = 100 * common / max(1, len(validation.questions))
    limits = {name: getattr(args, f"max_{name}") for name in shares}
    above = [name for name in shares if shares[name] > limits[name]]
    for name in above:
        said = f"{shares[name]:.1f} %, expected at most {limits[name]:g} % (--max-{name})"
        print(f"judgelm: {name}: {said}", file=sys.stderr)
    if above:
        sys.exit(1)
