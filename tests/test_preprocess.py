from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl

from judgelm.answers import combine_answers, combine_mmvet, write_judgelm_samples
from judgelm.errors import InputError


def answers(name: str, ids: list[int], **more: Any) -> list[dict[str, Any]]:
    return [{"question_id": k, "question_body": f"Q{k}", "text": f"{name}{k}", **more} for k in ids]


def test_answers_are_joined_by_id_whatever_their_order(tmp_path: Path) -> None:
    full = {"model": "m1", "decoding_method": "greedy", "scores": {"logprobs": -1.5}}
    a = write_jsonl(tmp_path / "a.jsonl", answers("a", [2, 0, 1], **full))
    b = write_jsonl(tmp_path / "b.jsonl", answers("b", [0, 1, 2]))
    c = write_jsonl(tmp_path / "c.jsonl", answers("c", [1, 2, 0]))
    records = combine_answers([a, b, c])
    assert [r["question_id"] for r in records] == [2, 0, 1]
    assert records[0] == {
        "question_id": 2,
        "score": [{"logprobs": -1.5}, None, None],
        "question_body": "Q2",
        "answer1_body": "a2",
        "answer2_body": "b2",
        "answer3_body": "c2",
        "answer1_model_id": "m1",
        "answer2_model_id": None,
        "answer3_model_id": None,
        "answer1_metadata": {"decoding_method": "greedy"},
        "answer2_metadata": {"decoding_method": None},
        "answer3_metadata": {"decoding_method": None},
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (answers("b", [0]), r"b.jsonl has no answer for question_id 1 \(needed by .*a.jsonl:2\)"),
        (answers("b", [0, 1, 2]), r"a.jsonl has no answer for question_id 2 \(needed by .*b.jsonl:3\)"),
        (answers("b", [0, 1, 1]), r"b.jsonl:3: question_id 1 stands already in line 2"),
        ([{**r, "question_body": "?"} for r in answers("b", [0, 1])], r"b.jsonl:1: question_body differs"),
        ([{"question_id": 0, "question_body": "Q0"}, *answers("b", [1])], r"b.jsonl:1: field 'text' is missing"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    a = write_jsonl(tmp_path / "a.jsonl", answers("a", [0, 1]))
    b = write_jsonl(tmp_path / "b.jsonl", rows)
    with pytest.raises(InputError, match=message):
        combine_answers([a, b])


def test_judgelm_script_writes_to_the_published_place(run: Any, tmp_path: Path) -> None:
    a = write_jsonl(tmp_path / "answers" / "a.jsonl", answers("a", [0, 1]))
    b = write_jsonl(tmp_path / "answers" / "b.jsonl", answers("b", [0, 1]))
    script = "judgelm/data/JudgeLM/judgelm_preprocess.py"
    result = run(script, "--ans1_file_path", a, "--ans2_file_path", b, "--ansmore_file_paths", a, b)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "judgelm-val-5k-judge-samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["answer4_body"] for line in lines] == ["b0", "b1"]


def test_linked_files_write_beside_the_links(tmp_path: Path) -> None:
    real = write_jsonl(tmp_path / "blobs" / "x" / "a.jsonl", answers("a", [0]))
    (tmp_path / "data" / "answers").mkdir(parents=True)
    (tmp_path / "data" / "answers" / "a.jsonl").symlink_to(real)
    link = tmp_path / "data" / "answers" / "a.jsonl"
    assert write_judgelm_samples([link, link]) == tmp_path / "data" / "judgelm-val-5k-judge-samples.jsonl"


TRUTH = {
    "v1_0": {"imagename": "v1_0.png", "question": "Q0", "answer": "x", "imagesource": "s", "capability": ["ocr"]},
    "v1_1": {"imagename": "v1_1.png", "question": "Q1", "answer": "y<AND>z", "imagesource": "s", "capability": []},
}


def test_mmvet_script_writes_beside_the_truth(run: Any, tmp_path: Path) -> None:
    truth, predictions = tmp_path / "mm-vet.json", tmp_path / "p.json"
    truth.write_text(json.dumps(TRUTH))
    predictions.write_text(json.dumps({"v1_1": "p1", "v1_0": "p0"}))
    script = "judgelm/data/MM-Vet/mmvet_preprocess.py"
    result = run(script, "--gt_file_path", truth, "--pred_file_path", predictions)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "mm-vet-judge-samples.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {**TRUTH["v1_0"], "answer1_body": "p0", "question_id": 0},
        {**TRUTH["v1_1"], "answer1_body": "p1", "question_id": 1},
    ]


def test_mmvet_prediction_that_is_missing_is_named(tmp_path: Path) -> None:
    truth, predictions = tmp_path / "t.json", tmp_path / "p.json"
    truth.write_text(json.dumps(TRUTH))
    predictions.write_text(json.dumps({"v1_0": "p0"}))
    with pytest.raises(InputError, match="no text for v1_1"):
        combine_mmvet(truth, predictions)


def test_answers_that_json_holds_as_no_text_are_their_text(tmp_path: Path) -> None:
    a = write_jsonl(tmp_path / "a.jsonl", [{"question_id": 1.0, "question_body": "Q", "text": True}])
    b = tmp_path / "b.json"
    b.write_text(json.dumps([{"question_id": 1, "question_body": "Q", "text": 4}]))
    (record,) = combine_answers([a, b])
    assert (record["answer1_body"], record["answer2_body"]) == ("True", "4")
    truth, predictions = tmp_path / "t.json", tmp_path / "p.json"
    truth.write_text(json.dumps({"v1_0": {"question": "Q", "answer": 7}}))
    predictions.write_text(json.dumps({"v1_0": False}))
    assert combine_mmvet(truth, predictions) == [
        {"question": "Q", "answer": "7", "answer1_body": "False", "question_id": 0}
    ]
    for text, message in (('{"v1_0": null}', "no text for v1_0"), ('{"v1_0": NaN}', "NaN is not a finite number")):
        predictions.write_text(text)
        with pytest.raises(InputError, match=message):
            combine_mmvet(truth, predictions)
