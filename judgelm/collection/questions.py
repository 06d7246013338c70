"""What is asked: the questions of a file, each as a chat."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judgelm.answers import as_question
from judgelm.dialogue import SYSTEM, USER, Turn, Turns, read_said, to_messages
from judgelm.errors import InputError, located, one_line
from judgelm.files import PathLike
from judgelm.forms import Columns, open_rows
from judgelm.images import Gallery, Image, write_content
from judgelm.jsonl import Line, Record, check_ids, id_key, read_id
from judgelm.sample import read_content

_COLUMNS = ("question_id", "question", "answer", "model", "reference", "label", "category", "messages")
"""what may be named in a file of questions; of these the first two and messages count"""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is to answer: the last of some turns. Raises ValueError where that is not the user's."""

    question_id: int | str
    turns: Turns
    images: tuple[Image, ...] = ()
    """whose marks stand in the turns; see `judgelm.images`"""
    category: Any = None
    """which goes with its answers"""

    def __post_init__(self) -> None:
        if not self.turns or self.turns[-1].role != USER:
            raise ValueError(f"question_id {self.question_id}: expected turns that end in one of the user")

    @property
    def key(self) -> str:
        return id_key(self.question_id)

    def messages(self, system: str | None) -> list[dict[str, Any]]:
        """As OpenAI's API has them, with a model's own prompt of the system before the dialogue's own, as one."""
        turns = self.turns
        if system is not None:
            own = turns[0].text if turns[0].role == SYSTEM else None
            text = system if own is None else f"{system}\n\n{own}"
            turns = (Turn(SYSTEM, text), *(turns if own is None else turns[1:]))
        return to_messages(turns, self.images)

    def to_record(self) -> Record:
        """The fields of an answer file's row."""
        said = {"messages": to_messages(self.turns, self.images)} if len(self.turns) > 1 else {}
        question = write_content(self.turns[-1].text, self.images)
        more = {} if self.category is None else {"category": self.category}
        return {"question_id": self.question_id, "question_body": question, **said, **more}


def read_questions(path: PathLike, columns: Columns | None = None) -> list[Question]:
    """The questions of a file in any form that samples are read in, answers or not, as MT-bench, Arena-Hard or
    AlpacaEval write them, or in `columns` of other names; of several `turns` the first.

    Raises InputError for anything that does not fit, naming file and line.
    """
    if columns is not None:
        columns.check(_COLUMNS, "a file of questions")
    lines, asked = open_rows(path, columns), Counter[str]()
    rows = (line._replace(record=as_question(line, asked, row)) for row, line in enumerate(lines))
    return [_read(line) for line in check_ids(rows)]


def _read(line: Line) -> Question:
    gallery = Gallery()
    with located(line.where):
        said = read_said(line.record, 2, gallery)
        if said is not None and said.dialogue is not None and said.dialogue.conversations:
            raise ValueError("its conversations differ before their last replies, so there is no one question to ask")
        before = said.dialogue.turns if said is not None and said.dialogue is not None else ()
        text = said.question if said is not None else read_content(line, "question_body", gallery)
        turns, images = (*before, Turn(USER, text)), gallery.close()
    if not text.strip():
        raise InputError(f"{line.where}: the question is empty")
    return Question(read_id(line), turns, images, line.record.get("category"))


def check_questions(questions: Sequence[Question], samples: int) -> None:
    """Raises InputError where there is no question, or one has the id that a further answer to another one gets.

    All that could be asked are looked at: a later run may ask more of them, and keeps what an earlier one answered.
    """
    if not questions:
        raise InputError("no questions are left to ask")
    keys = Counter(each.key for each in questions)
    for key, count in keys.items():
        if count > 1:
            raise InputError(f"question_id {one_line(key)} stands there {count} times")
    for key in keys:
        for sample in range(2, samples + 1):
            if sample_key(key, sample) in keys:
                raise InputError(f"question_id {one_line(sample_key(key, sample))} is that of answer {sample} to {key}")


def sample_key(key: str, sample: int) -> str:
    """The id of one of several answers to a question: 17, 17#2, 17#3."""
    return key if sample == 1 else f"{key}#{sample}"


def hash_questions(questions: Sequence[Question]) -> str:
    """sha256 of what is asked, ids included."""
    digest = hashlib.sha256()
    for each in questions:
        digest.update(json.dumps([each.key, each.messages(None)]).encode())
    return digest.hexdigest()
