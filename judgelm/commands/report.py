"""`judgelm report`: a judged folder -> a page to read, and the same numbers in Markdown."""

from __future__ import annotations

import argparse

from judgelm.console import number
from judgelm.errors import one_line
from judgelm.label_flags import add_human_argument
from judgelm.report import write_report
from judgelm.report.words import MOST_SAMPLES

HELP = "write a page about a judged folder"
DESCRIPTION = (
    "Write one HTML page about D, a folder of judgelm judge, that needs no network, and the same in "
    "Markdown: agreement, position, calibration (of many answers mean scores and what places are worth), and the"
    " samples to read. The folder's audit.json and"
    " ranking.json are shown too where there are any."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm report`."""
    parser.add_argument("folder", metavar="D", help="a folder that judgelm judge wrote")
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="the truth: teacher judgements (question_id, text) or labels (question_id, label); without it labels in"
        " the judged rows count; many answers (task multi) have none",
    )
    add_human_argument(parser)
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page; Markdown is written beside it (default: D/report.html)"
    )
    parser.add_argument(
        "--most-samples",
        type=number(int, lambda found: found >= 0, "0 or more"),
        default=MOST_SAMPLES,
        metavar="N",
        help="samples with the largest disagreement that are shown to be read",
    )


def run(args: argparse.Namespace) -> None:
    """Write the page and the Markdown, and say where."""
    written = write_report(args.folder, args.teacher, args.output, args.most_samples, args.human)
    print(f"written to {written.page} and {written.markdown}")
    for question, answer in written.brief:
        print(f"{question} {one_line(answer)}")
