"""Question files that were edited: what was judged of rows that are the same is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_jsonl
from judged_rows import Engine, contents, edit, interrupted, judge, records_of, rows

from judgelm.errors import InputError
from judgelm.files import hash_file
from judgelm.judge.settings import Order
from judgelm.samples import read_samples


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "q.jsonl", rows())


@pytest.fixture
def done(questions: Path, tmp_path: Path) -> Path:
    """A folder in which five samples were judged."""
    judge(questions, tmp_path / "done")
    return tmp_path / "done"


def test_an_edited_question_file_keeps_what_was_judged_of_the_rows_that_are_the_same(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    both: tuple[Order, ...] = ("forward", "reversed")
    assert len(judge(questions, output, orders=both)) == 10
    before = {order: {r["question_id"]: r for r in records_of(output / f"{order}.jsonl")} for order in both}
    edit(questions)
    untouched = contents(output)
    with pytest.raises(InputError, match="--keep-judged keeps the 6 of 10 judgements whose samples are unchanged"):
        judge(questions, output, orders=both)
    assert contents(output) == untouched
    asked = judge(questions, output, orders=both, keep=True)
    assert asked == ["forward 2", "forward 5", "reversed 2", "reversed 5"]
    assert "judgements kept: 6, left out: 4" in capsys.readouterr().err
    for order in both:
        now = {r["question_id"]: r for r in records_of(output / f"{order}.jsonl")}
        assert list(now) == [0, 2, 3, 4, 5]
        assert (now[0], now[4]) == (before[order][0], before[order][4])
        assert now[3] == before[order][3] | {"source": "corrected"}
        assert list(now[3]) == list(before[order][3])
        assert now[2]["pred_id"] != before[order][2]["pred_id"]
        left = {r["question_id"]: r for r in records_of(output / f"{order}.jsonl.left-out")}
        assert left == {1: before[order][1], 2: before[order][2]}
        assert not (output / f"{order}.jsonl.partial").exists()
    run = json.loads((output / "run.json").read_text())
    assert (run["sessions"][-1]["kept"], run["sessions"][-1]["left_out"], run["sessions"][-1]["judged"]) == (6, 4, 4)
    assert run["settings"]["question_file_sha256"] == hash_file(questions)
    assert {order: counts["total"] for order, counts in run["counts"].items()} == {"forward": 5, "reversed": 5}
    assert judge(questions, output, orders=both) == []


def test_the_order_that_is_not_judged_now_is_sorted_out_too(questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    judge(questions, output, orders=("forward", "reversed"))
    edit(questions)
    assert judge(questions, output, keep=True) == ["forward 2", "forward 5"]
    assert [r["question_id"] for r in records_of(output / "reversed.jsonl.partial")] == [0, 3, 4]
    assert set(json.loads((output / "run.json").read_text())["counts"]) == {"forward"}
    assert judge(questions, output, orders=("reversed",)) == ["reversed 2", "reversed 5"]


def test_a_run_that_was_killed_keeps_its_judgements_of_an_edited_file(questions: Path, done: Path) -> None:
    partial = interrupted(done, lambda records: records.pop(4))
    partial.write_bytes(partial.read_bytes() + b'{"question_id": 4, "ques')
    edit(questions)
    assert judge(questions, done, keep=True) == ["forward 2", "forward 4", "forward 5"]


def test_what_was_left_out_before_stays_there(questions: Path, done: Path) -> None:
    for name in ("first", "second"):
        records = rows()
        records[0]["answer1_body"] = name
        write_jsonl(questions, records)
        assert judge(questions, done, keep=True) == ["forward 0"]
    left = records_of(done / "forward.jsonl.left-out")
    assert [r["answer1_body"] for r in left] == [rows()[0]["answer1_body"], "first"]


@pytest.mark.parametrize("keep", [False, True])
def test_other_settings_are_refused_whatever_is_kept(keep: bool, questions: Path, done: Path) -> None:
    edit(questions)
    before = contents(done)
    with pytest.raises(InputError, match="with other settings") as ended:
        judge(questions, done, keep=keep, dtype="float16")
    assert "--keep-judged" not in str(ended.value)
    assert contents(done) == before


def test_the_flag_is_not_named_where_it_would_keep_nothing_or_is_not_there(questions: Path, done: Path) -> None:
    edit(questions)
    with pytest.raises(InputError, match="with other settings") as ended:
        judge(questions, done, keep=None)
    assert "--keep-judged" not in str(ended.value)
    write_jsonl(questions, [{**row, "question_body": "another"} for row in rows()])
    with pytest.raises(InputError, match="with other settings") as ended:
        judge(questions, done)
    assert "--keep-judged" not in str(ended.value)
    assert len(judge(questions, done, keep=True)) == 5
    assert len(records_of(done / "forward.jsonl.left-out")) == 5


def test_another_reference_makes_another_sample(questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    references = [{"question_id": k, "reference": {"text": f"R{k}"}} for k in range(5)]
    file = write_jsonl(tmp_path / "r.jsonl", references)
    judge(questions, output, references=file)
    references[3]["reference"] = {"text": "corrected"}
    write_jsonl(file, references)
    with pytest.raises(InputError, match="--keep-judged keeps the 4 of 5 judgements"):
        judge(questions, output, references=file)
    assert judge(questions, output, references=file, keep=True) == ["forward 3"]
    assert [r["reference"] for r in records_of(output / "forward.jsonl")] == ["R0", "R1", "R2", "corrected", "R4"]
    # with references or without is another judge
    for keep in (False, True):
        with pytest.raises(InputError, match="reference_file_sha256 was '"):
            judge(questions, output, keep=keep)


@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_a_reference_that_rows_bring_along_unshown_is_no_other_sample(order: Order, tmp_path: Path) -> None:
    records = [{**row, "reference": {"text": "R"}, "score": [8, 7]} for row in rows()]
    questions = write_jsonl(tmp_path / "q.jsonl", records)
    judge(questions, tmp_path / "out", orders=(order,))
    for record in records:
        record["reference"] = "another form"
    write_jsonl(questions, records)
    assert judge(questions, tmp_path / "out", orders=(order,), keep=True) == []
    assert {r["reference"] for r in records_of(tmp_path / "out" / f"{order}.jsonl")} == {"another form"}


@pytest.mark.parametrize("task", ["single", "multi", "mmvet"])
def test_every_tasks_samples_are_told_apart(task: str, tmp_path: Path) -> None:
    records = [
        {"question_id": k, "question_body": f"Q{k}", "answer1_body": f"a{k}", "answer2_body": "b", "answer3_body": "c"}
        | {"question": f"Q{k}", "answer": f"x{k}<OR>y{k}"}
        for k in range(4)
    ]
    questions = write_jsonl(tmp_path / "q.jsonl", records)
    judge(questions, tmp_path / "out", task=task)
    records[2]["answer1_body"] = "changed"
    write_jsonl(questions, records)
    assert judge(questions, tmp_path / "out", task=task, keep=True) == ["forward 2"]


def test_a_row_outside_the_limit_keeps_its_judgement(questions: Path, done: Path) -> None:
    edit(questions)
    assert judge(questions, done, keep=True, samples=read_samples(questions)[:1]) == ["forward 5"]
    assert [r["question_id"] for r in records_of(done / "forward.jsonl")] == [0, 3, 4, 5]


def test_a_question_file_edited_while_it_is_judged_ends_the_run_and_keeps_what_was_judged(
    questions: Path, tmp_path: Path
) -> None:
    """In place; an editor that puts another file there leaves the run the one it began with."""
    records = rows(2100)
    write_jsonl(questions, records)
    records[2090]["answer1_body"] = "another"

    def edit_in_the_middle(count: int) -> None:
        if count == 5:
            write_jsonl(questions, records)

    engine = Engine(edit_in_the_middle)
    engine.block = 512
    output = tmp_path / "out"
    with pytest.raises(InputError, match=r"q\.jsonl: the file was changed while it was in use"):
        judge(questions, output, engine=engine)
    assert len(records_of(output / "forward.jsonl.partial")) == len(engine.asked) > 5
    with pytest.raises(InputError, match="--keep-judged keeps the"):
        judge(questions, output)
    assert len(judge(questions, output, keep=True)) == 2100 - len(engine.asked)


def test_a_question_file_that_is_replaced_while_it_is_judged_is_judged_as_it_was(
    questions: Path, tmp_path: Path
) -> None:
    def replace_in_the_middle(count: int) -> None:
        if count == 3:
            write_jsonl(tmp_path / "new", [{**row, "answer1_body": "another"} for row in rows()]).replace(questions)

    judge(questions, tmp_path / "out", engine=Engine(replace_in_the_middle))
    assert [r["answer1_body"] for r in records_of(tmp_path / "out" / "forward.jsonl")] == [
        row["answer1_body"] for row in rows()
    ]


def test_a_file_that_is_written_again_as_it_was_is_the_same(questions: Path, tmp_path: Path) -> None:
    samples = read_samples(questions)
    content = questions.read_bytes()
    questions.unlink()
    questions.write_bytes(content)
    assert len(judge(questions, tmp_path / "out", samples=samples)) == 5
