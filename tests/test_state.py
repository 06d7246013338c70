"""What a run leaves on disk: damaged, half, doubled, of another time; nothing that was judged is lost."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judged_rows import Engine, Records, contents, edit, interrupted, judge, records_of, rows
from played import Played, wrote

from judgelm import appended
from judgelm.cli import main
from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.jsonl import read_json
from judgelm.judge import log
from judgelm.judge.judge import Judge
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings
from judgelm.sample import Sample
from judgelm.samples import read_samples


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "q.jsonl", rows())


@pytest.fixture
def done(questions: Path, tmp_path: Path) -> Path:
    """A folder in which five samples were judged."""
    judge(questions, tmp_path / "done")
    return tmp_path / "done"


def with_field(name: str, value: Any) -> Callable[[Records], Any]:
    return lambda records: records[1].update({name: value})


def without_field(name: str) -> Callable[[Records], Any]:
    return lambda records: records[1].pop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_field("pred_parse", "odd"), "pred_parse: Input should be 'ok', 'repaired' or 'failed', found odd"),
        (with_field("pred_parse", ["ok"]), "pred_parse"),
        (with_field("pred_suspicious_markers", True), "pred_suspicious_markers: Input should be a valid integer"),
        (with_field("pred_suspicious_markers", "x"), "pred_suspicious_markers"),
        (with_field("pred_scores", [8]), "pred_task: one score is that of task grade, found pair"),
        (with_field("pred_scores", [8, "7"]), "pred_scores.1"),
        (with_field("pred_scores", {}), "pred_scores: Input should be a valid list, found dict"),
        (with_field("pred_scores", [8, 1e999]), "pred_scores.1"),
        (with_field("pred_outcome", "draw"), "pred_outcome"),
        (with_field("pred_text", None), "pred_text: Input should be a valid string"),
        (with_field("pred_tokens", -1), "pred_tokens"),
        (with_field("pred_tokens", 10**400), "pred_tokens"),
        (with_field("pred_prompt_tokens", 1.5), "pred_prompt_tokens"),
        (with_field("pred_shortened", [None]), "pred_shortened.0"),
        (with_field("pred_finish_reason", 0), "pred_finish_reason"),
        (with_field("pred_expected_scores", "x"), "pred_expected_scores"),
        (with_field("pred_probabilities", {"draw": 1.0}), "pred_probabilities.draw"),
        (with_field("tstamp", "now"), "tstamp"),
        (with_field("question_id", True), "question_id"),
        (with_field("question_id", []), "question_id"),
        (without_field("question_id"), "question_id: Field required"),
        (without_field("pred_parse"), "pred_parse: Field required"),
        (without_field("answer1_body"), "question_id 1 was judged with other texts"),
        (with_field("pred_order", "reversed"), "expected pred_order 'forward', found 'reversed'"),
        (with_field("pred_task", "single"), "expected pred_task 'pair', found 'single'"),
        (with_field("pred_model_id", "n"), "expected pred_model_id 'm', found 'n'"),
        (with_field("question_id", 99), "question_id 99 is not in the question file"),
        (with_field("question_id", 0), "question_id 0 has another judgement in"),
        (with_field("answer2_body", "another"), "question_id 1 was judged with other texts"),
        (with_field("question_body", 3), "question_id 1 was judged with other texts"),
    ],
)
def test_a_damaged_judgement_is_named_and_nothing_is_changed(
    change: Callable[[Records], Any], said: str, questions: Path, done: Path
) -> None:
    partial = interrupted(done, change)
    partial.write_bytes(partial.read_bytes() + b'{"question_id": 4, "half')
    before = contents(done)
    with pytest.raises(InputError, match=r"forward\.jsonl\.partial:2: ") as ended:
        judge(questions, done)
    assert said in str(ended.value)
    assert contents(done) == before
    partial.unlink()
    write_jsonl(done / "forward.jsonl", [json.loads(line) for line in before[partial.name].splitlines()[:-1]])
    with pytest.raises(InputError, match=r"forward\.jsonl:2: "):
        judge(questions, done)


def test_a_judgement_that_stands_twice_counts_once(questions: Path, done: Path) -> None:
    """As after an end between putting the final file in place and dropping the partial one."""
    final = (done / "forward.jsonl").read_bytes()
    (done / "forward.jsonl.partial").write_bytes(final)
    assert judge(questions, done) == []
    assert (done / "forward.jsonl").read_bytes() == final
    assert not (done / "forward.jsonl.partial").exists()


def test_two_judgements_of_one_question_are_named_and_kept(questions: Path, done: Path) -> None:
    other = records_of(done / "forward.jsonl")[2] | {"pred_text": "1 9"}
    write_jsonl(done / "forward.jsonl.partial", [other])
    before = contents(done)
    with pytest.raises(InputError, match=r"partial:1: question_id 2 has another judgement in .*forward\.jsonl:3;"):
        judge(questions, done)
    assert contents(done) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"settings": {\n"task": "pair",\n', "run.json:3: not JSON"),
        ("", "run.json: not JSON"),
        ("[]", "run.json: expected a JSON object, found list"),
        ('{"settings": []}', "settings: Input should be a valid dictionary, found list"),
        ('{"settings": "pair"}', "settings: Input should be a valid dictionary, found pair"),
        ('{"settings": {}, "sessions": "none"}', "sessions: Input should be a valid list"),
        ('{"settings": {}, "sessions": [1]}', "sessions.0: Input should be a valid dictionary"),
        ('{"settings": {}, "counts": null}', "counts: Input should be a valid dictionary"),
        ('{"settings": {}, "counts": {"forward": 3}}', "counts.forward"),
        ("{}", "with other settings: question_file_sha256 was None"),
        ('{"settings": {"task": NaN}}', "task was None, now 'pair'"),
        ('{"settings": {"task": "\\ud800"}}', "task was"),
        (f'{{"settings": {{"task": {"[" * 90}{"]" * 90}}}}}', "with other settings"),
        (f'{{"settings": {{"task": {"[" * 900}{"]" * 900}}}}}', "nested too deeply"),
        (f'{{"settings": {{"seed": {"9" * 5000}}}}}', "not JSON that can be read"),
        (f'{{"settings": {{"seed": {"9" * 4000}}}}}', "seed was 9"),
    ],
)
def test_a_damaged_run_json_is_named_and_nothing_is_changed(
    content: str, said: str, questions: Path, done: Path
) -> None:
    interrupted(done)
    (done / "run.json").write_text(content)
    before = contents(done)
    with pytest.raises(InputError, match=r"run\.json") as ended:
        judge(questions, done)
    assert said in str(ended.value)
    assert len(str(ended.value)) < 2000
    assert contents(done) == before


def test_a_run_json_that_is_not_utf_8_or_no_file_is_named(questions: Path, done: Path) -> None:
    (done / "run.json").write_bytes(b'{\n"settings": "\xff"}')
    with pytest.raises(InputError, match=r"run\.json:2: not UTF-8 \(byte 14 of the line\)"):
        judge(questions, done)
    (done / "run.json").unlink()
    (done / "run.json").mkdir()
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        judge(questions, done)


def test_a_final_file_without_its_last_newline_gets_it(questions: Path, done: Path) -> None:
    found = (done / "forward.jsonl").read_bytes().splitlines(keepends=True)
    # as an editor leaves it, with a mark of byte order; sorted, its last line comes before others
    (done / "forward.jsonl").write_bytes(b"\xef\xbb\xbf" + found[1] + found[0].rstrip(b"\n"))
    assert judge(questions, done) == ["forward 2", "forward 3", "forward 4"]
    lines = (done / "forward.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[:2] == found[:2]
    assert [json.loads(line)["question_id"] for line in lines] == [0, 1, 2, 3, 4]


def test_two_judgements_on_one_line_are_named(questions: Path, done: Path) -> None:
    lines = (done / "forward.jsonl").read_bytes().splitlines()
    (done / "forward.jsonl").write_bytes(b"\n".join([lines[0], lines[1] + lines[2], *lines[3:]]) + b"\n")
    before = contents(done)
    with pytest.raises(InputError, match=r"forward\.jsonl:2: not JSON"):
        judge(questions, done)
    assert contents(done) == before


def test_a_whole_record_that_lacks_only_its_newline_was_paid_for_and_is_kept(questions: Path, done: Path) -> None:
    partial = interrupted(done)
    lines = partial.read_bytes().splitlines()
    partial.write_bytes(lines[0] + b"\n" + lines[1])
    assert judge(questions, done) == ["forward 2", "forward 3", "forward 4"]
    assert [r["pred_id"] for r in records_of(done / "forward.jsonl")][:2] == [
        json.loads(line)["pred_id"] for line in lines[:2]
    ]


@pytest.mark.parametrize("half", [b'{"question_id": 1, "question_bo', b"\0\0\0\0", b"  \t", b'{"a": "\xe6\x9d', b"7"])
def test_half_a_line_is_cut_off_and_judged_again(half: bytes, questions: Path, done: Path) -> None:
    partial = interrupted(done)
    partial.write_bytes(partial.read_bytes().splitlines(keepends=True)[0] + half)
    assert judge(questions, done) == [f"forward {k}" for k in (1, 2, 3, 4)]
    assert [r["question_id"] for r in records_of(done / "forward.jsonl")] == [0, 1, 2, 3, 4]
    assert not partial.exists()


def test_the_end_of_a_large_file_is_found_without_reading_it(tmp_path: Path) -> None:
    large = tmp_path / "large"
    half = b"x" * 200_000
    with large.open("wb") as file:
        file.truncate(1 << 32)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + half)
    tracemalloc.start()
    tail = appended._tail(large)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tail == ((1 << 32) + 1, half)
    assert most < 2_000_000


@pytest.mark.parametrize("blank", [b"", b"\n\n  \n", b"\xef\xbb\xbf", b"\r\n"])
def test_files_of_blank_lines_count_as_empty(blank: bytes, questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for name in ("forward.jsonl", "forward.jsonl.partial", "reversed.jsonl"):
        (output / name).write_bytes(blank)
    assert len(judge(questions, output)) == 5
    assert len(records_of(output / "forward.jsonl")) == 5


def test_rows_judged_before_a_limit_are_not_strangers(questions: Path, done: Path) -> None:
    assert judge(questions, done, samples=read_samples(questions)[:2]) == []
    assert len(records_of(done / "forward.jsonl")) == 5


def test_what_a_killed_run_was_writing_is_removed_at_the_next_start(questions: Path, done: Path) -> None:
    ours = [".forward.jsonl.a1b2c3_4.unfinished", ".run.json.zzzzzzzz.unfinished", ".reversed.jsonl.abcdefgh"]
    theirs = [".forward.jsonl.original", ".forward.jsonl.partial.bak", ".other.jsonl.a1b2c3_4.unfinished", ".env"]
    for name in (*ours, *theirs):
        (done / name).write_text("x")
    (done / ours[2]).chmod(0o600)
    judge(questions, done)
    left = {path.name for path in done.iterdir()}
    assert not left & set(ours)
    assert set(theirs) < left


def test_an_unfinished_file_that_somebody_may_be_writing_stays(tmp_path: Path) -> None:
    now, old = (tmp_path / f".ranking.json.{name}.unfinished" for name in ("aaaaaaaa", "bbbbbbbb"))
    for path in (now, old):
        path.write_text("x")
    os.utime(old, (time.time() - 7200,) * 2)
    write_text(tmp_path / "ranking.json", "{}")
    assert now.exists()
    assert not old.exists()


def test_the_partial_file_stays_until_the_final_one_was_read_back(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_one(path: Path, text: Any) -> None:
        write_text(path, list(text)[1:])

    with monkeypatch.context() as patched:
        patched.setattr(log, "write_text", forget_one)
        with pytest.raises(InputError, match=r"forward\.jsonl: read back, it holds other judgements"):
            judge(questions, tmp_path / "out")
    assert len(records_of(tmp_path / "out" / "forward.jsonl.partial")) == 5
    assert judge(questions, tmp_path / "out") == []
    assert len(records_of(tmp_path / "out" / "forward.jsonl")) == 5


def test_an_output_that_is_a_folder_is_named_before_anything_is_judged(questions: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "forward.jsonl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"forward\.jsonl: expected a file"):
        judge(questions, tmp_path / "out")


def test_an_output_that_is_a_link_stays_one(questions: Path, tmp_path: Path) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "disk" / "large.jsonl"
    output.mkdir()
    (output / "forward.jsonl").symlink_to(elsewhere)
    judge(questions, output)
    assert (output / "forward.jsonl").is_symlink()
    assert len(records_of(elsewhere)) == 5
    assert [path.name for path in elsewhere.parent.iterdir()] == ["large.jsonl"]
    (output / "reversed.jsonl").symlink_to(output / "reversed.jsonl")
    assert len(judge(questions, output, orders=("reversed",))) == 5


def test_a_run_json_of_an_earlier_version_goes_on(questions: Path, done: Path) -> None:
    document = json.loads((done / "run.json").read_text())
    # as the first version wrote it: no scoring, quantization or engine
    document["settings"].pop("scoring")
    (done / "run.json").write_text(json.dumps(document))
    assert judge(questions, done, engine=Engine(), quantization=None) == []


def test_a_model_id_that_utf_8_cannot_hold_is_written_as_an_escape(questions: Path, tmp_path: Path) -> None:
    files = RunFiles.in_folder(tmp_path / "out", ("forward",))
    described = {"note": "half \ud83d"}
    for _ in range(2):
        run_judge(lambda: Judge(Engine()), read_samples(questions), JudgeSettings(), files, described, "m")
    assert read_json(files.run)["settings"]["note"] == "half \ud83d"


def test_a_row_nested_too_deeply_to_be_written_is_refused_before_anything_is_judged(tmp_path: Path) -> None:
    deep = json.dumps(rows(1)[0])[:-1] + ', "deep": ' + "[" * 300 + "]" * 300 + "}"
    (tmp_path / "q.jsonl").write_text(deep + "\n")
    with pytest.raises(InputError, match=r"q\.jsonl:1: not JSON that can be read \(nested too deeply\)"):
        read_samples(tmp_path / "q.jsonl")


def test_an_id_of_half_a_surrogate_pair_is_named(tmp_path: Path) -> None:
    records = rows(3)
    records[2]["question_id"] = "\ud800x"
    questions = write_jsonl(tmp_path / "q.jsonl", records)
    with pytest.raises(InputError, match=r"q\.jsonl:3: field 'question_id' has half a surrogate pair"):
        read_samples(questions)
    with pytest.raises(ValueError, match="question_id has half a surrogate pair"):
        Sample("\ud800x", "Q", ("a", "b"))


def command(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_judge_command_says_and_takes_the_flag(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Played(lambda number, before: wrote()) as server:
        arguments = ["judge", "--engine", "openai", "--base-url", server.url, "--model", "m"]
        arguments += ["--question-file", str(questions), "--output-dir", str(tmp_path / "out")]
        assert command(*arguments) == 0
        edit(questions)
        assert command(*arguments) == 2
        assert "--keep-judged keeps the 6 of 10 judgements" in capsys.readouterr().err.splitlines()[-1]
        server.asked.clear()
        assert command(*arguments, "--keep-judged", "--max-concurrency", "3", "--request-timeout", "9") == 0
        assert server.numbers() == [2, 2, 5, 5]


def test_an_arena_with_another_model_judges_the_new_pairs_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [{"question_id": k, "question_body": f"Question {k}: why?", "text": f"{name} {k}"} for k in range(3)],
        )
        for name in "abc"
    ]
    with Played(lambda number, before: wrote()) as server:
        arguments = ["arena", "--engine", "openai", "--base-url", server.url, "--model", "m"]
        arguments += ["--output-dir", str(tmp_path / "out"), "--answers"]
        assert command(*arguments, *files[:2]) == 0
        assert command(*arguments, *files) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "questions.jsonl holds other pairs" in said
        assert "--keep-judged" in said
        server.asked.clear()
        assert command(*arguments, *files, "--keep-judged") == 0
        assert len(server.asked) == 2 * 6
    assert len(records_of(tmp_path / "out" / "forward.jsonl")) == 9


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("pred_expected_scores", "x", "field 'pred_expected_scores' must be list, found str"),
        ("pred_expected_scores", [8], "must have two numbers, found 1"),
        ("pred_expected_scores", [8, None], "must hold numbers from 0 to 10, found None"),
        ("pred_expected_scores", [8, -0.5], "must hold numbers from 0 to 10, found -0.5"),
        ("pred_expected_scores", {"0": 8, "1": 7}, "must be list, found dict"),
        ("pred_task", [], "field 'pred_task' must be str, found list"),
        ("pred_task", None, "field 'pred_task' must be str, found NoneType"),
        ("pred_task", "multi", "evaluation compares two answers, found task 'multi'"),
        ("pred_text", ["8 9"], "field 'pred_text' must be str, found list"),
        ("pred_probabilities", [1], "field 'pred_probabilities' must be dict, found list"),
        ("pred_probabilities", {"win": 1}, "must hold numbers from 0 to 1, found None"),
        ("pred_probabilities", {"win": 10**400, "tie": 0, "lose": 0}, "must hold numbers from 0 to 1, found 1"),
        ("pred_order", {}, "expected a forward judgement"),
        ("question_id", "\ud800", "field 'question_id' has half a surrogate pair"),
    ],
)
def test_a_damaged_judgement_is_named_by_evaluate(
    field: str, value: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rows(1)[0] | {"pred_text": "8 9", "text": "8 9"}
    file = write_jsonl(tmp_path / "f.jsonl", [record, record | {"question_id": 1, field: value}])
    assert command("evaluate", "--forward", file) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "f.jsonl:2: " in last
    assert said in last


def test_runs_killed_at_any_moment_lose_and_double_nothing(run: Any, tmp_path: Path) -> None:
    """Also between putting the final file in place and dropping the partial one, and in the midst of --keep-judged."""
    result = run("tests/killed_runs.py", tmp_path, "40", "3")
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    ended = json.loads(result.stdout.splitlines()[-1])
    assert ended["killed"] >= 20
    assert ended["judged"] > 24
