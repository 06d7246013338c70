"""What no teaching is made of is told before anything is asked or overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judging import run_command
from played import QUICK, Played, failed, wrote
from taught import Teacher, answer_files, arguments, question, reference_file, report_of, rows, written

from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.teaching.questions import read_answered

pytestmark = pytest.mark.usefixtures("without_a_key")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for a server as little as `QUICK` does."""
    monkeypatch.setattr(OpenAIEngine.__init__, "__defaults__", (QUICK,))


def test_thoughts_are_no_part_of_an_answer(tmp_path: Path) -> None:
    said = {"question_id": 1, "question_body": "Q?"}
    files = [
        write_jsonl(tmp_path / f"{name}.jsonl", [{**said, "text": text}])
        for name, text in (("a", "<think>hm</think> 4"), ("b", "5"))
    ]
    texts = [line.record["text"] for line in read_answered(files).questions[0].answers.values()]
    assert texts == ["4", "5"]
    kept = [line.record["text"] for line in read_answered(files, keep_thinking=True).questions[0].answers.values()]
    assert kept == ["<think>hm</think> 4", "5"]


def test_a_question_that_one_model_answered_is_left_out_and_counted(tmp_path: Path) -> None:
    files = answer_files(tmp_path, "ab")
    more = {"question_id": 7, "question_body": "Another one?", "text": "yes", "model": "m-a", "decoding_method": "x"}
    write_jsonl(files[0], [*rows(files[0]), more])
    answered = read_answered(files)
    assert (len(answered.questions), answered.left_out) == (6, 1)


def _bad(folder: Path, what: str) -> tuple[list[Path], list[str]]:
    """Answer files and flags of which something is wrong."""
    files = answer_files(folder)
    other = write_jsonl(folder / "other.jsonl", [{"question_id": 99, "question_body": "Q?", "text": "x"}])
    asks = write_jsonl(
        folder / "asks.jsonl", [{"question_id": 1, "question_body": "Question 1 in other words?", "text": "x"}]
    )
    aspects = folder / "two.yaml"
    aspects.write_text("name: two\naspects:\n  - {name: a, text: is it}\n  - {name: b, text: is that}\n")
    template = folder / "t.j2"
    template.write_text("{{ question }} {{ answer_a }} {{ answer_b }}")
    half = write_jsonl(folder / "half.jsonl", [{"question_id": 6, "question_body": question(6), "text": "\ud83d"}])
    empty = folder / "empty.jsonl"
    empty.write_text("\n")
    return {
        "one file": (files[:1], []),
        "same model": ([files[0], files[0]], []),
        "no common": ([files[0], other], []),
        "other words": ([files[0], asks], []),
        "half": ([files[0], half], ["--references", "writer"]),
        "empty": ([files[0], empty], []),
        "missing": ([files[0], folder / "gone.jsonl"], []),
        "references missing": (files, ["--references", str(folder / "gone.jsonl")]),
        "references of others": (
            files,
            ["--references", str(write_jsonl(folder / "r.jsonl", [{"question_id": 99, "reference": {"text": "x"}}]))],
        ),
        "no reference": (
            files,
            ["--references", str(write_jsonl(folder / "r1.jsonl", [{"question_id": 1, "reference": "x"}]))],
        ),
        "aspects": (files, ["--criteria", str(aspects)]),
        "letter": (files, ["--prompt-file", str(template), "--verdict-format", "letter"]),
        "validation": (files, ["--validation", "1"]),
        "pairs": (files, ["--pairs", "0"]),
        "doubles": (
            [
                write_jsonl(
                    folder / f"d{name}.jsonl", [{"question_id": k, "question_body": "Q?", "text": name} for k in (1, 2)]
                )
                for name in "ab"
            ],
            [],
        ),
        "alike": (
            [
                write_jsonl(folder / f"s{name}.jsonl", [{"question_id": 1, "question_body": "Q?", "text": "x"}])
                for name in "ab"
            ],
            [],
        ),
        "key": (files, ["--api-key-variable", "NOT_SET_ANYWHERE"]),
    }[what]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("one file", "expected two or more answer files, found 1"),
        ("same model", "are both of model m-a"),
        ("no common", "no question has answers in two of the files"),
        ("other words", "asks.jsonl:1: question_body differs from that of"),
        ("half", "half.jsonl:1: text has half a surrogate pair"),
        ("empty", "empty.jsonl"),
        ("missing", "gone.jsonl: no such file"),
        ("references missing", "gone.jsonl: no such file"),
        ("references of others", "there is no reference for any of the 6 questions"),
        ("no reference", "field 'reference' must be"),
        ("aspects", "--criteria have 2 aspects: a training row is of one"),
        ("letter", "--verdict-format letter: a training row begins with a line of scores"),
        ("validation", "--validation 1.0: expected a share from 0 to below 1"),
        ("pairs", "expected all or a whole number from 1 on, found '0'"),
        ("doubles", "2 questions in 1 groups of near doubles cannot be split"),
        ("alike", "all models answered all questions alike"),
        ("key", "the environment has no such variable"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_asked(
    what: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, more = _bad(tmp_path, what)
    with Teacher() as server:
        assert run_command(arguments(server, tmp_path / "out", files, *more)) == 2
        assert server.asked == []
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_nowhere_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["teach", "--answers", *map(str, answer_files(tmp_path)), "--output-dir", str(tmp_path / "out")]
    assert run_command([*fixed, "--teacher", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_a_wrong_key_or_teacher_is_said_before_references_are_paid_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for status, expected in ((401, "wants an API key"), (404, "does not know model gpt")):
        with Played(lambda number, before, status=status: failed(status, "no")) as server:  # type: ignore[misc]
            command = arguments(server, tmp_path / str(status), answer_files(tmp_path), "--references", "writer")
            assert run_command(command) == 2
            assert {body["model"] for body in server.bodies} == {"gpt"}
        error = capsys.readouterr().err
        assert expected in error
        assert error.strip().count("\n") == 0


@pytest.mark.usefixtures("quick")
def test_a_writer_whose_references_are_of_no_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Cut(Teacher):
        def reference(self, number: int) -> Any:
            return wrote("and so on", "length")

    with Cut() as server:
        command = arguments(server, tmp_path / "out", answer_files(tmp_path), "--references", "writer")
        assert run_command(command) == 2
    assert "writer wrote no reference that can be used (cut: 6)" in capsys.readouterr().err


def test_a_folder_of_another_teaching_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, answers = tmp_path / "out", answer_files(tmp_path)
    references = reference_file(tmp_path)
    other = write_jsonl(tmp_path / "r2.jsonl", [{"question_id": 2, "reference": {"text": "another"}}])
    with Teacher() as server:
        assert run_command(arguments(server, output, answers, "--references", references)) == 0
        capsys.readouterr()
        before = {path: path.read_bytes() for path in output.rglob("*.jsonl")} | {1: written(output)}
        num_asked = len(server.asked)
        for files, more, expected in (
            (answers[:2], [], "holds other rows: name another folder"),
            (answers, ["--seed", "5"], "holds other rows"),
            (answers, ["--references", str(other)], "holds other rows"),
            (answers, ["--model-id", "another"], "is of a run with other settings: model_id was 'gpt', now 'another'"),
        ):
            assert run_command(arguments(server, output, files, *more)) == 2, more
            assert expected in capsys.readouterr().err
        assert len(server.asked) == num_asked
        assert {path: path.read_bytes() for path in output.rglob("*.jsonl")} | {1: written(output)} == before
        # two of three models: what was judged of them still counts
        assert run_command(arguments(server, output, answers[:2], "--keep-judged", "--validation", "0")) == 0
        assert len(server.asked) <= num_asked + 2 * 5
    assert report_of(output)["without_reference"]["judged"] == 5
