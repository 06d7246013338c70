"""A file of rows in any form -> a file of our own fields, in any format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from judgelm.answers import as_answer, index_questions
from judgelm.errors import InputError
from judgelm.exports import find_format, write_rows
from judgelm.files import PathLike
from judgelm.forms import AnyForm, Columns, DialogueError, open_rows
from judgelm.jsonl import Line, LineFile, Record, check_ids, read_id


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a file's rows."""

    path: Path
    """of what was written"""
    fields: list[str]
    rows: int
    """that were taken"""
    form: str | None
    """in which the rows were, None for our own; see `judgelm.forms.KNOWN_FORMS`"""
    dialogues: tuple[str, ...]
    """places of rows that were left out, as no judge can be shown their dialogues: tools, audio .."""


def convert(
    source: PathLike, target: PathLike, columns: Columns | None = None, question_file: PathLike | None = None
) -> Conversion:
    """Write the rows of a file or a hub data set, in our own fields, in the format of the target's name.

    Args:
        source: any file that `LineFile` reads: questions in our fields or a form of `judgelm.forms.KNOWN_FORMS`,
            answers as `read_answers` takes them, or with `columns`.
        target: ends in .jsonl, .json, .csv, .tsv or .parquet, or in one of these and .gz; written whole or not at all.
        columns: of a file whose fields have other names.
        question_file: the questions of answers that have none, MT-bench's.

    Images stay where they are. Dialogues with calls of tools, or parts of other kinds, are left out. Raises InputError
    for a damaged row, an id that is missing or stands there twice, where no row is left, and where the target is the
    source or cannot be written.
    """
    find_format(target)
    lines, path = open_rows(source, columns), Path(target).expanduser()
    if path.exists() and path.samefile(lines.path):
        raise InputError(f"{target} is the file that is read: name another one")
    questions = None if question_file is None else index_questions(question_file)
    rows = _Rows(lines, questions)
    fields = write_rows(path, rows.read)
    return Conversion(path, fields, rows.taken, rows.form, tuple(rows.dialogues))


@dataclass(slots=True)
class _Rows:
    """The rows of a file as ours, and what was found of them when they were last read."""

    lines: LineFile
    questions: Mapping[str, Line] | None
    taken: int = 0
    form: str | None = None
    dialogues: list[str] = field(default_factory=list)

    def read(self) -> Iterator[Record]:
        self.taken, self.dialogues, self.form = 0, [], None
        for line in check_ids(self._known()):
            self.taken += 1
            yield {"question_id": read_id(line), **{n: v for n, v in line.record.items() if n != "question_id"}}
        if not self.taken:
            what = "dialogues with tools or parts of other kinds"
            raise InputError(f"{self.lines.path}: all {len(self.dialogues)} rows are {what}")
        form = self.lines.form
        if self.form is None and isinstance(form, AnyForm) and form.found:
            self.form = f"{form.found.name}: {form.found.meaning}"

    def _known(self) -> Iterator[Line]:
        asked: Counter[str] = Counter()
        for read in self.lines.unparsed(range(len(self.lines))):
            try:
                line = read()
            except DialogueError as error:
                self.dialogues.append(str(error).partition(": ")[0])
                continue
            made = as_answer(line, asked, self.questions)
            if made is not line.record:
                self.form = "an answer file of others"
            yield line._replace(record=made)
