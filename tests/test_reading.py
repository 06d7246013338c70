from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from conftest import make_samples, write_jsonl

from judgelm import Judge
from judgelm.criteria import Aspect
from judgelm.encoding import EncodedPrompt
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.jsonl import id_order, read_lines, write_lines
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings
from judgelm.sample import Sample
from judgelm.samples import read_samples

ROWS = [sample.to_record() for sample in make_samples(4)]


def references(ids: list[Any]) -> list[dict[str, Any]]:
    return [{"question_id": k, "reference": {"text": f"R{k}"}} for k in ids]


def test_samples_are_read_with_references_by_id(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    by_id = write_jsonl(tmp_path / "r.jsonl", references([3, 1, "0", 2, 99]))
    samples = read_samples(questions, reference_file=by_id)
    assert [s.reference for s in samples] == ["R0", "R1", "R2", "R3"]
    assert [s.reference for s in read_samples(questions)] == [None] * 4
    assert [s.key for s in read_samples(questions, begin=1, end=3)] == ["1", "2"]


def test_references_without_any_id_are_matched_by_line(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    old = write_jsonl(tmp_path / "r.jsonl", [{"reference": {"text": f"line {k}"}} for k in range(4)])
    assert [s.reference for s in read_samples(questions, reference_file=old, begin=2)] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (references([0, 1, 2]), r"r.jsonl has no reference for question_id 3 \(needed by .*q.jsonl:4\)"),
        (references([0, 1, 2, 2]), r"r.jsonl:4: question_id 2 stands already in line 3"),
        ([*references([0, 1, 2]), {"reference": {"text": "x"}}], r"r.jsonl:4: field 'question_id' is missing"),
        ([{"reference": {"text": "x"}}] * 3, r"r.jsonl has no reference for question_id 3"),
        (
            [*references([1, 2, 3]), {"question_id": 0, "reference": "x"}],
            r"r.jsonl:4: field 'reference' must be {.text.: ..}, found",
        ),
        ([*references([1, 2, 3]), {"question_id": 0, "reference": {}}], r"r.jsonl:4: field 'text' is missing"),
    ],
)
def test_references_that_do_not_fit_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    with pytest.raises(InputError, match=message):
        read_samples(questions, reference_file=write_jsonl(tmp_path / "r.jsonl", rows))


def test_what_is_wrong_with_a_row_is_said_before_the_reference_that_it_lacks(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [ROWS[0], {"question_id": 9, "question_body": "Q"}])
    with pytest.raises(InputError, match=r"q.jsonl:2: field 'answer1_body' is missing"):
        read_samples(questions, reference_file=write_jsonl(tmp_path / "r.jsonl", references([0])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "q.jsonl: the file is empty"),
        (" \n\n", "q.jsonl: the file is empty"),
        (json.dumps(ROWS[0]) + "\n{broken", r"q.jsonl:2: not JSON \(Expecting property name.* at column 2\)"),
        ("[1]", "q.jsonl:1: expected a JSON object, found int"),
        ("7", "q.jsonl:1: expected a JSON object, found int"),
        ('{"question_id": 1}', r"q.jsonl:1: field 'question_body' is missing \(found: question_id\)"),
        ('{"question_body": "Q"}', "q.jsonl:1: field 'question_id' is missing"),
        ('{"question_id": true}', "q.jsonl:1: field 'question_id' must be int or str, found bool"),
        ('{"question_id": 1.5}', "q.jsonl:1: field 'question_id' must be int or str, found float"),
        (
            '{"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": null}',
            "q.jsonl:1: field 'answer2_body' must be str, found NoneType",
        ),
        (
            '{"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "\\ud800"}',
            "q.jsonl:1: answer 2 has half a surrogate pair",
        ),
        ("[" * 100_000, "q.jsonl:1: not JSON"),
    ],
)
def test_bad_question_files_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_samples(path)


def test_other_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_samples(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes('{"a": "é"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.jsonl:1: not UTF-8 \(byte 8"):
        list(read_lines(tmp_path / "latin.jsonl"))
    with pytest.raises(InputError, match="unknown task 'triple', expected one of pair, single, multi, mmvet"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", ROWS), "triple")
    with pytest.raises(InputError, match="question_id 0 stands already in line 1"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", [ROWS[0], {**ROWS[1], "question_id": "0"}]))
    with pytest.raises(InputError, match="no rows left of 4"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", ROWS), begin=9)


def test_multi_takes_the_answers_asked_for(tmp_path: Path) -> None:
    many = [{**ROWS[0], "answer3_body": "c", "answer4_body": "d"}, ROWS[1]]
    questions = write_jsonl(tmp_path / "q.jsonl", many)
    assert [len(s.answers) for s in read_samples(questions, "multi")] == [4, 2]
    with pytest.raises(InputError, match=r"q.jsonl:2: 4 answers asked for, found 2 \(answer3_body is missing\)"):
        read_samples(questions, "multi", num_answers=4)
    with pytest.raises(InputError, match=r"q.jsonl:1: a judge takes 2 to 10 answers, found 11"):
        read_samples(questions, "multi", num_answers=11)


def test_byte_order_mark_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode() + b"\r\n\r\n" + json.dumps(ROWS[1]).encode())
    assert [s.key for s in read_samples(path)] == ["0", "1"]


def test_ids_sort_by_number_then_text() -> None:
    assert sorted(["10", "9", "b", "-1", "a"], key=id_order) == ["-1", "9", "10", "a", "b"]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    write_lines(path, [{"a": "é\u2028"}])
    assert path.read_text(encoding="utf-8") == '{"a": "é\u2028"}\n'
    assert [line.record for line in read_lines(path)] == [{"a": "é\u2028"}]

    def failing() -> Any:
        yield {"a": 1}
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_lines(path, failing())
    assert path.read_text(encoding="utf-8") == '{"a": "é\u2028"}\n'
    assert list(path.parent.iterdir()) == [path]


def test_a_large_file_is_read_and_written_without_holding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgelm.samples._HELD", 30_000_000)
    monkeypatch.setattr("judgelm.judge.judge._WINDOW", 128)
    row = {"question_body": "Q", "answer1_body": "word " * 2000, "answer2_body": "word " * 2000}
    path = write_jsonl(tmp_path / "q.jsonl", [{"question_id": k, **row} for k in range(1500)])
    assert path.stat().st_size > 30_000_000

    class Short:
        """An engine that answers at once."""

        def __init__(self) -> None:
            self.description, self.block = {"engine": "short"}, 64

        def fit(
            self, sample: Sample, task: str, max_new_tokens: int, aspect: Aspect | None = None, form: Any = None
        ) -> EncodedPrompt:
            return EncodedPrompt(sample.question, [], None)

        def generate(self, requests: Any, sampling: Any, **_: Any) -> Any:
            for request in requests:
                yield Generation(request.key, "8 7", 1, 1, "stop")

    tracemalloc.start()
    samples = read_samples(path)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    assert (len(samples), samples[1499].question_id, len(samples[10:20])) == (1500, 1499, 10)
    files = RunFiles.in_folder(tmp_path, ("forward",))
    settings = JudgeSettings(scores_only=True)
    found = run_judge(lambda: Judge(Short()), samples, settings, files, {}, "m")["forward"]  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()
    assert found.counts["total"] == len(found.lines) == 1500
    assert [record["question_id"] for record in found.first(3)] == [0, 1, 2]
