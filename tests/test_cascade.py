"""A cheap judge first, a stronger one where it is unsure, replayed from verdicts that are there."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judging import run_command
from jurors import Three, write_judge

from judgelm.errors import InputError
from judgelm.evaluation import cascade
from judgelm.evaluation.cascade import Cascade
from judgelm.evaluation.labels import outcomes_of
from judgelm.jury import read_members, replay_cascade
from judgelm.report.juries import cascade_tables, write_cascade


def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The first is right where it is sure; it flips on the third sample and cannot be read on the last."""
    sure: list[Three] = [(0.95, 0.03, 0.02), (0.6, 0.2, 0.2), (0.9, 0.05, 0.05), (0.1, 0.1, 0.8), (0.9, 0.1, 0.0)]
    first = write_judge(tmp_path / "cheap", ["ww", "ww", "wl", "ll", "??"], "cheap", [1, 2, 2, 2, 1], sure)
    return first, write_judge(tmp_path / "strong", ["ll", "ll", "ll", "ll", "ww"], "strong")


def test_who_is_unsure_flips_or_has_no_scores_is_sent_on(tmp_path: Path) -> None:
    found = replay_cascade(*pair(tmp_path), sure=0.7)
    assert (found.first, found.second, found.contradicting, found.sent) == ("cheap", "strong", 2, 3)
    assert found.point is not None
    # right on all, the second alone on all but the first
    assert (found.point.agreement.value, found.point.sent.value) == (1.0, 0.6)
    assert found.point.to_second.value == pytest.approx(0.2)
    assert found.first_alone is not None
    # where it flips, the likeliest outcome of the mean counts; unread it is in the likeliest too
    assert found.first_alone.value == 3 / 5
    assert found.second_alone is not None
    assert found.second_alone.value == 4 / 5
    assert found.curve is not None
    assert {point.sure: round(5 * (point.sent.value or 0)) for point in found.curve} == {
        **dict.fromkeys((0.5, 0.55, 0.6), 2),
        **dict.fromkeys((0.65, 0.7, 0.75, 0.8), 3),
        **dict.fromkeys((0.85, 0.9, 0.95), 4),
        **dict.fromkeys((0.99, 1.0), 5),
    }


def many(tmp_path: Path, count: int = 120) -> tuple[Path, Path]:
    """The first is right as often as it says; the second nine times of ten."""
    rng = random.Random(5)
    labels: list[int | None] = []
    cheap: list[str] = []
    strong: list[str] = []
    sure: list[Three] = []
    for _ in range(count):
        truth, confidence = rng.choice("wl"), rng.uniform(0.5, 1.0)
        other = "l" if truth == "w" else "w"
        said = truth if rng.random() < confidence else other
        cheap.append(said * 2)
        strong.append((truth if rng.random() < 0.9 else other) * 2)
        labels.append({"w": 1, "l": 2}[truth])
        sure.append((confidence, 0.0, 1 - confidence) if said == "w" else (1 - confidence, 0.0, confidence))
    first = write_judge(tmp_path / "cheap", cheap, "cheap", labels, sure)
    return first, write_judge(tmp_path / "strong", strong, "strong")


def test_a_threshold_is_chosen_on_one_half_and_reported_on_the_other(tmp_path: Path) -> None:
    found = replay_cascade(*many(tmp_path))
    assert (found.chosen_on, found.reported_on) == (60, 60)
    assert found.sure in cascade.THRESHOLDS
    assert 0.5 < found.sure < 1
    assert found.point is not None
    assert found.point.agreement.count == 60
    # the same threshold given: all labelled samples are reported
    given = replay_cascade(*pair_of(tmp_path), sure=found.sure)
    assert (given.chosen_on, given.reported_on, given.sent) == (None, 120, found.sent)


def pair_of(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cheap", tmp_path / "strong"


def test_the_cheapest_threshold_within_a_point_of_the_second_judge_is_chosen(tmp_path: Path) -> None:
    first, second = many(tmp_path)
    pairs = read_pairs(first, second)
    chosen = cascade.choose_sure(pairs)
    alone = (pairs.second == pairs.truth).mean()
    assert pairs.right(chosen).mean() >= alone - cascade.WITHIN
    cheaper = [sure for sure in cascade.THRESHOLDS if sure < chosen]
    assert cheaper
    assert all(pairs.right(sure).mean() < alone - cascade.WITHIN for sure in cheaper)


def read_pairs(first: Path, second: Path) -> cascade.Pairs:
    members = read_members([first, second])
    one, two = members.judges
    return cascade.Pairs.of(one.samples, two.samples, outcomes_of(members.truths))


def test_samples_of_one_question_are_never_in_both_halves(tmp_path: Path) -> None:
    first, second = many(tmp_path)
    for folder in (first, second):
        for path in folder.iterdir():
            records = [json.loads(line) for line in path.read_text().splitlines()]
            write_jsonl(path, [{**record, "question_body": f"Q{record['question_id'] % 7}"} for record in records])
    pairs = read_pairs(first, second)
    on, off = cascade.halves(pairs)
    asked = [{pairs.clusters[place] for place in half.nonzero()[0].tolist()} for half in (on, off)]
    assert not asked[0] & asked[1]
    assert sorted(map(len, asked)) == [3, 4]


def test_the_second_may_be_a_file_of_verdicts_and_labels_a_file_of_a_part(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    verdicts = write_jsonl(tmp_path / "gpt.jsonl", [{"question_id": k, "verdict": "B"} for k in range(5)])
    labels = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": k, "label": 2} for k in (1, 2)])
    found = replay_cascade(first, verdicts, labels, sure=0.7, vocabulary="letter")
    assert (found.second, found.labelled, found.sent) == ("gpt", 2, 3)
    assert found.point is not None
    assert found.point.agreement.value == 1.0


@pytest.mark.parametrize("sure", [0.4, 1.1, True, "high"])
def test_what_is_no_threshold_is_told(sure: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a number from 0\.5 to 1, or auto"):
        replay_cascade(*pair(tmp_path), sure=sure)


def test_what_a_replay_lacks_is_told_in_one_line(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    with pytest.raises(InputError, match="strong: no probabilities there"):
        replay_cascade(second, first)
    bare = write_judge(tmp_path / "bare", ["ww"] * 5, probabilities=[(0.8, 0.1, 0.1)] * 5)
    with pytest.raises(InputError, match="a cascade's replay needs labels: --labels FILE"):
        replay_cascade(bare, second)
    one = write_jsonl(tmp_path / "one.jsonl", [{"question_id": 1, "label": 2}])
    with pytest.raises(InputError, match="sure auto needs labels of two questions or more, found 1"):
        replay_cascade(first, second, one)
    with pytest.raises(InputError, match="the same judge as"):
        replay_cascade(first, first)
    # the command has no --question-file, which the error of a jury of verdicts names
    with pytest.raises(InputError, match=r"one\.jsonl: expected a folder .*, found a file"):
        replay_cascade(one, one)
    for missing in ((tmp_path / "none", one), (first, tmp_path / "none")):
        with pytest.raises(InputError, match="none: no such file or folder"):
            replay_cascade(*missing)


def test_the_command_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = map(str, pair(tmp_path))
    output = tmp_path / "out"
    assert run_command(["cascade", first, second, "--sure", "0.7", "--output-dir", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "3 of 5 samples are sent on, 2 of them as the first contradicts itself" in printed
    written = Cascade.read(output / "cascade.json")
    assert cascade_tables(written) in printed
    picture = ElementTree.parse(output / "cascade.svg").getroot()
    assert sum(each.get("class") == "dot" for each in picture.iter()) == len(cascade.CURVE)
    page = (output / "cascade.html").read_text(encoding="utf-8")
    assert "cheap, then strong" in page
    assert "<script" not in page
    assert run_command(["cascade", first, second, "--sure", "0.2"]) == 2
    assert "expected auto or a number from 0.5 to 1" in capsys.readouterr().err


def test_names_of_judges_are_no_markup(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    other = write_judge(tmp_path / "x", ["ll"] * 5, "<script>alert(1)</script>\x1b[1m")
    document, *drawn = write_cascade(replay_cascade(first, other, sure=0.7), tmp_path / "out")
    assert document.name == "cascade.json"
    assert [path.name for path in drawn] == ["cascade.svg", "cascade.html"]
    for path in drawn:
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "\x1b" not in text
