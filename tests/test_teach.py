"""`judgelm teach`: which answers are compared, what the teacher's judgements become, how they are split and counted."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, Runner, write_jsonl
from judging import run_command
from played import wrote
from taught import ASKED, WRITTEN, Teacher, answer_files, arguments, question, reference_file, report_of, rows, written

from judgelm import Judge
from judgelm.engine.openai.server import Server
from judgelm.errors import SettingError
from judgelm.files import locked
from judgelm.judge import JudgeSettings
from judgelm.teaching import TeachReport, TeachSettings, teach
from judgelm.teaching.questions import read_answered
from judgelm.teaching.references import read_references

pytestmark = pytest.mark.usefixtures("without_a_key")

PRICES = ("--price-per-million-tokens", "1", "2")


# the command


def test_every_number_of_a_teaching_is_the_one_counted_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    more = ("--references", reference_file(tmp_path), "--validation", "0.34", *PRICES)
    with Teacher() as server:
        assert run_command(arguments(server, output, answer_files(tmp_path), *more)) == 0
        assert len(server.asked) == 54
    report = report_of(output)
    # questions 1 to 4 have three pairs, 5 has two that differ, 6 has two answers
    assert [report[name] for name in ("questions", "equal_answers", "empty_answers", "near_doubles")] == [6, 1, 1, 0]
    assert [tuple(each.values()) for each in report["models"]] == [
        ("m-a", 6, 5, 5),
        ("m-b", 6, 5, 5),
        ("m-c", 5, 5, 5),
    ]
    assert (report["references"]["questions"], report["references"]["left_out"]) == (5, {"missing": 1})
    without, with_ = report["without_reference"], report["with_reference"]
    assert (without["judged"], without["contradicted"], without["left_out"]) == (
        15,
        3,
        {"contradicted": 3, "unread": 3},
    )
    assert (with_["judged"], with_["contradicted"], with_["left_out"]) == (12, 3, {"contradicted": 3})
    rates = {name: rate["value"] for name, rate in without["rates"].items()}
    assert rates == {"consistency": 9 / 15, "bias_first": 3 / 15, "bias_second": 0, "unparsed": 3 / 15}
    rates = {name: rate["value"] for name, rate in with_["rates"].items()}
    assert rates == {"consistency": 9 / 12, "bias_first": 0, "bias_second": 3 / 12, "unparsed": 0}
    # 100 tokens of each prompt, 20 of each judgement; 1 and 2 a million
    assert (report["prompt_tokens"], report["generated_tokens"], report["cost"]) == (5400, 1080, 0.00756)
    halves = [report["train"], report["validation"]]
    assert [sum(half[name] for half in halves) for name in ("questions", "rows", "with_reference")] == [4, 9, 3]
    assert TeachReport.read(output / "teach.json").to_record() == report
    out = capsys.readouterr().out
    assert "without reference: judged 15, consistency 60.0 %, bias_first 20.0 %" in out
    assert "cost: 0.0076, prompt tokens 5400, generated tokens 1080" in out


def test_rows_are_of_the_published_form_and_of_the_order_written(tmp_path: Path) -> None:
    output = tmp_path / "out"
    more = ("--references", reference_file(tmp_path), "--validation", "0.34")
    with Teacher() as server:
        assert run_command(arguments(server, output, answer_files(tmp_path), *more)) == 0
    train, validation = rows(output / "train.jsonl"), rows(output / "validation.jsonl")
    by_question = [{row["question_body"] for row in half} for half in (train, validation)]
    assert not by_question[0] & by_question[1]
    for row in train + validation:
        worth = [re.findall(r"worth (\d+)", row[f"answer{place}_body"])[0] for place in (1, 2)]
        assert row["text"] == f"{worth[0]} {worth[1]}\nAssistant 1 is worth {worth[0]}, Assistant 2 {worth[1]}."
        assert row["score"] == [float(each) for each in worth]
        key, _, models = row["question_id"].partition("/")
        names = ["m-" + "abc"[int(model) - 1] for model in models.split("-")]
        assert [row["answer1_model_id"], row["answer2_model_id"]] == names
        assert (row["answer1_id"], row["answer2_id"]) == tuple(f"{key}/{model}" for model in models.split("-"))
        assert row["answer1_metadata"] == {"decoding_method": "greedy"}
        assert (row["reviewer_id"], len(row["review_id"])) == ("gpt", 16)
        # of question 1 there is no reference, of 4 the teacher contradicts itself with one
        assert ("text_w_reference" in row) == ("reference" in row) == (key not in ("1", "4"))
        if "reference" in row:
            assert row["reference"] == {"text": f"The reference of {key}.", "model": "r"}
            assert row["text_w_reference"] == row["text"].removesuffix(".") + ", by the reference."
            assert row["score_w_reference"] == row["score"]
    teacher = {row["question_id"]: row["text"] for row in rows(output / "teacher.jsonl")}
    assert teacher == {row["question_id"]: row["text"] for row in validation}
    references = {row["question_id"]: row["reference"]["text"] for row in rows(output / "references.jsonl")}
    shown = [row["question_id"] for row in validation if not row["question_id"].startswith("1/")]
    assert references == {key: f"The reference of {key[0]}." for key in shown}


def test_the_files_of_validation_are_of_the_same_rows_and_questions_with_a_reference(tmp_path: Path) -> None:
    answers, references = answer_files(tmp_path), reference_file(tmp_path)
    left_out = []
    with Teacher() as server:
        for seed in range(6):
            output = tmp_path / str(seed)
            more = ("--references", references, "--validation", "0.5", "--inconsistent", "drop", "--seed", str(seed))
            assert run_command(arguments(server, output, answers, *more)) == 0
            report = report_of(output)
            left_out.append(report["left_out_of_validation"])
            assert report["train"]["rows"] + report["validation"]["rows"] + left_out[-1] == 9
            # the teacher is consistent with and without a reference at 5 and 6 alone, and to 1 there is none
            held = [row["question_id"] for row in rows(output / "validation.jsonl")]
            assert {key[0] for key in held} <= {"5", "6"}
            for name in ("teacher", "teacher_with_reference", "references"):
                assert [row["question_id"] for row in rows(output / f"{name}.jsonl")] == held
    # with question 4 in that half, whose three pairs it contradicts with the reference
    assert set(left_out) == {0, 3}


def test_what_becomes_of_contradictions_is_chosen_anew_without_asking_again(tmp_path: Path) -> None:
    output, answers = tmp_path / "out", answer_files(tmp_path)
    # "tie" and "keep" have question 2 too, of which the first answer was said to be better in both orders
    with Teacher() as server:
        for rule, scores in (("drop", None), ("tie", [6.0, 6.0]), ("keep", [9.0, 3.0]), ("drop", None)):
            assert run_command(arguments(server, output, answers, "--inconsistent", rule, "--validation", "0")) == 0
            found = [row for row in rows(output / "train.jsonl") if row["question_id"].startswith("2/")]
            assert [row["score"] for row in found] == ([] if scores is None else [scores] * 3)
            for row in found:
                assert row["text"].startswith("6 6\nAssistant 1 is worth 9" if rule == "tie" else "9 3\nAssistant 1")
            report = report_of(output)
            assert report["without_reference"]["contradicted"] == 3
            assert report["without_reference"]["left_out"].get("contradicted", 0) == (3 if scores is None else 0)
            assert report["with_reference"] is None
            assert report["references"] is None
            # without prices there is no cost, without validation none of its files
            assert report["cost"] is None
            assert set(written(output)) == {"train.jsonl", "teach.json"}
        assert len(server.asked) == 30


def test_a_model_writes_the_references_and_is_asked_once(tmp_path: Path) -> None:
    output, answers = tmp_path / "out", answer_files(tmp_path)
    more = ("--references", "writer", "--validation", "0.34", *PRICES)
    with Teacher() as server:
        assert run_command(arguments(server, output, answers, *more)) == 0
        before = written(output)
        bodies = [body for body in server.bodies if body["model"] == "writer"]
        assert sorted(body["messages"][0]["content"] for body in bodies) == [question(key) for key in ASKED]
        # the teacher's first row comes before: a server that does not take it is known of before references are paid
        assert [body["model"] for body in server.bodies][:3] == ["gpt", "gpt", "writer"]
        assert len(server.asked) == 30 + 6 + 12
        assert run_command(arguments(server, output, answers, *more)) == 0
        assert len(server.asked) == 48
    assert written(output) == before
    report = report_of(output)
    found = report["references"]
    assert (found["source"], found["name"], found["questions"]) == ("model", "writer", 3)
    # question 4's, 5's and 6's are whole
    assert found["left_out"] == {"refused": 1, "empty": 1, "cut": 1}
    assert (report["with_reference"]["judged"], report["cost"]) == (6, None)
    assert report["prompt_tokens"] == 100 * (30 + 12 + 5)
    reference = next(
        row for row in rows(output / "train.jsonl") + rows(output / "validation.jsonl") if "reference" in row
    )
    assert reference["reference"]["model"] == "writer"
    assert reference["reference"]["decoding_method"] == "greedy"


def test_prices_are_those_of_references_too_where_the_teacher_writes_them(tmp_path: Path) -> None:
    output, answers = tmp_path / "out", answer_files(tmp_path)
    with Teacher() as server:
        assert run_command(arguments(server, output, answers, "--references", "gpt", *PRICES)) == 0
    report = report_of(output)
    assert report["cost"] == (report["prompt_tokens"] + 2 * report["generated_tokens"]) / 1e6


def test_answers_of_a_model_are_references_too(tmp_path: Path) -> None:
    output = tmp_path / "out"
    careful = [
        {"question_id": key, "question_body": question(key), "text": f"<think>so</think>The reference of {key}."}
        for key in ASKED
    ]
    path = write_jsonl(tmp_path / "careful.jsonl", [{**row, "model": "careful"} for row in careful])
    with Teacher() as server:
        assert run_command(arguments(server, output, answer_files(tmp_path), "--references", path)) == 0
    assert report_of(output)["references"]["questions"] == 6
    reference = next(row["reference"] for row in rows(output / "train.jsonl") if "reference" in row)
    assert reference["model"] == "careful"
    assert reference["text"].startswith("The reference of ")


def test_a_question_with_several_ids_has_one_reference(tmp_path: Path) -> None:
    """As `judgelm collect --samples 2` writes the answers."""
    files = answer_files(tmp_path, "ab")
    for path in files:
        again = [{**row, "question_id": f"{row['question_id']}#2", "text": f"{row['text']} Yes."} for row in rows(path)]
        write_jsonl(path, [*rows(path), *again])
    with Teacher() as server:
        command = arguments(server, tmp_path / "out", files, "--references", "writer", "--validation", "0.34")
        assert run_command(command) == 0
        assert sum(body["model"] == "writer" for body in server.bodies) == 6
        num_asked = len(server.asked)
        assert run_command(command) == 0
        assert len(server.asked) == num_asked
        file = ("--references", reference_file(tmp_path), "--validation", "0")
        assert run_command(arguments(server, tmp_path / "file", files, *file)) == 0
    found = report_of(tmp_path / "out")["references"]
    assert (found["questions"], found["left_out"]) == (6, {"refused": 2, "empty": 2, "cut": 2})
    found = report_of(tmp_path / "file")["references"]
    # to question 1 there is none
    assert (found["questions"], found["left_out"]) == (10, {"missing": 2})
    train = rows(tmp_path / "file" / "train.jsonl")
    shown = {row["question_id"]: row["reference"]["text"] for row in train if "reference" in row}
    assert "#2/" in "".join(shown)
    assert all(reference == f"The reference of {key[0]}." for key, reference in shown.items())


def test_an_own_reference_goes_before_that_of_the_same_question(tmp_path: Path) -> None:
    files = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [
                {"question_id": key, "question_body": asked, "text": f"{name}{key}"}
                for key, asked in zip("1234", "qqqr", strict=True)
            ],
        )
        for name in "ab"
    ]
    given = [{"question_id": key, "reference": {"text": text}} for key, text in (("3", "third"), ("2", "second"))]
    path = write_jsonl(tmp_path / "refs.jsonl", [*given, {"question_id": "1", "reference": {"text": " "}}])
    found = read_references(path, read_answered(files).questions)
    assert {key: reference["text"] for key, reference in found.texts.items()} == {
        "1": "second",
        "2": "second",
        "3": "third",
    }
    assert found.left_out == {"missing": 1}


def test_files_of_others_are_neither_overwritten_nor_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, mine = answer_files(tmp_path), reference_file(tmp_path)
    before = mine.read_bytes()
    with Teacher() as server:
        references: list[str | Path] = ["--references", mine]
        for more in ([], references):
            assert run_command(arguments(server, tmp_path, answers, *more)) == 2
            error = capsys.readouterr().err
            assert ("is read, and would be written" if more else "exists already, and is of no teaching") in error
        output = tmp_path / "out"
        assert run_command(arguments(server, output, answers, *references)) == 0
        num_asked = len(server.asked)
        for flag, name in (("--references", "references.jsonl"), ("--question-file", "train.jsonl")):
            assert run_command(arguments(server, output, answers, flag, output / name)) == 2
            assert "is read, and would be written: name another folder" in capsys.readouterr().err
        with locked(output / "teach.json"):
            assert run_command(arguments(server, output, answers, *references, "--keep-judged")) == 2
        assert "another run is writing there" in capsys.readouterr().err
        assert len(server.asked) == num_asked
    assert mine.read_bytes() == before


def test_a_killed_teaching_goes_on_to_the_same_bytes_and_asks_nothing_twice(tmp_path: Path, run: Runner) -> None:
    answers = answer_files(tmp_path)
    more = ("--references", "writer", "--validation", "0.34", "--max-concurrency", "1", *PRICES)
    with Teacher() as server:
        assert run_command(arguments(server, tmp_path / "whole", answers, *more)) == 0
    with Teacher() as server:
        command = arguments(server, tmp_path / "killed", answers, *more)
        result = run("tests/taught.py", "12", "7", "--", *command)
        assert result.returncode == 0, result.stderr
        killed = int(result.stdout)
        assert killed > 5
        assert run_command(command) == 0
        # what was under way as it was killed is asked again, one request a time at most
        assert 48 <= len(server.asked) <= 48 + killed
    assert written(tmp_path / "killed") == written(tmp_path / "whole")
    assert set(written(tmp_path / "whole")) == set(WRITTEN)


def test_answers_are_graded_alone_and_by_an_aspect(tmp_path: Path) -> None:
    criteria = tmp_path / "clear.yaml"
    criteria.write_text("name: clear\nscale: [1, 9]\naspects:\n  - name: clarity\n    text: Is it clear?\n")
    answers = answer_files(tmp_path)
    with Teacher() as server:
        for output, more in (("plain", []), ("clear", ["--criteria", str(criteria)])):
            task = ("--task", "grade", "--validation", "0", *more)
            assert run_command(arguments(server, tmp_path / output, answers, *task)) == 0
        pairs = ("--criteria", str(criteria), "--validation", "0")
        assert run_command(arguments(server, tmp_path / "pairs", answers, *pairs)) == 0
    for output in ("plain", "clear"):
        found = rows(tmp_path / output / "train.jsonl")
        # 18 answers of which one is empty
        assert len(found) == 17
        assert Counter(row["score"][0] for row in found) == {8.0: 7, 6.0: 5, 3.0: 5}
        assert all(row["text"] == f"{row['score'][0]:g}\nThe answer is worth {row['score'][0]:g}." for row in found)
        assert all(("criteria" in row) == (output == "clear") for row in found)
        assert run_command(["train-data", "check", str(tmp_path / output / "train.jsonl")]) == 0
    found = rows(tmp_path / "pairs" / "train.jsonl")
    assert {row["criteria"]["aspects"][0]["name"] for row in found} == {"clarity"}
    assert all(row["text"].startswith(f"{row['score'][0]:g} {row['score'][1]:g}\nAssistant 1 is") for row in found)


def test_answers_to_a_dialogue_are_shown_with_all_its_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [{"role": "user", "content": "Shall we meet?"}, {"role": "assistant", "content": "Yes, when?"}]
    for path in (files := answer_files(tmp_path, "ab")):
        said = [{**row, "messages": [*before, {"role": "user", "content": row["question_body"]}]} for row in rows(path)]
        write_jsonl(path, said)
    with Teacher() as server:
        assert run_command(arguments(server, tmp_path / "out", files, "--references", "writer")) == 0
        prompts = [body["prompt"] if "prompt" in body else body["messages"][0]["content"] for body in server.bodies]
        assert all("Shall we meet?" in prompt and "Yes, when?" in prompt for prompt in prompts)
        assert f"user: Shall we meet?\n\nassistant: Yes, when?\n\n{question(5)}" in prompts
        assert run_command(["train-data", "check", str(tmp_path / "out" / "train.jsonl")]) == 0
        assert all(row["messages"][:2] == before for row in rows(tmp_path / "out" / "train.jsonl"))
        write_jsonl(files[1], [{**row, "messages": row["messages"][1:]} for row in rows(files[1])])
        capsys.readouterr()
        assert run_command(arguments(server, tmp_path / "other", files)) == 2
    assert "b.jsonl:1: messages differ from those of" in capsys.readouterr().err


def test_what_a_teacher_thinks_is_no_part_of_its_reasons(tmp_path: Path) -> None:
    class Thinking(Teacher):
        def answer(self, body: dict[str, Any], number: int, before: int) -> Any:
            said = super().answer(body, number, before)
            return wrote(f"<think>9 1, or not?</think>\n{said.body['choices'][0]['text']}")

    answers = answer_files(tmp_path)
    with Teacher() as server, Thinking() as thinking:
        assert run_command(arguments(server, tmp_path / "out", answers)) == 0
        assert run_command(arguments(thinking, tmp_path / "thought", answers, "--reasoning")) == 0
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / "thought" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    judged = rows(tmp_path / "thought" / "judged" / "without_reference" / "forward.jsonl")
    assert {row["pred_reasoning"] for row in judged} == {"9 1, or not?"}


def test_a_single_file_can_be_graded(tmp_path: Path) -> None:
    with Teacher() as server:
        command = arguments(server, tmp_path / "out", answer_files(tmp_path)[:1], "--task", "grade")
        assert run_command(command) == 0
    report = report_of(tmp_path / "out")
    assert (report["train"]["rows"], report["validation"]["rows"]) == (5, 1)
    assert [tuple(each.values()) for each in report["models"]] == [("m-a", 6, 6, 0)]


def test_a_limit_judges_the_first_rows_and_a_later_run_the_others(tmp_path: Path) -> None:
    output, answers = tmp_path / "out", answer_files(tmp_path)
    more = ("--references", reference_file(tmp_path), "--validation", "0")
    with Teacher() as server:
        # three pairs of question 1, which has no reference, and one of 2
        assert run_command(arguments(server, output, answers, *more, "--limit", "4")) == 0
        assert len(server.asked) == 8 + 2
        assert report_of(output)["with_reference"]["judged"] == 1
        assert run_command(arguments(server, output, answers, *more)) == 0
        assert len(server.asked) == 54


def test_rows_of_a_teaching_train_a_judge_that_is_measured_on_the_others(
    tmp_path: Path, model_folder: Path, run: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `teach` on, as examples/teach says it."""
    output = tmp_path / "out"
    with Teacher() as server:
        more = ("--references", reference_file(tmp_path), "--validation", "0.34")
        assert run_command(arguments(server, output, answer_files(tmp_path), *more)) == 0
    train, validation = str(output / "train.jsonl"), str(output / "validation.jsonl")
    check = ["train-data", "check", train, "--tokenizer", str(model_folder), "--validation-file", validation]
    assert run_command(check) == 0
    out = capsys.readouterr().out
    assert "validation: 0 of 2 questions stand in the training file too" in out
    judge = tmp_path / "judge"
    flags = ["--nproc", "1", "--model_name_or_path", model_folder, "--data_path", train, "--output_dir", judge]
    short = ["--max_steps", "2", "--per_device_train_batch_size", "2", "--save_strategy", "no", *QUIET]
    result = run("-m", "judgelm", "train", *flags, *short)
    assert result.returncode == 0, result.stderr
    references = ["--reference-file", str(output / "references.jsonl")]
    for name, shown in (("teacher", []), ("teacher_with_reference", references)):
        judging = ["judge", "--model", str(judge), "--question-file", validation, "--output-dir", str(tmp_path / name)]
        assert run_command([*judging, "--scoring", "expected", "--device", "cpu", *shown]) == 0
        assert run_command(["evaluate", str(tmp_path / name), "--teacher", str(output / f"{name}.jsonl")]) == 0
        numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (numbers["total_num"], numbers["not_judged"]) == (report_of(output)["validation"]["rows"], 0)


def test_a_model_in_this_process_teaches(tmp_path: Path, model_folder: Path) -> None:
    output = tmp_path / "out"
    fixed = ["teach", "--answers", *map(str, answer_files(tmp_path)), "--teacher", str(model_folder)]
    more = ["--device", "cpu", "--constrained", "--scores-only", "--inconsistent", "keep", "--pairs", "1"]
    command = [*fixed, "--output-dir", str(output), *more, "--references", str(reference_file(tmp_path))]
    assert run_command(command) == 0
    report = report_of(output)
    assert (report["without_reference"]["judged"], report["with_reference"]["judged"]) == (6, 5)
    assert all(re.fullmatch(r"\d+ \d+", row["text"]) for row in rows(output / "train.jsonl"))
    before = written(output)
    assert run_command(command) == 0
    assert written(output) == before


def test_a_model_in_this_process_writes_references(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = tmp_path / "chats"
    shutil.copytree(model_folder, chats)
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    loaded: list[weakref.ref[Judge]] = []
    there = []
    load = Judge.load

    def count(*args: Any, **settings: Any) -> Judge:
        there.append(sum(each() is not None for each in loaded))
        found = load(*args, **settings)
        loaded.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Judge, "load", count)
    (chats / "chat_template.jinja").write_text(template)
    fixed = ["teach", "--answers", *map(str, answer_files(tmp_path)), "--teacher", str(model_folder)]
    more = ["--device", "cpu", "--constrained", "--scores-only", "--inconsistent", "keep", "--pairs", "1"]
    more += ["--temperature", "1", "--max-new-token", "400"]
    command = [*fixed, "--output-dir", str(tmp_path / "out"), *more, "--references"]
    assert run_command([*command, str(model_folder)]) == 2
    assert "the tokenizer has no chat template" in capsys.readouterr().err
    assert run_command([*command, str(chats)]) == 0
    # the writer is gone as the teacher is loaded: there may be room for one of them
    assert there == [0, 0]
    found = report_of(tmp_path / "out")
    assert found["references"]["questions"] + sum(found["references"]["left_out"].values()) == 6
    assert found["with_reference"]["judged"] == found["references"]["questions"] > 0


def test_teaching_from_python(tmp_path: Path) -> None:
    with Teacher() as server:
        report = teach(
            answer_files(tmp_path),
            tmp_path / "out",
            Server(server.url, "gpt"),
            TeachSettings(pairs_per_question=1, validation=0),
            JudgeSettings(temperature=0),
            references=reference_file(tmp_path),
            model_id="my teacher",
        )
    assert (report.teacher, report.pairs_per_question, report.without_reference.judged) == ("my teacher", 1, 6)
    assert report == TeachReport.read(tmp_path / "out" / "teach.json")
    with pytest.raises(SettingError, match="inconsistent 'mend': expected drop, keep, tie"):
        TeachSettings(inconsistent="mend")  # type: ignore[arg-type]
