"""Which answers are compared, on which side a question stands, and what judgements become."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgelm.errors import InputError
from judgelm.jsonl import Line
from judgelm.judge import JudgeSettings
from judgelm.teaching.pairs import choose_pairs
from judgelm.teaching.split import are_alike, group_texts, split_questions
from judgelm.teaching.verdicts import Taught, read_taught

pytestmark = pytest.mark.usefixtures("without_a_key")


# which answers are compared


MODELS = st.integers(2, 6)


@given(models=MODELS, questions=st.integers(1, 40), most=st.integers(1, 16) | st.none(), seed=st.integers(0, 99))
def test_models_are_first_and_second_and_meet_equally_often(
    models: int, questions: int, most: int | None, seed: int
) -> None:
    candidates = {str(key): list(combinations(range(models), 2)) for key in range(questions)}
    chosen = choose_pairs(candidates, most, seed)
    assert chosen == choose_pairs(candidates, most, seed)
    assert len(chosen) == questions * min(most or 99, models * (models - 1) // 2)
    assert len({(pair.question, frozenset(pair[1:])) for pair in chosen}) == len(chosen)
    meetings = Counter(frozenset(pair[1:]) for pair in chosen)
    met = [meetings[frozenset(pair)] for pair in combinations(range(models), 2)]
    assert max(met) - min(met) <= 1
    assert_balanced(chosen)


@given(st.data())
def test_places_are_balanced_whoever_answered_what(data: st.DataObject) -> None:
    every = list(combinations(range(5), 2))
    some = st.lists(st.sampled_from(every), unique=True)
    candidates = {str(key): data.draw(some) for key in range(data.draw(st.integers(1, 12)))}
    chosen = choose_pairs(candidates, data.draw(st.integers(1, 4) | st.none()), data.draw(st.integers(0, 9)))
    assert_balanced(chosen)
    assert [pair.question for pair in chosen] == sorted((pair.question for pair in chosen), key=int)
    for pair in chosen:
        assert tuple(sorted(pair[1:])) in candidates[pair.question]


def assert_balanced(chosen: list[Any]) -> None:
    places: dict[int, Counter[int]] = defaultdict(Counter)
    of_two: dict[frozenset[int], Counter[int]] = defaultdict(Counter)
    for pair in chosen:
        places[pair.first][1] += 1
        places[pair.second][2] += 1
        of_two[frozenset(pair[1:])][pair.first] += 1
    assert all(abs(each[1] - each[2]) <= 1 for each in places.values())
    for two, each in of_two.items():
        one, other = two
        assert abs(each[one] - each[other]) <= 1


def test_another_seed_draws_other_pairs() -> None:
    candidates = {str(key): list(combinations(range(4), 2)) for key in range(8)}
    assert len({tuple(choose_pairs(candidates, 2, seed)) for seed in range(5)}) == 5


# the split


WORDS = st.sampled_from(["why", "does", "the", "river", "cross", "my", "old", "town", "winter", "early", "snow"])


@given(st.lists(st.lists(WORDS, min_size=1, max_size=9).map(" ".join), min_size=2, max_size=25), st.integers(0, 9))
def test_no_near_double_stands_on_the_other_side(texts: list[str], seed: int) -> None:
    questions = {str(key): text for key, text in enumerate(texts)}
    grams = [frozenset(text[k : k + 8] for k in range(max(1, len(text) - 7))) for text in texts]
    alike = [(one, other) for one, other in combinations(range(len(texts)), 2) if are_alike(grams[one], grams[other])]
    # every one is found, though few texts are compared with each other
    groups = group_texts(texts)
    assert all(groups[one] == groups[other] for one, other in alike)
    assert len(set(groups)) >= len(texts) - len(alike)
    wanted = max(1, round(0.3 * len(questions)))
    if min(Counter(groups).values()) > min(wanted, len(questions) - 1):
        with pytest.raises(InputError, match="cannot be split"):
            split_questions(questions, 0.3, seed)
        return
    split = split_questions(questions, 0.3, seed)
    assert 1 <= len(split.validation) < len(questions)
    assert len(split.validation) <= wanted
    assert all((str(one) in split.validation) == (str(other) in split.validation) for one, other in alike)
    assert split == split_questions(questions, 0.3, seed)


def test_near_doubles_are_questions_that_differ_in_little() -> None:
    texts = [
        "How many apples has Tom, who had 12 and ate 3?",
        "how many apples  has TOM, who had 15 and ate 4?",
        "What is the capital of France?",
        "Which city is Norway's capital, and since when?",
        "?",
        "?",
    ]
    groups = group_texts(texts)
    assert groups[0] == groups[1]
    assert groups[4] == groups[5]
    assert len(set(groups)) == 4
    questions = dict(zip("abcdef", texts, strict=True))
    assert split_questions(questions, 0, 0).near_doubles == 2
    with pytest.raises(InputError, match="2 questions in 1 groups of near doubles cannot be split"):
        split_questions({"a": "?", "b": " ? "}, 0.5, 0)


# what the teacher's judgements become


def said(text: str, finish: str = "stop", order: str = "forward") -> Line:
    return Line(
        {"pred_text": text, "pred_finish_reason": finish, "pred_task": "pair", "pred_order": order}, Path("f"), 1
    )


RIGHT, LEFT = "8 3\nAssistant 1 is better.", "3 8\nAssistant 2 is better."


@pytest.mark.parametrize(
    ("forward", "back", "rule", "found"),
    [
        (RIGHT, LEFT, "drop", Taught(RIGHT, (8, 3))),
        (RIGHT, "9 9\nEqual.", "drop", "contradicted"),
        (RIGHT, RIGHT, "drop", "contradicted"),
        (RIGHT, RIGHT, "keep", Taught(RIGHT, (8, 3))),
        # the mean of 8, 3, 3 and 8, in whole numbers
        (RIGHT, RIGHT, "tie", Taught("6 6\nAssistant 1 is better.", (6, 6))),
        ("9 2\nOne.", "5 5\nEqual.", "tie", Taught("5 5\nOne.", (5, 5))),
        ("7 7\nEqual.", "6 6\nEqual.", "tie", Taught("7 7\nEqual.", (7, 7))),
        ("hm", LEFT, "keep", "unread"),
        (RIGHT, "hm", "keep", Taught(RIGHT, (8, 3))),
        (RIGHT, "hm", "tie", "unread_reversed"),
        (RIGHT, "hm", "drop", "unread_reversed"),
        # a score line of another form becomes one that is taught
        ("**8/10 3/10**\nOne.", LEFT, "drop", Taught("8 3\nOne.", (8, 3))),
        (" 8 3\nOne.\n\n", LEFT, "drop", Taught("8 3\nOne.", (8, 3))),
    ],
)
def test_contradictions_are_left_out_or_kept_or_made_ties(
    forward: str, back: str, rule: Any, found: Taught | str
) -> None:
    lines: Any = {"forward": said(forward), "reversed": said(back, order="reversed")}
    assert read_taught(lines, JudgeSettings(), rule) == found


@pytest.mark.parametrize(
    ("text", "finish", "scores_only", "found"),
    [
        (RIGHT, "length", False, "cut"),
        (RIGHT, "length", True, Taught("8 3", (8, 3))),
        ("", "refused", False, "refused"),
        ("", "prompt_too_long", False, "prompt_too_long"),
        ("", "stop", False, "unread"),
    ],
)
def test_what_is_cut_or_refused_teaches_nothing(text: str, finish: str, scores_only: bool, found: Taught | str) -> None:
    lines: Any = {"forward": said(text, finish), "reversed": said(LEFT, order="reversed")}
    assert read_taught(lines, JudgeSettings(scores_only=scores_only), "drop") == found
