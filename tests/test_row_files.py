"""Rows of JSON from any file that holds them, and strict JSON on the way out."""

from __future__ import annotations

import gzip
import json
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import make_samples, write_jsonl

from judgelm.errors import InputError
from judgelm.evaluation.results import read_files
from judgelm.files import write_text
from judgelm.jsonl import LineFile, dump_json, dump_line, read_json, read_lines
from judgelm.sample import Sample
from judgelm.samples import read_samples

ROWS = [sample.to_record() for sample in make_samples(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
LIST, PRETTY = json.dumps(ROWS), json.dumps(ROWS, indent=1)
FORMS: dict[str, bytes] = {
    "a list": LIST.encode(),
    "a list over many lines": PRETTY.encode(),
    "a list after a byte order mark": b"\xef\xbb\xbf" + PRETTY.encode(),
    "a list with Windows lines": PRETTY.replace("\n", "\r\n").encode(),
    "objects over many lines": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "a list under a name": json.dumps({"version": 1, "data": ROWS}).encode(),
    "a list under a name over many lines": json.dumps({"rows": ROWS}, indent=1).encode(),
    "packed lines": gzip.compress(LINES.encode()),
    "a packed list": gzip.compress(PRETTY.encode()),
    "lines without a last newline": LINES.strip().encode(),
    "blank lines first": b"\n \n" + LINES.encode(),
    "blank lines before a list": b"\n \n" + PRETTY.encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["q.jsonl", "q.JSON", "q.gz"])
def test_rows_are_read_whatever_file_they_stand_in(tmp_path: Path, form: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[form])
    samples = read_samples(path)
    assert [sample.to_record() for sample in samples] == ROWS
    assert [sample.key for sample in samples[1:]] == ["1", "2"]
    references = tmp_path / "references"
    pairs = [{"question_id": k, "reference": {"text": f"R{k}"}} for k in range(3)]
    references.write_text(json.dumps(pairs, indent=1))
    assert [sample.reference for sample in read_samples(path, reference_file=references)] == ["R0", "R1", "R2"]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(ROWS[0], indent=1))
    assert [line.record for line in read_lines(path)] == ROWS[:1]
    path.write_text(json.dumps({**ROWS[0], "data": [{"a": 1}]}))
    assert len(LineFile(path)) == 1


def test_a_line_separator_of_unicode_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"a": "x\u2028y\x85z"}, ensure_ascii=False) + "\n" for _ in range(2)), "utf-8")
    assert [line.record["a"] for line in read_lines(path)] == ["x\u2028y\x85z"] * 2


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(FORMS["packed lines"],))
    writer.start()
    lines = LineFile(pipe)
    writer.join()
    assert [line.record for line in lines] == ROWS
    assert lines[2].record == ROWS[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "q.json: the list is empty, expected JSON objects"),
        (b"[\n" + json.dumps(ROWS[0]).encode() + b",\n7]", "q.json:2: expected a JSON object, found int"),
        (PRETTY[:-9].encode(), r"q.json:\d+: not JSON"),
        (b'[\n {"a": 1},\n {"b" 2}\n]', r"q.json:3: not JSON \(Expecting ':' delimiter at column 7\)"),
        ('[\n"é"]'.encode("latin-1"), "q.json:2: not UTF-8"),
        (b"[" * 100_000, "q.json:1: not JSON that can be read"),
        (b"[" + b"1" * 5000 + b"]", "q.json:1: not JSON that can be read"),
        (gzip.compress(LINES.encode())[:-9], "q.json: not a whole gzip file"),
        (b"\x1f\x8b not packed", "q.json: not a whole gzip file"),
        (b'{"a": [1,\n2', r"q.json:2: not JSON"),
        (b"a,b\n1,2\n", "q.json:1: not JSON"),
        (b"[{},\n[NaN", "q.json:2: not JSON"),
        (b"<html>", "q.json:1: not JSON"),
    ],
    # a packed file holds the second in which it was packed
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_a_file_without_rows_ends_in_one_line_that_names_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "q.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_lines(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("form", ["{0}\n{1}\n", "[{0}, {1}]", "[\n{0},\n{1}\n]"])
def test_a_number_that_json_does_not_know_is_refused_with_its_row(tmp_path: Path, number: str, form: str) -> None:
    rows = json.dumps({**ROWS[0], "score": 1.5}), json.dumps(ROWS[1])[:-1] + f', "score": [{number}, 1]}}'
    path = tmp_path / "q.json"
    path.write_text(form.format(*rows))
    with pytest.raises(InputError, match=rf"q.json:2: {number} is not a finite number"):
        read_samples(path)
    assert read_lines(path).__next__().record["score"] == 1.5


def test_judgements_of_older_versions_may_hold_such_a_number_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "forward.jsonl"
    row = json.dumps({**ROWS[0], "pred_text": "8 7", "label": 1})
    path.write_text(row[:-1] + ', "score": NaN, "tstamp": Infinity}\n')
    (sample,) = read_files(path)
    assert sample.forward is not None
    assert sample.forward.scores == (8.0, 7.0)
    (line,) = LineFile(path, finite=False)
    assert (line.record["score"], line.record["tstamp"]) == (None, None)
    assert read_json(path)["score"] is None


def test_what_is_written_is_strict_json(tmp_path: Path) -> None:
    record = {"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))], "c": {"d": float("nan")}, "e": "é\ud800"}

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    for text in (dump_line(record), dump_json(record), dump_json(record, indent=2)):
        write_text(tmp_path / "out.json", text)
        read = json.loads((tmp_path / "out.json").read_text("utf-8"), parse_constant=refuse)
        assert read == {"a": None, "b": [None, [1.5, None]], "c": {"d": None}, "e": "é\ud800"}
    assert dump_line({"a": 1.5}) == '{"a": 1.5}\n'


@pytest.mark.parametrize(("value", "text"), [(True, "True"), (False, "False"), (7, "7"), (1.5, "1.5")])
def test_true_false_and_numbers_are_their_text(tmp_path: Path, value: Any, text: str) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{**ROWS[0], "question_body": value, "answer2_body": value}])
    (sample,) = read_samples(path)
    assert (sample.question, sample.answers[1]) == (text, text)
    assert sample.to_record()["answer2_body"] == text
    path = write_jsonl(
        tmp_path / "m.jsonl", [{"question_id": 1, "question": "Q", "answer": value, "answer1_body": value}]
    )
    assert read_samples(path, "mmvet")[0].answers == (text, text)


def test_a_whole_number_with_a_point_is_the_same_id(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{**ROWS[1], "question_id": 17.0}])
    references = write_jsonl(tmp_path / "r.jsonl", [{"question_id": "17", "reference": {"text": 4}}])
    (sample,) = read_samples(path, reference_file=references)
    assert (sample.question_id, sample.key, sample.reference) == (17, "17", "4")
    assert dump_line(sample.to_record()).startswith('{"question_id": 17, ')
    double = write_jsonl(tmp_path / "d.jsonl", [ROWS[1], {**ROWS[1], "question_id": 1.0}])
    with pytest.raises(InputError, match=r"d.jsonl:2: question_id 1 stands already in line 1"):
        read_samples(double)


def test_an_id_with_half_a_surrogate_pair_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "question_id": "\ud800x"}]
    path = write_jsonl(tmp_path / "q.jsonl", rows)
    judged = write_jsonl(tmp_path / "forward.jsonl", [{**row, "pred_text": "8 7"} for row in rows])
    calls: tuple[Callable[[], Any], ...] = (lambda: read_samples(path), lambda: read_files(judged))
    for call, name in zip(calls, ("q", "forward"), strict=True):
        with pytest.raises(InputError, match=rf"{name}.jsonl:2: field 'question_id' has half a surrogate pair"):
            call()


def test_a_packed_file_is_not_held_in_memory_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("judgelm.samples._HELD", 0)
    path = tmp_path / "q.jsonl.gz"
    row = {"question_body": "Q", "answer1_body": "word " * 2000, "answer2_body": "word " * 2000}
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(json.dumps({"question_id": k, **row}) + "\n" for k in range(1000))
    tracemalloc.start()
    samples = read_samples(path)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert (len(samples), samples[999].question_id) == (1000, 999)
    assert list(tmp_path.iterdir()) == [path]


def test_a_packed_file_that_grows_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgelm.files._MOST_UNPACKED", 5 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b" " * (30 << 20)))
    with pytest.raises(InputError, match=r"bomb.gz: holds more than 5 MiB unpacked"):
        LineFile(path)


def test_parquet_is_read_by_its_content_and_as_json_knows_it(tmp_path: Path) -> None:
    from datetime import datetime

    from pyarrow import Table, parquet

    path = tmp_path / "table"
    parquet.write_table(Table.from_pylist([{"a": 1, "t": datetime(2026, 1, 2), "x": float("nan")}]), path)
    (line,) = LineFile(path)
    assert (line.record, line.where) == ({"a": 1, "t": "2026-01-02 00:00:00", "x": None}, f"{path}:1")
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="table: cannot be read as Parquet"):
        LineFile(path)


def test_a_sample_made_in_python_is_as_it_was() -> None:
    sample = Sample(1, "Q", ("a", "b"))
    assert sample.to_record() == {"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "b"}
