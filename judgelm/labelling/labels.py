"""Votes -> a file of labels, which `judgelm evaluate` reads as the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from judgelm.benchmark.readers import majority
from judgelm.documents import AnyText, Section
from judgelm.errors import InputError
from judgelm.jsonl import holds_lines, read_lines, write_lines
from judgelm.labelling.rows import Row
from judgelm.labelling.votes import Votes


class LabelRecord(Section):
    """A row's labels."""

    question_id: int | str
    label: int | None
    """what more than half of its annotators say: 1 or 2, the better answer, or 0 for neither; null: they do not agree,
    or there are none
    """
    annotators: list[int]
    """their labels, the answers being in the file's order"""
    annotator_names: list[AnyText]
    """whose they are, in the same order"""
    reasons: list[AnyText | None]
    """what each of them wrote beside the label, if anything"""
    skipped: list[AnyText]
    """who passed the row over"""

    @classmethod
    def of(cls, row: Row, votes: Votes) -> LabelRecord:
        """Annotators by name, so that the same votes make the same file."""
        named = ((votes.name_of(vote.annotator), vote, vote.label) for vote in votes.on(row))
        given = sorted(named, key=lambda each: each[0])
        labels = [label for _, _, label in given if isinstance(label, int)]
        return cls(
            question_id=row.sample.question_id,
            label=majority(labels) if labels else None,
            annotators=labels,
            annotator_names=[name for name, _, label in given if isinstance(label, int)],
            reasons=[vote.reason for _, vote, label in given if isinstance(label, int)],
            skipped=[name for name, _, label in given if label == "skip"],
        )


def write_labels(path: Path, rows: Sequence[Row], votes: Votes) -> None:
    """The whole file anew, with all rows, labelled or not: a judged folder finds each of its rows. Raises InputError
    where it cannot be written.
    """
    write_lines(path, (LabelRecord.of(row, votes).to_record() for row in rows))


def check_output(path: Path, votes: Path) -> None:
    """Raises InputError where a file stands in the place of the labels that is not made of these votes."""
    if not holds_lines(path) or holds_lines(votes):
        return
    first = next(read_lines(path, finite=False)).record
    what = "labels without their votes" if "annotator_names" in first else "another file"
    raise InputError(f"{path}: expected no file, or labels with their votes in {votes.name} beside it, found {what}")
