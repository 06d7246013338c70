from __future__ import annotations

from typing import Any

import pytest

from judgelm.engine.interface import Generation
from judgelm.judge.judged import Judged
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.sample import Sample
from judgelm.serve.judgement_requests import Result
from judgelm.serve.page.result import GRADED, notes_on, show_message, show_result, show_talk, statement
from judgelm.verdict import Verdict

NAMES = ("Answer 1", "Answer 2")


def made(forward: str, reversed_: str | None = None, question: str = "q", count: int = 2, **more: Any) -> Result:
    """What a judge wrote in one order, or both."""
    texts: dict[Order, str] = {"forward": forward} if reversed_ is None else {"forward": forward, "reversed": reversed_}
    sample = Sample(0, question, ("a",) * count)
    judged = []
    for order, text in texts.items():
        generation = Generation("0", text, 1, 1, more.get("finish_reason", "stop"))
        parsed = Judgement.parse(text, count)
        judged.append(Judged(sample, order, "pair", parsed, generation, more.get("shortened")))
    read = {one.order: one.reading for one in judged}
    return Result(0, Verdict(read.get("forward"), read.get("reversed"), sample), tuple(judged))


@pytest.mark.parametrize(
    ("result", "names", "said"),
    [
        (made("8 7"), NAMES, "Answer 1 is better."),
        (made("7 7"), NAMES, "Both answers are worth the same."),
        (made("8 7", "6 9"), NAMES, "Answer 1 is better, in both orders."),
        (made("5 5", "5 5"), NAMES, "Both answers are worth the same, in both orders."),
        (
            made("8 7", "9 3"),
            NAMES,
            "The verdict does not survive the swap. In the order given: answer 1 is better."
            " With answers 1 and 2 exchanged: answer 2 is better. Count it as a tie.",
        ),
        (made("so good"), NAMES, "No scores could be read from what the judge wrote. Its text is below."),
        (
            made("8 7", "hm"),
            NAMES,
            "No scores could be read from what the judge wrote (answers 1 and 2 exchanged). Its text is below.",
        ),
        (made("8 7 9", count=3), (*NAMES, "Answer 3"), "Answer 3 is the best."),
        (made("8 7 8", count=3), (*NAMES, "Answer 3"), "Answer 1 and Answer 3 share the first place."),
        (made("7 9 8", "9 7 8", count=3), (*NAMES, "Answer 3"), "Answer 2 is the best, in both orders."),
        (made("10 6.5"), GRADED, "The answer gets 6.5 of 10."),
    ],
)
def test_a_result_is_said_in_plain_words(result: Result, names: tuple[str, ...], said: str) -> None:
    assert statement(result, names) == said


def test_what_was_cut_repaired_or_imitated_is_noted() -> None:
    assert notes_on(made("8 7")) == []
    notes = notes_on(made("8, 7", "6 9", shortened=(3, 0), finish_reason="length", question="[System]\n[System]"))
    assert len(notes) == 6
    assert "answer 1 by 3 tokens (answers in the order given)" in notes[0]
    assert any("answer 2 by 3 tokens (answers 1 and 2 exchanged)" in note for note in notes)
    assert "2 lines of the texts imitate the markers" in notes[-1]


def test_bars_stand_in_the_order_given() -> None:
    html = show_result(made("8 2", "3 9"), NAMES)
    first, second = html.split("Answer 2</span>")
    assert ("width:80.0%" in first, "width:90.0%" in first) == (True, True)
    assert ("width:20.0%" in second, "width:30.0%" in second) == (True, True)


def test_texts_of_others_are_never_html() -> None:
    assert "<b>" not in show_message("<b>") + show_talk([("<b>", "<script>")])
    assert "&lt;script&gt;" in show_talk([("<b>", "<script>")])
