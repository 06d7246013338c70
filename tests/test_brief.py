from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_jsonl

from judgelm.cli import main
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.evaluation.summary import summarize
from judgelm.judgement import Outcome, ParseState
from judgelm.report.brief import in_brief
from judgelm.verdict import Reading

WIN = {Outcome.WIN: 0.8, Outcome.TIE: 0.1, Outcome.LOSE: 0.1}
TOSS = {Outcome.WIN: 0.3, Outcome.TIE: 0.2, Outcome.LOSE: 0.5}
A, B = "model-a", "model-b"


def reading(first: float, second: float, likely: dict[Outcome, float] | None = None) -> Reading:
    return Reading(f"{first:g} {second:g}", ParseState.OK, (first, second), likely)


UNREAD = Reading("?", ParseState.FAILED, None)


def sample(
    key: int,
    forward: Reading | None,
    back: Reading | None,
    models: tuple[str | None, str | None] = (A, B),
    **more: object,
) -> JudgedSample:
    return JudgedSample(forward, back, key=str(key), question=f"{key}", answers=("x", "y"), models=models, **more)  # type: ignore[arg-type]


def answers(samples: list[JudgedSample]) -> list[str]:
    return [line.answer for line in in_brief(samples, summarize(samples))]


def test_the_winner_is_named_on_whichever_side_it_stands() -> None:
    # a wins twice as answer 1 and once as answer 2; both orders contradict in one; one is won by b
    won = [sample(key, reading(8, 3), reading(7, 2)) for key in (1, 2)]
    won.append(sample(3, reading(2, 9), reading(1, 9), (B, A)))
    rest = [sample(4, reading(9, 1), reading(1, 9)), sample(5, reading(3, 4), reading(3, 4))]
    who, sure, swap = answers(won + rest)
    assert who == "model-a in 3 of 5 pairs; model-b in 1; ties 1."
    assert sure.startswith("model-a's win rate is 70.0 % (")
    assert sure.endswith("which may be chance.")
    assert swap.startswith("4 of 5 verdicts stay when the answers change places, 80.0 % (")
    assert swap.endswith("; 1 do not.")


def test_more_than_two_models_are_answers_and_nobody_wins_an_even_match() -> None:
    samples = [sample(1, reading(8, 3), None, (A, B)), sample(2, reading(2, 3), None, (A, "model-c"))]
    who, sure, swap = answers(samples)
    assert who == "Nobody: answer 1 in 1 of 2 pairs; answer 2 in 1; ties 0."
    assert "50.0 %" in sure
    assert swap == "Not known: only one order of the answers was judged (--orders both)."


def test_probabilities_decide_and_say_how_sure_a_verdict_is() -> None:
    truth = Truth(Outcome.WIN)
    # the orders contradict, and by their mean (.55, .15, .3) answer 1 wins all the same, which is near a toss
    torn = sample(1, reading(9, 8, WIN), reading(7, 8, TOSS), truth=truth)
    clear = [sample(key, reading(9, 2, WIN), reading(9, 3, WIN), truth=truth) for key in range(2, 41)]
    who, sure, swap = answers([torn, *clear])
    assert who == "model-a in 40 of 40 pairs; model-b in 0; ties 0."
    assert "more than chance. The judge is 79 % sure of a verdict; near a toss are 1 of 40." in sure
    assert "100.0 % (" in sure
    assert sure.endswith("of 40 verdicts with a truth are right.")
    assert swap.startswith("39 of 40 verdicts stay")


def test_what_could_not_be_read_is_said_and_graded_answers_have_no_winner() -> None:
    samples = [sample(1, reading(8, 3), reading(7, 2)), sample(2, UNREAD, reading(7, 2))]
    who, _, swap = answers(samples)
    assert who == "model-a in 1 of 2 pairs; model-b in 0; ties 0; unread 1."
    assert swap.endswith("; 0 do not, 1 could not be read.")
    assert answers([sample(1, UNREAD, None)])[1] == "No verdict could be read."
    graded = [sample(1, reading(10, 3), None, known_answer=True)]
    assert in_brief(graded, summarize(graded)) == in_brief([], summarize(graded)) == []


def test_the_command_ends_with_three_lines_that_stand_on_the_page_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"question_id": 1, "question_body": "Why?", "answer1_body": "a", "answer2_body": "b"}
    names = {"answer1_model_id": "<b>x\x1b[31m", "answer2_model_id": "y"}
    write_jsonl(tmp_path / "forward.jsonl", [row | names | {"pred_text": "9 4"}])
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert not ended.value.code
    path, *brief = capsys.readouterr().out.splitlines()
    assert "report.html" in path
    assert [line.partition("? ")[0] for line in brief] == ["Who won", "How sure is that", "Does it survive the swap"]
    assert "\x1b" not in "".join(brief)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<dt>Who won?</dt>" in page
    assert "<b>x" not in page
    assert "- Who won? " in (tmp_path / "report.md").read_text(encoding="utf-8")
