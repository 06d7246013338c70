"""`judgelm report` and `judgelm rank` of many answers (task multi)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from criteria_folders import criteria, grade_folder, graded, said
from criteria_folders import judged as judged_once
from judging import run_command
from test_report_criteria import HOSTILE, section, texts

from judgelm import Sample
from judgelm.criteria import Criteria, Scale
from judgelm.engine.interface import Generation
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.many import read_many
from judgelm.judge.judged import Judged
from judgelm.judgement import Judgement
from judgelm.ranking import Match, RankSettings, rank, rank_matches
from judgelm.ranking.ranking import Ranking
from judgelm.report import write_report

WIN, TIE, LOSE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
MODELS = ("a", "b", "c")
ORDERS = ("forward", "rotated1", "rotated2")


def many(key: int, models: Sequence[str | None] = MODELS, **more: Any) -> Sample:
    """An answer of each model."""
    answers = {f"answer{k}_body": f"text {k}" for k in range(1, len(models) + 1)}
    named = {f"answer{k}_model_id": model for k, model in enumerate(models, start=1) if model is not None}
    return Sample.from_record(
        {"question_id": key, "question_body": f"Question {key}?", **answers, **named, **more}, len(models)
    )


def many_folder(folder: Path, rows: Sequence[tuple[Sample, Mapping[str, str]]]) -> Path:
    """What judging with task multi leaves: by order, what the judge writes of the answers in the places it saw."""
    for order in dict.fromkeys(order for _, said_of in rows for order in said_of):
        records = []
        for sample, said_of in rows:
            seen = sample.shown(order)
            judgement = Judgement.parse(said_of[order], len(sample.answers))
            generation = Generation(sample.key, said_of[order], 9, 3, "stop")
            found = Judged(seen, order, "multi", judgement, generation, None)  # type: ignore[arg-type]
            records.append(found.to_record())
        write_jsonl(folder / f"{order}.jsonl", records)
    return folder


def rotated(*said_of: str) -> dict[str, str]:
    return dict(zip(ORDERS, said_of, strict=False))


def three_orders(folder: Path, models: Sequence[str | None] = MODELS, **more: Any) -> Path:
    """Question 1 is the same in all orders, 2 goes by place, and of 3 one order is unread."""
    return many_folder(
        folder,
        [
            (many(1, models, **more), rotated("9 6 3\nSame.", "6 3 9\nSame.", "3 9 6\nSame.")),
            (many(2, models, **more), rotated("8 5 2\nPlace.", "8 5 2\nPlace.", "8 5 2\nPlace.")),
            (many(3, models, **more), rotated("4 7 1\nb is good.", f"I cannot say. {HOSTILE}", "1 4 7\nb is good.")),
        ],
    )


def test_the_page_of_many_answers_has_their_means_places_and_orders(tmp_path: Path) -> None:
    html, text = texts(three_orders(tmp_path))
    assert "3 samples of 3 questions." in html
    summary, found = section(html, "summary"), section(html, "many")
    # one of nine judgements is unread, and one sample of three finds the same answer best in all
    assert 'class="big">11.1 %<' in summary
    assert 'class="big">33.3 %<' in summary
    for shown in (found, text):
        assert "forward 3, rotated1 3, rotated2 3." in shown
    rows = re.findall(r"<bdi>(.*?)</bdi></th><td class=\"number\">(.*?)</td>", found)
    # of question 3 the orders that were read
    assert rows == [("a", "6.00"), ("b", "6.00"), ("c", "3.00")]
    # questions 1 and 2 were read in each place: the first gets 6 and 8 on average, the last 6 and 2
    places = re.findall(r"<th scope=\"row\">(place \d)</th>" + r"<td class=\"number\">(.*?)</td>" * 2, found)
    assert places == [("place 1", "7.00", "1.50"), ("place 2", "5.50", "0.00"), ("place 3", "4.00", "-1.50")]
    assert "| place 1 | 7.00 | 1.50 |" in text
    assert "## Many answers" in text
    for other in ("position", "agreement", "calibration", "bias", "grades", "aspects", "ranking"):
        assert f'id="{other}"' not in html
    assert "judgelm audit --task multi" in section(html, "missing")
    assert "--teacher" not in html


def test_samples_to_read_begin_with_the_unread_and_the_inconsistent(tmp_path: Path) -> None:
    html, text = texts(three_orders(tmp_path))
    samples = section(html, "samples")
    assert re.findall(r'data-kinds="(.*?)"', samples) == ["unread", "inconsistent", ""]
    assert re.findall(r"question_id <bdi>(.*?)</bdi>", samples) == ["3", "2", "1"]
    unread, by_place, same = samples.split("<details")[1:]
    assert re.findall(r"<h4>Answer (\d), mean score (\d) <bdi class=\"soft\">(.)</bdi></h4>", unread) == [
        ("1", "4", "a"),
        ("2", "7", "b"),
        ("3", "1", "c"),
    ]
    assert re.findall(r"<p><strong>(.*?)</strong>", unread) == ["4 : 7 : 1", "unread", "4 : 7 : 1"]
    assert re.findall(r"<h4>(Judge.*?)</h4>", unread) == [f"Judge, {order}" for order in ORDERS]
    assert "saw answers 2, 3, 1 in these places" in unread
    assert "I cannot say." in unread
    assert 'data-name="best">answer 2<' in unread
    assert 'data-name="read">2 of 3<' in unread
    # each answer got each of 8, 5 and 2
    assert 'class="number">6.0<' in by_place
    assert 'data-name="best">answers 1, 2, 3<' in by_place
    assert 'data-name="its score">5<' in by_place
    assert 'class="number">0.0<' in same
    assert 'data-name="same best">yes<' in same
    assert "| 6.0 | 2 | Question 2? | answers 1, 2, 3 | 5 | no | 3 of 3 |" in text


def test_one_order_says_nothing_of_places_and_names_may_be_anything(tmp_path: Path) -> None:
    rows = [(many(k, (HOSTILE, None), answer2_body=HOSTILE, question_body=HOSTILE), {"forward": "7 4"}) for k in (1, 2)]
    html, text = texts(many_folder(tmp_path, rows))
    assert "<h3>What a place is worth" not in html
    assert "### What a place" not in text
    assert "What a place is worth: <code>judgelm judge --task multi --orders all" in html
    assert "answer 2" in section(html, "many")
    assert "{{ 7 * 7 }}" in section(html, "many")
    assert "\\[x\\](javascript" in text
    assert 'data-name="same best">–<' in html


def test_answers_judged_in_reversed_order_alone_are_many_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = many_folder(tmp_path / "judged", [(many(1), {"reversed": "1 5 9"})])
    assert run_command(["evaluate", str(folder)]) == 0
    assert "reversed 1" in capsys.readouterr().out
    report = write_report(folder)
    assert "reversed" in report.page.read_text(encoding="utf-8")


def by_criteria(folder: Path, by: Criteria) -> Path:
    record = judged_once(many(1), by, said("5 3 1", "2 3 1"), task="multi")
    write_jsonl(folder / "forward.jsonl", [record])
    return folder


def test_many_answers_judged_with_criteria_stand_with_their_weighted_means(tmp_path: Path) -> None:
    html, _ = texts(by_criteria(tmp_path, criteria(Scale(1, 5), Depth=2, Style=1)))
    assert re.findall(r"<p><strong>(.*?)</strong>", section(html, "samples")) == ["4 : 3 : 1"]
    assert "[Style]" in section(html, "samples")
    # the picture's track ends where the scale does
    assert re.findall(r'class="[a-z ]*soft">([\d.]+)</text>', section(html, "many")) == ["0", "2.5", "5"]


def test_a_truth_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = three_orders(tmp_path)
    assert run_command(["report", str(folder), "--teacher", str(folder / "forward.jsonl")]) == 2
    assert capsys.readouterr().err.strip().endswith(f"--teacher compares two answers: {folder} is of task multi")
    assert not (folder / "report.html").exists()
    with pytest.raises(InputError, match="task multi"):
        write_report(folder, folder / "forward.jsonl")


def test_a_judgement_of_no_answers_is_refused(tmp_path: Path) -> None:
    record = judged_once(many(1), None, "5 3 1", task="multi")
    write_jsonl(tmp_path / "forward.jsonl", [record | {"pred_scores": []}])
    with pytest.raises(InputError, match="expected 2 answers or more, found 0"):
        write_report(tmp_path)


def test_each_two_answers_of_a_sample_are_a_match_by_their_mean_scores(tmp_path: Path) -> None:
    ranking = rank(three_orders(tmp_path))
    assert (ranking.judgements, ranking.unread) == (9, 1)
    outcomes = {1: (WIN, WIN, WIN), 2: (TIE, TIE, TIE), 3: (LOSE, WIN, WIN)}
    same = rank_matches(
        [
            Match(first, second, outcome, f"question {k}?", (6, 6))
            for k, each in outcomes.items()
            for (first, second), outcome in zip((("a", "b"), ("a", "c"), ("b", "c")), each, strict=True)
        ],
        unread=1,
    )
    assert [one.model_copy(update={"grade": None}) for one in ranking.models] == same.models
    assert ranking.pairs == same.pairs
    grades = {model.name: model.grade for model in ranking.models}
    assert {name: grade and (grade.value, grade.count) for name, grade in grades.items()} == {
        "a": (6, 3),
        "b": (6, 3),
        "c": (3, 3),
    }


def test_folders_of_many_answers_are_ranked_together_and_with_nothing_else(tmp_path: Path) -> None:
    one = many_folder(tmp_path / "one", [(many(1), {"forward": "9 6 3"})])
    other = many_folder(tmp_path / "other", [(many(2, ("c", "d")), {"forward": "2 8"}), (many(3), {"forward": "none"})])
    ranking = rank([one, other / "forward.jsonl"])
    assert (ranking.judgements, ranking.unread) == (4, 1)
    assert {model.name for model in ranking.models} == {"a", "b", "c", "d"}
    assert rank([*read_many(one), *read_many(other)]) == ranking
    grades = grade_folder(tmp_path / "grades", None, [(graded(1), "7")])
    with pytest.raises(InputError, match="cannot be ranked together"):
        rank([one, grades])
    with pytest.raises(InputError, match="different scales"):
        rank([one, by_criteria(tmp_path / "five", criteria(Scale(1, 5), Depth=2, Style=1))])
    with pytest.raises(SettingError, match="no probabilities"):
        rank(one, RankSettings("soft"))
    nameless = many_folder(tmp_path / "nameless", [(many(1, ("a", None, "c")), {"forward": "9 6 3"})])
    with pytest.raises(InputError, match="question_id 1 has no answer2_model_id"):
        rank(nameless)
    alike = many_folder(tmp_path / "alike", [(many(1, ("a", "a")), {"forward": "9 6"})])
    with pytest.raises(InputError, match="no question has scores of two models"):
        rank(alike)


def test_a_ranking_of_many_answers_stands_on_their_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = three_orders(tmp_path, ("a", HOSTILE, "c"))
    assert run_command(["rank", "--judgements", str(folder), "--output-dir", str(folder)]) == 0
    assert "9 judgements, 1 unread" in capsys.readouterr().out
    assert len(Ranking.read(folder / "ranking.json").models) == 3
    html, text = texts(folder)
    assert "mean grade" in section(html, "ranking")
    assert ">6.00<" in section(html, "ranking")
    assert "## Ranking" in text
