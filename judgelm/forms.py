"""Rows of other people's files -> our own fields: columns that a user names, and forms known by their fields."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from judgelm.dialogue import ASSISTANT, USER, Turn, Turns, join_conversations, read_said, read_turns
from judgelm.errors import InputError, one_line
from judgelm.files import PathLike
from judgelm.images import CannotBeJudged, Gallery
from judgelm.jsonl import Line, LineFile, Record, read_text
from judgelm.judgement import LABEL_OF, Outcome
from judgelm.sample import MAX_ANSWERS
from judgelm.vocabularies import VOCABULARIES, normal_form

_TEXTS = {
    *("question", "answer", "reference", "judgement", "judgement_with_reference"),
    *(f"answer{k}" for k in range(1, MAX_ANSWERS + 1)),
}
_FIELDS = {
    **{name: name for name in ("question_id", "label", "score", "reference", "category", "model")},
    "question": "question_body",
    "answer": "text",
    "judgement": "text",
    "judgement_with_reference": "text_w_reference",
    "messages": "messages",
    **{f"answer{k}": f"answer{k}_body" for k in range(1, MAX_ANSWERS + 1)},
    **{f"model{k}": f"answer{k}_model_id" for k in range(1, MAX_ANSWERS + 1)},
    **{f"conversation{k}": f"conversation{k}" for k in range(1, MAX_ANSWERS + 1)},
}
"""our names for columns, as they are typed -> the fields of a row"""


_VOTES = {"model_a": 1, "model_b": 2, "tie": 0, "tie (bothbad)": 0}


class DialogueError(InputError):
    """A row with a dialogue that is whole, and that no judge can be shown."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a file by our names for them; without an id the rows are numbered, from 1.

    As a `Form` it makes our own row of a file's: a reference's text is `{"text": ..}`, a label 1, 2 or 0.
    """

    names: Mapping[str, str]
    answer_field: str = "text"
    """what a column meant as answer is: that of an answer file"""

    @classmethod
    def parse(cls, text: str) -> Columns:
        """`question=prompt,answer1=chosen`; raises ValueError for what is none of our names, or is said twice."""
        names: dict[str, str] = {}
        for part in text.split(","):
            ours, equals, theirs = (word.strip() for word in part.partition("="))
            if not equals or not theirs:
                raise ValueError(f"expected OURS=THEIRS,.. such as question=prompt,answer1=chosen, found {part!r}")
            if ours not in _FIELDS:
                raise ValueError(f"{ours!r} is none of our names ({', '.join(_shown_names())})")
            if ours in names:
                raise ValueError(f"{ours} is named twice")
            names[ours] = theirs
        return cls(names)

    def check(self, needed: tuple[str, ...], what: str) -> None:
        """Raises InputError where one is named that `what` has not; `needed` are those it has, without a number."""
        for ours in self.names:
            if ours.rstrip("0123456789") not in needed:
                raise InputError(f"--columns: {what} has no {ours} (it has {', '.join(needed)})")

    def __call__(self, line: Line, row: int) -> Record:
        for ours, theirs in self.names.items():
            if theirs not in line.record:
                found = ", ".join(list(line.record)[:8]) or "no fields"
                raise InputError(f"{line.where}: column {theirs!r} is missing, meant as {ours} (found: {found})")
        taken = set(self.names.values())
        record = {name: value for name, value in line.record.items() if name not in taken}
        fields = {**_FIELDS, "answer": self.answer_field}
        record |= {fields[ours]: line.record[theirs] for ours, theirs in self.names.items()}
        record.setdefault("question_id", row + 1)
        if isinstance(reference := record.get("reference"), str) and "reference" in self.names:
            # an empty cell is no reference to show
            record["reference"] = {"text": reference} if reference else None
        if "label" in self.names:
            record["label"] = read_label(line._replace(record=record))
        return record


def _shown_names() -> list[str]:
    numbered = [f"answer1 .. answer{MAX_ANSWERS}", "model1 ..", "conversation1 .."]
    return [name for name in _FIELDS if not name[-1].isdigit()] + numbered


def read_label(line: Line) -> int | None:
    """The row's `label` as 1, 2 or 0 for neither; None for null. Raises InputError for a word that is none of ours."""
    value = line.record["label"]
    if value is None:
        return None
    word = normal_form(value)
    found = VOCABULARIES["number"].read(word) or VOCABULARIES["letter"].read(word)
    if found is None:
        raise InputError(f"{line.where}: expected label 1, 2, 0, A, B or tie, found {value!r}")
    return LABEL_OF[found]


@dataclass(frozen=True)
class KnownForm:
    """Rows as others publish them, known by their fields."""

    name: str
    meaning: str
    make: Callable[[Line], Record]

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """As the name lists them."""
        return frozenset(self.name.split(", "))


@contextlib.contextmanager
def _reading(line: Line) -> Iterator[None]:
    """What is wrong with a dialogue becomes an error that names the line."""
    try:
        yield
    except CannotBeJudged as error:
        raise DialogueError(f"{line.where}: {error}") from None
    except ValueError as error:
        raise InputError(f"{line.where}: {error}") from None


def _from_preferences(line: Line) -> Record:
    """Texts, or messages; chosen and rejected may begin with those of the prompt, which then need not be there."""
    gallery = Gallery()
    with _reading(line):
        both = [_whole(line, field, gallery) for field in ("chosen", "rejected")]
        return {**join_conversations(both).to_fields(gallery.close()), "label": 1}


def _whole(line: Line, field: str, gallery: Gallery) -> Turns:
    """The dialogue that ends in the reply of this field. Raises ValueError."""
    value, prompt = line.record[field], line.record.get("prompt")
    if isinstance(prompt, list):
        before = read_turns(prompt, "prompt", gallery)
    elif "prompt" in line.record:
        before = (Turn(USER, gallery.read(read_text(line, "prompt"))),)
    else:
        before = ()
    if not isinstance(value, list) and before:
        return (*before, Turn(ASSISTANT, gallery.read(read_text(line, field))))
    turns = read_turns(value, field, gallery)
    if turns[-1].role != ASSISTANT:
        raise ValueError(f"expected {field} to end in a message of the assistant")
    if turns[: len(before)] == before or (not isinstance(prompt, list) and len(turns) > 2):
        return turns
    return (*before, *(turns if isinstance(prompt, list) else turns[-1:]))


def _from_annotations(line: Line) -> Record:
    """AlpacaEval's: 1 to 2 says how surely the second is better."""
    more = line.record.get("input")
    question = read_text(line, "instruction")
    record: Record = {
        "question_body": f"{question}\n{more}" if more else question,
        "answer1_body": read_text(line, "output_1"),
        "answer2_body": read_text(line, "output_2"),
    }
    record |= {
        f"answer{k}_model_id": line.record[f"generator_{k}"]
        for k in (1, 2)
        if line.record.get(f"generator_{k}") is not None
    }
    preference = line.record.get("preference")
    if preference is None:
        return record
    if isinstance(preference, bool) or not isinstance(preference, int | float) or not (0 <= preference <= 2):
        raise InputError(f"{line.where}: expected preference from 1, the first, to 2, the second, found {preference!r}")
    return {**record, "label": 0 if preference in (0, 1.5) else 1 if preference < 1.5 else 2}


def _from_votes(line: Line) -> Record:
    """LMArena's: two conversations, and whom a visitor preferred."""
    record = _from_conversations(line)
    record |= {f"answer{k}_model_id": line.record[f"model_{side}"] for k, side in enumerate("ab", start=1)}
    winner = line.record["winner"]
    label = None if winner is None else _VOTES.get(winner) if isinstance(winner, str) else None
    if label is None and winner is not None:
        raise InputError(f"{line.where}: expected winner {', '.join(_VOTES)} or null, found {winner!r}")
    return {**record, "label": label}


def _from_conversations(line: Line) -> Record:
    gallery = Gallery()
    with _reading(line):
        both = [read_turns(line.record[name], name, gallery) for name in ("conversation_a", "conversation_b")]
        return join_conversations(both).to_fields(gallery.close())


def _from_page_votes(line: Line) -> Record:
    """The page's: a judgement of two answers that was found good gives its outcome as the label; what is right where
    one was found bad, nobody said.
    """
    try:
        request, outcome = line.record["request"], line.record["result"]["outcome"]
        (sample,) = request["samples"]
        talks, answers, messages = (sample.get(name) for name in ("conversations", "answers", "messages"))
        agreed = line.record["vote"] == "upvote" and request["task"] == "pair" and outcome is not None
        record: Record = {"vote": line.record["vote"], "label": LABEL_OF[Outcome(outcome)] if agreed else None}
        if talks is not None:
            said = {f"conversation{k}": talk for k, talk in enumerate(talks, start=1)}
            return {**record, **_from_our_conversations(line._replace(record=said))}
        record |= {f"answer{k}_body": answer for k, answer in enumerate(answers, start=1)}
        if sample.get("reference") is not None:
            record["reference"] = {"text": sample["reference"]}
        if messages is not None:
            return {
                **record,
                **_from_messages(line._replace(record={"messages": messages, "answer1_body": answers[0]})),
            }
        return {**record, "question_body": sample["question"]}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        what = one_line(str(error))[:60]
        raise InputError(
            f"{line.where}: expected a vote of the page of judgelm serve, found another ({what})"
        ) from None


def _from_our_conversations(line: Line) -> Record:
    """Ours already, with the question and the answers that they end in."""
    if line.record["conversation1"] is None and line.record.get("messages") is not None:
        # a table has the columns of all its rows
        return _from_messages(line)
    names = [f"conversation{k}" for k in range(1, MAX_ANSWERS + 1)]
    talks = {name: line.record[name] for name in names if line.record.get(name) is not None}
    gallery = Gallery()
    with _reading(line):
        given = (talks or {names[0]: None}).items()
        said = join_conversations([read_turns(talk, name, gallery) for name, talk in given])
        return {**talks, **said._replace(dialogue=None).to_fields(gallery.close())}


def _from_messages(line: Line) -> Record:
    """Ours already, with the question that they end in. A question and its answer may be an answer file's row too."""
    messages = line.record["messages"]
    answered = any(name in line.record for name in ("answer_body", "answer1_body"))
    if not answered and isinstance(messages, list) and len(messages) == 2:
        return {"messages": messages}
    gallery = Gallery()
    with _reading(line):
        said = read_said(line.record, 1, gallery)
        images = gallery.close()
    return {"messages": messages, **(said._replace(dialogue=None).to_fields(images) if said else {})}


KNOWN_FORMS = (
    KnownForm(
        "prompt, chosen, rejected",
        "chosen is answer 1, rejected answer 2, and the label says that the first is better",
        _from_preferences,
    ),
    KnownForm(
        "chosen, rejected",
        "dialogues whose last replies are answers 1 and 2; the label says that the first is better",
        _from_preferences,
    ),
    KnownForm(
        "instruction, output_1, output_2",
        "as AlpacaEval writes them; the label is preference, where there is one",
        _from_annotations,
    ),
    KnownForm(
        "model_a, model_b, winner, conversation_a, conversation_b",
        "votes as LMArena publishes them; the label is the winner, and both bad is a tie",
        _from_votes,
    ),
    KnownForm(
        "conversation_a, conversation_b",
        "conversations as LMArena publishes them, without votes",
        _from_conversations,
    ),
    KnownForm(
        "conversation1, conversation2",
        "whole conversations, whose last replies are the answers",
        _from_our_conversations,
    ),
    KnownForm(
        "messages",
        "a dialogue, to which the answers are the next reply; or the last of which is the answer, task grade",
        _from_messages,
    ),
    KnownForm(
        "time, vote, request, result, turns",
        "votes on judgements of the page of judgelm serve; the label is the outcome where the judgement was found good",
        _from_page_votes,
    ),
)


class AnyForm:
    """As a `Form`: rows of any known form as ours, each told by its fields, and our own as they are."""

    def __init__(self) -> None:
        self.found: KnownForm | None = None
        """the form of the first row that was of one"""

    def __call__(self, line: Line, row: int) -> Record:
        record = line.record
        form = None if "question_body" in record else next((f for f in KNOWN_FORMS if f.fields <= record.keys()), None)
        if form is None:
            return record
        self.found = self.found or form
        rest = {name: value for name, value in record.items() if name not in form.fields}
        made = {**rest, **form.make(line)}
        made.setdefault("question_id", row + 1)
        return made


def open_rows(path: PathLike, columns: Columns | None = None, finite: bool = True) -> LineFile:
    """A file's rows as our own: with the columns that were named, else those of a known form.

    Raises InputError as `LineFile` does.
    """
    texts = () if columns is None else [theirs for ours, theirs in columns.names.items() if ours in _TEXTS]
    lines = LineFile(path, finite, texts=texts)
    lines.form = columns or AnyForm()
    return lines
