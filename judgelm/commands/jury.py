"""`judgelm jury`: several judges' verdicts on the same samples -> one folder of theirs together."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.jury import METHODS, run_jury
from judgelm.label_flags import add_labels_argument, add_vocabulary_argument

HELP = "make one judge of several"
DESCRIPTION = (
    "Put together what several judges said of the same pairs, into a folder like that of any judge, from"
    " which evaluate, rank and report go on. A judge that contradicts itself once the answers are exchanged"
    " abstains. Each judge is measured against the jury of the others and, where there are labels, against"
    " people; jury.json says who adds nothing."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm jury`."""
    parser.add_argument(
        "judges",
        nargs="+",
        metavar="D",
        help="two or more: folders that judgelm judge wrote (task pair), or files of verdicts as judgelm benchmark"
        " --predictions reads them",
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="gets forward.jsonl, reversed.jsonl, run.json, jury.json"
    )
    parser.add_argument(
        "--method",
        default="majority",
        choices=tuple(METHODS),
        help="; ".join(f"{name}: {what}" for name, what in METHODS.items()),
    )
    add_labels_argument(parser)
    parser.add_argument(
        "--question-file",
        metavar="FILE",
        help="judge samples that the verdicts are of: needed where no folder has them, or verdicts go by row",
    )
    add_vocabulary_argument(parser, "words of files of verdicts", "each")


def run(args: argparse.Namespace) -> None:
    """Write the jury's verdicts and say what it is worth."""
    from judgelm.report.juries import jury_tables

    jury = run_jury(args.judges, args.output_dir, args.method, args.labels, args.question_file, args.vocabulary)
    print(jury_tables(jury))
    print(f"written to {Path(args.output_dir).expanduser()}")
