"""`judgelm preferences`: a judged folder -> preference pairs for other trainers."""

from __future__ import annotations

import argparse

from judgelm.console import number, refuse_flags
from judgelm.errors import InputError
from judgelm.flags import add_columns_argument
from judgelm.label_flags import add_labels_argument

HELP = "write judgements as preference pairs for other trainers"
DESCRIPTION = (
    "Write pairs of answers, of which the judge prefers one in both orders, as rows of prompt, chosen, rejected and"
    " margin, as TRL's DPOTrainer reads them; or with --of-judge pairs of the judge's own texts, right against wrong."
    " What was left out, and why, is printed and written beside."
)
_sure = number(float, lambda found: 0.5 <= found < 1, "a probability from 0.5 on, below 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm preferences`."""
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="folder that judgelm judge or judgelm arena wrote, in both orders; with --of-judge two or more of them,"
        " runs of one judge with other seeds",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="gets the pairs: .jsonl or .parquet; and FILE.counts.json beside",
    )
    parser.add_argument(
        "--sure",
        type=_sure,
        metavar="P",
        help="take the pairs whose one answer is better with this probability at least, by the mean of both orders;"
        " needs --scoring expected (default: those of which both orders say the same)",
    )
    parser.add_argument(
        "--of-judge",
        action="store_true",
        help="pairs of what the judge wrote after one prompt: chosen is a text whose verdict is right and the same in"
        " the other order, rejected one whose verdict is wrong",
    )
    add_labels_argument(parser, "with --of-judge, ")
    add_columns_argument(parser, "question_id=id,label=winner")


def run(args: argparse.Namespace) -> None:
    """Write the pairs, and say what was left out."""
    from judgelm.preferences import check_output, prefer_answers, prefer_texts

    check_output(args.output, *filter(None, [args.labels]))
    if args.of_judge:
        refuse_flags(args, ["sure"], "is of answers, not with --of-judge: labels say what is right")
        found = prefer_texts(args.folders, args.labels, args.columns)
    else:
        refuse_flags(args, ("labels", "columns"), "goes with --of-judge: of answers the judge says what is better")
        if len(args.folders) > 1:
            raise InputError("several folders go with --of-judge: of answers one folder has the verdicts")
        found = prefer_answers(args.folders[0], args.sure)
    beside = found.write(args.output)
    counts = found.counts
    what = "pairs of answers" if counts.of == "answers" else "prompts"
    print(f"{counts.pairs} preference pairs of {counts.total} {what}")
    for reason, count in counts.left_out.items():
        print(f"  left out: {count} {reason}")
    print(f"written to {args.output}, {beside}")
