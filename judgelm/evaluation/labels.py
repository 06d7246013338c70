"""Labels of some samples or of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from judgelm.errors import InputError
from judgelm.evaluation.results import Truth, index_teacher, read_truth
from judgelm.jsonl import Line, Record
from judgelm.judgement import Outcome
from judgelm.samples import PathLike


def read_labels(rows: Mapping[str, Record], place: Path, labels: PathLike | None) -> list[Truth | None]:
    """The truth of each row, by its id: of a file of labels, which may have a part of them, else the row's own.

    Raises InputError for a file without any of the rows of `place`, and for a label that is none.
    """
    if labels is None:
        return [read_truth(Line(row, place, number), needed=False) for number, row in enumerate(rows.values(), start=1)]
    given = index_teacher(labels, None, "label")
    if not given.keys() & rows.keys():
        raise InputError(f"{labels}: none of its {len(given)} rows is of the {len(rows)} samples of {place}")
    return [read_truth(given[key]) if key in given else None for key in rows]


def need_labels(what: str, truths: Sequence[Truth | None]) -> None:
    """Raises InputError where no sample has a truth."""
    if not any(truths):
        raise InputError(f"{what} needs labels: --labels FILE, or a label in the judged rows; found none")


def outcomes_of(truths: Sequence[Truth | None]) -> list[Outcome | None]:
    """Without the scores."""
    return [None if truth is None else truth.outcome for truth in truths]
