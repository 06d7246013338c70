"""Folders that were judged with criteria: what is read of them, and the numbers of each aspect."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from criteria_folders import criteria, expected, judged, pair, pair_folder, said
from judging import run_command

from judgelm.criteria import Scale
from judgelm.errors import InputError
from judgelm.evaluation import evaluate, read_folder
from judgelm.evaluation.results import split_aspects
from judgelm.evaluation.summary import SummaryFile
from judgelm.judgement import Outcome, ParseState

FIVE = criteria(Scale(1, 5), Depth=2, Style=1)
HOSTILE = "<b>|x|</b> \x1b[31m\u202e"


def folder_of_three(place: Path) -> Path:
    """One is read whole; of one an aspect is unread in forward order; one was not judged by Style."""
    first = pair(1, label=1, aspects={"Depth": 1, "Style": [2, 4]})
    last = pair(3, label=2, aspects={"Depth": None})
    rows = [
        (first, said("5 2\nDeep.", "1 3\nAssistant 1 is dull."), said("2 5", "1 3")),
        (pair(2, label=0), said("no idea", "3 3"), said("4 4", "2 2")),
        (last, said("1 5"), said("5 1")),
    ]
    return pair_folder(place, FIVE, rows)


def test_a_judgement_by_criteria_is_read_from_its_fields_and_not_from_its_text(tmp_path: Path) -> None:
    first, second, third = read_folder(folder_of_three(tmp_path))
    assert first.forward is not None
    assert first.reversed is not None
    assert first.scale == Scale(1, 5)
    assert first.forward.scores == pytest.approx(((2 * 5 + 1) / 3, (2 * 2 + 3) / 3), abs=1e-4)
    assert first.reversed.scores == pytest.approx(((2 * 5 + 3) / 3, (2 * 2 + 1) / 3), abs=1e-4), "exchanged back"
    assert [each.reading.scores for each in first.reversed.aspects] == [(5, 2), (3, 1)]
    assert second.forward is not None
    assert (second.forward.state, second.forward.scores) == (ParseState.FAILED, None), "Style alone is no judgement"
    assert {name: both.outcome for name, both in second.aspects.items()} == {"Depth": None, "Style": Outcome.TIE}
    assert list(third.aspects) == ["Depth"]


def test_the_truth_of_an_aspect_is_its_own_else_that_of_the_whole(tmp_path: Path) -> None:
    by_name = split_aspects(read_folder(folder_of_three(tmp_path)))
    depth = [sample.truth and sample.truth.outcome for sample in by_name["Depth"]]
    assert depth == [Outcome.WIN, Outcome.TIE, None], "null is nobody's"
    style = [sample.truth for sample in by_name["Style"]]
    assert [each and each.outcome for each in style] == [Outcome.LOSE, Outcome.TIE]
    assert style[0] is not None
    assert style[0].scores == (2, 4)


def test_each_aspect_has_its_rates_by_the_same_path(tmp_path: Path) -> None:
    found = evaluate(folder_of_three(tmp_path))
    assert found.summary.aspects is not None
    depth, style = found.summary.aspects
    assert (depth.name, depth.weight, depth.samples, depth.labelled, depth.own_truths) == ("Depth", 2, 3, 2, 2)
    assert (style.name, style.weight, style.samples, style.labelled, style.own_truths) == ("Style", 1, 2, 2, 1)
    # Depth: right, unread; Style: right both times, by the row's own scores 2 and 4
    assert depth.rates["agreement"].value == 0.5
    assert depth.rates["agreement"].low is not None
    assert style.rates["agreement"].value == 1
    assert depth.rates["consistency"].value == pytest.approx(2 / 3), "the unread one is not"
    assert style.rates["consistency"].value == 0.5
    assert depth.rates["unparsed"].value == pytest.approx(1 / 6)
    # 5 and 2, then 1 and 5: the one with an unread order has no mean
    assert (depth.rates["mean_first"].value, depth.rates["mean_second"].value) == (3, 3.5)
    assert (style.rates["mean_first"].value, style.rates["mean_second"].value) == (2.25, 2.25)
    assert style.rates["mae"].value == 1
    # by the teacher's words no score is known of Depth
    assert "mae" not in depth.rates
    # of the whole: win, unread, lose
    assert found.summary.rates["agreement"].value == pytest.approx(2 / 3)
    assert found.summary.rates["mean_first"].count == 2
    assert found.published["accuracy"] == 1, "by the paper's rule an unread one is a tie"
    record = json.loads(json.dumps(found.to_record()))
    assert SummaryFile.from_record(record, "here") == found.document
    assert record["aspects"][0]["rates"]["agreement"] == depth.rates["agreement"].to_record()


def test_the_scale_bounds_errors_and_gaps(tmp_path: Path) -> None:
    wide = criteria(Scale(0, 100), Depth=1)
    rows = [(pair(k, text="90 20\nSo."), said("80 20"), said("20 80")) for k in range(4)]
    summary = evaluate(pair_folder(tmp_path / "wide", wide, rows)).summary
    mae = summary.rates["mae"]
    assert mae.value == 5
    # of four questions that say the same, the interval reaches into the scale by Wilson's share
    assert mae.high == pytest.approx(5 + 3.841459 / 7.841459 * 95, abs=1e-3)
    assert [group.label for group in summary.by_gap or []] == ["teacher's gap more than 40"]
    five = [(pair(k, text="8 6\nSo."), said("4 3", "4 4"), None) for k in range(2)]
    narrow = evaluate(pair_folder(tmp_path / "narrow", FIVE, five)).summary
    assert narrow.rates["agreement"].value == 1, "a teacher of another scale says who is better"
    assert "mae" not in narrow.rates


def test_expected_scoring_gives_each_aspect_its_probabilities(tmp_path: Path) -> None:
    samples = [pair(k, label=2) for k in range(3)]
    write_jsonl(tmp_path / "forward.jsonl", [expected(sample, FIVE) for sample in samples])
    write_jsonl(tmp_path / "reversed.jsonl", [expected(sample, FIVE, "reversed") for sample in samples])
    (sample, *_) = read_folder(tmp_path)
    for both in (sample, *sample.aspects.values()):
        assert both.forward is not None
        assert both.reversed is not None
        assert both.forward.probabilities is not None
        assert both.reversed.probabilities is not None
        # the judge likes what it sees last
        assert both.forward.probabilities[Outcome.LOSE] == pytest.approx(both.reversed.probabilities[Outcome.WIN])
    aspects = evaluate(tmp_path).summary.aspects
    assert aspects is not None
    depth, style = aspects
    assert {"brier", "calibration_error", "agreement_probabilities"} <= depth.rates.keys()
    # a tie in one of five; which order is right is open
    assert depth.rates["brier"].value == pytest.approx(0.4**2 + 0.2**2 + 0.6**2) == style.rates["brier"].value


def test_a_teachers_file_may_know_aspects_alone(tmp_path: Path) -> None:
    rows = [(pair(k), said("5 2", "1 3"), None) for k in (1, 2)]
    folder = pair_folder(tmp_path / "out", FIVE, rows)
    teacher = write_jsonl(tmp_path / "teacher.jsonl", [{"question_id": k, "aspects": {"Style": 2}} for k in (1, 2)])
    found = evaluate(folder, teacher)
    aspects = found.summary.aspects
    assert aspects is not None
    depth, style = aspects
    assert "agreement" not in depth.rates
    assert style.rates["agreement"].value == 1
    assert "accuracy" not in found.published
    assert found.published["not_judged"] == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"Style": 3}, r"label 1, 2 or 0 \(tie\), found 3"),
        ({"Style": [2, 6]}, r"Style: expected label .* or two scores from 1 to 5, found \[2, 6\]"),
        ({"Style": [True, 2]}, "two scores"),
        ({"Stile": 1}, r"names none of those judged \(.*\), found Stile"),
        ([1], "field 'aspects' must be dict, found list"),
    ],
)
def test_a_truth_of_an_aspect_that_is_none_is_named_with_its_line(tmp_path: Path, given: Any, problem: str) -> None:
    folder = pair_folder(tmp_path / "out", FIVE, [(pair(1), said("5 2", "1 3"), None)])
    teacher = write_jsonl(tmp_path / "teacher.jsonl", [{"question_id": 1, "label": 1, "aspects": given}])
    with pytest.raises(InputError, match=rf"teacher\.jsonl:1: .*{problem}"):
        evaluate(folder, teacher)


RECORD = judged(pair(1), FIVE, said("5 2", "1 3"))
DEPTH, STYLE = RECORD["pred_aspects"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pred_scale": None}, "field 'pred_scale' must be list, found NoneType"),
        ({"pred_scale": [5, 1]}, "field 'pred_scale' must be the lowest and the highest score"),
        ({"pred_scores": [1]}, "field 'pred_scores' must have two numbers, found 1"),
        ({"pred_scores": [1, 7]}, "field 'pred_scores' must hold numbers from 1 to 5, found 7"),
        ({"pred_parse": "fine"}, "field 'pred_parse' must be one of ok, repaired, failed, found 'fine'"),
        ({"pred_aspects": []}, "at least one aspect"),
        ({"pred_aspects": [1]}, "must hold objects, found int"),
        ({"pred_aspects": [DEPTH, STYLE | {"name": "Depth"}]}, r"'pred_aspects\.2\.name' must be a name of its own"),
        ({"pred_aspects": [DEPTH | {"scores": [0, 2]}]}, r"'pred_aspects\.1\.scores' must hold numbers from 1 to 5"),
        ({"pred_aspects": [DEPTH | {"weight": "2"}]}, r"'pred_aspects\.1\.weight' must hold numbers"),
        ({"pred_aspects": [DEPTH | {"probabilities": {"win": 1}}]}, r"'pred_aspects\.1\.probabilities' must hold"),
        ({"pred_task": "grade"}, "expected a judgement of two answers, found a grade of one"),
    ],
)
def test_a_record_whose_aspects_are_damaged_is_named_with_its_line(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    write_jsonl(tmp_path / "forward.jsonl", [RECORD | change])
    with pytest.raises(InputError, match=rf"forward\.jsonl:1: .*{problem}"):
        read_folder(tmp_path)


def test_rows_of_different_scales_are_refused(tmp_path: Path) -> None:
    wide = judged(pair(2), criteria(Depth=1), said("5 2"))
    write_jsonl(tmp_path / "forward.jsonl", [RECORD, wide])
    with pytest.raises(InputError, match=r"forward\.jsonl:2: all rows have one scale.*1 to 5 and 1 to 10"):
        read_folder(tmp_path)


def test_the_command_shows_aspects_side_by_side_whatever_they_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = criteria(Scale(1, 5), **{HOSTILE: 1.0, "Style": 2.5, "Three": 1.0, "Four": 1.0})
    names = [aspect.name for aspect in named.aspects]
    rows = [(pair(k, label=1), said("5 2", "1 3", "2 2", "4 3", names=names), None) for k in range(3)]
    folder = pair_folder(tmp_path / "out", named, rows)
    assert run_command(["evaluate", str(folder), "--output", str(tmp_path / "summary.json")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    (head,) = (line for line in out.splitlines() if "Style" in line)
    assert head.replace("by aspect, shares in %", "").split() == ["all", "<b>|x|</b>", "[31m", "Style", "Three"]
    agreements = [re.findall(r"([0-9.]+) \(", line) for line in out.splitlines() if line.startswith("agreement with")]
    # the weighted mean loses, as one aspect does; one has a tie
    assert agreements[-2:] == [["0.0", "100.0", "0.0", "0.0"], ["100.0"]]
    assert json.loads(out.splitlines()[-1])["total"] == 3
    written = json.loads((tmp_path / "summary.json").read_text())
    assert [each["name"] for each in written["aspects"]] == names


def test_folders_without_criteria_have_none_of_the_new_keys(tmp_path: Path) -> None:
    row = {"question_id": 1, "question_body": "Why?", "answer1_body": "a", "answer2_body": "b", "pred_text": "9 4"}
    # a field of that name is the user's own
    write_jsonl(tmp_path / "forward.jsonl", [row | {"label": 1, "aspects": ["any"]}])
    record = evaluate(tmp_path).to_record()
    assert "aspects" not in record
    assert "mean_first" not in record["rates"]
