"""RewardBench, RewardBench 2 and HHH: their files, their authors' formulas, and judges measured on them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import best_of_row, fails, hhh_row, last_json, rewardbench_row, write_json
from conftest import write_jsonl
from judging import run_command
from test_benchmark import quick

from judgelm.benchmark import read_benchmark, score_predictions
from judgelm.benchmark.report import BenchmarkReport
from judgelm.benchmark.scores import (
    UNREAD,
    Item,
    RatedRow,
    best_credit,
    met_credit,
    pair_credit,
    score_hhh,
    score_rewardbench,
    score_rewardbench2,
)
from judgelm.errors import InputError
from judgelm.judgement import Outcome
from judgelm.sample import Sample


def items(subset: str, *credits: float) -> list[Item]:
    return [Item(subset, f"{subset} {k}", credit) for k, credit in enumerate(credits)]


def test_a_section_weighs_its_subsets_by_their_published_sizes() -> None:
    rows = [*items("math-prm", 1, 0, 0, 1), *items("hep-cpp", 1, 1, 1), *items("mt-bench-hard", 0.5)]
    found = score_rewardbench(rows)
    assert {name: rate.value for name, rate in found.subsets.items()} == {
        "mt-bench-hard": 0.5,
        "math-prm": 0.5,
        "hep-cpp": 1,
    }
    reasoning = (984 * 0.5 + 164 * 1) / (984 + 164)
    assert found.sections["Reasoning"].value == pytest.approx(reasoning)
    assert found.sections["Reasoning"].count == 7
    assert list(found.sections) == ["Chat Hard", "Reasoning"], "of the sections that there are"
    assert found.score.value == pytest.approx((0.5 + reasoning) / 2)
    low, high = found.score.low, found.score.high
    assert low is not None
    assert high is not None
    assert low < (0.5 + reasoning) / 2 < high


def test_prior_sets_are_a_plain_mean_and_weigh_one_half() -> None:
    prior = [*items("shp", 1, 1, 0, 0), *items("summarize", 1)]
    found = score_rewardbench([*items("donotanswer", 0.25), *items("alpacaeval-easy", 1), *prior])
    assert found.sections["Prior Sets"].value == pytest.approx(0.75)
    assert found.score.value == pytest.approx((2 * 0.25 + 2 * 1 + 1 * 0.75) / 5)


def test_hhh_is_the_mean_over_all_pairs_beside_its_categories() -> None:
    found = score_hhh([*items("honest", 1, 1, 0), *items("other", 0)])
    assert found.score.value == pytest.approx(0.5)
    assert found.subsets["honest"].value == pytest.approx(2 / 3)
    assert found.sections == {}


@pytest.mark.parametrize(
    ("outcome", "label", "credit"),
    [(Outcome.WIN, 1, 1), (Outcome.WIN, 2, 0), (Outcome.LOSE, 2, 1), (Outcome.TIE, 1, 0.5), (None, 2, 0.5)],
)
def test_a_pair_is_worth_one_a_half_or_nothing(outcome: Outcome | None, label: int, credit: float) -> None:
    assert pair_credit(outcome, label) == credit


@pytest.mark.parametrize(
    ("ratings", "credit"),
    [
        ((9, 3, 4, 5), 1),
        ((9, 9, 4, 5), 1 / 2),
        ((9, 9, 9, 9), 1 / 4),
        ((5, 9, 4, 5), 0),
        ((UNREAD, 1, 1, 1), 0),
        ((2, UNREAD, UNREAD, 1), 1),
        ((UNREAD,) * 4, 1 / 4),
    ],
)
def test_the_best_of_four_shares_its_credit_with_those_rated_as_high(ratings: Sequence[float], credit: float) -> None:
    assert best_credit(ratings) == pytest.approx(credit)
    # the pairs of the same ratings say the same
    met = [0.5 if ratings[0] == one else float(ratings[0] > one) for one in ratings[1:]]
    assert met_credit(met) == pytest.approx(credit)


def ties(number: int, ref: Sequence[float], tied: Sequence[float], num_right: int) -> list[RatedRow]:
    return [
        RatedRow("Ties", f"ref {number}", f"ref:{number}", 1, ref),
        RatedRow("Ties", f"tied {number}", f"tied:{number}", num_right, tied),
    ]


def test_the_score_of_ties_is_accuracy_and_margin_as_published() -> None:
    # right answers 1 apart, 2 above the wrong one; the reference answer 6 above
    good = ties(0, (9, 3), (8, 7, 5), 2)
    found = score_rewardbench2([], good)
    assert found.score.value == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(2 / 1 - 1))
    # right answers 4 apart, 1 above the wrong one; the reference answer below: no margin, and one accuracy of two
    worse = ties(1, (2, 3), (9, 5, 4), 2)
    both = score_rewardbench2([], [*good, *worse])
    margins = math.tanh(1) + math.tanh(-1 / 4 - 1)
    assert both.score.value == pytest.approx(0.3 + 0.3 / 2 + 0.2 / 2 + 0.2 / 2 + 0.01 * margins / 2)
    assert both.subsets["Ties"].value == both.score.value
    # all alike: wrong, and no margin of nothing
    assert score_rewardbench2([], ties(2, (5, 5), (5, 5, 5), 2)).score.value == pytest.approx(0)
    # right answers alike and above: the margin is as good as can be
    assert score_rewardbench2([], ties(3, (5, 4), (5, 5, 4), 2)).score.value == pytest.approx(1.01)
    # a rating that could not be read is below all
    assert score_rewardbench2([], ties(4, (5, UNREAD), (5, 5, UNREAD), 2)).score.value == pytest.approx(1.01)


def test_rewardbench2_is_the_plain_mean_of_its_subsets() -> None:
    rows = [*items("Math", 1, 0, 0, 0), *items("Focus", 1)]
    found = score_rewardbench2(rows, ties(0, (5, 4), (5, 5, 4), 2))
    assert found.score.value == pytest.approx((0.25 + 1 + 1.01) / 3)
    assert list(found.subsets) == ["Focus", "Math", "Ties"]


def test_rewardbench_pairs_stand_in_an_order_that_their_ids_give(tmp_path: Path) -> None:
    rows = [rewardbench_row(k, "donotanswer") for k in range(40)] + [rewardbench_row(0, "nothing")]
    found = read_benchmark("rewardbench", write_jsonl(tmp_path / "rb.jsonl", rows))
    (split,) = found.labelled.splits
    assert len(split.records) == 40
    assert found.labelled.odd == [
        f"{tmp_path}/rb.jsonl:41: expected subset to be one of RewardBench's, such as donotanswer, found 'nothing'"
    ]
    for number, record in enumerate(split.records):
        right = record["label"]
        assert record["question_id"] == f"donotanswer-{number}"
        assert (record[f"answer{right}_body"], record[f"answer{3 - right}_body"]) == (f"good {number}", f"bad {number}")
        assert record[f"answer{right}_model_id"] == "gpt"
        assert (record["category"], record["source_id"]) == ("donotanswer", 100 + number)
    assert 10 < sum(record["label"] == 1 for record in split.records) < 30, "its place tells nothing"


def test_prior_sets_stand_beside_it_in_a_folder_and_their_prompts_may_be_dialogues(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(
        Table.from_pylist([rewardbench_row(0, "donotanswer")]), tmp_path / "filtered-00000-of-00001.parquet"
    )
    asked = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "Why?"},
    ]
    rows = [{**rewardbench_row(0, "", asked), "subset": None}]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "anthropic_helpful-00000-of-00001.parquet")
    found = read_benchmark("rewardbench", tmp_path)
    first, second = found.labelled.splits[0].records
    assert (first["category"], second["category"]) == ("donotanswer", "anthropic_helpful")
    sample = Sample.from_record(second)
    assert sample.question == "Why?"
    assert sample.dialogue is not None
    assert [turn.text for turn in sample.dialogue.turns] == ["Hi", "Ho"]
    assert sample.answers[second["label"] - 1] == "good 0"


def test_rewardbench2_becomes_answers_to_grade_or_pairs(tmp_path: Path) -> None:
    rows = [best_of_row("7", "Math"), best_of_row("ref:3", "Ties", 1, 2), best_of_row("tied:3", "Ties", 3, 2)]
    path = write_jsonl(tmp_path / "rb2.jsonl", rows)
    found = read_benchmark("rewardbench2", path)
    assert found.by == "ratings"
    (split,) = found.labelled.splits
    assert (split.task, len(split.records)) == ("grade", 4 + 3 + 5)
    assert [record["chosen"] for record in split.records[-5:]] == [True, True, True, False, False]
    twice = read_benchmark("rewardbench2", write_jsonl(tmp_path / "twice.jsonl", [*rows, rows[1]])).labelled
    assert twice.odd == [f"{tmp_path}/twice.jsonl:4: another row of Ties has the id ref:3 already"]
    assert [dict(record) for record in twice.splits[0].records] == [dict(record) for record in split.records]
    pairs, graded = read_benchmark("rewardbench2", path, by="pairs").labelled.splits
    assert [(each.name, each.task, len(each.records)) for each in (pairs, graded)] == [
        ("pairs", "pair", 3),
        ("ties", "grade", 8),
    ]
    for record in pairs.records:
        assert record[f"answer{record['label']}_body"] == "right 7 0"


def test_hhh_reads_big_benchs_files_and_prometheuss_file_alike(tmp_path: Path) -> None:
    rows = [hhh_row(k, source) for k, source in enumerate(["honest", "honest", "other"])]
    (one,) = read_benchmark("hhh", write_json(tmp_path / "hhh_alignment_eval.json", rows)).labelled.splits
    assert [(r["question_id"], r["category"]) for r in one.records] == [
        ("honest-0", "honest"),
        ("honest-1", "honest"),
        ("other-2", "other"),
    ]
    for number, record in enumerate(one.records):
        assert record["question_body"] == f"Why {number}?"
        assert record[f"answer{record['label']}_body"] == f"chosen {number}"
    examples = [{"input": f"Why {k}?", "target_scores": {f"rejected {k}": 0, f"chosen {k}": 1}} for k in range(2)]
    folder = tmp_path / "hhh_alignment"
    write_json(
        folder / "honest" / "task.json",
        {"name": "hhh", "keywords": ["x"], "examples": [*examples, {"input": "?", "target_scores": {"a": 1}}]},
    )
    found = read_benchmark("hhh", folder)
    assert list(found.labelled.splits[0].records) == list(one.records[:2])
    (odd,) = found.labelled.odd
    assert odd.endswith("honest/task.json:3: expected target_scores of two answers, one 1 and one 0, found [1]")


@pytest.mark.parametrize(
    ("name", "row", "problem"),
    [
        ("rewardbench", {"subset": "donotanswer", "prompt": "?", "chosen": "a"}, "field 'rejected' is missing"),
        ("rewardbench", {**rewardbench_row(0, "shp"), "prompt": [{"role": "x"}]}, "prompt: message 1: "),
        ("rewardbench2", best_of_row("1", "Math", 2), "expected one chosen answer, found 2"),
        (
            "rewardbench2",
            best_of_row("5", "Ties", 2),
            "expected the id of a row of Ties to be ref:N or tied:N, found '5'",
        ),
        (
            "rewardbench2",
            {**best_of_row("1", "Math"), "rejected": []},
            "field 'rejected' must hold at least one answer",
        ),
        (
            "rewardbench2",
            {**best_of_row("1", "Math"), "chosen": [5]},
            "field 'chosen': answer 1 must be str, found int",
        ),
        ("hhh", {**hhh_row(0), "chosen_instruction": "?"}, "expected chosen_instruction to have the parts"),
        ("hhh", {**hhh_row(0), "chosen_instruction": hhh_row(1)["chosen_instruction"]}, "have not one question"),
    ],
)
def test_a_row_of_another_form_is_named(name: str, row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set\.jsonl:1: ") as error:
        read_benchmark(name, write_jsonl(tmp_path / "set.jsonl", [row]))
    assert problem in str(error.value)


def test_rewardbench_is_judged_and_scored_and_the_same_command_goes_on(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subsets = ("donotanswer", "hep-cpp", "math-prm")
    data = write_jsonl(tmp_path / "rb.jsonl", [rewardbench_row(k, subsets[k % 3]) for k in range(9)])
    output = tmp_path / "out"
    arguments = ["benchmark", "rewardbench", "--data", str(data), *quick(model_folder, output)]
    assert run_command([*arguments, "--limit", "3"]) == 0
    assert last_json(capsys)["scores"]["score"]["count"] == 3
    assert run_command(arguments) == 0
    captured = capsys.readouterr()
    assert "6 of 18 judgements are there already" in captured.err
    assert "rewardbench, as its authors score it" in captured.out
    report = BenchmarkReport.read(output / "benchmark.json")
    assert report.to_record() == json.loads(captured.out.splitlines()[-1])
    judged = [json.loads(line) for line in (output / "forward.jsonl").read_text().splitlines()]
    back = [json.loads(line) for line in (output / "reversed.jsonl").read_text().splitlines()]
    worth: dict[str, list[float]] = {}
    for one, other in zip(judged, back, strict=True):
        first, second = one["pred_probabilities"], other["pred_probabilities"]
        mean = {
            "win": first["win"] + second["lose"],
            "lose": first["lose"] + second["win"],
            "tie": first["tie"] + second["tie"],
        }
        said = max(mean, key=lambda name: mean[name])
        right = {1: "win", 2: "lose"}[one["label"]]
        worth.setdefault(one["category"], []).append(0.5 if said == "tie" else float(said == right))
    assert report.scores is not None
    means = {subset: sum(each) / 3 for subset, each in worth.items()}
    assert {name: rate.value for name, rate in report.scores.subsets.items()} == pytest.approx(means)
    reasoning = (984 * means["math-prm"] + 164 * means["hep-cpp"]) / (984 + 164)
    assert report.scores.score.value == pytest.approx((means["donotanswer"] + reasoning) / 2)


@pytest.mark.parametrize("by", ["ratings", "pairs"])
def test_rewardbench2_is_judged_by_ratings_or_pairs(
    by: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [best_of_row(f"{k}", ("Math", "Focus")[k % 2]) for k in range(4)]
    rows += [best_of_row("ref:0", "Ties", 1, 2), best_of_row("tied:0", "Ties", 2, 2)]
    data = write_jsonl(tmp_path / "rb2.jsonl", rows)
    output = tmp_path / "out"
    arguments = ["benchmark", "rewardbench2", "--data", str(data), "--by", by, *quick(model_folder, output)]
    assert run_command(arguments) == 0
    report = last_json(capsys)
    assert report["by"] == by
    assert report["rows"] == ({"rewardbench2": 23} if by == "ratings" else {"pairs": 12, "ties": 7})
    place = output if by == "ratings" else output / "ties"
    grades = {
        record["question_id"]: record["pred_expected_scores"][0]
        for record in map(json.loads, (place / "forward.jsonl").read_text().splitlines())
    }
    one, several = ([grades[f"Ties-{row}-{k}"] for k in range(count)] for row, count in ((4, 3), (5, 4)))
    wanted = score_rewardbench2([], ties(0, one, several, 2)).score.value
    subsets = {name: rate["value"] for name, rate in report["scores"]["subsets"].items()}
    assert subsets["Ties"] == pytest.approx(wanted)
    assert report["scores"]["score"]["value"] == pytest.approx(sum(subsets.values()) / 3)
    if by == "ratings":
        best = [best_credit([grades[f"{('Math', 'Focus')[k % 2]}-{k}-{n}"] for n in range(4)]) for k in range(4)]
        assert (subsets["Math"], subsets["Focus"]) == pytest.approx((sum(best[::2]) / 2, sum(best[1::2]) / 2))
        assert set(report["metrics"]["rewardbench2"]["rates"]) >= {"mean", "spread", "unparsed"}
    assert run_command(arguments) == 0, "all is there already"


def test_a_row_whose_answers_are_not_all_judged_has_no_score_yet(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(tmp_path / "rb2.jsonl", [best_of_row("0", "Math"), best_of_row("1", "Math")])
    arguments = ["benchmark", "rewardbench2", "--data", str(data), *quick(model_folder, tmp_path / "out")]
    assert run_command([*arguments, "--limit", "3"]) == 0
    assert "scores" not in last_json(capsys)
    assert run_command([*arguments, "--limit", "5"]) == 0
    assert last_json(capsys)["scores"]["score"]["count"] == 1


def test_verdicts_on_hhh_are_scored_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_json(tmp_path / "hhh.json", [hhh_row(k, ("honest", "other")[k % 2]) for k in range(4)])
    (split,) = read_benchmark("hhh", data).labelled.splits
    said = [record["label"] for record in split.records]
    verdicts = [
        {"question_id": r["question_id"], "verdict": v}
        for r, v in zip(split.records, (said[0], 3 - said[1], said[2], 0), strict=True)
    ]
    arguments = [
        "benchmark",
        "hhh",
        "--data",
        str(data),
        "--predictions",
        str(write_jsonl(tmp_path / "v.jsonl", verdicts)),
    ]
    assert run_command([*arguments, "--vocabulary", "number"]) == 0
    scores = last_json(capsys)["scores"]
    assert (scores["score"]["value"], scores["subsets"]["honest"]["value"], scores["subsets"]["other"]["value"]) == (
        0.625,
        1,
        0.25,
    )


def test_results_as_rewardbench_publishes_them_need_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"subset": s, "id": k, "results": r}
        for k, (s, r) in enumerate([("math-prm", 1), ("math-prm", 0), ("hep-go", 0.5)])
    ]
    columns = {"model": "m", **{name: [row[name] for row in rows] for name in ("subset", "id", "results")}}
    wanted = (984 * 0.5 + 164 * 0.5) / (984 + 164)
    strange = write_jsonl(tmp_path / "strange.json", [rows[0], rows[0] | {"subset": "x"}])
    given = score_predictions("rewardbench", strange).predictions
    assert given is not None
    assert given.odd_rows.first[0].startswith(f"{strange}:2: expected subset to be one of RewardBench's")
    for path in (write_jsonl(tmp_path / "rows.json", rows), write_json(tmp_path / "columns.json", columns)):
        report = score_predictions("rewardbench", path)
        assert report.scores is not None
        assert report.scores.score.value == pytest.approx(wanted)
    both: list[dict[str, Any]] = [
        {"subset": "Math", "id": "4", "results": 0.25, "scores": None, "num_correct": 1},
        {"subset": "Ties", "id": "ref:0", "results": None, "scores": [9, 3], "num_correct": 1},
        {"subset": "Ties", "id": "tied:0", "results": None, "scores": [[8], [7], [5]], "num_correct": 2},
        {"subset": "Ties", "id": "odd", "results": None, "scores": [8, 7], "num_correct": 1},
        {"subset": "Math\ud800", "id": "5", "results": 1},
        {"subset": "Ties", "id": "ref:00", "results": None, "scores": [3, 9], "num_correct": 1},
    ]
    path = write_jsonl(tmp_path / "both.jsonl", both)
    assert run_command(["benchmark", "rewardbench2", "--predictions", str(path)]) == 0
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    assert report["scores"]["score"]["value"] == pytest.approx((0.25 + 1 + 0.01 * math.tanh(1)) / 2)
    assert (report["scores"]["score"]["count"], report["scores"]["subsets"]["Ties"]["count"]) == (3, 2)
    assert "both.jsonl:4: expected the id of a row of Ties to be ref:N or tied:N, found 'odd'" in out
    assert "both.jsonl:6: another row of Ties has the id ref:00 already" in out
    assert "both.jsonl:5: subset has half a surrogate pair" in out
    assert "3 rows of published results" in out


def test_mistakes_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_jsonl(tmp_path / "rb2.jsonl", [best_of_row("0", "Math")])
    verdicts = write_jsonl(tmp_path / "v.jsonl", [{"question_id": "Math-0-0", "verdict": 1}])
    wrong = write_jsonl(tmp_path / "w.jsonl", [{"subset": "shp", "results": 7}])
    none = write_json(tmp_path / "none.json", {"subset": [], "results": []})
    twice = tmp_path / "twice"
    for file in ("hhh_alignment_eval.json", "honest/task.json"):
        write_json(twice / file, [hhh_row(0)])
    for arguments, message in (
        (
            ["rewardbench2", "--output-dir", str(tmp_path / "o")],
            "is not fetched: --data PATH names your copy of test-00000-of-00001.parquet",
        ),
        (["rewardbench", "--by", "pairs", "--output-dir", "o"], "--by is for rewardbench2, not for rewardbench"),
        (
            ["rewardbench2", "--data", str(rows), "--predictions", str(verdicts)],
            "rewardbench2 has no verdicts to score: --predictions FILE takes results",
        ),
        (
            ["rewardbench", "--predictions", str(wrong)],
            "w.jsonl:1: expected results to be a number from 0 to 1, found 7",
        ),
        (["rewardbench2", "--data", str(tmp_path / "gone"), "--output-dir", "o"], "gone: no such file"),
        (["rewardbench2", "--by", "pairs", "--predictions", str(wrong)], "--by says what a judge is asked"),
        (["rewardbench2", "--predictions", str(none)], "none.json: field 'subset' holds none"),
        (["hhh", "--data", str(twice), "--output-dir", "o"], "hhh has its pairs in one form, found all of "),
        (["hhh", "--data", str(tmp_path), "--output-dir", "o"], "needs hhh_alignment_eval.json in this folder"),
    ):
        assert message in fails(["benchmark", *arguments], capsys)
    with pytest.raises(InputError, match="unknown by 'words', expected one of ratings, pairs"):
        read_benchmark("rewardbench2", rows, by="words")
