"""How FastChat's judges are shown questions and answers: the texts in such a prompt, and a prompt of texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_QUESTION = {1: "[Question]\n", 2: "[User Question]\n"}
_ANSWERS = {1: ["Assistant's Answer"], 2: ["Assistant A's Answer", "Assistant B's Answer"]}
_USER = "### User:\n"
_Frame = list[tuple[str, str]]
"""the marks before and behind each text"""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a judge was shown: a question and an answer or two, or two questions with answers to each."""

    questions: tuple[str, ...]
    """one a turn"""
    answers: tuple[tuple[str, ...], ...]
    """of each assistant, one a turn"""
    references: tuple[str, ...] = ()
    """one a turn, or none"""

    def exchanged(self) -> Texts:
        """The same with the assistants in the other order."""
        return Texts(self.questions, self.answers[::-1], self.references)


def write_prompt(texts: Texts) -> str:
    """The texts as FastChat's own prompts lay them out, without an instruction."""
    count, with_reference = len(texts.answers), bool(texts.references)
    said = [*([texts.references] if with_reference else []), *texts.answers]
    if len(texts.questions) > 1:
        talks = _talks(count, with_reference)
        blocks = [_write_talk(name, texts.questions, each) for name, each in zip(talks.values(), said, strict=True)]
        return _fill(_frame_of_talks(talks), blocks).removeprefix("\n\n\n")
    blocks = [each[0] for each in said]
    return f"{_QUESTION[count]}{texts.questions[0]}{_fill(_frame_of_answers(count, with_reference), blocks)}"


def read_prompt(prompt: str, num_answers: int) -> Texts:
    """The texts in a prompt of FastChat's for one answer or for two; an instruction may stand before them.

    Raises ValueError where it has another layout, or a text imitates its marks, so that nobody can tell them apart.
    """
    if "<|The Start of " in prompt:
        return _read_talks(prompt, num_answers)
    start = _QUESTION[num_answers]
    _, there, shown = f"\n\n{prompt}".partition(f"\n\n{start}")
    if not there:
        raise ValueError(f"no {start.strip()} in it")
    frame = _frame_of_answers(num_answers, "\n\n[The Start of Reference Answer]\n" in prompt)
    question, *texts = _between(f"{start}{shown}", [start, *itertools.chain(*frame)])
    said = _without_gaps(texts)
    answers = tuple((each,) for each in said[-num_answers:])
    return Texts((question,), answers, tuple(said[:-num_answers]))


def _read_talks(prompt: str, num_answers: int) -> Texts:
    names = _talks(num_answers, "<|The Start of Reference Answer|>" in prompt)
    shown = prompt[prompt.find("<|The Start of ") :]
    blocks = _without_gaps(_between(f"\n\n\n{shown}", itertools.chain(*_frame_of_talks(names))))
    talks = [_read_talk(block, name) for block, name in zip(blocks, names.values(), strict=True)]
    if len({questions for questions, _ in talks}) != 1:
        raise ValueError("its conversations have different questions")
    answers = tuple(said for _, said in talks)
    return Texts(talks[0][0], answers[-num_answers:], () if len(answers) == num_answers else answers[0])


def _frame_of_answers(num_answers: int, with_reference: bool) -> _Frame:
    """Of one turn, behind the question."""
    names = [*(["Reference Answer"] if with_reference else []), *_ANSWERS[num_answers]]
    return [(f"\n\n[The Start of {name}]\n", f"\n[The End of {name}]") for name in names]


def _talks(num_answers: int, with_reference: bool) -> dict[str, str]:
    """The titles of the conversations of several turns -> who replies in each."""
    names = {"Reference Answer": "Reference answer"} if with_reference else {}
    return names | {f"Assistant {name}'s Conversation with User": f"Assistant {name}" for name in "AB"[:num_answers]}


def _frame_of_talks(titles: Iterable[str]) -> _Frame:
    return [(f"\n\n\n<|The Start of {title}|>\n\n", f"\n\n<|The End of {title}|>") for title in titles]


def _fill(frame: _Frame, texts: Sequence[str]) -> str:
    return "".join(f"{before}{text}{behind}" for (before, behind), text in zip(frame, texts, strict=True))


def _between(text: str, marks: Iterable[str]) -> list[str]:
    """What stands behind each of the marks but the last, which ends the text. Raises ValueError unless each of them is
    there once, in this order.
    """
    found = []
    rest = text
    for mark in marks:
        if text.count(mark.strip("\n")) != 1:
            raise ValueError(f"expected {mark.strip()} once, found it {text.count(mark.strip())} times")
        before, there, rest = rest.partition(mark)
        if not there:
            raise ValueError(f"{mark.strip()} does not stand where it should")
        found.append(before)
    if rest or found[0]:
        raise ValueError("something stands around its parts")
    return found[1:]


def _without_gaps(texts: Sequence[str]) -> Sequence[str]:
    """Those in a frame, without what stands between two of its parts, where nothing may."""
    if any(texts[1::2]):
        raise ValueError("something stands between its parts")
    return texts[::2]


def _write_talk(name: str, questions: Sequence[str], answers: Sequence[str]) -> str:
    pairs = zip(questions, answers, strict=True)
    return "\n\n".join(f"{_USER}{asked}\n\n### {name}:\n{said}" for asked, said in pairs)


def _read_talk(block: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Its questions and answers."""
    turns = f"\n\n{block}".split(f"\n\n{_USER}")
    pairs = [turn.split(f"\n\n### {name}:\n") for turn in turns[1:]]
    if turns[0] or not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"its turns of user and {name} cannot be told apart")
    return tuple(asked for asked, _ in pairs), tuple(said for _, said in pairs)
