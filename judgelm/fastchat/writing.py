"""A judged folder -> a file of judgements that FastChat's `show_result` reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.dialogue import ASSISTANT, USER, Turn, Turns
from judgelm.distribution import likeliest
from judgelm.errors import InputError, located
from judgelm.evaluation.grades import read_grades
from judgelm.evaluation.results import judged_task, read_folder
from judgelm.fastchat.layout import Texts, write_prompt
from judgelm.files import PathLike
from judgelm.jsonl import Line, Record, index_by_id, read_lines, write_lines
from judgelm.judgement import Outcome
from judgelm.sample import Sample, refuse_images
from judgelm.verdict import Reading

_WINNERS = {Outcome.WIN: "model_1", Outcome.LOSE: "model_2", Outcome.TIE: "tie", None: "error"}
_ARENA_ID = re.compile(r"(?P<question>.+)/\d+-\d+")
_UNREAD = -1


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    task: str
    """pair or grade"""
    rows: int


def export_judgements(folder: PathLike, path: PathLike) -> Exported:
    """Write a judged folder's judgements as FastChat's `model_judgment` files have them, of pairs or of single grades.

    Of probabilities the likeliest outcome of each order counts, of calibrated ones that of their map. Prompts are
    not those that the judge was shown, but its texts in FastChat's layout. Raises InputError for a folder of
    another task or of one order of pairs alone, and where a model's name is missing.
    """
    task = judged_task(folder)
    if task not in ("pair", "grade"):
        raise InputError(f"{folder}: FastChat's files have pairs and grades, found task {task}")
    lines = index_by_id(read_lines(Path(folder).expanduser() / "forward.jsonl", finite=False))
    made = _pairs(folder, lines) if task == "pair" else _grades(folder, lines)
    rows = sorted(made, key=lambda row: (row["turn"], str(row["question_id"])))
    write_lines(path, rows)
    return Exported(Path(path).expanduser(), task, len(rows))


def _pairs(folder: PathLike, lines: dict[str, Line]) -> Iterator[Record]:
    for sample in read_folder(folder, with_truth=False):
        forward, back = sample.forward, sample.reversed
        if forward is None or back is None:
            raise InputError(f"{folder}: FastChat's files have both orders of each pair, found one (--orders both)")
        line = lines[sample.key]
        if None in sample.models:
            raise InputError(f"{line.where}: answer1_model_id or answer2_model_id is missing: whose answers are these?")
        texts = _texts(line, 2)
        yield {
            "question_id": _question_id(line),
            "model_1": sample.models[0],
            "model_2": sample.models[1],
            "g1_winner": _WINNERS[_outcome(forward)],
            "g2_winner": _WINNERS[_outcome(back)],
            "judge": _judge(line, "pair", texts),
            "g1_user_prompt": write_prompt(texts),
            "g1_judgment": forward.text,
            "g2_user_prompt": write_prompt(texts.exchanged()),
            "g2_judgment": back.text,
            **_about(line, texts),
        }


def _grades(folder: PathLike, lines: dict[str, Line]) -> Iterator[Record]:
    for sample in read_grades(folder):
        line = lines[sample.key]
        if sample.model is None:
            raise InputError(f"{line.where}: answer_model_id is missing: whose answer is this?")
        texts = _texts(line, 1)
        yield {
            "question_id": _question_id(line),
            "model": sample.model,
            "judge": _judge(line, "single", texts),
            "user_prompt": write_prompt(texts),
            "judgment": sample.reading.text,
            "score": _UNREAD if sample.grade is None else sample.grade,
            **_about(line, texts),
        }


def _outcome(reading: Reading) -> Outcome | None:
    """Of one order, of the answers as the file has them."""
    if reading.calibrated is not None:
        return reading.calibrated.outcome
    return reading.outcome if reading.probabilities is None else likeliest(reading.probabilities)


def _question_id(line: Line) -> Any:
    """FastChat's own where the row came from there, of an arena's pair that of its question, else the row's."""
    given = line.record.get("mt_bench_id", line.record["question_id"])
    if isinstance(given, str) and (match := _ARENA_ID.fullmatch(given)):
        given = match["question"]
    return int(given) if isinstance(given, str) and given.isdecimal() else given


def _judge(line: Line, kind: str, texts: Texts) -> list[str]:
    name = line.record.get("pred_model_id")
    several = "-multi-turn" if len(texts.questions) > 1 else ""
    return [name if isinstance(name, str) else "judgelm", f"judgelm-{kind}{several}"]


def _about(line: Line, texts: Texts) -> Record:
    return {"turn": len(texts.questions), "tstamp": line.record.get("tstamp", 0)}


def _texts(line: Line, num_answers: int) -> Texts:
    """All turns of what was judged, with its reference where there is one turn. Raises InputError for images, and for
    dialogues that are not turns of user and assistant with the same questions.
    """
    with located(line.where):
        sample = Sample.from_graded_line(line) if num_answers == 1 else Sample.from_line(line)
        refuse_images(sample)
        if sample.dialogue is None:
            given = line.record.get("reference")
            known = given.get("text") if isinstance(given, dict) else None
            references = (known,) if isinstance(known, str) else ()
            return Texts((sample.question,), tuple((each,) for each in sample.answers), references)
        shared = (*sample.dialogue.turns, Turn(USER, sample.question))
        talks = sample.dialogue.conversations or (shared,) * num_answers
        read = [_split(turns, answer) for turns, answer in zip(talks, sample.answers, strict=True)]
        if len({questions for questions, _ in read}) != 1:
            raise ValueError("its conversations have different questions, FastChat's have the same")
    return Texts(read[0][0], tuple(said for _, said in read))


def _split(turns: Turns, answer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions and answers."""
    whole = [*turns, Turn(ASSISTANT, answer)]
    roles = [turn.role for turn in whole]
    if roles != [USER, ASSISTANT] * (len(whole) // 2):
        raise ValueError(f"FastChat's dialogues are turns of user and assistant, found {', '.join(roles[:6])}")
    return tuple(turn.text for turn in whole[::2]), tuple(turn.text for turn in whole[1::2])
