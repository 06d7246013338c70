"""Judgement files and a truth, joined by question_id: what metrics, ranking and report are computed from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judgelm.criteria import READABLE, Scale
from judgelm.dialogue import shown_conversation, shown_question
from judgelm.errors import InputError, in_short, one_line
from judgelm.evaluation.images import labelled
from judgelm.evaluation.readings import check_one_scale, is_number, read_category, read_reading, read_scale
from judgelm.evaluation.votes import labelled_outcome, read_votes
from judgelm.forms import Columns, open_rows
from judgelm.jsonl import Line, Record, index_by_id, read_lines, require
from judgelm.judgement import LABELS, Judgement, Outcome, published_scores
from judgelm.prompt import TASKS
from judgelm.sample import empty_answers, question_key, shown_answer
from judgelm.samples import PathLike
from judgelm.verdict import BothOrders, Reading

_GRADING = tuple(task.name for task in TASKS.values() if task.prefill)
"""tasks in which answer 1 has its score already"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a teacher or people say of the pair."""

    outcome: Outcome
    scores: tuple[float, ...] | None = None
    """of both answers"""


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
    voters: tuple[str, ...] = ()
    """whose they are, in the same order; empty where nobody is named"""
    empty: tuple[str, ...] = ()
    """whose answers are empty: the model's name, else "answer 1" or "answer 2" as a name"""
    known_answer: bool = False
    """answer 1 is the right one, worth 10, and answer 2 is graded beside it, as in the tasks single and mmvet"""
    scale: Scale | None = None
    """of the criteria, where it was judged with some; 0 to 1 where letters say who is better"""
    aspect_truths: Mapping[str, Truth | None] | None = None
    """of aspects that have one of their own, or that nobody could tell (None); the others have that of the whole"""

    @property
    def cluster(self) -> str:
        """Samples of the same question are not independent: intervals draw whole questions. Without one, the id."""
        return question_key(self.question) or self.key


def judged_task(place: PathLike) -> str | None:
    """The task of a folder that `judgelm judge` wrote, or of a file of it, by its first judgement.

    None where there is none. Raises InputError for a file that cannot be read.
    """
    path = Path(place).expanduser()
    for file in order_files(path).values() if path.is_dir() else [path]:
        if file.exists() and (line := next(read_lines(file, finite=False), None)) is not None:
            return str(_task(line))
    return None


def order_files(folder: Path) -> dict[str, Path]:
    """By order the judgement files of pairs that are there, forward first."""
    files = {order: folder / f"{order}.jsonl" for order in ("forward", "reversed")}
    return {order: file for order, file in files.items() if file.exists()}


def forward_file(place: PathLike) -> Path:
    """Of a folder the forward order's; a file itself."""
    path = Path(place).expanduser()
    return path / "forward.jsonl" if path.is_dir() else path


def split_aspects(samples: Sequence[JudgedSample]) -> dict[str, list[JudgedSample]]:
    """By each aspect the samples that were judged by it, as judged by it alone; aspects as they first come.

    The truth is the aspect's own, else the whole one's; votes are of the whole.
    """
    found: dict[str, list[JudgedSample]] = {}
    for sample in samples:
        for name, both in sample.aspects.items():
            truth = (sample.aspect_truths or {}).get(name, sample.truth)
            alone = replace(
                sample,
                forward=both.forward,
                reversed=both.reversed,
                truth=truth,
                published_truth=None,
                votes=(),
                voters=(),
            )
            found.setdefault(name, []).append(alone)
    return found


def read_folder(
    folder: PathLike,
    teacher: PathLike | None = None,
    only: Collection[str] | None = None,
    columns: Columns | None = None,
    with_truth: bool = True,
) -> list[JudgedSample]:
    """What `judgelm judge` wrote into a folder; with `teacher`, or labels in the rows themselves, with a truth.

    `only` are the keys of the rows that matter: an interrupted run may have left others in one order alone. Not
    `with_truth`, the rows' own labels are not read, which may be of any kind then.
    """
    place = Path(folder).expanduser()
    if place.is_file():
        raise InputError(f"{place} is a file, expected a folder that judgelm judge wrote")
    files = order_files(place)
    if not files:
        raise InputError(f"{place}: no forward.jsonl or reversed.jsonl there (judgelm judge --output-dir writes them)")
    return read_files(files.get("forward"), files.get("reversed"), teacher, only, columns, with_truth)


def read_files(
    forward: PathLike | None,
    reversed_: PathLike | None = None,
    teacher: PathLike | None = None,
    only: Collection[str] | None = None,
    columns: Columns | None = None,
    with_truth: bool = True,
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
    teacher_lines = None if teacher is None else index_teacher(teacher, columns, "label")
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
        own = line if with_truth else line._replace(record={})
        source = own if teacher_lines is None else find_line(teacher_lines, key, teacher, line, "teacher judgement")
        samples.append(join_lines(key, both, source, teacher is not None))
        check_one_scale(line, samples[-1].scale, samples[0].scale)
    return _on_one_scale(samples)


def _on_one_scale(samples: list[JudgedSample]) -> list[JudgedSample]:
    """Teachers' scores that go beyond the criteria's scale are of another: they say which answer is better, no more."""
    truths = [sample.truth.scores for sample in samples if sample.scale and sample.truth and sample.truth.scores]
    if not truths or max(map(max, truths)) <= (samples[0].scale or READABLE).most:
        return samples
    return [replace(one, truth=one.truth and Truth(one.truth.outcome)) for one in samples]


def index_teacher(path: PathLike, columns: Columns | None, truth: str) -> dict[str, Line]:
    """A teacher's rows by id; the truth is a `label` of pairs or a `score` of grades, or begins a judgement."""
    if columns is not None:
        columns.check(("question_id", truth, "judgement"), "a teacher's file")
    return index_by_id(open_rows(path, columns, finite=False))


def join_lines(key: str, lines: Mapping[str, Line], source: Line, needed: bool = False) -> JudgedSample:
    """A sample from its line in each order, and from the line that its truth stands in.

    Raises InputError for a field of the wrong kind, and where a truth is `needed` and there is none.
    """
    if (wrong := next((line for line in lines.values() if _task(line) == "grade"), None)) is not None:
        raise InputError(f"{wrong.where}: expected a judgement of two answers, found a grade of one (task grade)")
    readings = {order: read_reading(line, order=order) for order, line in lines.items()}
    scales = {read_scale(line) for line in lines.values()}
    order, line = next(iter(lines.items()))
    if len(scales) > 1:
        raise InputError(f"{line.where}: its two orders have not one scale of criteria")
    (scale,) = scales
    by_criteria = any(reading.aspects for reading in readings.values())
    aspects = _read_aspect_truths(source, scale, readings.values()) if scale and by_criteria else None
    question, answers, models = _contents(line, order)
    votes = read_votes(source)
    return JudgedSample(
        readings.get("forward"),
        readings.get("reversed"),
        key=key,
        question=question,
        answers=answers,
        models=models,
        category=read_category(line.record),
        truth=read_truth(source, needed and aspects is None, scale),
        published_truth=_published_truth(source),
        votes=votes.outcomes,
        voters=votes.voters,
        empty=_empty(line, order, models),
        known_answer=_task(line) in _GRADING,
        scale=scale,
        aspect_truths=aspects,
    )


def _contents(line: Line, order: str) -> tuple[str, tuple[str, str], tuple[str | None, str | None]]:
    """Question, answers and models' names, in the file's order of answers. MM-Vet's rows have the right answer in
    `answer` and the graded one, which the judge saw second, in `answer1_body`.
    """
    record = labelled(line.record)
    # in a reversed record all that is said of answers 1 and 2 is exchanged, a label is not
    sides = (1, 2) if order == "forward" else (2, 1)
    first, second = (answer_text(record, side) for side in sides)
    models = [model_name(record.get(f"answer{side}_model_id")) for side in sides]
    question = shown_question(record, first=sides[0])
    if _task(line) == "mmvet":
        question, first, second, models = record.get("question", ""), record.get("answer", ""), first, [None, models[0]]
    return str(question), (str(first), str(second)), (models[0], models[1])


def answer_text(record: Record, side: int, num_answers: int = 2) -> Any:
    """As the judge was shown it."""
    shown = shown_answer(record, f"answer{side}_body")
    return (
        record.get(f"answer{side}_body", "") if shown is None else shown_conversation(record, side, shown, num_answers)
    )


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


def read_truth(line: Line, needed: bool = True, scale: Scale | None = None) -> Truth | None:
    """The truth in a teacher's or a labelled row; None where it has none that can be read. Scores are read from 0 to
    10, or as far as a `scale` goes.

    Raises InputError where the row is `needed` to have one and has neither field, or one of the wrong kind.
    """
    record = line.record
    if "label" in record:
        return None if record["label"] is None else Truth(labelled_outcome(line, record["label"]))
    if "text" not in record and not needed:
        return None
    if "text" not in record:
        raise InputError(f"{line.where}: field 'text' or 'label' is missing (found: {', '.join(list(record)[:8])})")
    most = max(READABLE.most, scale.most if scale else 0)
    scores = Judgement.parse(require(line, "text", str), 2, Scale(0, most)).scores
    return None if scores is None else Truth(Outcome.from_scores(*scores), scores)


def _read_aspect_truths(line: Line, scale: Scale, readings: Iterable[Reading]) -> dict[str, Truth | None] | None:
    """Those of a row's `aspects`, None where it has no such field: by name a label, scores of both answers, or null.

    Raises InputError for anything else, and where it names none of the judged aspects.
    """
    given = read_aspects(line, {aspect.name for reading in readings for aspect in reading.aspects})
    return None if given is None else {name: _aspect_truth(line, name, said, scale) for name, said in given.items()}


def read_aspects(line: Line, judged: Collection[str]) -> dict[str, Any] | None:
    """What a row's `aspects` says of each of the aspects that were `judged`; None where it has no such field.

    Raises InputError where that is no object, and where it names aspects, but none of these.
    """
    if line.record.get("aspects") is None:
        return None
    given: dict[str, Any] = require(line, "aspects", dict)
    if given and not judged & given.keys():
        known, found = (one_line(", ".join(list(names)[:8])) for names in (judged, given))
        raise InputError(f"{line.where}: field 'aspects' names none of those judged ({known}), found {found}")
    return {name: given[name] for name in judged if name in given}


def _aspect_truth(line: Line, name: str, said: object, scale: Scale) -> Truth | None:
    if said is None:
        return None
    if not isinstance(said, list):
        return Truth(labelled_outcome(line, said))
    if len(said) != 2 or not all(is_number(score) and scale.least <= score <= scale.most for score in said):
        raise InputError(
            f"{line.where}: field 'aspects': {one_line(name)}: expected label 1, 2 or 0 (tie), or two scores from"
            f" {scale}, found {in_short(said)}"
        )
    return Truth(Outcome.from_scores(*said), tuple(map(float, said)))


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
