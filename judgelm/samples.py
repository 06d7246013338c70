"""Question file and reference file -> samples, joined on question_id; needs the standard library alone."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from judgelm.errors import InputError, located
from judgelm.files import PathLike as PathLike
from judgelm.forms import Columns, open_rows
from judgelm.jsonl import Form, Line, LineFile, check_ids, id_key, read_reference
from judgelm.prompt import TASKS, Task
from judgelm.sample import MAX_ANSWERS, Sample, refuse_images

_ANSWER = re.compile(r"answer([0-9]+)_body")
_CONVERSATION = re.compile(r"conversation([0-9]+)")
_COLUMNS = ("question_id", "question", "answer", "model", "reference", "label", "category", "messages", "conversation")
"""what may be named in a question file; answer1, model1, conversation1 .. by their beginning"""
_HELD = 256 << 20
"""bytes of memory, about, for samples that are kept once they are read"""
_HELD_EACH = 1 << 10
"""bytes for one of them beside its text"""


def read_samples(
    question_file: PathLike,
    task: str = "pair",
    *,
    reference_file: PathLike | None = None,
    num_answers: int | None = None,
    begin: int | None = None,
    end: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    keep_thinking: bool = False,
) -> Samples:
    """The samples of a question file, `begin` to `end` of its rows, with references attached where a file is given.

    The file is any that `LineFile` reads, in our fields, in a form of `judgelm.forms.KNOWN_FORMS`, or in `columns` of
    other names, whose reference is shown.
    `num_answers` counts for the task multi only; without it every record's own answers are used. `seed` picks among
    MM-Vet's alternatives. Thoughts in tags such as <think> at the beginning of an answer are not shown to the judge,
    unless `keep_thinking` says so; the sample's record keeps them.
    Raises InputError for anything that does not fit, naming file and line.
    """
    find_task(task)
    if num_answers is not None and task != "multi":
        problem = f"a number of answers ({num_answers}) can be asked for with task multi only, found task {task}"
        raise InputError(problem)
    lines = _open_questions(question_file, columns, task)
    references = _References(reference_file) if reference_file is not None else None
    make = functools.partial(_make_sample, references, columns, (task, num_answers, seed), keep_thinking)
    rows = range(len(lines))[begin:end]
    holds = lines.size + len(lines) * _HELD_EACH <= _HELD
    keys: list[str] = []
    thoughts, dialogues, images, shown = 0, False, False, False
    held: dict[int, Sample] = {}
    # all ids must differ; what is wrong with a row that is not asked for does not matter
    for row, line in enumerate(check_ids(lines)):
        keys.append(id_key(line.record["question_id"]))
        if row in rows:
            sample = make(row, line)
            thoughts += len(sample.thoughts)
            dialogues = dialogues or sample.dialogue is not None
            images = images or bool(sample.images)
            shown = shown or sample.reference is not None
            if holds:
                held[row] = sample
    if not rows:
        raise InputError(f"{question_file}: no rows left of {len(lines)} between row {begin or 0} and {end}")
    files = SampleFiles(
        lines.path, references.path if references else None, num_answers, lines.form, thoughts, dialogues, images, shown
    )
    return Samples(_Rows(lines, keys, held, make), rows, files)


def _open_questions(path: PathLike, columns: Columns | None, task: str) -> LineFile:
    if columns is not None:
        columns.check(_COLUMNS, "a question file")
        if task == "grade":
            columns = replace(columns, answer_field="answer_body")
    return open_rows(path, columns)


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """What samples were read from."""

    question_file: Path
    reference_file: Path | None = None
    num_answers: int | None = None
    """how many of each row's answers were asked for, task multi"""
    form: Form | None = None
    """what made our own rows of the question file's"""
    thoughts: int = 0
    """of how many answers thoughts are left out"""
    dialogues: bool = False
    """whether any row asked for is a dialogue"""
    images: bool = False
    """whether any has images"""
    references: bool = False
    """whether any has a reference that the judge is shown"""


@dataclass(frozen=True, slots=True)
class _Rows:
    """All rows of a question file."""

    lines: LineFile
    keys: Sequence[str]
    held: Mapping[int, Sample]
    """by row: those that were read already"""
    make: Callable[[int, Line], Sample]

    def read(self, rows: range) -> Iterator[Callable[[], Sample]]:
        """The sample of each row, made when it is called; raises InputError where the file is another by then."""
        for row, line in zip(rows, self.lines.unparsed(rows), strict=True):
            yield functools.partial(self._sample, row, line)

    def _sample(self, row: int, line: Callable[[], Line]) -> Sample:
        return self.held[row] if row in self.held else self.make(row, line())


class Samples(Sequence[Sample]):
    """Rows of a question file.

    Each is read once and kept, if that takes no more than about 256 MiB; those of a larger file are read anew each time
    they are asked for, so that a file of any size needs no memory.
    """

    def __init__(self, all_rows: _Rows, rows: range, files: SampleFiles) -> None:
        self.files = files
        self._all = all_rows
        self._rows = rows

    def whole(self) -> Samples:
        """Those of all rows of the file, asked for or not."""
        return Samples(self._all, range(len(self._all.lines)), self.files)

    @property
    def lines(self) -> LineFile:
        """The question file's rows."""
        return self._all.lines

    @property
    def keys(self) -> Sequence[str]:
        """Of each sample, without reading it."""
        return self._all.keys[self._rows.start : self._rows.stop : self._rows.step]

    def by_key(self) -> Iterator[tuple[str, Sample | None]]:
        """Each sample with its key, None for one that cannot be made of its row."""
        for key, sample in zip(self.keys, self._all.read(self._rows), strict=True):
            try:
                yield key, sample()
            except InputError:
                yield key, None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return Samples(self._all, self._rows[index], self.files)
        row = self._rows[index]
        (sample,) = self._all.read(range(row, row + 1))
        return sample()

    def __iter__(self) -> Iterator[Sample]:
        return (sample() for sample in self._all.read(self._rows))


def say_thoughts(samples: Samples) -> None:
    """Says on stderr of how many answers thoughts are left out, if of any."""
    if count := samples.files.thoughts:
        said = f"thoughts at the beginning of {count} answers are not shown to the judge (--keep-thinking shows them)"
        print(f"judgelm: {samples.files.question_file}: {said}", file=sys.stderr)


def has_dialogues(samples: Sequence[Sample]) -> bool:
    """Whether one of them has more before its answers than a question; of a file's, whether one of the file's has."""
    return samples.files.dialogues if isinstance(samples, Samples) else any(each.dialogue for each in samples)


def has_images(samples: Sequence[Sample]) -> bool:
    """The same of images."""
    return samples.files.images if isinstance(samples, Samples) else any(each.images for each in samples)


def has_references(samples: Sequence[Sample]) -> bool:
    """The same of references that the judge is shown."""
    if isinstance(samples, Samples):
        return samples.files.references
    return any(each.reference is not None for each in samples)


def check_no_images(samples: Sequence[Sample]) -> None:
    """Raises InputError, which names the first sample with images, before who cannot show them."""
    where = f"{samples.files.question_file}: " if isinstance(samples, Samples) else ""
    # those of a file are looked at once more only where one has images
    for sample in samples if has_images(samples) else ():
        refuse_images(sample, where)


def sample_keys(samples: Sequence[Sample]) -> Sequence[str]:
    """The key of each."""
    return samples.keys if isinstance(samples, Samples) else [sample.key for sample in samples]


def find_task(name: str) -> Task:
    """The task of that name; raises InputError for an unknown one."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]


def make_sample(
    line: Line,
    task: str,
    num_answers: int | None = None,
    seed: int = 0,
    reference: str | None = None,
    keep_thinking: bool = False,
) -> Sample:
    """The sample of one row, with the `reference` of another file, if there is one; see `read_samples`."""
    with located(line.where):
        if task == "mmvet":
            sample = Sample.from_mmvet_line(line, seed, reference)
        elif task == "grade":
            sample = Sample.from_graded_line(line, reference)
        else:
            sample = Sample.from_line(line, _count_answers(line, num_answers) if task == "multi" else 2, reference)
        if sample.dialogue is not None and TASKS[task].prefill:
            raise ValueError(f"task {task} takes no dialogue")
    return sample if keep_thinking else sample.without_thoughts()


def _make_sample(
    references: _References | None,
    columns: Columns | None,
    how: tuple[str, int | None, int],
    keep_thinking: bool,
    row: int,
    line: Line,
) -> Sample:
    """With the reference of its own row; `how` are task, number of answers and seed."""
    try:
        reference = references.find(line, row) if references else _own_reference(line, columns)
    except InputError:
        # what is wrong with the row itself is said first
        make_sample(line, *how)
        raise
    return make_sample(line, *how, reference, keep_thinking)


def _count_answers(line: Line, asked: int | None) -> int:
    given = {int(match[1]) for name in line.record if (match := _ANSWER.fullmatch(name))}
    given = given or {int(match[1]) for name in line.record if (match := _CONVERSATION.fullmatch(name))}
    count = 0
    while count + 1 in given:
        count += 1
    while count > 2 and all(line.record.get(name) is None for name in (f"answer{count}_body", f"conversation{count}")):
        # a table has the columns of the row with most answers
        count -= 1
    if asked is None:
        asked = count
    if not 2 <= asked <= MAX_ANSWERS:
        raise InputError(f"{line.where}: a judge takes 2 to {MAX_ANSWERS} answers, found {asked}")
    if count < asked:
        raise InputError(f"{line.where}: {asked} answers asked for, found {count} (answer{count + 1}_body is missing)")
    return asked


class _References:
    """Reference texts by question_id, or by row where an old file has no ids at all."""

    def __init__(self, path: PathLike) -> None:
        rows = LineFile(path)
        self.path, lines = rows.path, list(rows)
        self.texts = [_reference(line) for line in lines]
        self.by_row = not any("question_id" in line.record for line in lines)
        ids = [] if self.by_row else [id_key(line.record["question_id"]) for line in check_ids(lines)]
        self.rows = {key: row for row, key in enumerate(ids)}

    def find(self, question: Line, row: int) -> str:
        key = id_key(question.record["question_id"])
        found = row if self.by_row else self.rows.get(key, len(self.texts))
        text = self.texts[found] if found < len(self.texts) else None
        if text is None:
            raise InputError(f"{self.path} has no reference for question_id {key} (needed by {question.where})")
        if isinstance(text, InputError):
            raise text
        return text


def _own_reference(line: Line, columns: Columns | None) -> str | None:
    if columns is None or "reference" not in columns.names or line.record["reference"] is None:
        return None
    return read_reference(line)


def _reference(line: Line) -> str | InputError:
    """Its text, or what is wrong with it, which matters only where a question needs it."""
    try:
        return read_reference(line)
    except InputError as error:
        return error
