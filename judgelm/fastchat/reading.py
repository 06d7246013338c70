"""A file of judgements that FastChat's `gen_judgment` wrote -> a folder like that of any judge."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from judgelm.errors import InputError, in_short, one_line
from judgelm.fastchat.layout import Texts, read_prompt
from judgelm.files import PathLike
from judgelm.jsonl import Line, LineFile, Record, id_key, id_order, read_id, read_text, require
from judgelm.judge.judged import LETTER_SCORES, told_record
from judgelm.judgement import Outcome

SOURCE = "fastchat"
"""in a run.json: the folder was made of such a file"""
_WINNERS = {"model_1": Outcome.WIN, "model_2": Outcome.LOSE, "tie": Outcome.TIE, "error": None}
_MOST = 10
_PAIR, _SINGLE = ("model_1", "model_2", "g1_winner", "g2_winner"), ("model", "score", "judgment", "user_prompt")


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file of judgements."""

    folder: Path
    task: str
    """pair or grade"""
    judge: str
    counts: Mapping[str, Mapping[str, int]]
    """how the judgements of each order came out"""
    again: int
    """rows left out that judge once more what was judged before them"""
    unread: tuple[str, ...]
    """rows left out whose texts cannot be told from their prompts: each with its place and why"""


@dataclass(slots=True)
class _Rows:
    """What was read so far."""

    task: str
    judge: str
    orders: dict[str, dict[str, Record]] = field(default_factory=dict)
    """records by id, of each order"""
    again: int = 0
    unread: list[str] = field(default_factory=list)


def is_judgement_file(path: PathLike) -> bool:
    """Whether the first row is one of FastChat's judgements. Raises InputError for a file that cannot be read."""
    line = next(iter(LineFile(path)), None)
    return line is not None and _kind(line) is not None


def import_judgements(path: PathLike, folder: PathLike) -> Imported:
    """Write the judgements of a `model_judgment` file as a judged folder: pairs in both orders, or grades.

    Question and answers are read from the prompts, which the file holds. Whatever was made of such a file in the folder
    before is replaced. Raises InputError for a file of another kind or of several judges, where no row is left, and
    where the folder holds judgements of another judge.
    """
    from judgelm.judge.told import write_told

    lines = LineFile(path)
    first = next(iter(lines), None)
    task = None if first is None else _kind(first)
    if first is None or task is None:
        found = "nothing" if first is None else ", ".join(list(first.record)[:8])
        raise InputError(f"{path}: expected rows of FastChat's judgements ({', '.join(_PAIR)}), found {found}")
    rows = _Rows(task, _judge(first))
    for line in lines:
        if _kind(line) != task or _judge(line) != rows.judge:
            raise InputError(f"{line.where}: expected a judgement of {rows.judge}, as in {first.where}, task {task}")
        _add(rows, line)
    if not rows.orders:
        raise InputError(f"{path}: no row whose texts can be told from its prompt: {rows.unread[0]}")
    place = Path(folder).expanduser()
    source = Path(path).name
    settings = {"model_id": rows.judge, "task": rows.task, SOURCE: source}
    by_order = {order: [found[key] for key in sorted(found, key=id_order)] for order, found in rows.orders.items()}
    others = f"other judgements: name another place for those of {source}"
    counts = write_told(place, SOURCE, settings, by_order, others)
    return Imported(place, task, rows.judge, counts, rows.again, tuple(rows.unread))


def _kind(line: Line) -> str | None:
    """The task of the rows; None of what is no judgement of FastChat's."""
    found = line.record.keys()
    return "pair" if found >= set(_PAIR) else "grade" if found >= set(_SINGLE) else None


def _judge(line: Line) -> str:
    """The name of the model; behind it stands that of its prompt."""
    given = require(line, "judge", list)
    if not given or not isinstance(given[0], str):
        raise InputError(f"{line.where}: expected judge to be the names of a model and of its prompt")
    return given[0]


def _add(rows: _Rows, line: Line) -> None:
    turn = require(line, "turn", int) if "turn" in line.record else 1
    models = [read_text(line, name) for name in (_PAIR[:2] if rows.task == "pair" else _SINGLE[:1])]
    question_id = read_id(line)
    name = f"{id_key(question_id)}/{turn}/{'/'.join(models)}"
    if any(name in records for records in rows.orders.values()):
        rows.again += 1
        return
    about = {"question_id": name, "mt_bench_id": question_id, "turn": turn}
    try:
        made = (_read_pair if rows.task == "pair" else _read_single)(line, models)
    except ValueError as error:
        rows.unread.append(f"{line.where}: {one_line(str(error))}")
        return
    more = {"pred_id": uuid.uuid4().hex, "pred_model_id": rows.judge, "tstamp": line.record.get("tstamp", time.time())}
    for order, record in made.items():
        rows.orders.setdefault(order, {})[name] = {**about, **record, **more}


def _read_pair(line: Line, models: list[str]) -> dict[str, Record]:
    """Of both orders, the second with the answers exchanged. Raises ValueError where the prompts cannot be read."""
    texts = [read_prompt(read_text(line, f"g{game}_user_prompt"), 2) for game in (1, 2)]
    if texts[1] != texts[0].exchanged():
        raise ValueError("its two prompts do not show the same answers")
    made = {}
    for game, order in enumerate(("forward", "reversed"), start=1):
        winner = line.record[f"g{game}_winner"]
        if not isinstance(winner, str) or winner not in _WINNERS:
            found = in_short(winner)
            raise InputError(f"{line.where}: expected g{game}_winner {', '.join(_WINNERS)}, found {found}")
        outcome = _WINNERS[winner]
        shown = models
        if order == "reversed":
            outcome, shown = outcome and outcome.swapped(), models[::-1]
        scores = None if outcome is None else LETTER_SCORES[outcome]
        said = told_record(read_text(line, f"g{game}_judgment"), "pair", order, outcome, scores, "letter")
        names = {f"answer{side}_model_id": model for side, model in enumerate(shown, start=1)}
        made[order] = {**_sample(texts[game - 1], ("answer1_body", "answer2_body")), **names, **said}
    return made


def _read_single(line: Line, models: list[str]) -> dict[str, Record]:
    texts = read_prompt(read_text(line, "user_prompt"), 1)
    score = line.record["score"]
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise InputError(f"{line.where}: expected score to be a number, found {in_short(score)}")
    # FastChat writes -1 where it found none, and whatever a judge made up, such as 42
    scores = [float(score)] if 0 <= score <= _MOST else None
    said = told_record(read_text(line, "judgment"), "grade", "forward", None, scores, "grade")
    return {"forward": {**_sample(texts, ("answer_body",)), "answer_model_id": models[0], **said}}


def _sample(texts: Texts, names: tuple[str, ...]) -> Record:
    """The fields of what was judged: of two turns whole conversations."""
    record: Record = {"question_body": texts.questions[-1]}
    record |= {name: said[-1] for name, said in zip(names, texts.answers, strict=True)}
    if len(texts.questions) > 1:
        for number, said in enumerate(texts.answers, start=1):
            record[f"conversation{number}"] = [
                {"role": role, "content": text}
                for turn in zip(texts.questions, said, strict=True)
                for role, text in zip(("user", "assistant"), turn, strict=True)
            ]
    return record | ({"reference": {"text": "\n\n".join(texts.references)}} if texts.references else {})
