"""Judgement files and a truth, joined by question_id: what metrics, ranking and report are computed from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.errors import InputError, one_line
from judgelm.forms import Columns, open_rows
from judgelm.jsonl import Line, Record, index_by_id, read_lines, require
from judgelm.judgement import LABELS, MAX_SCORE, Judgement, Outcome, published_scores
from judgelm.prompt import TASKS
from judgelm.sample import empty_answers, question_key, shown_answer
from judgelm.samples import PathLike
from judgelm.verdict import BothOrders, Reading

_SURELY = 1e-3
"""how far probabilities that were rounded may be from 1"""
_GRADING = tuple(task.name for task in TASKS.values() if task.prefill)
"""tasks in which answer 1 has its score already"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a teacher or people say of the pair."""

    outcome: Outcome
    scores: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSample(BothOrders):
    """A question with two answers, its judgements in the orders that were judged, and the truth where there is one."""

    key: str
    question: str
    answers: tuple[str, str]
    models: tuple[str | None, str | None] = (None, None)
    category: str | None = None
    truth: Truth | None = None
    published_truth: int | None = None
    """the truth's sign, 1, 0 or -1, as the paper's script reads it; None where it cannot"""
    votes: tuple[Outcome, ...] = ()
    """of single annotators, also where they have no majority and so no truth"""
    empty: tuple[str, ...] = ()
    """whose answers are empty: the model's name, else "answer 1" or "answer 2" as a name"""
    known_answer: bool = False
    """answer 1 is the right one, worth 10, and answer 2 is graded beside it, as in the tasks single and mmvet"""

    @property
    def cluster(self) -> str:
        """Samples of the same question are not independent: intervals draw whole questions. Without one, the id."""
        return question_key(self.question) or self.key


def judged_task(folder: PathLike) -> str | None:
    """The task of a folder that `judgelm judge` wrote, by its first judgement; None where there is none."""
    path = Path(folder).expanduser() / "forward.jsonl"
    line = next(iter(read_lines(path, finite=False)), None) if path.is_file() else None
    return None if line is None else str(_task(line))


def read_folder(
    folder: PathLike,
    teacher: PathLike | None = None,
    only: Collection[str] | None = None,
    columns: Columns | None = None,
) -> list[JudgedSample]:
    """What `judgelm judge` wrote into a folder; with `teacher`, or labels in the rows themselves, with a truth.

    `only` are the keys of the rows that matter: an interrupted run may have left others in one order alone.
    """
    place = Path(folder).expanduser()
    paths = [place / f"{order}.jsonl" for order in ("forward", "reversed")]
    forward, back = (path if path.exists() else None for path in paths)
    if place.is_file():
        raise InputError(f"{place} is a file, expected a folder that judgelm judge wrote")
    if forward is None and back is None:
        raise InputError(f"{place}: no forward.jsonl or reversed.jsonl there (judgelm judge --output-dir writes them)")
    return read_files(forward, back, teacher, only, columns)


def read_files(
    forward: PathLike | None,
    reversed_: PathLike | None = None,
    teacher: PathLike | None = None,
    only: Collection[str] | None = None,
    columns: Columns | None = None,
) -> list[JudgedSample]:
    """Judgement files joined by question_id, in the order of the first one.

    The truth comes from `teacher` (`text` "s1 s2\\n..", or `label` 1 first, 2 second, 0 tie, null none), a file whose
    fields may have other names (`columns`), else from `label` or `text` in the judgements. Rows without a readable
    truth have None. Raises InputError for a double id, an id that one file has and another lacks, and a file of the
    other order.
    """
    files = {order: path for order, path in (("forward", forward), ("reversed", reversed_)) if path is not None}
    if not files:
        raise ValueError("no judgement file is given")
    # older versions wrote numbers that are not finite as they came
    lines = {order: index_by_id(read_lines(path, finite=False)) for order, path in files.items()}
    if only is not None:
        lines = {order: {key: by_id[key] for key in by_id if key in only} for order, by_id in lines.items()}
    teacher_lines = index_by_id(open_rows(teacher, columns, finite=False)) if teacher is not None else None
    first = next(iter(lines))
    for order, by_id in lines.items():
        for key, line in by_id.items():
            find_line(lines[first], key, files[first], line, f"{first} judgement")
            found = line.record.get("pred_order", order)
            if found != order:
                what = f"expected a {order} judgement, found a {found} one"
                raise InputError(f"{line.where}: {what} (are the files exchanged?)")
    samples = []
    for key, line in lines[first].items():
        both = {each: find_line(by_id, key, files[each], line, f"{each} judgement") for each, by_id in lines.items()}
        source = line if teacher_lines is None else find_line(teacher_lines, key, teacher, line, "teacher judgement")
        samples.append(join_lines(key, both, source, teacher is not None))
    return samples


def join_lines(key: str, lines: Mapping[str, Line], source: Line, needed: bool = False) -> JudgedSample:
    """A sample from its line in each order, and from the line that its truth stands in.

    Raises InputError for a field of the wrong kind, and where a truth is `needed` and there is none.
    """
    readings = {order: _reading(line, exchanged=order == "reversed") for order, line in lines.items()}
    order, line = next(iter(lines.items()))
    question, answers, models = _contents(line, order)
    category = line.record.get("category", line.record.get("subset"))
    return JudgedSample(
        readings.get("forward"),
        readings.get("reversed"),
        key=key,
        question=question,
        answers=answers,
        models=models,
        category=None if category is None else str(category),
        truth=read_truth(source, needed),
        published_truth=_published_truth(source),
        votes=_read_votes(source),
        empty=_empty(line, order, models),
        known_answer=_task(line) in _GRADING,
    )


def _contents(line: Line, order: str) -> tuple[str, tuple[str, str], tuple[str | None, str | None]]:
    """Question, answers and models' names, in the file's order of answers. MM-Vet's rows have the right answer in
    `answer` and the graded one, which the judge saw second, in `answer1_body`.
    """
    record = line.record
    # in a reversed record all that is said of answers 1 and 2 is exchanged, a label is not
    sides = (1, 2) if order == "forward" else (2, 1)
    first, second = (_answer(record, side) for side in sides)
    models = [model_name(record.get(f"answer{side}_model_id")) for side in sides]
    question = record.get("question_body", "")
    if _task(line) == "mmvet":
        question, first, second, models = record.get("question", ""), record.get("answer", ""), first, [None, models[0]]
    return str(question), (str(first), str(second)), (models[0], models[1])


def _answer(record: Record, side: int) -> Any:
    """As the judge was shown it."""
    shown = shown_answer(record, f"answer{side}_body")
    return record.get(f"answer{side}_body", "") if shown is None else shown


def _empty(line: Line, order: str, models: tuple[str | None, str | None]) -> tuple[str, ...]:
    """Names of the empty answers; MM-Vet's only answer stands in the second place."""
    graded = _task(line) == "mmvet"
    places = (place if order == "forward" else 3 - place for place in empty_answers(line.record))
    return tuple(sorted(models[1 if graded else place - 1] or f"answer {place}" for place in places))


def _task(line: Line) -> object:
    """The judgement's task; files that the original wrote do not say it, but MM-Vet's rows have names of their own."""
    record = line.record
    of_mmvet = "question_body" not in record and {"question", "answer"} <= record.keys()
    return record.get("pred_task", "mmvet" if of_mmvet else "pair")


def model_name(given: object) -> str | None:
    """The name of a model as text: a number is its digits; None where there is nothing that could be shown."""
    if isinstance(given, bool | int | float):
        return json.dumps(given)
    return given if isinstance(given, str) and one_line(given) else None


def _reading(line: Line, exchanged: bool) -> Reading:
    """With what scoring `expected` wrote down."""
    judgement = Judgement.parse(judgement_text(line))
    probabilities: dict[Outcome, float] | None = None
    expected: tuple[float, float] | None = None
    if line.record.get("pred_probabilities") is not None:
        given = require(line, "pred_probabilities", dict)
        probabilities = {each: _number(line, "pred_probabilities", given.get(each.value), 1.0) for each in Outcome}
        if abs((total := sum(probabilities.values())) - 1) > _SURELY:
            raise InputError(
                f"{line.where}: expected 'pred_probabilities' of win, tie and lose that sum to 1, found {total:g}"
            )
    if line.record.get("pred_expected_scores") is not None:
        scores = require(line, "pred_expected_scores", list)
        if len(scores) != 2:
            raise InputError(f"{line.where}: field 'pred_expected_scores' must have two numbers, found {len(scores)}")
        first, second = (_number(line, "pred_expected_scores", score, MAX_SCORE) for score in scores)
        expected = first, second
    return Reading.of(judgement, probabilities, expected, exchanged)


def read_truth(line: Line, needed: bool = True) -> Truth | None:
    """The truth in a teacher's or a labelled row; None where it has none that can be read.

    Raises InputError where the row is `needed` to have one and has neither field, or one of the wrong kind.
    """
    record = line.record
    if "label" in record:
        return None if record["label"] is None else Truth(_labelled_outcome(line, record["label"]))
    if "text" not in record and not needed:
        return None
    if "text" not in record:
        raise InputError(f"{line.where}: field 'text' or 'label' is missing (found: {', '.join(list(record)[:8])})")
    scores: Any = Judgement.parse(require(line, "text", str)).scores
    return None if scores is None else Truth(Outcome.from_scores(*scores), scores)


def _labelled_outcome(line: Line, label: Any) -> Outcome:
    if isinstance(label, bool) or label not in list(LABELS):
        raise InputError(f"{line.where}: expected label 1, 2 or 0 (tie), found {label!r}")
    return LABELS[label]


def _read_votes(line: Line) -> tuple[Outcome, ...]:
    if line.record.get("annotators") is None:
        return ()
    return tuple(_labelled_outcome(line, vote) for vote in require(line, "annotators", list))


def _published_truth(line: Line) -> int | None:
    if "label" in line.record:
        return None if line.record["label"] is None else LABELS[line.record["label"]].sign
    text = line.record.get("text")
    scores = published_scores(text) if isinstance(text, str) else (-1.0, -1.0)
    return None if -1 in scores else Outcome.from_scores(*scores).sign


def find_line(index: Mapping[str, Line], key: str, path: Any, needed_by: Line, what: str) -> Line:
    """The line of that id; raises InputError that names both files."""
    if key not in index:
        raise InputError(f"{path} has no {what} for question_id {key} (needed by {needed_by.where})")
    return index[key]


def judgement_text(line: Line) -> str:
    """Prefill and generation, without white space around, as the original wrote its files; those have no task."""
    name = require(line, "pred_task", str) if "pred_task" in line.record else "pair"
    task = TASKS.get(name)
    if task is None or task.name == "multi":
        raise InputError(f"{line.where}: evaluation compares two answers, found task {name!r}")
    text: str = require(line, "pred_text", str)
    return (task.prefill + text).strip() if "pred_task" in line.record else text


def _number(line: Line, field: str, value: Any, most: float) -> float:
    """Raises InputError for anything but a number from 0 to `most`; sums of floats may be above it by their errors."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most * (1 + 1e-6):
        found = f"{value:g}" if isinstance(value, float) else one_line(repr(value))[:60]
        raise InputError(f"{line.where}: field {field!r} must hold numbers from 0 to {most:g}, found {found}")
    return float(value)
