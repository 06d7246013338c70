"""Tables, and rows of other people's files, as our own rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from judgelm.answers import read_answers
from judgelm.audit.probes import read_sources
from judgelm.dialogue import Dialogue, Turn
from judgelm.errors import InputError
from judgelm.forms import KNOWN_FORMS, AnyForm, Columns
from judgelm.hub import find_file
from judgelm.jsonl import LineFile
from judgelm.judgement import Outcome
from judgelm.ranking import make_pairs
from judgelm.samples import read_samples
from judgelm.tables import read_table

TEXTS = (
    "plain",
    " spaces ",
    "two\nlines\r\nand a return",
    'a "quote", a comma',
    "[1, 2]",
    "007",
    "true",
    "",
    "é漢🙂",
    "=1+1",
)


def write_csv(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "delimiter"), [("q.csv", ","), ("q.TSV", "\t"), ("q.csv.gz", ","), ("q.tsv.gz", "\t")]
)
def test_answers_in_a_table_are_the_text_that_they_are(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [(f"q{k}", text, text, f"other {text}", 7) for k, text in enumerate(TEXTS)]
    head = ("question_id", "question_body", "answer1_body", "answer2_body", "answer1_model_id")
    samples = read_samples(write_csv(tmp_path / name, [head, *rows], delimiter))
    assert [(s.key, s.question, *s.answers, s.record["answer1_model_id"]) for s in samples] == rows


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), min_size=1))
def test_any_text_comes_back_from_a_table(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("question_body", "answer1_body"), *rows])
    table = read_table(io.BytesIO(text.getvalue().encode()), Path("rows.csv"))
    assert table is not None
    assert [tuple(row.values()) for row in table.rows] == rows


def test_numbers_lists_and_objects_in_other_columns_are_what_json_says(tmp_path: Path) -> None:
    cells = {
        "score": "[8, 7.5]",
        "label": "2",
        "meta": '{"a": [1]}',
        "code": "007",
        "word": "true",
        "nothing": "",
        "x": "-1e5",
    }
    (line,) = LineFile(write_csv(tmp_path / "t.csv", [list(cells), list(cells.values())]))
    assert line.record == {
        **{"score": [8, 7.5], "label": 2, "meta": {"a": [1]}, "code": "007"},
        **{"word": "true", "nothing": None, "x": "-1e5"},
    }


def test_an_answer_longer_than_a_cell_of_the_csv_module_is_read_whole(tmp_path: Path) -> None:
    long = "word, " * 200_000
    (sample,) = read_samples(
        write_csv(
            tmp_path / "q.csv", [("question_id", "question_body", "answer1_body", "answer2_body"), (1, "Q", long, "b")]
        )
    )
    assert sample.answers == (long, "b")


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('question_id,question_body,answer1_body,answer2_body\n1,"Q\n\nQ",a,b\n\n,Q,a,b\n')
    assert [line.number for line in LineFile(path)] == [2, 6]
    with pytest.raises(InputError, match=r"q.csv:6: field 'question_id' must be int or str, found NoneType"):
        read_samples(path)
    path.write_text("question_id,question_body,answer1_body,answer2_body\n1,Q,a,b\n2,Q,a\n")
    with pytest.raises(InputError, match=r"q.csv:3: expected 4 cells, as the first line has, found 3"):
        read_samples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "q.csv: the file is empty, expected the names of columns in the first line"),
        (b"a,b\n", "q.csv: the table is empty"),
        (b"a,b,a\n1,2,3\n", "q.csv:1: two columns have the name 'a'"),
        (b'a,b\n1,"two\n', r"q.csv:2: not a table that can be read \(unexpected end of data\)"),
        (b"a\n\xff\n", r"q.csv:2: not UTF-8 \(byte 3 of the file\)"),
        (b"score\n" + b"[" * 200 + b"]" * 200, "q.csv:2: not JSON that can be read .nested too deeply"),
    ],
    ids=["empty", "no row", "a name twice", "an open quote", "another encoding", "too deep"],
)
def test_what_is_no_table_ends_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(LineFile(path))
    assert "\n" not in str(error.value)


def test_parquet_is_judged_like_any_file(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    rows = [{"question_id": k, "question_body": f"Q{k}", "answer1_body": "a", "answer2_body": "b"} for k in range(3)]
    path = tmp_path / "questions.parquet"
    parquet.write_table(Table.from_pylist(rows), path)
    samples = read_samples(path)
    assert [sample.to_record() for sample in samples] == rows
    assert [line.record for line in pickle.loads(pickle.dumps(samples.lines))] == rows


@pytest.mark.parametrize("name", ["q.parquet", "q.csv.gz"])
def test_a_table_that_would_take_all_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from pyarrow import Table, parquet

    monkeypatch.setattr("judgelm.tables._MOST_HELD", 5 << 20)
    path = tmp_path / name
    if name.endswith("parquet"):
        # kilobytes that stand for 100 MB
        parquet.write_table(Table.from_pydict({"question_body": ["word " * 2000] * 10_000}), path)
    else:
        write_csv(path, [("question_body",), *[("word " * 2000,)] * 1000])
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="the table takes more than 5 MiB: JSON Lines of any size can be read"):
        LineFile(path)


NAMED = Columns.parse("question_id=id,question=prompt,answer1=left,answer2=right,reference=gold,label=winner,model1=by")
ROWS = [
    {"id": "x", "prompt": "Q", "left": "a", "right": "b", "gold": "G", "winner": "model_b", "by": "m", "more": 1},
    {"id": 2.0, "prompt": "R", "left": "c", "right": "d", "gold": None, "winner": None, "by": None},
]


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv"])
def test_columns_of_other_names_are_read_and_a_reference_is_shown(tmp_path: Path, name: str) -> None:
    if name.endswith("csv"):
        names = list(ROWS[0])
        path = write_csv(tmp_path / name, [names, *([row.get(each) for each in names] for row in ROWS)])
    else:
        path = write_jsonl(tmp_path / name, ROWS)
    first, second = read_samples(path, columns=NAMED)
    assert (first.key, first.question, first.answers) == ("x", "Q", ("a", "b"))
    assert first.reference == "G"
    assert first.record["label"] == 2
    assert (first.record["answer1_model_id"], first.record["more"]) == ("m", 1)
    assert not {"id", "prompt", "left", "right", "gold", "winner", "by"} & first.record.keys()
    assert (second.key, second.record["label"]) == ("2", None)
    assert second.reference is None
    # an audit has the same label and reference of each
    sources = read_sources(read_samples(path, columns=NAMED), None, "nobody")
    assert [(each.truth and each.truth.outcome, each.sample.reference) for each in sources] == [
        (Outcome.LOSE, "G"),
        (None, None),
    ]


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(["", *(json.dumps({"p": f"Q{k}", "a": "a", "b": "b"}) for k in range(2))]))
    columns = Columns.parse("question=p, answer1=a, answer2=b")
    samples = read_samples(path, columns=columns)
    assert [(sample.question_id, sample.question) for sample in samples] == [(1, "Q0"), (2, "Q1")]
    assert [sample.question_id for sample in samples[1:]] == [2]
    # as the processes of a training get them
    assert [line.record["question_id"] for line in pickle.loads(pickle.dumps(samples.lines))] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question", "expected OURS=THEIRS,.. such as question=prompt,answer1=chosen, found 'question'"),
        ("question=", "expected OURS=THEIRS"),
        (
            "quest=a",
            "'quest' is none of our names .question_id, label, score, reference, category, model, question, answer, ",
        ),
        ("answer11=a", "'answer11' is none of our names"),
        ("label=a,label=b", "label is named twice"),
    ],
)
def test_a_mistake_in_columns_says_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Columns.parse(text)


def test_a_column_that_is_not_there_or_not_asked_for_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"a": 1, "b": 2}])
    with pytest.raises(InputError, match=r"q.jsonl:1: column 'prompt' is missing, meant as question \(found: a, b\)"):
        read_samples(path, columns=Columns.parse("question=prompt"))
    with pytest.raises(
        InputError, match=r"--columns: an answer file has no label .it has question_id, question, answer"
    ):
        list(read_answers(path, Columns.parse("label=a")))
    with pytest.raises(InputError, match=r"q.jsonl:1: expected label 1, 2, 0, A, B or tie, found 'maybe'"):
        read_samples(write_jsonl(path, [{"w": "maybe"}]), columns=Columns.parse("label=w"))


@pytest.mark.parametrize(
    ("word", "label"),
    [("model_a", 1), ("[[B]]", 2), ("tie (bothbad)", 0), ("Tie", 0), (1.0, 1), ("2", 2), (0, 0), ("Response 2", 2)],
)
def test_the_words_of_people_are_labels(tmp_path: Path, word: Any, label: int) -> None:
    row = {"q": "Q", "a": "a", "b": "b", "w": word}
    columns = Columns.parse("question=q,answer1=a,answer2=b,label=w")
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", [row]), columns=columns)
    assert sample.record["label"] == label


def test_chosen_and_rejected_are_a_pair_with_a_label(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Q2"}, {"role": "assistant", "content": "good"}]
    rows: list[dict[str, Any]] = [
        {"prompt": "Q1", "chosen": "good", "rejected": "bad", "source": "s"},
        {"prompt": said[:1], "chosen": said, "rejected": [{"role": "assistant", "content": "bad"}], "question_id": 9},
    ]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    assert [(s.key, s.question, s.answers, s.record["label"]) for s in samples] == [
        ("1", "Q1", ("good", "bad"), 1),
        ("9", "Q2", ("good", "bad"), 1),
    ]
    assert samples[0].record["source"] == "s"
    assert isinstance(samples.files.form, AnyForm)
    assert samples.files.form.found is KNOWN_FORMS[0]
    # one that cannot be read as such is named
    rows[1]["chosen"] = said[:1]
    with pytest.raises(InputError, match=r"q.jsonl:2: expected chosen to end in a message of the assistant"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    # of several turns they are replies to a dialogue
    rows[1]["chosen"], rows[1]["prompt"] = [*said, said[0], said[1]], [*said, said[0]]
    sample = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))[1]
    assert sample.dialogue == Dialogue((Turn("user", "Q2"), Turn("assistant", "good")))
    assert (sample.question, sample.answers) == ("Q2", ("good", "bad"))


def test_replies_with_their_dialogues_need_no_prompt(tmp_path: Path) -> None:
    def said(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]

    rows: list[dict[str, Any]] = [
        {"chosen": said("Q", "a", "R", "good"), "rejected": said("Q", "a", "R", "bad")},
        {"chosen": said("Q", "a", "R", "good"), "rejected": said("Q", "b", "R", "bad"), "prompt": "Q"},
        {"chosen": said("Q", "good"), "rejected": said("Q", "bad"), "prompt": "Q", "messages": said("Q", "good")},
    ]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    turns = Turn("user", "Q"), Turn("assistant", "a"), Turn("assistant", "b"), Turn("user", "R")
    assert [sample.dialogue for sample in samples] == [
        Dialogue(turns[:2]),
        Dialogue(conversations=((turns[0], turns[1], turns[3]), (turns[0], turns[2], turns[3]))),
        None,
    ]
    assert [(s.question, s.answers, s.record["label"]) for s in samples] == [
        *[("R", ("good", "bad"), 1)] * 2,
        ("Q", ("good", "bad"), 1),
    ]
    rows[0]["rejected"] = "bad"
    with pytest.raises(InputError, match=r"q.jsonl:1: rejected: expected a list of messages, found str"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", rows))


@pytest.mark.parametrize(
    ("preference", "label"), [(1, 1), (2, 2), (1.0, 1), (1.49, 1), (1.5, 0), (1.51, 2), (0, 0), (None, None)]
)
def test_annotations_as_alpaca_eval_writes_them_are_pairs(tmp_path: Path, preference: Any, label: int | None) -> None:
    row = {
        "instruction": "Do",
        "input": "this",
        "output_1": "a",
        "output_2": "b",
        "generator_1": "m",
        "preference": preference,
    }
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", [row]))
    assert (sample.question, sample.answers) == ("Do\nthis", ("a", "b"))
    assert (sample.record["answer1_model_id"], sample.record.get("label")) == ("m", label)
    with pytest.raises(
        InputError, match=r"q.jsonl:1: expected preference from 1, the first, to 2, the second, found '3'"
    ):
        read_samples(write_jsonl(tmp_path / "q.jsonl", [{**row, "preference": "3"}]))


def vote(winner: Any, *more: str, **fields: Any) -> dict[str, Any]:
    def said(answer: str) -> list[dict[str, str]]:
        texts = ("Q", answer, *more)
        return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]

    conversations = {"conversation_a": said("a"), "conversation_b": said("b")}
    return {"question_id": "58210e", "model_a": "x", "model_b": "y", "winner": winner, **conversations} | fields


@pytest.mark.parametrize(
    ("winner", "label"), [("model_a", 1), ("model_b", 2), ("tie", 0), ("tie (bothbad)", 0), (None, None)]
)
@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.parquet"])
def test_votes_of_one_turn_are_pairs(tmp_path: Path, winner: Any, label: int | None, name: str) -> None:
    from pyarrow import Table, parquet

    row, path = vote(winner, judge="arena_user_9", turn=1), tmp_path / name
    if name == "q.csv":
        cells = [json.dumps(value) if isinstance(value, list) else value for value in row.values()]
        write_csv(path, [list(row), cells])
    elif name == "q.parquet":
        parquet.write_table(Table.from_pylist([row]), path)
    else:
        write_jsonl(path, [row])
    (sample,) = read_samples(path)
    assert (sample.key, sample.question, sample.answers) == ("58210e", "Q", ("a", "b"))
    record = sample.record
    assert (record["answer1_model_id"], record["answer2_model_id"], record["label"]) == ("x", "y", label)
    assert "conversation_a" not in record
    assert record["judge"] == "arena_user_9"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (vote("me"), r"expected winner model_a, model_b, tie, tie \(bothbad\) or null, found 'me'"),
        (vote([1]), r"expected winner .* found \[1\]"),
        (vote("tie", conversation_b=[]), "conversation_b: expected a list of messages, found none"),
        (vote("tie", conversation_a="Q"), "conversation_a: expected a list of messages, found str"),
        (
            vote("tie", conversation_b=[{"role": "user", "content": "Q"}, {"role": "assistant"}]),
            "conversation_b: message 2: expected content to be a text, found NoneType",
        ),
    ],
)
def test_votes_that_are_none_end_in_one_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"q.jsonl:1: {message}") as error:
        read_samples(write_jsonl(tmp_path / "q.jsonl", [row]))
    assert "\n" not in str(error.value)


def test_votes_of_several_turns_are_conversations(tmp_path: Path) -> None:
    rows = [vote("model_b", "and?", "c"), vote("tie", "and?", "c", question_id=2)]
    del rows[1]["model_a"], rows[1]["model_b"], rows[1]["winner"]
    first, second = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    for sample in (first, second):
        assert sample.dialogue is not None
        assert [[turn.text for turn in turns] for turns in sample.dialogue.conversations] == [
            ["Q", "a", "and?"],
            ["Q", "b", "and?"],
        ]
        assert (sample.question, sample.answers) == ("and?", ("c", "c"))
        assert "conversation_a" not in sample.record
    assert (first.record["label"], first.record["answer2_model_id"]) == (2, "y")
    assert "label" not in second.record


def test_our_own_rows_stay_as_they_are_whatever_fields_they_bring(tmp_path: Path) -> None:
    row = {
        **{"question_id": 1, "question_body": "Q", "answer1_body": "a", "answer2_body": "b"},
        **{"prompt": "P", "chosen": "c", "rejected": "d"},
    }
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", [row]))
    assert sample.to_record() == row
    assert sample.record.get("label") is None


def test_answers_of_two_tables_are_paired(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_csv(tmp_path / f"{name}.csv", [("prompt", "reply"), ("Q1", f"{name} says"), ("Q2", "=SUM(A1)")])
    columns = Columns.parse("question=prompt,answer=reply")
    pairs = make_pairs([tmp_path / "one.csv", tmp_path / "two.csv"], columns=columns)
    assert [(p["question_body"], p["answer1_body"], p["answer2_model_id"]) for p in pairs] == [
        ("Q1", "one says", "two"),
        ("Q2", "=SUM(A1)", "two"),
    ]


def test_a_table_is_judged_with_its_labels_and_a_second_start_judges_nothing(
    tmp_path: Path, run: Runner, model_folder: Path
) -> None:
    rows = [(f"Question {k}?", f"first {k}", f"second {k}", "model_a") for k in range(3)]
    table = write_csv(tmp_path / "votes.csv", [("prompt", "a", "b", "winner"), *rows])
    columns = "question=prompt,answer1=a,answer2=b,label=winner"
    out, how = tmp_path / "out", ("--scores-only", "--constrained", "--temperature", "0")
    judge = ("-m", "judgelm", "judge", "--model", model_folder, "--question-file", table, "--columns", columns,
             "--output-dir", out, *how)  # fmt: skip
    result = run(*judge)
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (out / "forward.jsonl").read_text().splitlines()]
    assert [(r["question_id"], r["question_body"], r["label"]) for r in records] == [
        (k + 1, f"Question {k}?", 1) for k in range(3)
    ]
    before = (out / "forward.jsonl").read_bytes()
    assert run(*judge).returncode == 0
    assert (out / "forward.jsonl").read_bytes() == before
    # the label came along; a teacher's file may have its own names as well
    measured = run("-m", "judgelm", "evaluate", out)
    labelled = run("-m", "judgelm", "evaluate", out, "--teacher", table, "--columns", "label=winner")
    assert measured.returncode == labelled.returncode == 0, labelled.stderr
    agreement = [json.loads(each.stdout.splitlines()[-1])["accuracy"] for each in (measured, labelled)]
    assert agreement[0] == agreement[1]
    # other columns are other texts, of which nothing is judged without a word
    exchanged = columns.replace("answer1=a,answer2=b", "answer1=b,answer2=a")
    other = run(*(exchanged if part == columns else part for part in judge))
    assert other.returncode == 2
    assert "was judged with other texts" in other.stderr


def test_a_name_that_no_data_set_can_have_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "a/b/c", "./a/b", "a/b.csv", "a/b.jsonl"):
        assert find_file(name) == Path(name)
    with pytest.raises(InputError, match=r"a/b:test: no such file, and the hub did not give such a data set \("):
        find_file("a/b:test")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("{}")
    assert find_file("a/b") == Path("a/b")


def test_a_split_of_a_data_set_is_kept_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = [{"prompt": "Q", "chosen": "a", "rejected": "b"}]
    splits = {"train": datasets.Dataset.from_list(rows * 2), "test": datasets.Dataset.from_list(rows)}

    def load(name: str, split: str | None) -> Any:
        assert name == "org/set"
        return datasets.DatasetDict(splits) if split is None else splits[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("judgelm.hub._fetch_lines", lambda name, split: None)
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path))
    (sample,) = read_samples("org/set:test")
    assert (sample.question, sample.answers) == ("Q", ("a", "b"))
    with pytest.raises(InputError, match=r"org/set: name one of its splits, org/set:SPLIT \(found: train, test\)"):
        read_samples("org/set")
    splits.pop("test")
    assert len(read_samples("org/set")) == 2
