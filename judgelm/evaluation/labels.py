"""Labels and grades of judged samples, of all or of some, by the samples' ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from judgelm.criteria import Scale
from judgelm.errors import InputError, one_line
from judgelm.evaluation.grades import read_grade, with_mean
from judgelm.evaluation.results import Truth, index_teacher, read_truth
from judgelm.forms import Columns
from judgelm.jsonl import Line, Record
from judgelm.judgement import Outcome
from judgelm.samples import PathLike


def read_truths(rows: Mapping[str, Record], place: Path, labels: PathLike | None) -> list[Truth | None]:
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


def read_labels(path: PathLike, judged: Collection[str], columns: Columns | None = None) -> dict[str, Outcome | None]:
    """People's labels of pairs by id: `label` 1 first, 2 second, 0 tie, null where nobody could tell.

    A row with an empty list of `annotators`, as `judgelm label` writes those that nobody has seen yet, is left out,
    whether it was judged or not. Raises InputError for another whose id is not `judged`, a row without a label, and a
    file without any.
    """
    lines = index_teacher(path, columns, "label").items()
    asked = {key: line for key, line in lines if line.record.get("annotators") != []}
    _check_judged(asked, judged)
    truths = {key: read_truth(line) for key, line in asked.items()}
    return _known(path, {key: truth and truth.outcome for key, truth in truths.items()}, "label")


def read_grade_labels(
    path: PathLike, judged: Collection[str], scale: Scale | None = None, columns: Columns | None = None
) -> dict[str, float | None]:
    """People's grades of single answers by id: `score`, or `text` that begins with one. Raises as `read_labels`."""
    lines = index_teacher(path, columns, "score")
    _check_judged(lines, judged)
    for line in lines.values():
        if not {"score", "text"} & line.record.keys():
            found = one_line(", ".join(list(line.record)[:8]))
            raise InputError(f"{line.where}: field 'score' or 'text' is missing (found: {found})")
    if columns is not None and "score" in columns.names:
        lines = {key: with_mean(line) for key, line in lines.items()}
    return _known(path, {key: read_grade(line, scale) for key, line in lines.items()}, "grade")


def _check_judged(lines: Mapping[str, Line], judged: Collection[str]) -> None:
    for key, line in lines.items():
        if key not in judged:
            raise InputError(f"{line.where}: question_id {one_line(key)} is none of those that were judged")


def _known(path: PathLike, found: dict[str, Any], what: str) -> dict[str, Any]:
    if all(each is None for each in found.values()):
        raise InputError(f"{path}: there is no {what} in it")
    return found
