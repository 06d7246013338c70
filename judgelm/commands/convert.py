"""`judgelm convert`: rows in any form and format -> our own fields, in any format."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.console import refuse_flags
from judgelm.conversion import convert
from judgelm.errors import InputError
from judgelm.exports import has_format
from judgelm.fastchat import export_judgements, import_judgements, is_judgement_file
from judgelm.flags import FILE_KINDS, add_columns_argument

HELP = "write a file of rows in our fields and another format"
DESCRIPTION = (
    "Read questions or answers in any form that is known, or with --columns, and write them in our own fields, in the"
    " format of the output's name. Images are kept; dialogues with tools or parts of other kinds are left out and"
    " counted. The file appears whole or not at all. A file of FastChat's judgements (model_judgment/*.jsonl) becomes a"
    " judged folder, and a judged folder such a file."
)
_OF_ROWS = "is about rows: FastChat's judgements have their own fields"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm convert`."""
    parser.add_argument("source", metavar="IN", help=f"{FILE_KINDS}; or a judged folder, for FastChat")
    parser.add_argument(
        "target",
        metavar="OUT",
        help="gets the rows: .jsonl, .json, .csv, .tsv or .parquet, or one of these and .gz; of FastChat's judgements a"
        " folder",
    )
    add_columns_argument(parser, "question=prompt,answer1=chosen,answer2=rejected,reference=gold,label=winner")
    parser.add_argument(
        "--question-file", metavar="FILE", help="the questions of answers that have none, such as MT-bench's"
    )


def run(args: argparse.Namespace) -> None:
    """Convert, and say what was taken and left out."""
    if Path(args.source).expanduser().is_dir():
        _export(args)
        return
    if not has_format(args.target) and is_judgement_file(args.source):
        _import(args)
        return
    found = convert(args.source, args.target, args.columns, args.question_file)
    left = len(found.dialogues)
    print(f"took {found.rows} of {found.rows + left} rows" + (f", read as {found.form}" if found.form else ""))
    if left:
        print(f"left out {left} dialogues with tools or parts of other kinds, the first one {found.dialogues[0]}")
    print(f"fields: {', '.join(found.fields)}")
    print(f"written to {found.path}")


def _import(args: argparse.Namespace) -> None:
    """FastChat's judgements into a folder."""
    refuse_flags(args, ("columns", "question_file"), _OF_ROWS)
    found = import_judgements(args.source, args.target)
    for order, counts in found.counts.items():
        print(f"{order}: {counts['total']} judgements of {found.judge}, {counts['failed']} of them without a verdict")
    if found.again:
        print(f"left out {found.again} rows that judge the same once more")
    if found.unread:
        print(f"left out {len(found.unread)} rows whose texts cannot be told from their prompts, the first one")
        print(f"  {found.unread[0]}")
    print(f"written to {found.folder}, task {found.task}")


def _export(args: argparse.Namespace) -> None:
    """A judged folder's judgements for FastChat."""
    refuse_flags(args, ("columns", "question_file"), _OF_ROWS)
    if Path(args.target).suffix != ".jsonl":
        raise InputError(f"{args.target}: FastChat's files of judgements are JSON Lines, and end in .jsonl")
    found = export_judgements(args.source, args.target)
    what = "pairs, both orders in a row" if found.task == "pair" else "grades"
    print(f"took {found.rows} {what}\nwritten to {found.path}")
