from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgelm.verdict import Judgement, Outcome, ParseState, consistent, published_scores

numbers = st.integers(0, 10).map(float) | st.sampled_from([0.5, 7.5, 8.25])
lines = st.lists(numbers, min_size=2, max_size=10)


@given(lines)
def test_a_clean_score_line_is_ok(scores: list[float]) -> None:
    text = " ".join(f"{score:g}" for score in scores) + "\nAssistant 1 is better."
    judgement = Judgement.parse(text, len(scores))
    assert (judgement.scores, judgement.state) == (tuple(scores), ParseState.OK)
    assert judgement.reasons == "Assistant 1 is better."


@pytest.mark.parametrize(
    "text",
    ["8, 9", "8  9", "8 9 ", " 8 9", "8/10 9/10", "8/10, 9/10", "8,9", "8\t9", "8 9\r\nwhy", "\n8 9\nwhy", "8.0, 9.0"],
)
def test_harmless_variations_are_repaired(text: str) -> None:
    judgement = Judgement.parse(text)
    assert (judgement.scores, judgement.state) == ((8.0, 9.0), ParseState.REPAIRED)


# D5 of docs/differences.md
@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "8 9 7",
        "eight nine",
        "8 9 because",
        "Scores: 8 9",
        "-1 -1",
        "nan nan",
        "inf 1",
        "1e1 9",
        "8 90",
        "8/5 9/5",
        "8 9.",
    ],
)
def test_anything_else_has_no_scores(text: str) -> None:
    judgement = Judgement.parse(text)
    assert (judgement.scores, judgement.state, judgement.outcome, judgement.best) == (None, ParseState.FAILED, None, ())


def test_last_character_counts_without_a_stop_string() -> None:
    assert Judgement.parse("7 10").scores == (7.0, 10.0)


def test_outcome_and_best() -> None:
    assert [Judgement.parse(t).outcome for t in ("8 7", "7 7", "6.5 7")] == [Outcome.WIN, Outcome.TIE, Outcome.LOSE]
    assert [o.swapped() for o in Outcome] == [Outcome.LOSE, Outcome.TIE, Outcome.WIN]
    assert Judgement.parse("3 9 9", 3).best == (2, 3)
    assert Judgement.parse("3 9 9", 3).outcome is None


reasons = st.text(st.sampled_from("Asistant 12,and\n.'/&#"), max_size=40) | st.sampled_from(
    ["Assistant 1 beats Assistant 2.", "Assistants 1 and 2 are equal.", "Assistant 12 and assistant 1's", "", "1 and 2"]
)


@given(st.lists(numbers, min_size=2, max_size=4), st.sampled_from([" ", ", ", "  ", ","]), st.booleans(), reasons)
def test_swapping_a_judgement_twice_is_identity(scores: list[float], gap: str, newline: bool, text: str) -> None:
    line = gap.join(f"{score:g}" for score in scores)
    judgement = Judgement.parse(line + "\n" + text if newline else line, len(scores))
    swapped = judgement.swapped()
    assert swapped.swapped() == judgement
    assert swapped == Judgement.parse(swapped.text, len(scores))
    assert swapped.scores == (scores[1], scores[0], *scores[2:])


# D13 of docs/differences.md
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 7\nAssistant 1 is better than Assistant 2.", "7 8\nAssistant 2 is better than Assistant 1."),
        ("8, 9", "9, 8"),
        ("8/10 9/10\nx", "9/10 8/10\nx"),
        ("8 7\nAssistant 12 and assistant 1's", "7 8\nAssistant 12 and assistant 2's"),
        ("8 7\nAssistants 1 and 2 and Assistant 1, 2", "7 8\nAssistants 2 and 1 and Assistant 2, 1"),
        ("10 9\nBoth have 1 fault, 2 at most.", "9 10\nBoth have 1 fault, 2 at most."),
    ],
)
def test_score_line_and_reasons_swap_together(text: str, expected: str) -> None:
    assert Judgement.parse(text).swapped().text == expected


def test_swapping_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="without scores"):
        Judgement.parse("error").swapped()


def test_consistency_is_survival_under_swap() -> None:
    assert consistent(Judgement.parse("8 7"), Judgement.parse("3 5")) is True
    assert consistent(Judgement.parse("8 7"), Judgement.parse("8 7")) is False
    assert consistent(Judgement.parse("8 7"), Judgement.parse("?")) is None
    assert consistent(Judgement.parse("8 7 9", 3), Judgement.parse("1 2 9", 3)) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 7\nx", (8, 7)),
        ("8,7", (8, 7)),
        ("8, 7", (-1, -1)),
        ("8 7 ", (-1, -1)),
        ("a b", (-1, -1)),
        ("8.5 1e1", (8.5, 10)),
    ],
)
def test_published_rule_is_kept_for_published_numbers(text: str, expected: tuple[float, float]) -> None:
    assert published_scores(text) == expected
