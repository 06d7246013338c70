"""`judgelm convert`: rows in any form and format -> our own fields, in any format."""

from __future__ import annotations

import argparse

from judgelm.conversion import convert
from judgelm.flags import FILE_KINDS, add_columns_argument

HELP = "write a file of rows in our fields and another format"
DESCRIPTION = (
    "Read questions or answers in any form that is known, or with --columns, and write them in our own fields, in the"
    " format of the output's name. Images are kept; dialogues with tools or parts of other kinds are left out and"
    " counted. The file appears whole or not at all."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm convert`."""
    parser.add_argument("source", metavar="IN", help=FILE_KINDS)
    parser.add_argument(
        "target", metavar="OUT", help="gets the rows: .jsonl, .json, .csv, .tsv or .parquet, or one of these and .gz"
    )
    add_columns_argument(parser, "question=prompt,answer1=chosen,answer2=rejected,reference=gold,label=winner")
    parser.add_argument(
        "--question-file", metavar="FILE", help="the questions of answers that have none, such as MT-bench's"
    )


def run(args: argparse.Namespace) -> None:
    """Convert, and say what was taken and left out."""
    found = convert(args.source, args.target, args.columns, args.question_file)
    left = len(found.dialogues)
    print(f"took {found.rows} of {found.rows + left} rows" + (f", read as {found.form}" if found.form else ""))
    if left:
        print(f"left out {left} dialogues with tools or parts of other kinds, the first one {found.dialogues[0]}")
    print(f"fields: {', '.join(found.fields)}")
    print(f"written to {found.path}")
