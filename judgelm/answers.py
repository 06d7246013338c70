"""Answer files -> judge samples, joined on question_id, as the published preprocess scripts write them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from judgelm.dialogue import Dialogue, read_said
from judgelm.errors import InputError, located
from judgelm.files import PathLike
from judgelm.forms import Columns, open_rows
from judgelm.images import Gallery, Image, write_content
from judgelm.jsonl import (
    Line,
    LineFile,
    Record,
    id_key,
    index_by_id,
    read_id,
    read_json,
    read_text,
    require,
    write_lines,
)
from judgelm.sample import MAX_ANSWERS, read_content

JUDGELM_OUTPUT = "judgelm-val-5k-judge-samples.jsonl"
MMVET_OUTPUT = "mm-vet-judge-samples.jsonl"


def combine_answers(answer_files: Sequence[PathLike]) -> list[Record]:
    """One judge sample a question from two or more answer files; Assistant k's answer comes from the k-th file.

    The questions and their order are those of the first file. Raises InputError where a file lacks a question, has one
    more, or asks it in other words.
    """
    if not 2 <= len(answer_files) <= MAX_ANSWERS:
        raise InputError(f"expected 2 to {MAX_ANSWERS} answer files, found {len(answer_files)}")
    indexes = index_answers(answer_files)
    return [combine_lines([index[key] for index in indexes]) for key in indexes[0]]


def index_answers(
    answer_files: Sequence[PathLike], columns: Columns | None = None, question_file: PathLike | None = None
) -> list[dict[str, Line]]:
    """Each file's answers by id; raises InputError where a file lacks a question, or has one more than the first."""
    indexes = read_indexes(answer_files, columns, question_file)
    first = indexes[0]
    for path, index in zip(answer_files[1:], indexes[1:], strict=True):
        for key in (key for key in first if key not in index):
            raise InputError(f"{path} has no answer for question_id {key} (needed by {first[key].where})")
        for key in (key for key in index if key not in first):
            raise InputError(f"{answer_files[0]} has no answer for question_id {key} (needed by {index[key].where})")
    return indexes


def read_indexes(
    answer_files: Sequence[PathLike], columns: Columns | None = None, question_file: PathLike | None = None
) -> list[dict[str, Line]]:
    """Each file's answers by id, whichever questions they are to; raises InputError as `read_answers` does."""
    questions = None if question_file is None else index_questions(question_file)
    return [index_by_id(read_answers(path, columns, questions)) for path in answer_files]


def model_names(answer_files: Sequence[PathLike], indexes: Sequence[Mapping[str, Line]]) -> list[str]:
    """Whose answers each file holds: the name that stands in it, else the file's own.

    Raises InputError where a file is of several models, or two files are of one.
    """
    names = [_model_name(path, index) for path, index in zip(answer_files, indexes, strict=True)]
    for one, other in combinations(range(len(names)), 2):
        if names[one] == names[other]:
            raise InputError(f"{answer_files[one]} and {answer_files[other]} are both of model {names[one]}")
    return names


def _model_name(path: PathLike, index: Mapping[str, Line]) -> str:
    first, *rest = index.values()
    given = first.record.get("model")
    name = Path(str(path).removesuffix(".gz")).stem if given is None else read_text(first, "model")
    for line in rest:
        if line.record.get("model") != given:
            raise InputError(
                f"{line.where}: model is {line.record.get('model')!r}, in line {first.number} {given!r}"
                " (expected one model a file)"
            )
    return name


def index_questions(path: PathLike) -> dict[str, Line]:
    """The questions of answers that have none, by id, as MT-bench and Arena-Hard (`uid`, `prompt`) write them, or ours.

    Raises InputError for a missing, ill-typed or double id.
    """
    return index_by_id(map(_with_id, LineFile(path)))


def _with_id(line: Line) -> Line:
    record = line.record
    named = "question_id" in record or "uid" not in record
    return line if named else line._replace(record={**record, "question_id": read_id(line, "uid")})


def read_answers(
    path: PathLike, columns: Columns | None = None, questions: Mapping[str, Line] | None = None
) -> Iterator[Line]:
    """The rows of an answer file (question_id, question_body, text), of one as AlpacaEval, Arena-Hard or MT-bench write
    it, or of any other whose `columns` are named.

    MT-bench keeps the questions in a file of their own: `questions` are its rows by id. Of several turns the first
    counts.

    Raises InputError for what is none of these.
    """
    asked: Counter[str] = Counter()
    if columns is not None:
        columns.check(("question_id", "question", "answer", "model"), "an answer file")
    for line in LineFile(path) if columns is None else open_rows(path, columns):
        if is_ours(line.record):
            require(line, "text")
        yield line._replace(record=as_answer(line, asked, questions))


def is_ours(record: Record) -> bool:
    """Whether a row has our own fields of answers or of questions."""
    return "text" in record or "question_body" in record


def as_answer(line: Line, asked: Counter[str], questions: Mapping[str, Line] | None = None) -> Record:
    """A row of an answer file of others as ours, any other as it is; see `read_answers`.

    `asked` counts the questions of rows without ids. Raises InputError for a row that is none of its form.
    """
    record = line.record
    if is_ours(record):
        return record
    if "instruction" in record and "output" in record:
        return _from_alpaca_eval(line, asked)
    if "messages" in record:
        return _from_arena_hard(line)
    return _from_mt_bench(line, questions) if "choices" in record else record


def as_question(line: Line, asked: Counter[str], row: int) -> Record:
    """A row of a question file as MT-bench, Arena-Hard or AlpacaEval write it as ours, any other as it is; without an
    id the row's number is one, 0 being the first row, or with AlpacaEval what its answer files are joined by.

    `asked` counts the questions of rows without ids. Raises InputError for a row that holds no question.
    """
    record = line.record
    named: Record = {"question_id": record.get("question_id", record.get("uid", row + 1))}
    if "question_body" in record or record.get("messages") is not None:
        return record | named
    if "instruction" in record:
        return record | _known_by_text(line, asked) | (named if "question_id" in record else {})
    return record | ({"question_body": _question(line)} if "prompt" in record or "turns" in record else {}) | named


def _known_by_text(line: Line, asked: Counter[str]) -> Record:
    """AlpacaEval's rows have neither ids nor a fixed order: a question is known by its text and how often it came
    before.
    """
    question, more = read_text(line, "instruction"), line.record.get("input")
    question = f"{question}\n{more}" if more else question
    asked[question] += 1
    digest = hashlib.sha256(question.encode(errors="backslashreplace")).hexdigest()[:12]
    name = digest if asked[question] == 1 else f"{digest}-{asked[question]}"
    return {"question_id": name, "question_body": question}


def _from_alpaca_eval(line: Line, asked: Counter[str]) -> Record:
    return {
        **_known_by_text(line, asked),
        "text": read_text(line, "output"),
        "model": line.record.get("generator"),
    }


def _from_arena_hard(line: Line) -> Record:
    """The first question and its answer, which is text or stands under `answer`."""
    messages = require(line, "messages", list)
    try:
        question, answer = (message["content"] for message in messages[-2:])
        roles = [message["role"] for message in messages]
    except (KeyError, TypeError, ValueError):
        roles = []
    if roles != ["user", "assistant"]:
        raise InputError(f"{line.where}: expected messages to be one of the user and one of the assistant")
    answer = answer.get("answer") if isinstance(answer, dict) else answer
    said = line._replace(record={"question": question, "answer": answer})
    return {
        "question_id": read_id(line, "uid" if "uid" in line.record else "question_id"),
        "question_body": _read_parts(said, "question"),
        "text": _read_parts(said, "answer"),
        "model": line.record.get("model"),
    }


def _from_mt_bench(line: Line, questions: Mapping[str, Line] | None) -> Record:
    """The first choice's first turn, and the first turn of its question."""
    if questions is None:
        raise InputError(
            f"{line.where}: field 'question_body' is missing: MT-bench keeps the questions in a file of their own,"
            " which --question-file names"
        )
    question_id = read_id(line)
    if (asked := questions.get(id_key(question_id))) is None:
        raise InputError(f"{line.where}: the file of questions has no question_id {question_id}")
    choices = require(line, "choices", list)
    if not choices or not isinstance(choices[0], dict):
        raise InputError(f"{line.where}: expected choices to be a list of objects with turns")
    return {
        "question_id": question_id,
        "question_body": _question(asked),
        "text": _first_turn(line._replace(record=choices[0])),
        "model": line.record.get("model_id"),
    }


def _question(line: Line) -> str:
    field = next((name for name in ("question_body", "prompt") if name in line.record), None)
    return _first_turn(line) if field is None else read_text(line, field)


def _first_turn(line: Line) -> str:
    """A text, or in older files of Arena-Hard a message."""
    turns = require(line, "turns", list)
    first = turns[0] if turns else None
    return read_text(line._replace(record=first if isinstance(first, dict) else {"content": first}), "content")


def _read_parts(line: Line, field: str) -> str | list[dict[str, Any]]:
    """A question or an answer, with images a list of parts. Raises InputError for anything else."""
    gallery = Gallery()
    text = read_content(line, field, gallery)
    return write_content(text, gallery.close())


def combine_lines(lines: Sequence[Line]) -> Record:
    """One judge sample of a question's answers; raises InputError where they answer different questions."""
    first = lines[0]
    question = _read_parts(first, "question_body")
    for line in lines[1:]:
        if _read_parts(line, "question_body") != question:
            raise InputError(f"{line.where}: question_body differs from that of {first.where}")
    record: Record = {
        "question_id": first.record["question_id"],
        "score": [line.record.get("scores") for line in lines],
        "question_body": question,
    }
    numbered = list(enumerate(lines, start=1))
    if (dialogue := _shared_dialogue(lines)) is not None:
        record["messages"] = dialogue
    record |= {f"answer{k}_body": _read_parts(line, "text") for k, line in numbered}
    record |= {f"answer{k}_model_id": line.record.get("model") for k, line in numbered}
    record |= {f"answer{k}_metadata": {"decoding_method": line.record.get("decoding_method")} for k, line in numbered}
    return record


def _shared_dialogue(lines: Sequence[Line]) -> Any:
    """The `messages` of rows that are answers to a dialogue, which ends in their question; None where there is none.

    Raises InputError where these are not the same in all.
    """
    found = [_dialogue(line) for line in lines]
    for line, each in zip(lines, found, strict=True):
        if each != found[0]:
            raise InputError(f"{line.where}: messages differ from those of {lines[0].where}")
    return lines[0].record["messages"] if found[0] is not None else None


def _dialogue(line: Line) -> tuple[Dialogue, tuple[Image, ...]] | None:
    gallery = Gallery()
    with located(line.where):
        said = read_said({name: line.record.get(name) for name in ("question_body", "messages")}, 2, gallery)
        images = gallery.close()
    return None if said is None or said.dialogue is None else (said.dialogue, images)


def combine_mmvet(truth_file: PathLike, prediction_file: PathLike) -> list[Record]:
    """MM-Vet ground truth and a model's predictions, joined on the image question's name; ids are running numbers."""
    truth, predictions = read_json(truth_file, finite=True), read_json(prediction_file, finite=True)
    if not truth:
        raise InputError(f"{truth_file}: the file holds no question")
    files = (truth_file, prediction_file)
    return [mmvet_record(number, name, truth, predictions, files) for number, name in enumerate(truth)]


def mmvet_record(
    number: int, name: str, truth: Record, predictions: Record, files: tuple[PathLike, PathLike]
) -> Record:
    """The sample of one of the truth's questions; raises InputError where it is none, or has no prediction."""
    entry = truth[name]
    if not isinstance(entry, dict):
        raise InputError(f"{files[0]}: {name} must be an object, found {type(entry).__name__}")
    texts = {
        field: _text(entry.get(field), f"{files[0]}: {name} has no text {field!r}") for field in ("question", "answer")
    }
    answer = _text(predictions.get(name), f"{files[1]} has no text for {name} (needed by {files[0]})")
    return {**entry, **texts, "answer1_body": answer, "question_id": number}


def _text(value: Any, otherwise: str) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise InputError(otherwise)
    return value


def write_judgelm_samples(answer_files: Sequence[PathLike]) -> Path:
    """Write the samples to the published place, the folder above the first file's folder."""
    output = Path(answer_files[0]).expanduser().absolute().parent.parent / JUDGELM_OUTPUT
    write_lines(output, combine_answers(answer_files))
    return output


def write_mmvet_samples(truth_file: PathLike, prediction_file: PathLike) -> Path:
    """Write the samples to the published place, beside the ground truth."""
    output = Path(truth_file).expanduser().absolute().parent / MMVET_OUTPUT
    write_lines(output, combine_mmvet(truth_file, prediction_file))
    return output
