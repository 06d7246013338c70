"""How FastChat's judges are shown questions and answers: the texts in such a prompt, and a prompt of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_QUESTION = {1: "[Question]\n", 2: "[User Question]\n"}
_CONVERSATION = "Assistant {}'s Conversation with User"
_USER = "### User:\n"


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
    if len(texts.questions) > 1:
        said = [("Reference Answer", "Reference answer", texts.references)] if texts.references else []
        said += [
            (_CONVERSATION.format(name), f"Assistant {name}", each)
            for name, each in zip("AB", texts.answers, strict=False)
        ]
        return "\n\n\n".join(_write_talk(title, name, texts.questions, each) for title, name, each in said)
    parts = [f"{_QUESTION[len(texts.answers)]}{texts.questions[0]}"]
    parts += [_block("Reference Answer", text) for text in texts.references]
    parts += [
        _block(name, each[0]) for name, each in zip(_answer_names(len(texts.answers)), texts.answers, strict=True)
    ]
    return "\n\n".join(parts)


def _answer_names(count: int) -> Sequence[str]:
    return ("Assistant's Answer",) if count == 1 else ("Assistant A's Answer", "Assistant B's Answer")


def _block(name: str, text: str) -> str:
    return f"[The Start of {name}]\n{text}\n[The End of {name}]"


def _write_talk(title: str, name: str, questions: Sequence[str], answers: Sequence[str]) -> str:
    turns = [f"{_USER}{asked}\n\n### {name}:\n{said}" for asked, said in zip(questions, answers, strict=True)]
    return "\n\n".join([f"<|The Start of {title}|>", *turns, f"<|The End of {title}|>"])


def read_prompt(prompt: str, num_answers: int) -> Texts:
    """The texts in a prompt of FastChat's for one answer or for two; an instruction may stand before them.

    Raises ValueError where it has another layout, or a text imitates its marks, so that nobody can tell them apart.
    """
    if "<|The Start of " in prompt:
        return _read_talks(prompt, num_answers)
    start = _QUESTION[num_answers]
    begin = 0 if prompt.startswith(start) else prompt.find(f"\n\n{start}") + 2
    if begin < 2 and not prompt.startswith(start):
        raise ValueError(f"no {start.strip()} in it")
    names = list(_answer_names(num_answers))
    if f"\n\n{_open('Reference Answer')}" in prompt:
        names.insert(0, "Reference Answer")
    marks = [start]
    for name in names:
        marks += [f"\n\n{_open(name)}", f"\n{_close(name)}"]
    question, *texts = _between(prompt[begin:], marks)
    said = texts[::2]
    if any(texts[1::2]):
        raise ValueError("something stands between its parts")
    references = tuple(said[:-num_answers])
    return Texts((question,), tuple((each,) for each in said[-num_answers:]), references)


def _open(name: str) -> str:
    return f"[The Start of {name}]\n"


def _close(name: str) -> str:
    return f"[The End of {name}]"


def _between(text: str, marks: Sequence[str]) -> list[str]:
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


def _read_talks(prompt: str, num_answers: int) -> Texts:
    titles = [(_CONVERSATION.format(name), f"Assistant {name}") for name in "AB"[:num_answers]]
    if "<|The Start of Reference Answer|>" in prompt:
        titles.insert(0, ("Reference Answer", "Reference answer"))
    marks = []
    for place, (title, _) in enumerate(titles):
        marks += [("\n\n\n" if place else "") + f"<|The Start of {title}|>\n\n", f"\n\n<|The End of {title}|>"]
    blocks = _between(prompt[prompt.find("<|The Start of ") :], marks)
    if any(blocks[1::2]):
        raise ValueError("something stands between its conversations")
    talks = [_read_talk(block, name) for block, (_, name) in zip(blocks[::2], titles, strict=True)]
    if len({questions for questions, _ in talks}) != 1:
        raise ValueError("its conversations have different questions")
    answers = tuple(said for _, said in talks)
    return Texts(talks[0][0], answers[-num_answers:], () if len(answers) == num_answers else answers[0])


def _read_talk(block: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Its questions and answers."""
    turns = f"\n\n{block}".split(f"\n\n{_USER}")
    pairs = [turn.split(f"\n\n### {name}:\n") for turn in turns[1:]]
    if turns[0] or not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"its turns of user and {name} cannot be told apart")
    return tuple(asked for asked, _ in pairs), tuple(said for _, said in pairs)
