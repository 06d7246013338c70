"""Flags of labels and of verdicts that are there already."""

from __future__ import annotations

import argparse

from judgelm.errors import InputError
from judgelm.flags import FILE_KINDS
from judgelm.vocabularies import MEANINGS, VOCABULARIES


def add_human_argument(parser: argparse.ArgumentParser) -> None:
    """Whose labels correct the judge's rates."""
    parser.add_argument(
        "--human",
        metavar="FILE",
        help="people's labels of a random part of the samples (question_id, label: 1, 2, 0 for a tie, or null; of"
        f" grades score): rates of the judge alone, of people alone, and corrected by both; {FILE_KINDS}",
    )


def add_labels_argument(parser: argparse._ActionsContainer, when: str = "") -> None:
    """The truth of some samples or of all; `when` it is needed."""
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help=f"{when}the truth of some samples or of all: question_id and label (1, 2, 0 for a tie), or a teacher's"
        " text (default: what the judged rows bring along)",
    )


def add_vocabulary_argument(parser: argparse._ActionsContainer, verdicts: str, file: str) -> None:
    """What the verdicts in files mean; where nothing is said, found from the words of the file."""
    parser.add_argument(
        "--vocabulary",
        choices=tuple(VOCABULARIES),
        help=f"what the {verdicts} mean: {MEANINGS} (default: found from {file} file's words)",
    )


def check_columns(args: argparse.Namespace, *files: str) -> None:
    """Raises InputError where --columns are named and none of these flags names a file that has them."""
    if args.columns is not None and all(getattr(args, name) is None for name in files):
        flags = " or ".join(f"--{name}" for name in files)
        raise InputError(f"--columns are those of the file that {flags} names")
