"""`judgelm cascade`: what a cheap judge with a stronger one behind it would have said, and at what cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.console import sureness
from judgelm.jury import replay_cascade
from judgelm.label_flags import add_labels_argument, add_vocabulary_argument

HELP = "replay a cascade of two judges"
DESCRIPTION = (
    "Replay judge --then from two judges' verdicts on the same pairs, without a call: samples on which the first is"
    " unsure or contradicts itself are the second's. Agreement with people against the share that is sent on, by"
    " threshold."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm cascade`."""
    parser.add_argument("first", metavar="D1", help="folder of judgelm judge --scoring expected: the cheap judge")
    parser.add_argument(
        "second", metavar="D2", help="folder of the stronger judge on the same samples, or a file of its verdicts"
    )
    add_labels_argument(parser)
    parser.add_argument(
        "--sure",
        type=sureness,
        default="auto",
        metavar="S",
        help="samples of which the first is less sure go to the second, 0.5 to 1; auto: the lowest that agrees with"
        " people as the second alone does, up to one point, chosen on one half of the labelled questions and reported"
        " on the other",
    )
    add_vocabulary_argument(parser, "words of files of verdicts", "each")
    parser.add_argument("--output-dir", metavar="DIR", help="gets cascade.json, cascade.svg and cascade.html")


def run(args: argparse.Namespace) -> None:
    """Print the curve, and write it where a folder is given."""
    from judgelm.report.juries import cascade_tables, write_cascade

    sure = None if args.sure == "auto" else args.sure
    cascade = replay_cascade(args.first, args.second, args.labels, sure, args.vocabulary)
    print(cascade_tables(cascade))
    if args.output_dir:
        print(f"written to {', '.join(map(str, write_cascade(cascade, Path(args.output_dir).expanduser())))}")
