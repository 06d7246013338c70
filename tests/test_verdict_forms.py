"""Verdicts of other forms than a line of scores: what is read, and what is no verdict."""

from __future__ import annotations

import pytest

from judgelm.criteria import READABLE, Scale
from judgelm.judgement import Judgement, Outcome, ParseState

OK, REPAIRED, FAILED = ParseState.OK, ParseState.REPAIRED, ParseState.FAILED
WIN, LOSE, TIE = Outcome.WIN, Outcome.LOSE, Outcome.TIE


@pytest.mark.parametrize(
    ("text", "outcome", "state"),
    [
        ("[[A]]", WIN, OK),
        ("Both are fine, B is shorter.\n\nMy final verdict is: [[B]]", LOSE, OK),
        ("[[C]]", TIE, OK),
        ("[[tie]]", TIE, OK),
        # Arena-Hard's
        ("My final verdict is slightly better: [[A>B]]", WIN, OK),
        ("[[B>>A]]", LOSE, OK),
        ("[[A=B]]", TIE, OK),
        # of several the last one
        ("I would say [[A]] for style, but facts count: [[B]]", LOSE, REPAIRED),
        ("<think>[[B]]? No.</think>\n[[A]]", WIN, OK),
        ("A", WIN, OK),
        ("B\n", LOSE, OK),
        ("tie", TIE, OK),
        ("**B**", LOSE, REPAIRED),
        ("(A).", WIN, REPAIRED),
        ("Verdict: A", WIN, REPAIRED),
        ("The better answer is Response B", LOSE, REPAIRED),
        ("It repeats itself.\n\nFinal answer: A", WIN, REPAIRED),
        ("A\n\nIt is shorter and right.", WIN, OK),
        # a letter within prose is no verdict
        ("A is better because it is right", None, FAILED),
        ("Assistant A is better", None, FAILED),
        ("I prefer the answer of B, as A is wrong.", None, FAILED),
        ("a", None, FAILED),
        ("D", None, FAILED),
        ("[[D]]", None, FAILED),
        # the first line and the last contradict each other
        ("A\nis what I thought at first\nB", None, FAILED),
        ("", None, FAILED),
        ("8 7", None, FAILED),
        ("<think>[[A]]", None, FAILED),
    ],
)
def test_a_letter_says_who_is_better(text: str, outcome: Outcome | None, state: ParseState) -> None:
    judgement = Judgement.parse(text, 2, Scale(0, 1), "letter")
    assert (judgement.outcome, judgement.state) == (outcome, state)
    points = {WIN: (1.0, 0.0), LOSE: (0.0, 1.0), TIE: (0.5, 0.5), None: None}
    assert judgement.scores == points[outcome]


@pytest.mark.parametrize(
    ("text", "grade", "state"),
    [
        ("Feedback: it is right but short. [RESULT] 4", 4, OK),
        ("[RESULT] (3)", 3, OK),
        ("[RESULT]: 4/5", 4, OK),
        ("[RESULT] 2 at first, then [RESULT] 3", 3, REPAIRED),
        ("The answer is good. Rating: [[5]]", 5, OK),
        ("4", 4, OK),
        ("Score: 4\nIt is short.", 4, REPAIRED),
        ("It is short.\nScore: 4", 4, REPAIRED),
        ("I give it 4 of 5 points", None, FAILED),
        ("[RESULT] 6", None, FAILED),
        ("[RESULT] 4/10", None, FAILED),
        ("[RESULT] 4-5", None, FAILED),
        ("[RESULT] 80%", None, FAILED),
        ("[[A]]", None, FAILED),
        ("", None, FAILED),
    ],
)
def test_a_grade_is_marked_or_stands_alone(text: str, grade: float | None, state: ParseState) -> None:
    judgement = Judgement.parse(text, 1, Scale(1, 5), "grade")
    assert judgement.scores == (None if grade is None else (grade,))
    assert judgement.state == state


@pytest.mark.parametrize(
    ("text", "scores", "state"),
    [
        ('{"scores": [8, 7.5]}', (8, 7.5), OK),
        ('{"reason": "A {is} better", "scores": [8, 7]}', (8, 7), OK),
        ('Here it is:\n```json\n{"scores": [8, 7]}\n```', (8, 7), REPAIRED),
        ('{"winner": "A"}', (1, 0), OK),
        ('{"winner": "tie"}', (0.5, 0.5), OK),
        ('{"winner": "B", "details": {"score": 3}}', (0, 1), OK),
        ('At first {"winner": "A"}, then {"winner": "B"}', (0, 1), REPAIRED),
        ('<think>{"winner": "A"}</think>{"winner": "B"}', (0, 1), OK),
        # two ways to say it may contradict each other
        ('{"winner": "A", "scores": [2, 9]}', None, FAILED),
        ('{"winner": "the first one"}', None, FAILED),
        ('{"winner": 1}', None, FAILED),
        ('{"scores": [8]}', None, FAILED),
        ('{"scores": [8, 7, 6]}', None, FAILED),
        ('{"scores": [8, 11]}', None, FAILED),
        ('{"scores": [true, false]}', None, FAILED),
        ('{"scores": ["8", "7"]}', None, FAILED),
        ('{"scores": [NaN, 7]}', None, FAILED),
        ('{"scores": [1e999, 7]}', None, FAILED),
        (f'{{"scores": [{"9" * 400}, 7]}}', None, FAILED),
        ('{"score": 8}', None, FAILED),
        ('{"scores": [8, 7', None, FAILED),
        ("scores: [8, 7]", None, FAILED),
        ("{" * 3000, None, FAILED),
        ('{"a":' * 30000, None, FAILED),
    ],
)
def test_an_object_is_read_wherever_it_stands(text: str, scores: tuple[float, ...] | None, state: ParseState) -> None:
    judgement = Judgement.parse(text, 2, READABLE, "json")
    assert (judgement.scores, judgement.state) == (scores, state if scores is None else judgement.state)
    if scores is not None:
        assert judgement.state in (OK, REPAIRED)
        assert (judgement.state == OK) == (state == OK)


def test_an_object_can_hold_one_score_or_many() -> None:
    assert Judgement.parse('{"score": 4}', 1, Scale(1, 5), "json").scores == (4,)
    assert Judgement.parse('{"scores": [1, 2, 3]}', 3, READABLE, "json").scores == (1, 2, 3)
    # points of a winner are on no scale of criteria
    assert Judgement.parse('{"winner": "A"}', 2, Scale(1, 5), "json").scores is None


def test_the_reasons_are_all_but_the_thoughts() -> None:
    text = "<think>Hm.</think>\nB is shorter.\n[[B]]"
    assert Judgement.parse(text, 2, Scale(0, 1), "letter").reasons == "B is shorter.\n[[B]]"
