"""Answer files of an arena, as this project and others write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl

from judgelm.errors import InputError
from judgelm.ranking import make_pairs


def test_answers_as_alpaca_eval_writes_them_are_joined_by_their_questions(tmp_path: Path) -> None:
    asked = ["Name a colour.", "Name a fruit.", "Name a colour."]
    paths = []
    for model, order in (("m1", (0, 1, 2)), ("m2", (1, 0, 2))):
        rows = [{"instruction": asked[k], "output": f"{model} {k}", "generator": model, "dataset": "d"} for k in order]
        paths.append(tmp_path / f"{model}.json")
        paths[-1].write_text(json.dumps(rows, indent=1))
    records = make_pairs([str(path) for path in paths])
    assert [(r["question_body"], r["answer1_body"], r["answer2_body"]) for r in records] == [
        (asked[k], f"m1 {k}", f"m2 {k}") for k in range(3)
    ]
    assert {(r["answer1_model_id"], r["answer2_model_id"]) for r in records} == {("m1", "m2")}
    ids = [r["question_id"] for r in records]
    assert ids[2] == ids[0].replace("/", "-2/")
    turned = make_pairs([str(path) for path in paths[::-1]])
    assert {r["question_id"] for r in turned} == set(ids)
    odd = [{"instruction": "Name a tree.", "output": True, "generator": 3}]
    (tmp_path / "m3.json").write_text(json.dumps(odd))
    with pytest.raises(InputError, match=r"m3.json has no answer for question_id [0-9a-f]{12} \(needed by .*m1.json:1"):
        make_pairs([str(paths[0]), str(tmp_path / "m3.json")])


def test_a_question_file_in_place_of_answers_is_told_by_its_fields(tmp_path: Path) -> None:
    answers = write_jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "question_body": "Q?", "text": "a"}])
    asked = write_jsonl(tmp_path / "q.jsonl", [{"question_id": 7, "question_body": "R?", "answer1_body": "b"}])
    with pytest.raises(InputError, match=r"q\.jsonl:1: field 'text' is missing"):
        make_pairs([str(answers), str(asked)])


def arena_hard(model: str, number: int, answer: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Question {number}?"}
    return {"uid": f"u{number}", "model": model, "messages": [asked, {"role": "assistant", "content": answer}]}


def test_answers_as_arena_hard_writes_them_are_read_and_mt_benchs_lack_the_questions(tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "1.jsonl", [arena_hard("m1", k, {"answer": f"a{k}"}) for k in range(2)])
    other = write_jsonl(tmp_path / "2.jsonl", [arena_hard("m2", k, f"b{k}") for k in range(2)])
    records = make_pairs([str(one), str(other)])
    assert [(r["question_id"], r["question_body"], r["answer1_body"], r["answer2_body"]) for r in records] == [
        (f"u{k}/1-2", f"Question {k}?", f"a{k}", f"b{k}") for k in range(2)
    ]
    talk = arena_hard("m2", 0, "b")
    for messages in ([], [7, 8], talk["messages"] * 2, talk["messages"][::-1], "text"):
        with pytest.raises(InputError, match=r"2.jsonl:1: .*messages"):
            make_pairs([str(one), str(write_jsonl(other, [talk | {"messages": messages}]))])
    rows = [{"question_id": 81, "model_id": "m2", "choices": [{"index": 0, "turns": ["One.", "Two."]}]}]
    with pytest.raises(InputError, match=r"2.jsonl:1: field 'question_body' is missing: MT-bench .* --question-file"):
        make_pairs([str(one), str(write_jsonl(other, rows))])


def test_a_file_of_questions_may_be_arena_hards_or_ours(tmp_path: Path) -> None:
    """Its own answers hold their questions; its older ones, without them, take any of the two."""
    whole = [write_jsonl(tmp_path / f"{model}.jsonl", [arena_hard(model, 0, "a")]) for model in ("m1", "m2")]
    asked = write_jsonl(tmp_path / "question.jsonl", [{"uid": "u0", "category": "hard", "prompt": "Asked?"}])
    (record,) = make_pairs(whole, question_file=asked)
    assert record["question_body"] == "Question 0?"
    row: dict[str, Any] = {"question_id": "u0", "choices": [{"turns": [{"content": "b"}]}]}
    older = [write_jsonl(tmp_path / f"older-{model}.jsonl", [row | {"model_id": model}]) for model in ("m1", "m2")]
    (record,) = make_pairs(older, question_file=asked)
    assert (record["question_body"], record["answer2_body"]) == ("Asked?", "b")
    ours = write_jsonl(tmp_path / "ours.jsonl", [{"question_id": "u0", "question_body": "Ours?"}])
    assert make_pairs(older, question_file=ours)[0]["question_body"] == "Ours?"
    for odd, wrong in (({"uid": [1], "prompt": "Q"}, "'uid'"), ({"uid": "u0", "prompt": [7]}, "'prompt'")):
        write_jsonl(asked, [odd])
        with pytest.raises(InputError, match=rf"question.jsonl:1: field {wrong}"):
            make_pairs(older, question_file=asked)


@pytest.mark.parametrize("old", [False, True], ids=["MT-bench", "Arena-Hard's older form"])
def test_answers_as_mt_bench_writes_them_are_read_with_their_questions(tmp_path: Path, old: bool) -> None:
    def turns(*texts: str) -> list[Any]:
        return [{"content": text, "token_len": 2} for text in texts] if old else list(texts)

    paths = []
    for model in ("m1", "m2"):
        rows = [
            {"question_id": k, "model_id": model, "choices": [{"index": 0, "turns": turns(f"{model} {k}", "more")}]}
            for k in (82, 81)
        ]
        paths.append(write_jsonl(tmp_path / f"{model}.jsonl", rows))
    asked = [{"question_id": k, "category": "writing", "turns": turns(f"Question {k}?", "And?")} for k in (81, 82)]
    questions = write_jsonl(tmp_path / "question.jsonl", asked)
    records = make_pairs(paths, question_file=questions)
    assert [(r["question_id"], r["question_body"], r["answer1_body"], r["answer2_body"]) for r in records] == [
        (f"{k}/1-2", f"Question {k}?", f"m1 {k}", f"m2 {k}") for k in (82, 81)
    ]
    assert {(r["answer1_model_id"], r["answer2_model_id"]) for r in records} == {("m1", "m2")}
    with pytest.raises(InputError, match=r"m1.jsonl:1: the file of questions has no question_id 82"):
        make_pairs(paths, question_file=write_jsonl(questions, asked[:1]))
    broken: list[list[Any]] = [[], [7], [{"index": 0}], [{"turns": []}], [{"turns": [None]}]]
    for wrong in broken:
        write_jsonl(paths[0], [{"question_id": 81, "model_id": "m1", "choices": wrong}])
        with pytest.raises(InputError, match=r"m1.jsonl:1: .*(choices|turns|content)"):
            make_pairs(paths, question_file=questions)


def test_a_model_may_have_a_number_for_a_name_and_a_packed_file_its_own(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "question_body": "Q", "text": "a"}]
    numbered = write_jsonl(tmp_path / "1.jsonl", [{**row, "model": 7} for row in rows])
    packed = tmp_path / "m2.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(rows[0]).encode()))
    (record,) = make_pairs([str(numbered), str(packed)])
    assert (record["answer1_model_id"], record["answer2_model_id"]) == ("7", "m2")
