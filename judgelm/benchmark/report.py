"""What a benchmark says of a judge, as benchmark.json holds it."""

from __future__ import annotations

from typing import Any

from judgelm.documents import Document, Section


class DataFile(Section):
    """A file of the benchmark."""

    path: str
    sha256: str


class OddRows(Section):
    """Rows that cannot be read, and what is wrong with the first of them."""

    count: int
    first: list[str]


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


class BenchmarkReport(Document):
    """A benchmark's data, and the numbers of each split; shares are from 0 to 1."""

    what = "the report of a benchmark"

    benchmark: str
    files: dict[str, DataFile]
    homes: dict[str, str] | None
    """addresses of the files, where they were fetched"""
    licence: str
    rows: dict[str, int]
    """by split: its name, or the benchmark's where it is one run"""
    dropped: dict[str, int]
    """rows left out, by reason"""
    odd_rows: OddRows
    judge: str | None = None
    predictions: Predicted | None = None
    metrics: dict[str, dict[str, Any]]
    """by split: the summary of evaluation, with `published` beside it where the paper has numbers; grades of mm-vet"""

    def to_record(self) -> dict[str, Any]:
        """As JSON has it: either `judge` or `predictions`."""
        record = super().to_record()
        return {name: value for name, value in record.items() if value is not None or name == "homes"}
