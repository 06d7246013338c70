from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgelm.judgement import Judgement, Outcome, ParseState, published_scores
from judgelm.sample import Sample
from judgelm.verdict import Reading, Verdict

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
        "-1 -1",
        "nan nan",
        "inf 1",
        "1e1 9",
        "8 90",
        "8/5 9/5",
    ],
)
def test_anything_else_has_no_scores(text: str) -> None:
    judgement = Judgement.parse(text)
    assert (judgement.scores, judgement.state, judgement.outcome, Reading.of(judgement).best) == (
        None,
        ParseState.FAILED,
        None,
        (),
    )


# D2 of docs/differences.md
@pytest.mark.parametrize(
    "text",
    [
        *(
            "**8 9**",
            "**8** 9",
            "**8** **9**\nwhy",
            "`8 9`",
            "```\n8 9\n```\nwhy",
            "~~~text\n8 9\n~~~",
            "> **8 9**",
            '"8 9"',
        ),
        *(
            "8 9.",
            "8 9。",
            "８　９",
            "８，９",
            "8、9",
            "8，9\n第二个更好。",
            "８／１０ ９／１０",
            "8 / 10, 9 / 10.",
            "\ufeff8 9",
        ),
        *(
            "Score: 8 9",
            "Scores: 8/10 9/10",
            "**Scores:** 8 9",
            "### Scores\n8 9\nwhy",
            "Final scores (out of 10): 8, 9",
        ),
        "评分：8 9",
        "助手1：8，助手2：9",
        "The scores are: 8 9",
        "### Response:\n8 9",
        "[8, 9]",
        "(8, 9)",
        "[[8]] [[9]]",
        "[[8, 9]]",
        "[[8], [9]]",
        '{"scores": [8, 9]}',
        "<answer>8 9</answer>",
        *(
            "Assistant 1: 8, Assistant 2: 9",
            "**Assistant 1:** 8\n**Assistant 2:** 9\nwhy",
            "Assistant 1: 8 and Assistant 2: 9",
        ),
        *(
            "- Assistant 1's score: 8/10\n- Assistant 2's score: 9/10",
            "Assistant 1:\n8\n\nAssistant 2:\n9",
            "A: 8\nB: 9",
        ),
        *(
            "Answer A: 8; Answer B: 9",
            "Scores for Assistant 1 and Assistant 2: 8 9",
            "Score of answer 1: 8\nScore of answer 2: 9",
        ),
        "Assistant 2: 9, Assistant 1: 8",
        '```json\n{\n  "assistant_1": 8,\n  "assistant_2": 9\n}\n```',
        "8\n9\nThe second is fuller.",
        "8\n\n9",
        "**8**\n**9**",
        "8.\n9.",
        "* 8\n* 9",
        "8/10\n9/10",
        *(
            "Both are good.\n\n8 9",
            "Both are good.\n**Scores:**\n8 9\n",
            "Good.\nAssistant 1: 8\nAssistant 2: 9",
            "Why.\n```\n8 9\n```",
        ),
        "<think>\nMaybe 3 4?\n</think>\n\n8 9\nwhy",
        "Maybe 3 4?\n</think>\n\n**8 9**",
        "<think>3 4</think>8 9",
        *(
            "<think>a </think> b\n</think>\nBoth are good.\n8 9",
            "[THINK]3 4[/THINK]8 9",
            "<Thinking>\n3 4\n</Thinking>\n8 9",
        ),
        "3 4\n</think>\n\n8 9",
        "**8 9**\nAssistant 2 leaks a </think> tag.",
    ],
)
def test_scores_of_general_and_reasoning_judges_are_repaired(text: str) -> None:
    judgement = Judgement.parse(text)
    assert (judgement.scores, judgement.state) == ((8.0, 9.0), ParseState.REPAIRED)
    swapped = judgement.swapped()
    assert swapped == Judgement.parse(swapped.text)
    assert swapped.scores == (9.0, 8.0)
    assert swapped.swapped() == judgement


@pytest.mark.parametrize(
    "text",
    [
        *(
            "8,5 7,5\nZwei Kommazahlen.",
            "**8,5**\n**7,5**",
            "Gut.\n8,5 7,5",
            "80 70\nout of 100",
            "80\n70",
            "8 7 6\nwhy",
            "8",
        ),
        *(
            "I give 8 7",
            "8 7 are my scores",
            "Assistant 1 gets 8, 7",
            "8-7",
            "8:7",
            "8/7",
            "8*7",
            "8 * 7",
            "-8 -7",
            "8. 7.",
        ),
        "1. 8\n2. 7",
        "1) 8\n2) 7",
        "(1) 8\n(2) 7",
        "[1] 8",
        "[8] 7",
        "[8, 7",
        "8, 7]",
        "(8] [7)",
        *(
            "Assistant 1: 8",
            "Assistant 1: 8, 7",
            "Assistant 1: 8\n7",
            "Assistant 1: 8, Assistant 1: 7",
            "Assistant 1: 8 7",
        ),
        "Assistant 1: 8, Assistant 3: 7",
        "Helpfulness: 8 7",
        "Scores for Assistant 2 and 3: 8 7",
        "Why.\n8\n7",
        "8\n7\n6",
        "Why.\n8 7\n6",
        "**8 7**\n6 5",
        *(
            "<think>\nMaybe\n8 7",
            "<think>8 7",
            "Well. <think>\nMaybe\n8 7",
            "<think>a</think>\n<think>b\n8 7",
            "8 7 in thought</think>",
        ),
    ],
)
def test_what_would_be_a_guess_has_no_scores(text: str) -> None:
    assert Judgement.parse(text).state is ParseState.FAILED


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 7\nreasons\n3 4", (8, 7)),
        ("**8 7**\nreasons\n3 4", (8, 7)),
        ("8 7\nHelpfulness: 9\n</think>", (8, 7)),
        ("Helpfulness\n9 9\nOverall\n8 7", (8, 7)),
    ],
)
def test_the_first_score_line_counts_before_the_last(text: str, scores: tuple[int, int]) -> None:
    assert Judgement.parse(text).scores == scores


def test_scores_of_many_answers_are_read_by_their_labels() -> None:
    text = "Assistant 3: 7, Assistant 1: 9/10, Assistant 2: 8\nAssistant 1 beats Assistant 3."
    judgement = Judgement.parse(text, 3)
    assert (judgement.scores, Reading.of(judgement).best) == ((9, 8, 7), (1,))
    assert judgement.swapped().text == (
        "Assistant 3: 7, Assistant 1: 8, Assistant 2: 9/10\nAssistant 2 beats Assistant 3."
    )
    ten = ", ".join(f"Assistant {k}'s overall score: {k}/10" for k in range(1, 11))
    assert Judgement.parse(ten, 10).scores == tuple(range(1, 11))
    assert Judgement.parse(ten, 9).scores is None


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("8 7\nFirst.\n", "First.\n"),
        ("8\n7\nFirst.", "First."),
        ("Scores:\n8 7\nFirst.", "First."),
        ("<think>Hm.</think>\n8 7\nFirst.", "First."),
        ("First is fuller.\n\n8 7", "First is fuller."),
        ("<think>Hm.</think>\nFirst is fuller.\n**Scores:** 8 7\n", "First is fuller."),
        ("```\n8 7\n```\n**First** is fuller.", "**First** is fuller."),
        ("First is fuller.\n```\n8 7\n```", "First is fuller."),
        ("8 7", ""),
        ("no scores\nat all", "at all"),
    ],
)
def test_reasons_are_what_stands_beside_the_scores(text: str, reasons: str) -> None:
    assert Judgement.parse(text).reasons == reasons


PIECES = [
    *"78AB８，.`[]() ",
    *(
        "10",
        "0.5",
        "80",
        ", ",
        "\n",
        "/10",
        "**",
        "```",
        ": ",
        "- ",
        "<think>",
        "</think>",
        "8 7",
        "8/10",
        "\n8 7",
        "8 7\n",
    ),
    *("Assistant 1", "Assistant 2", "Assistants 1 and 2", "Scores", "good ", "Assistant 1: 8", "Assistant 2: 7"),
]
dressed = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(dressed, st.sampled_from([2, 2, 2, 3, 10]))
def test_whatever_is_read_is_in_range_and_swaps_back(text: str, num_answers: int) -> None:
    judgement = Judgement.parse(text, num_answers)
    if judgement.scores is None:
        return
    assert len(judgement.scores) == num_answers
    assert all(0 <= score <= 10 for score in judgement.scores)
    swapped = judgement.swapped()
    assert swapped == Judgement.parse(swapped.text, num_answers)
    assert swapped.swapped() == judgement


@pytest.mark.parametrize(
    "piece",
    ["1 ", "8\n", "(out of 10)", "Assistant 1 ", "</think>", "<think>", "[(", "`", "# ", "Scores:\n", "\t,", " ", "9"],
)
def test_a_megabyte_of_anything_is_read_to_its_end(piece: str) -> None:
    for text in (piece * (1_000_000 // len(piece)), piece * (1_000_000 // len(piece)) + "x\n8 7"):
        assert Judgement.parse(text).scores in (None, (8.0, 7.0))


def test_last_character_counts_without_a_stop_string() -> None:
    assert Judgement.parse("7 10").scores == (7.0, 10.0)


def test_outcome_and_best() -> None:
    assert [Judgement.parse(t).outcome for t in ("8 7", "7 7", "6.5 7")] == [Outcome.WIN, Outcome.TIE, Outcome.LOSE]
    assert [o.swapped() for o in Outcome] == [Outcome.LOSE, Outcome.TIE, Outcome.WIN]
    assert Reading.of(Judgement.parse("3 9 9", 3)).best == (2, 3)
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
        ("**8** 7\nAssistant 1 wins.", "**7** 8\nAssistant 2 wins."),
        ("Assistant 1: 8\nAssistant 2: 7\nAssistant 1 wins.", "Assistant 1: 7\nAssistant 2: 8\nAssistant 2 wins."),
        ("Assistant 1 wins.\n\nScores: 8, 7.", "Assistant 2 wins.\n\nScores: 7, 8."),
        ("<think>Assistant 1?</think>\n8 7", "<think>Assistant 2?</think>\n7 8"),
    ],
)
def test_score_line_and_reasons_swap_together(text: str, expected: str) -> None:
    assert Judgement.parse(text).swapped().text == expected


def test_swapping_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="without scores"):
        Judgement.parse("error").swapped()


@pytest.mark.parametrize(
    ("forward", "back", "count", "same"),
    [
        ("8 7", "3 5", 2, True),
        ("8 7", "8 7", 2, False),
        ("8 7", "?", 2, None),
        ("8 7 9", "1 2 9", 3, True),
        ("8 7 9", "9 7 8", 3, False),
    ],
)
def test_consistency_is_survival_under_swap(forward: str, back: str, count: int, same: bool | None) -> None:
    sample = Sample(1, "Q", ("a", "b", "c")[:count])
    verdict = verdict_of(sample, Judgement.parse(forward, count), Judgement.parse(back, count))
    assert verdict.consistent is same


def verdict_of(sample: Sample, forward: Judgement, back: Judgement) -> Verdict:
    return Verdict(Reading.of(forward), Reading.of(back, order="reversed"), sample)


def test_a_verdict_speaks_of_the_answers_in_the_files_order() -> None:
    verdict = verdict_of(Sample(1, "Q", ("a", "b")), Judgement.parse("8 5"), Judgement.parse("2 7\nAssistant 2 is."))
    assert verdict.forward is not None
    assert verdict.reversed is not None
    assert (verdict.forward.scores, verdict.reversed.scores) == ((8, 5), (7, 2))
    assert (verdict.reversed.text, verdict.reversed.reasons) == ("2 7\nAssistant 2 is.", "Assistant 2 is.")
    assert (verdict.scores, verdict.outcome, verdict.consistent) == ((7.5, 3.5), Outcome.WIN, True)
    torn = verdict_of(verdict.sample, Judgement.parse("8 5"), Judgement.parse("7 2"))
    assert (torn.scores, torn.outcome, torn.outcome_by("scores")) == ((5, 6), Outcome.TIE, Outcome.LOSE)
    assert torn.outcome_by("probabilities") is None


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
