"""`judgelm label`: pairs of answers -> labels from people."""

from __future__ import annotations

import argparse

from judgelm.console import flags_of
from judgelm.flags import FILE_KINDS, add_allowed_hosts, add_columns_argument
from judgelm.serve.settings import LABEL_PORT

HELP = "have people label pairs of answers on a page"
DESCRIPTION = (
    "Show the rows of a file to people who say which answer is better, without the names of the models and in an order"
    " of each person's own, and write what they say as labels that judgelm evaluate --teacher reads. Each vote is on"
    " the disk before the page says so; the same command goes on after any end."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm label`."""
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        help="rows with two answers, in any form that judgelm judge takes, a reference with them if you like:"
        f" {FILE_KINDS}",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="gets the labels: question_id, label (of the majority), annotators and their names; the votes are kept"
        " beside it as FILE.votes",
    )
    parser.add_argument("--reference-file", metavar="FILE", help="reference answers, joined on question_id")
    add_columns_argument(parser, "question=prompt,answer1=chosen,answer2=rejected,reference=gold")
    parser.add_argument(
        "--people",
        nargs="+",
        default=[],
        metavar="NAME",
        help="who may label: each gets a link of their own (default: everybody who reaches the page, under a name)",
    )
    parser.add_argument(
        "--pick",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders that judgelm judge wrote of these rows: ask first for the rows on which these judges disagree or"
        " are unsure, and for models with few labels",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address on which the page listens")
    parser.add_argument("--port", type=int, default=LABEL_PORT, help="its port; 0 is any that is free")
    add_allowed_hosts(parser)


def run(args: argparse.Namespace) -> None:
    """Show the page until Ctrl-C."""
    from judgelm.labelling import LabelSettings
    from judgelm.serve.label.server import serve_labels

    given = flags_of(LabelSettings, args) | {"pick": tuple(args.pick), "people": tuple(args.people)}
    serve_labels(LabelSettings(**given), args.host, args.port, tuple(args.allowed_hosts))
