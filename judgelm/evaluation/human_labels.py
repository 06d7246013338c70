"""What people say of some of the judged samples: a file of labels or of grades, by the samples' ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from judgelm.criteria import Scale
from judgelm.errors import InputError, one_line
from judgelm.evaluation.grades import read_grade, with_mean
from judgelm.evaluation.results import index_teacher, read_truth
from judgelm.forms import Columns
from judgelm.jsonl import Line
from judgelm.judgement import Outcome
from judgelm.samples import PathLike


def read_labels(path: PathLike, judged: Collection[str], columns: Columns | None = None) -> dict[str, Outcome | None]:
    """People's labels of pairs by id: `label` 1 first, 2 second, 0 tie, null where nobody could tell.

    A row with an empty list of `annotators`, as `judgelm label` writes those that nobody has seen yet, is left out.
    Raises InputError for an id that is not `judged`, a row without a label, and a file without any.
    """
    lines = _lines(path, judged, columns, "label").items()
    truths = {key: read_truth(line) for key, line in lines if line.record.get("annotators") != []}
    return _known(path, {key: truth and truth.outcome for key, truth in truths.items()}, "label")


def read_grade_labels(
    path: PathLike, judged: Collection[str], scale: Scale | None = None, columns: Columns | None = None
) -> dict[str, float | None]:
    """People's grades of single answers by id: `score`, or `text` that begins with one. Raises as `read_labels`."""
    lines = _lines(path, judged, columns, "score")
    for line in lines.values():
        if not {"score", "text"} & line.record.keys():
            found = one_line(", ".join(list(line.record)[:8]))
            raise InputError(f"{line.where}: field 'score' or 'text' is missing (found: {found})")
    if columns is not None and "score" in columns.names:
        lines = {key: with_mean(line) for key, line in lines.items()}
    return _known(path, {key: read_grade(line, scale) for key, line in lines.items()}, "grade")


def _lines(path: PathLike, judged: Collection[str], columns: Columns | None, truth: str) -> Mapping[str, Line]:
    lines = index_teacher(path, columns, truth)
    for key, line in lines.items():
        if key not in judged:
            raise InputError(f"{line.where}: question_id {one_line(key)} is none of those that were judged")
    return lines


def _known(path: PathLike, found: dict[str, Any], what: str) -> dict[str, Any]:
    if all(each is None for each in found.values()):
        raise InputError(f"{path}: there is no {what} in it")
    return found
