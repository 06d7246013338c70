"""Rows written in any format are read again as they were; rows of others are written as ours."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import run_command

from judgelm.answers import read_answers
from judgelm.conversion import convert
from judgelm.errors import InputError
from judgelm.exports import FORMATS, write_rows
from judgelm.forms import Columns, open_rows
from judgelm.jsonl import LineFile, Record
from judgelm.samples import read_samples
from judgelm.train.sample import TrainingSample

TABLES = ("csv", "tsv")
NAMES = [f"{name}{packed}" for name in FORMATS for packed in ("", ".gz")]
HOSTILE = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''@", "'", "'7"),
    *("7", "007", "[1]", "{", "", "true", "null"),
)
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec="utf-8"), max_size=8))
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


@pytest.fixture(scope="module", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Hundreds of small files need not survive a power failure."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda _: None)
        yield


@st.composite
def tables(draw: st.DrawFn) -> list[Record]:
    """Rows that all have the same fields, of which some are of many kinds."""
    ids = draw(st.lists(st.one_of(st.integers(), texts), min_size=1, max_size=5, unique_by=str))
    names = draw(st.sets(st.sampled_from(("note", "score", "=odd", "label", "meta", "model", "'x")), max_size=4))
    return [
        {
            "question_id": key,
            **{name: draw(texts) for name in ("question_body", "answer1_body", "answer2_body")},
            "reference": draw(st.one_of(st.none(), st.builds(lambda text: {"text": text}, texts))),
            **{name: draw(values) for name in sorted(names)},
        }
        for key in ids
    ]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(rows=tables())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[Record]) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{name}"
    assert set(write_rows(path, lambda: rows)) == set(rows[0])
    read = [line.record for line in LineFile(path)]
    assert read == rows
    again = path.with_name(f"again.{name}")
    convert(path, again)
    assert again.read_bytes() == path.read_bytes()


def cells_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("ending", TABLES)
@settings(max_examples=30)
@given(rows=tables())
def test_no_cell_is_a_formula(tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[Record]) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    write_rows(path, lambda: rows)
    for cell in (cell for cells in cells_of(path) for cell in cells if cell[:1] in tuple("=+-@\t\r")):
        assert math.isfinite(float(cell)), cell


def test_each_kind_of_value_has_a_column_of_its_type(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = [
        {
            "question_id": 1,
            "scores": [8, 9],
            "whole": 1,
            "part": 1,
            "on": True,
            "mixed": 1,
            "list": [1, "a"],
            "none": None,
            "big": 2**70,
        },
        {
            "question_id": 2,
            "scores": [7.5, 8],
            "whole": 2**60,
            "part": 0.5,
            "on": None,
            "mixed": "a",
            "list": {"a": None},
            "big": 1,
        },
    ]
    write_rows(tmp_path / "r.parquet", lambda: rows)
    types = {field.name: str(field.type) for field in parquet.read_schema(tmp_path / "r.parquet")}
    assert types == {
        **{"question_id": "int64", "whole": "int64", "part": "double", "on": "bool", "mixed": "string"},
        **{"scores": "list<element: double>", "list": "string", "none": "string", "big": "string"},
    }
    assert [line.record for line in LineFile(tmp_path / "r.parquet")] == [rows[0], {**rows[1], "none": None}]


def test_half_a_surrogate_pair_goes_where_it_can_be_said(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "source": "half \ud83d"}]
    for name in ("r.jsonl", "r.json", "r.parquet"):
        write_rows(tmp_path / name, lambda: rows)
        assert [line.record for line in LineFile(tmp_path / name)] == rows
    with pytest.raises(InputError, match=r"field 'source' has half a surrogate pair, which no table can hold"):
        write_rows(tmp_path / "r.csv", lambda: rows)
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize("name", ["q.csv", "q.parquet", "q.jsonl.gz"])
def test_samples_and_training_rows_stay_what_they_are(tmp_path: Path, name: str) -> None:
    rows: list[Record] = [
        {
            **{"question_id": k, "question_body": f"Q{k}", "answer1_body": "4", "answer2_body": text},
            **{"reference": {"text": "=4"}, "text": "8 7\nFine.", "text_w_reference": "7 8", "score": [8, 7.5]},
        }
        for k, text in enumerate(("-5", " 5\n", "'"))
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert convert(source, tmp_path / name).rows == 3
    assert list(read_samples(tmp_path / name)) == list(read_samples(source))
    assert [TrainingSample.from_line(line).reference for line in LineFile(tmp_path / name)] == ["=4"] * 3


def test_rows_with_fewer_answers_are_refused_where_a_cell_could_not_say_so(tmp_path: Path) -> None:
    rows = [
        {"question_id": k, "question_body": "Q", **{f"answer{j}_body": "a" for j in range(1, 3 + k)}} for k in (0, 1)
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=r"q.csv: 1 of 2 rows have no answer3_body, which in a cell would be an empty"):
        convert(source, tmp_path / "q.csv")
    assert not list(tmp_path.glob("q.csv*"))
    convert(source, tmp_path / "q.parquet")
    assert [len(sample.answers) for sample in read_samples(tmp_path / "q.parquet", "multi")] == [2, 3]


def test_rows_of_others_are_written_as_ours_and_dialogues_with_tools_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]

    votes = [
        {"model_a": "x", "model_b": "y", "winner": "tie", "conversation_a": said(*a), "conversation_b": said(*b)}
        for a, b in ((("Q1", "a"), ("Q1", "b")), (("Q2", "a", "Q3", "c"), ("Q2", "b", "Q3", "d")))
    ]
    tools = {**votes[1], "conversation_a": [*said("Q4"), {"role": "tool", "content": "{}"}]}
    source, target = write_jsonl(tmp_path / "votes.jsonl", [*votes, tools]), tmp_path / "out" / "pairs.csv"
    assert run_command(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("took 2 of 3 rows, read as model_a, model_b, winner, conversation_a, conversation_b: ")
    assert printed[1].startswith(f"left out 1 dialogues with tools or parts of other kinds, the first one {source}:3")
    assert printed[2:] == [
        "fields: question_id, question_body, answer1_body, answer2_body, answer1_model_id, answer2_model_id, label,"
        " conversation1, conversation2",
        f"written to {target}",
    ]
    sample, talks = read_samples(target)
    assert (sample.key, sample.question, sample.answers, sample.record["label"]) == ("1", "Q1", ("a", "b"), 0)
    assert sample.dialogue is None
    assert [talks.record[f"conversation{k}"] for k in (1, 2)] == [votes[1][f"conversation_{side}"] for side in "ab"]
    with pytest.raises(InputError, match=r"only.jsonl: all 1 rows are dialogues with tools or parts of other kinds"):
        convert(write_jsonl(tmp_path / "only.jsonl", [tools]), tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_named_columns_and_answer_files_of_others_become_ours(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Q", "good": "a", "bad": "b", "best": "A", "more": 1}])
    columns = Columns.parse("question=prompt,answer1=good,answer2=bad,label=best")
    convert(source, tmp_path / "a.json", columns)
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"question_id": 1, "more": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "b", "label": 1}
    ]
    alpaca = [{"instruction": "Q", "output": text, "generator": "m"} for text in "ab"]
    source = write_jsonl(tmp_path / "b.jsonl", alpaca)
    assert convert(source, tmp_path / "b.tsv").form == "an answer file of others"
    assert [line.record for line in open_rows(tmp_path / "b.tsv")] == [line.record for line in read_answers(source)]
    bench = write_jsonl(tmp_path / "c.jsonl", [{"question_id": 1, "model_id": "m", "choices": [{"turns": ["a", "b"]}]}])
    questions = write_jsonl(tmp_path / "d.jsonl", [{"question_id": 1, "turns": ["Q", "R"]}])
    with pytest.raises(InputError, match="which --question-file names"):
        convert(bench, tmp_path / "c.csv")
    convert(bench, tmp_path / "c.csv", question_file=questions)
    (line,) = LineFile(tmp_path / "c.csv")
    assert line.record == {"question_id": 1, "question_body": "Q", "text": "a", "model": "m"}


def test_what_cannot_be_converted_ends_in_one_line_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [{"question_id": 1, "a": 1}, {"question_id": "1"}])
    before = source.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(source)
    for target, message in (
        (source, f"{source} is the file that is read: name another one"),
        (tmp_path / "link.jsonl", "is the file that is read"),
        (
            tmp_path / "rows.xlsx",
            "expected a name that ends in .jsonl, .json, .csv, .tsv, .parquet, or in one of",
        ),
        (tmp_path / "new.csv", "rows.jsonl:2: question_id 1 stands already in line 1"),
    ):
        assert run_command(["convert", str(source), str(target)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert message in said
    assert source.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.jsonl", "rows.jsonl"]
    old = tmp_path / "old.csv.gz"
    old.write_bytes(b"before")
    convert(write_jsonl(tmp_path / "good.jsonl", [{"question_id": 17.0}]), old)
    assert gzip.decompress(old.read_bytes()) == b"question_id\r\n17\r\n"


def test_a_cell_of_json_that_is_none_is_one_line(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    field = pyarrow.field("x", pyarrow.string(), metadata={"judgelm": "json"})
    for text, said in (("[1", "cannot be read as Parquet"), ("[" * 200 + "]" * 200, "nested too deeply")):
        table = pyarrow.Table.from_arrays([pyarrow.array([text])], schema=pyarrow.schema([field]))
        parquet.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(InputError, match=said):
            LineFile(tmp_path / "x.parquet")
