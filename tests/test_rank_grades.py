"""`judgelm rank` of grades, and of pairs that were judged with criteria."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_jsonl
from criteria_folders import criteria, expected, grade_folder, graded, pair, pair_folder, said
from judging import run_command

from judgelm.criteria import Scale
from judgelm.errors import InputError, SettingError
from judgelm.evaluation import read_grades
from judgelm.ranking import Match, RankSettings, rank, rank_matches
from judgelm.ranking.matches import match_grades
from judgelm.ranking.ranking import Ranking

FIVE = criteria(Scale(1, 5), Depth=2, Style=1)
GRADES = {"a": ("9", "8", "7", "8"), "b": ("8", "8", "9", "none"), "c": ("2", "3", "4", "5")}
WIN, TIE, LOSE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def folders(place: Path) -> list[Path]:
    """One a model."""
    return [
        grade_folder(place / name, None, [(graded(f"{name}{k}", name, k), text) for k, text in enumerate(texts)])
        for name, texts in GRADES.items()
    ]


def test_two_answers_to_a_question_are_a_match_that_the_higher_grade_wins(tmp_path: Path) -> None:
    ranking = rank(folders(tmp_path))
    assert (ranking.judgements, ranking.unread) == (3 * 4 - 2, 1)
    expected_matches = [
        *(Match("a", "b", outcome, f"question {k}?", (4, 4)) for k, outcome in enumerate((WIN, TIE, LOSE))),
        *(Match("a", "c", WIN, f"question {k}?", (4, 4)) for k in range(4)),
        *(Match("b", "c", WIN, f"question {k}?", (4, 4)) for k in range(3)),
    ]
    same = rank_matches(expected_matches, unread=1)
    assert [one.model_copy(update={"grade": None}) for one in ranking.models] == same.models
    assert ranking.pairs == same.pairs
    grades = {model.name: model.grade for model in ranking.models}
    assert {name: grade and (grade.value, grade.count) for name, grade in grades.items()} == {
        "a": (8, 4),
        "b": (pytest.approx(25 / 3), 3),
        "c": (3.5, 4),
    }
    for grade in grades.values():
        assert grade is not None
        assert grade.low is not None
        assert grade.high is not None
        assert 0 <= grade.low <= (grade.value or 0) <= grade.high <= 10


def test_answers_of_one_model_are_no_match(tmp_path: Path) -> None:
    rows = [(graded(k, model, 1), text) for k, (model, text) in enumerate((("a", "9"), ("a", "3"), ("b", "5")))]
    matches = match_grades(read_grades(grade_folder(tmp_path, None, rows)))
    assert [(each.first, each.second, each.outcomes) for each in matches] == [("a", "b", WIN), ("a", "b", LOSE)]


def test_grades_that_cannot_be_ranked_are_refused_in_one_line(tmp_path: Path) -> None:
    one, other, _ = folders(tmp_path)
    with pytest.raises(InputError, match="no question has grades of two models"):
        rank(one)
    with pytest.raises(SettingError, match="grades have no probabilities"):
        rank([one, other], RankSettings("soft"))
    nameless = grade_folder(tmp_path / "nameless", None, [(graded(1, answer_model_id=None), "7")])
    with pytest.raises(InputError, match="question_id 1 has no answer_model_id, answer1_model_id or model"):
        rank(nameless)
    wide = grade_folder(tmp_path / "wide", FIVE, [(graded(1, "d", 0), said("5", "1"))])
    with pytest.raises(InputError, match="different scales"):
        rank([one, wide])
    models = {"answer1_model_id": "a", "answer2_model_id": "b"}
    pairs = pair_folder(tmp_path / "pairs", FIVE, [(pair(1, **models), said("5 1", "4 2"), None)])
    with pytest.raises(InputError, match="cannot be ranked together"):
        rank([one, pairs])


def test_the_command_shows_mean_grades_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = list(map(str, folders(tmp_path)))
    assert run_command(["rank", "--judgements", *places, "--output-dir", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "mean grade" in out.splitlines()[0]
    assert "8.33 (" in out
    written = tmp_path / "out" / "ranking.json"
    assert [model.grade is not None for model in Ranking.read(written).models] == [True] * 3
    assert run_command(["rank", "--judgements", *places, "--outcomes", "soft"]) == 2
    assert "--outcomes" in capsys.readouterr().err


@pytest.mark.parametrize("outcomes", ["hard", "soft"])
def test_pairs_judged_with_criteria_are_ranked_as_all_others(tmp_path: Path, outcomes: str) -> None:
    models = {"answer1_model_id": "a", "answer2_model_id": "b"}
    samples = [pair(k, **models) for k in range(4)]
    if outcomes == "hard":
        # Depth weighs more; one is unread and one is a contradiction
        texts = [said("5 1", "1 4"), said("5 1", "1 4"), said("none", "1 4"), said("5 1", "1 4")]
        backs = [said("1 5", "4 1"), said("1 5", "4 1"), said("1 5", "4 1"), said("5 1", "1 4")]
        pair_folder(tmp_path, FIVE, list(zip(samples, texts, backs, strict=True)))
        ranking = rank(tmp_path)
        (found,) = ranking.pairs
        assert (found.first, found.wins, found.ties, found.losses, ranking.unread) == ("a", 2, 1, 0, 1)
    else:
        write_jsonl(tmp_path / "forward.jsonl", [expected(sample, FIVE) for sample in samples])
        ranking = rank(tmp_path, RankSettings("soft"))
        (found,) = ranking.pairs
        record = json.loads((tmp_path / "forward.jsonl").read_text().splitlines()[0])
        assert found.first == "b"
        assert found.wins == pytest.approx(4 * record["pred_probabilities"]["lose"], abs=1e-3)
    assert "grade" not in ranking.to_record()["models"][0]
