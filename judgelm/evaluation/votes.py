"""What people said of a row: a label of the whole, and those of single annotators."""

from __future__ import annotations

from typing import Any, NamedTuple

from judgelm.errors import InputError, in_short
from judgelm.jsonl import Line, require
from judgelm.judgement import LABELS, Outcome


class Votes(NamedTuple):
    """The labels of a row's annotators."""

    outcomes: tuple[Outcome, ...] = ()
    voters: tuple[str, ...] = ()
    """whose they are, in the same order; empty where the row names nobody"""


def labelled_outcome(line: Line, label: Any) -> Outcome:
    """Raises InputError for what is no label of two answers."""
    if isinstance(label, bool) or label not in list(LABELS):
        way = "; --columns label=label of its file reads words such as A and tie" if isinstance(label, str) else ""
        raise InputError(f"{line.where}: expected label 1, 2 or 0 (tie), found {in_short(label)}{way}")
    return LABELS[label]


def read_votes(line: Line) -> Votes:
    """A row's `annotators`, and `annotator_names` beside them. Raises InputError for names that are not theirs."""
    if line.record.get("annotators") is None:
        return Votes()
    outcomes = tuple(labelled_outcome(line, vote) for vote in require(line, "annotators", list))
    if line.record.get("annotator_names") is None:
        return Votes(outcomes)
    names = require(line, "annotator_names", list)
    if len(names) != len(outcomes) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        expected = f"{len(outcomes)} different texts, one for each of 'annotators'"
        raise InputError(f"{line.where}: field 'annotator_names': expected {expected}, found {in_short(names)}")
    return Votes(outcomes, tuple(names))
