"""What a benchmark says of a judge, as benchmark.json holds it."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from judgelm.documents import Document, Section
from judgelm.evaluation.summary import Rate, Summary
from judgelm.jsonl import Record


class _Sparse(Section):
    """Leaves out of its file what was not given."""

    @model_serializer(mode="wrap")
    def _given(self, whole: SerializerFunctionWrapHandler) -> Record:
        record: Record = whole(self)
        return {name: value for name, value in record.items() if value is not None or name in self.model_fields_set}


class DataFile(Section):
    """A file of the benchmark."""

    path: str
    """where it was read"""
    sha256: str


class OddRows(Section):
    """Rows that cannot be read, and what is wrong with the first of them."""

    count: int
    first: list[str]
    """what is wrong with the first five, file and line named"""


class Predicted(Section):
    """Verdicts that were scored."""

    file: str
    sha256: str
    vocabulary: str
    """one of `VOCABULARIES`"""
    verdicts: int
    unparsed: int
    odd_rows: OddRows
    not_predicted: dict[str, int]
    """rows without a verdict, by split"""


class Measured(Summary, _Sparse):
    """The summary of a split's labelled rows, and the paper's metrics where it has numbers to compare with."""

    published: dict[str, Any] | None = None
    """the keys of the paper's script"""


class GradeGroup(Section):
    """The mean grade of one capability."""

    value: float
    rows: int


class Grades(_Sparse):
    """MM-Vet: grades from 0 to 1, the answer's score over 10; with `grade_given` and on where others gave grades."""

    rows: int
    unparsed: int
    grade: Rate
    grade_given: float | None = None
    difference: float | None = None
    """mean absolute one"""
    correlation: float | None = None
    """Pearson's; None where it is not defined"""
    by_category: dict[str, GradeGroup] | None = None


class BenchmarkReport(_Sparse, Document):
    """A benchmark's data, and the numbers of each split; shares are from 0 to 1."""

    what = "the report of a benchmark"

    benchmark: str
    files: dict[str, DataFile]
    """by what they are"""
    homes: dict[str, str] | None
    """addresses of the files, where they were fetched"""
    licence: str
    rows: dict[str, int]
    """by split: its name, or the benchmark's where it is one run"""
    dropped: dict[str, int]
    """rows left out, by reason"""
    odd_rows: OddRows
    judge: str | None = None
    """its name"""
    predictions: Predicted | None = None
    """either these, or a judge"""
    metrics: dict[str, Measured | Grades]
    """by split"""
