"""Verdicts that somebody gave already: their words, their files, and what is said of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import fails, judgebench_row, last_json, pair, pandalm_row, vote, write_json
from conftest import write_jsonl
from judging import run_command

from judgelm.benchmark.predictions import predicted_samples, read_predictions
from judgelm.benchmark.report import measure
from judgelm.benchmark.sets import BENCHMARKS
from judgelm.errors import InputError
from judgelm.evaluation.results import Truth
from judgelm.evaluation.summary import RATES
from judgelm.judgement import Outcome
from judgelm.vocabularies import VOCABULARIES, find_vocabulary, normal_form


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["1", "0", "-1"], "sign"),
        (["1", "2", "Tie"], "number"),
        (["0", "1", "2"], "number"),
        (["A", "[[B]]", "C"], "letter"),
        (["A>B", "[[B>>A]]", "A=B"], "comparison"),
        (["1.0", "1.5", "2.0"], "score"),
        (["1.01", "1.99"], "score"),
        (["-1", "banana"], "sign"),
        (["model_a", "model_b", "tie", "tie (bothbad)"], "letter"),
        (["[[Model A]]", "MODEL-B", "both_bad", "Tie (inconsistent)"], "letter"),
        (["Response 1", "output (2)", "equal"], "number"),
        (["model_1", "model_2", "tie"], "number"),
        (["assistant_a > assistant_b", "**[[B>>A]]**", "A＝B"], "comparison"),
        (["leftvote", "rightvote", "tievote", "bothbad_vote", "A"], "letter"),
        ([1.01, 0, 1.98, None], "score"),
        (["", "", "", "A"], "letter"),
    ],
)
def test_a_vocabulary_is_found_for_the_whole_file(words: list[str], name: str) -> None:
    assert find_vocabulary(map(normal_form, words), "file") == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["0", "1"],
            "file: the verdicts 0, 1 can be read in more than one way; say which with --vocabulary sign|number",
        ),
        (["-1", "2"], "file: no vocabulary has all of these verdicts: -1, 2; say which with --vocabulary"),
        (["banana", ""], "file: no verdict that can be read"),
        (["", None], "file: no verdict that can be read"),
        (
            ["A", "the first one", "the first one", "I cannot say"],
            "file: no verdict that can be read in 3 of 4 rows, such as 'thefirstone', 'icannotsay'; --vocabulary takes"
            " sign: 1 first, 0 or Tie tie, -1 second; number: ",
        ),
        (["model_0", "model_1"], "can be read in more than one way; say which with --vocabulary sign|number|from-zero"),
    ],
)
def test_a_file_that_no_vocabulary_or_several_fit_needs_the_flag(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        find_vocabulary(map(normal_form, words), "file")
    assert message in str(error.value)


def test_a_vocabulary_that_has_none_of_a_files_words_is_refused_and_one_that_has_some_is_not(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "v.jsonl", [{"question_id": k, "verdict": "model_a"} for k in range(3)])
    with pytest.raises(
        InputError, match="--vocabulary number has none of these verdicts: 'a'; --vocabulary takes sign"
    ):
        read_predictions(path, "number")
    write_jsonl(path, [{"question_id": k, "verdict": word} for k, word in enumerate(["1", "no", "no", None])])
    assert read_predictions(path, "number").unparsed == 3


VERDICTS: dict[str, tuple[list[Any], str]] = {
    "sign": ([1, "0", -1], "banana"),
    "number": (["1", "Tie", 2], "3"),
    "from-zero": ([0, 2, 1], "-1"),
    "letter": (["[[A]]", "c", "B"], "D"),
    "comparison": (["A>>B", "A=B", "[[B>A]]"], "A?B"),
    "score": ([1.2, 0, "1.9"], "2.5"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_vocabulary_scores_a_verdict_file_and_counts_what_it_cannot_read(name: str, tmp_path: Path) -> None:
    words, odd = VERDICTS[name]
    rows = [{"question_id": k, "verdict": verdict} for k, verdict in enumerate([*words, odd, words[0]])]
    path = write_jsonl(tmp_path / "verdicts.jsonl", rows)
    predictions = read_predictions(path, name)
    assert [predictions.readings[str(k)][0].outcome for k in range(4)] == [Outcome.WIN, Outcome.TIE, Outcome.LOSE, None]
    assert predictions.unparsed == 1
    # labels: right, right, wrong, unparsed, wrong, and a row without a verdict
    labels = [1, 0, 1, 1, 2, 1]
    records = [pair(k, label) for k, label in enumerate(labels)]
    measured = measure(predicted_samples(records, predictions, path)).to_record()
    assert (measured["samples"], measured["unparsed"]["count"]) == (5, 1)
    agreement = measured["rates"]["agreement"]
    assert agreement["value"] == measured["unparsed"]["as_tie"]["value"] == 2 / 5
    assert agreement["low"] <= 2 / 5 <= agreement["high"]
    assert "consistency" not in measured["rates"]


def test_accuracy_counts_an_unparsed_verdict_as_a_tie_and_agreement_as_wrong(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "v.jsonl", [{"question_id": 0, "verdict": "A"}, {"question_id": 1, "verdict": "?"}])
    measured = measure(predicted_samples([pair(0, 1), pair(1, 0, "hard")], read_predictions(path), path)).to_record()
    assert measured["rates"]["agreement"]["value"] == measured["unparsed"]["as_error"]["value"] == 0.5
    assert measured["unparsed"]["as_tie"]["value"] == 1.0
    assert {each["label"]: each["agreement"]["value"] for each in measured["by_category"]} == {"easy": 1.0, "hard": 0.0}


def test_of_verdicts_alone_nothing_is_said_that_needs_scores(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "v.jsonl", [{"question_id": k, "verdict": "ACB"[k % 3]} for k in range(12)])
    samples = predicted_samples([pair(k, k % 3) for k in range(12)], read_predictions(path), path)
    measured = measure(samples, scored=False)
    assert [name for name in measured.rates if RATES[name].of_scores] == []
    assert measured.by_gap is None
    taught = [replace(each, truth=Truth(Outcome.WIN, (9.0, 4.0))) for each in samples]
    assert [group.label for group in measure(taught, scored=False).by_gap or []] == ["teacher's gap more than 4"]


def test_pandalm_predictions_are_scored_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pandalm_row(0, 1, 1, 2), pandalm_row(1, 0, 0, 2), pandalm_row(2, 0, 1, 2), pandalm_row(3, 2, 2, 2)]
    data = write_json(tmp_path / "testset-v1.json", rows)
    results = [1, "Tie", 2, "1\nThe first is better."]
    found = [{"idx": k, "instruction": "", "gpt_result": result} for k, result in enumerate(results)]
    predictions = write_json(tmp_path / "gpt.json", found)
    output = tmp_path / "out"
    arguments = ["benchmark", "pandalm", "--data", str(data), "--predictions", str(predictions)]
    assert run_command([*arguments, "--output-dir", str(output)]) == 0
    report = last_json(capsys)
    assert report == json.loads((output / "benchmark.json").read_text())
    assert report["metrics"]["pandalm"]["rates"]["agreement"]["value"] == pytest.approx(2 / 3)
    assert report["dropped"] == {"no majority": 1}
    assert report["files"]["testset-v1.json"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert report["predictions"]["sha256"] == hashlib.sha256(predictions.read_bytes()).hexdigest()
    assert report["predictions"]["vocabulary"] == "number"


def test_verdicts_without_ids_go_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "Why?", "response 1": "a", "response 2": "b", "label": k} for k in (0, 1, 9, 2, 1)]
    data = write_jsonl(tmp_path / "autoj.jsonl", rows)
    verdicts = write_jsonl(tmp_path / "v.jsonl", [{"output": k} for k in (0, 1, 1, 2, 0)])
    arguments = ["benchmark", "autoj", "--data", str(data), "--predictions", str(verdicts)]
    for more in ([], ["--vocabulary", "from-zero"]):
        assert run_command([*arguments, *more]) == 0
        report = last_json(capsys)
        # the third row of the data cannot be read, and its verdict with it
        assert report["metrics"]["autoj"]["rates"]["agreement"]["value"] == 3 / 4
        assert report["predictions"]["vocabulary"] == "from-zero"
    write_jsonl(verdicts, [{"output": 0}] * 4)
    assert "4 verdicts without ids, which go by row, but the data has 5 rows" in fails(arguments, capsys)


def test_votes_that_are_counted_together_need_verdicts_with_ids(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "human.jsonl", [vote("model_a")])
    found = BENCHMARKS["mt-bench-human"].read({"human.parquet": data})
    path = write_jsonl(tmp_path / "v.jsonl", [{"verdict": "A"}])
    (part,) = found.splits
    with pytest.raises(InputError, match=r"v.jsonl: verdicts need a question_id, as the data's samples are of"):
        predicted_samples(part.records, read_predictions(path), path, part.places, found.rows)


def test_verdicts_by_row_skip_rows_without_a_label(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "p.jsonl", [pair(k, label) for k, label in enumerate((1, None, 2))])
    found = BENCHMARKS["pairs"].read({"p.jsonl": data})
    path = write_jsonl(tmp_path / "v.jsonl", [{"verdict": word} for word in "ABB"])
    (part,) = found.splits
    samples = predicted_samples(part.records, read_predictions(path), path, part.places, found.rows)
    assert [sample.forward.outcome for sample in samples if sample.forward] == [Outcome.WIN, Outcome.LOSE]


def test_judgebenchs_two_judgements_are_both_orders_and_the_second_saw_the_answers_exchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [judgebench_row(k) for k in range(3)]
    data = write_jsonl(tmp_path / "bench.jsonl", rows)
    given: list[list[Any]] = [["B>A", "A>B"], ["B>A", "B>A"], [None, "A=B"]]
    judged = [
        {**row, "judgments": [each and {"decision": each, "judgment": {}} for each in decisions]}
        for row, decisions in zip(rows, given, strict=True)
    ]
    verdicts = write_jsonl(tmp_path / "judged.jsonl", judged[::-1])
    assert run_command(["benchmark", "judgebench", "--data", str(data), "--predictions", str(verdicts)]) == 0
    report = last_json(capsys)
    rates = report["metrics"]["judgebench"]["rates"]
    assert rates["agreement"]["value"] == pytest.approx(2 / 3)
    assert rates["agreement_reversed"]["value"] == pytest.approx(1 / 3)
    assert rates["consistency"]["value"] == pytest.approx(1 / 3)
    assert (report["predictions"]["verdicts"], report["predictions"]["unparsed"]) == (6, 1)


def test_llmbars_results_name_the_winner_in_the_datas_order(tmp_path: Path) -> None:
    def result(forward: str | None, back: str | None) -> dict[str, Any]:
        orders = {"swap = False": {"winner": forward}, "swap = True": {"winner": back}}
        return {"input": "Why?", "results": [["a metric", "stop"], orders]}

    path = write_json(tmp_path / "result.json", [result("1", "1"), result("2", "1"), result(None, "2")])
    predictions = read_predictions(path)
    read = [predictions.readings[str(k)] for k in range(3)]
    assert [(one.outcome, back and back.outcome) for one, back in read] == [
        (Outcome.WIN, Outcome.WIN),
        (Outcome.LOSE, Outcome.WIN),
        (None, Outcome.LOSE),
    ]
    assert (predictions.rows, predictions.vocabulary) == (3, "number")


def test_numbers_of_a_result_field_may_speak_another_vocabulary(tmp_path: Path) -> None:
    rows = [{"idx": k, "gpt_result": result} for k, result in enumerate((1, -1, 0))]
    assert read_predictions(write_json(tmp_path / "v.json", rows)).vocabulary == "sign"
