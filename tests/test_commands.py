from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, build_model, make_samples, train_byte_tokenizer, write_jsonl
from forked import python
from judged_texts import measured
from judging import Scripted, lasting, run_command

from judgelm import Judge, Sample
from judgelm.cli import main
from judgelm.commands.published import published_main
from judgelm.engine.interface import Sampling
from judgelm.judge.log import count_records
from judgelm.judge.settings import JudgeSettings
from judgelm.judgement import ParseState
from judgelm.report.terminal import counts_line, win_lines


def published(task: str, *arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        published_main(task, [str(a) for a in arguments])
    return int(ended.value.code or 0)


def as_published(model: Path, questions: Path, answers: Path) -> list[str | Path]:
    """The flags in the published order."""
    return [
        *("--model-path", model, "--model-id", "7b-full-model", "--question-file", questions, "--answer-file", answers),
        *("--num-gpus-per-model", "1", "--num-gpus-total", "1", "--temperature", "0.2"),
    ]


def test_published_pair_script_writes_and_prints_what_is_published(
    model_folder: Path, pairs_file: Path, tmp_path: Path, run: Any
) -> None:
    references = [{"question_id": k, "reference": {"text": f"R{k}"}} for k in range(12)]
    more = ["--reference-file", write_jsonl(tmp_path / "r.jsonl", references), "--if-fast-eval", "1"]
    base = as_published(model_folder, pairs_file, tmp_path / "new" / "7b")
    result = run("judgelm/llm_judge/gen_model_judgement.py", *base, *more, "--max-new-token", "8")
    assert result.returncode == 0, result.stderr
    assert "Assistant 1's reuslts ---> win_num: " in result.stdout
    records = lasting(tmp_path / "new" / "7b")
    assert [r["question_id"] for r in records] == list(range(12))
    assert [r["reference"] for r in records] == [f"R{k}" for k in range(12)]
    assert {r["pred_model_id"] for r in records} == {"7b-full-model"}
    assert (tmp_path / "new" / "7b.run.json").is_file()


@pytest.mark.parametrize("flag", ["--if-reverse", "--if-reverse-answers"])
def test_published_reverse_flags_exchange_the_answers(
    flag: str, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    base = as_published(model_folder, pairs_file, tmp_path / "o")
    ends = [
        flag,
        "1",
        "--reference-file",
        "None",
        "--max-new-token",
        "4",
        "--question-begin",
        "2",
        "--question-end",
        "5",
    ]
    assert published("pair", *base, *ends) == 0
    records = lasting(tmp_path / "o")
    assert [r["question_id"] for r in records] == [2, 3, 4]
    for sample, record in zip(make_samples(12)[2:5], records, strict=True):
        assert (record["answer1_body"], record["answer2_body"]) == (sample.answers[1], sample.answers[0])
        assert record["pred_order"] == "reversed"


def test_published_single_multi_and_mmvet_scripts(model_folder: Path, tmp_path: Path) -> None:
    rows = [{**s.to_record(), "answer3_body": "third", "answer4_body": "fourth"} for s in make_samples(3)]
    questions = write_jsonl(tmp_path / "q.jsonl", rows)
    short = ["--max-new-token", "6", "--if-fast-eval", "0"]
    assert published("single", *as_published(model_folder, questions, tmp_path / "s"), *short) == 0
    assert [r["pred_task"] for r in lasting(tmp_path / "s")] == ["single"] * 3
    multi = as_published(model_folder, questions, tmp_path / "m")
    assert published("multi", *multi, *short, "--answer-num", "4") == 0
    assert len(lasting(tmp_path / "m")) == 3
    pictures = [
        {"question_id": k, "question": "Q", "answer": "x<OR>y", "answer1_body": "p", "imagename": "i"} for k in range(3)
    ]
    vet = write_jsonl(tmp_path / "v.jsonl", pictures)
    assert published("mmvet", *as_published(model_folder, vet, tmp_path / "mv"), *short) == 0
    for before, after in zip(pictures, lasting(tmp_path / "mv"), strict=True):
        assert before.items() <= after.items()


@pytest.fixture(scope="module")
def brief_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a short context, as the scripts let it write until that is full."""
    return build_model(tmp_path_factory.mktemp("model") / "brief-llama", train_byte_tokenizer(), context=768)


@pytest.mark.parametrize("script", ["judge", "eval", "grade_single_answer", "grade_multi_answer"])
def test_shell_scripts_run_with_their_paths_as_variables(script: str, brief_folder: Path, tmp_path: Path) -> None:
    rows = [{"question_id": k, "question_body": f"Q{k}", "text": f"answer {k}"} for k in range(3)]
    samples = [s.to_record() for s in make_samples(3)]
    write_jsonl(tmp_path / "judgelm_val_5k.jsonl", samples)
    write_jsonl(
        tmp_path / "judgelm_val_5k_references.jsonl", [{"question_id": k, "reference": {"text": "R"}} for k in range(3)]
    )
    for ending in ("gpt4", "gpt4_with_reference"):
        write_jsonl(tmp_path / f"judgelm_val_5k_{ending}.jsonl", [{"question_id": k, "text": "8 7"} for k in range(3)])
    for name in ("vicuna", "llama", "gt", "alpaca", "chatglm", "dolly", "flant5"):
        write_jsonl(tmp_path / "answers" / f"{name}_judgelm_val.jsonl", rows)
    variables = {
        "MODEL_PATH": brief_folder,
        "DATA_DIR": tmp_path,
        "OUTPUT_DIR": tmp_path / "out",
        "PYTHON": python(),
    }
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    ending = "_judge_on" if script == "eval" else "_on"
    command = ["bash", f"scripts/{script}{ending}_judgelm_benchmark.sh"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 0, result.stderr
    outputs = {p.name for p in (tmp_path / "out").iterdir() if not p.name.endswith(".json") and p.name[0] != "."}
    assert (
        outputs
        == {
            "judge": {"7b-full-model"},
            "eval": {f"7b-full-model{e}" for e in ("", "-reverse", "-w-ref", "-w-ref-reverse")},
            "grade_single_answer": {"7b-full-model-single-ans"},
            "grade_multi_answer": {"7b-full-model-multi-ans"},
        }[script]
    )
    if script == "eval":
        assert json.loads(result.stdout.splitlines()[-1])["total_num"] == 3


def test_mmvet_shell_script_runs(brief_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mm-vet-gt.json").write_text(json.dumps({"v1_0": {"question": "Q", "answer": "A", "imagename": "i"}}))
    (tmp_path / "p.json").write_text(json.dumps({"v1_0": "prediction"}))
    variables = {
        "MODEL_PATH": brief_folder,
        "DATA_DIR": tmp_path,
        "OUTPUT_DIR": tmp_path / "out",
        "PRED_FILE": tmp_path / "p.json",
        "PYTHON": python(),
    }
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    command = ["bash", "scripts/judge_on_mmvet_benchmark.sh"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 0, result.stderr
    assert lasting(tmp_path / "out" / "33b-full-model-judgements")[0]["answer1_body"] == "prediction"


# D21 of docs/differences.md
def test_published_single_script_warns_when_exchanged(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [*as_published(model_folder, pairs_file, tmp_path / "s"), "--max-new-token", "2"]
    assert published("single", *base, "--if-reverse-answers", "1") == 0
    assert "warning: exchanged" in capsys.readouterr().err
    assert lasting(tmp_path / "s")[0]["answer1_body"] == make_samples(1)[0].answers[1]


# D16 of docs/differences.md
def test_answer_file_of_other_settings_is_never_appended_to(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [*as_published(model_folder, pairs_file, tmp_path / "o"), "--max-new-token", "4"]
    assert published("pair", *base) == 0
    before = (tmp_path / "o").read_bytes()
    assert published("pair", *base, "--temperature", "0.9") == 2
    assert "temperature was 0.2, now 0.9" in capsys.readouterr().err
    assert (tmp_path / "o").read_bytes() == before
    assert published("pair", *base) == 0
    assert (tmp_path / "o").read_bytes() == before
    assert published("pair", *base, "--if-reverse", "1") == 2
    assert "order was 'forward', now 'reversed'" in capsys.readouterr().err
    assert (tmp_path / "o").read_bytes() == before
    (tmp_path / "o.run.json").unlink()
    assert published("pair", *base) == 2
    assert "exists already without o.run.json" in capsys.readouterr().err
    assert (tmp_path / "o").read_bytes() == before


def bad_inputs(tmp_path: Path, model: Path, pairs: Path) -> dict[str, tuple[list[str], str]]:
    """name -> (arguments, what the one line says)."""
    record = make_samples(1)[0].to_record()
    empty, broken, twice = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl", tmp_path / "twice.jsonl"
    empty.write_text("")
    broken.write_text(json.dumps(record) + "\n{\n")
    write_jsonl(twice, [record, record])
    missing = write_jsonl(tmp_path / "field.jsonl", [{"question_id": 1, "question_body": "Q", "answer1_body": "a"}])
    refs = write_jsonl(tmp_path / "refs.jsonl", [{"question_id": 0, "text": "8 7", "reference": {"text": "R"}}])
    (tmp_path / "no-weights").mkdir()
    (tmp_path / "no-weights" / "config.json").write_text("{}")
    (tmp_path / "a-file").write_text("")
    damaged = tmp_path / "damaged"
    shutil.copytree(model, damaged)
    (damaged / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-100])
    out = str(tmp_path / "out")

    def asked(questions: Path = pairs, *more: str, output: str = out, model_name: str = str(model)) -> list[str]:
        fixed = ["--model", model_name, "--output-dir", output, "--device", "cpu"]
        return ["judge", "--question-file", str(questions), *fixed, *more]

    teacher = ["evaluate", "--teacher", str(refs), "--forward", str(pairs)]
    return {
        "missing file": (asked(tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        "broken JSON": (asked(broken), "broken.jsonl:2: not JSON"),
        "missing field": (asked(missing), "field.jsonl:1: field 'answer2_body' is missing"),
        "double id": (asked(twice), "twice.jsonl:2: question_id 0 stands already in line 1"),
        "reference missing": (
            asked(pairs, "--reference-file", str(refs)),
            "refs.jsonl has no reference for question_id 1",
        ),
        "teacher missing": (teacher, "refs.jsonl has no teacher judgement for question_id 1"),
        "fewer answers": (
            asked(pairs, "--task", "multi", "--answer-num", "4"),
            "pairs.jsonl:1: 4 answers asked for, found 2",
        ),
        "unknown task": (asked(pairs, "--task", "triple"), "unknown task 'triple'"),
        "no weights": (asked(model_name=str(tmp_path / "no-weights")), "holds no weights"),
        "no model": (asked(model_name=str(tmp_path / "nothing")), "no such folder"),
        "output no folder": (asked(output=str(tmp_path / "a-file")), "a-file: cannot be written"),
        "output not writable": (asked(output="/proc/judgelm"), "/proc/judgelm: cannot be written"),
        "empty file": (asked(empty), "empty.jsonl: the file is empty"),
        "unknown flag": (asked(pairs, "--verbose"), "unrecognized arguments: --verbose"),
        "no number": (asked(pairs, "--temperature", "warm"), "--temperature: invalid number value: 'warm'"),
        "negative": (asked(pairs, "--limit", "0"), "--limit: expected a whole number from 1 on, found 0"),
        "orders": (asked(pairs, "--task", "mmvet", "--orders", "both"), "judged in forward order only"),
        "single reversed": (asked(pairs, "--task", "single", "--orders", "reversed"), "judged in forward order only"),
        "answers of a pair": (asked(pairs, "--answer-num", "4"), "can be asked for with task multi only"),
        "damaged weights": (asked(model_name=str(damaged)), "cannot be loaded"),
    }


NAMES = [
    "missing file",
    "broken JSON",
    "missing field",
    "double id",
    "reference missing",
    "teacher missing",
    "fewer answers",
    "unknown task",
    "no weights",
    "no model",
    "output no folder",
    "output not writable",
    "empty file",
    "unknown flag",
    "no number",
    "negative",
    "orders",
    "single reversed",
    "answers of a pair",
    "damaged weights",
]


# D18 of docs/differences.md
@pytest.mark.parametrize("name", NAMES)
def test_bad_input_exits_2_with_one_line(
    name: str, tmp_path: Path, model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = bad_inputs(tmp_path, model_folder, pairs_file)
    assert sorted(cases) == sorted(NAMES)
    arguments, said = cases[name]
    write_jsonl(pairs_file, [{**s.to_record(), "pred_text": "8 7"} for s in make_samples(3)])
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert captured.out == ""


def test_a_real_process_gives_the_same_line_and_code(run: Any, tmp_path: Path) -> None:
    result = run("-m", "judgelm", "judge", "--question-file", tmp_path / "none.jsonl", "--output-dir", tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"judgelm: error: {tmp_path}/none.jsonl: no such file\n"


def test_a_misspelt_flag_is_named_beside_the_one_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["judge", "--question-fil", "q.jsonl", "--output-dir", "o", "--scores-only"]) == 2
    said = "the following arguments are required: --question-file; unknown: --question-fil (--help lists the flags)"
    assert capsys.readouterr().err == f"judgelm judge: error: {said}\n"


def test_ids_and_errors_cannot_drive_the_terminal(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = {**make_samples(1)[0].to_record(), "question_id": "\x1b[2Jid"}
    questions = write_jsonl(tmp_path / "q.jsonl", [sample])
    base = [
        "--model",
        str(model_folder),
        "--device",
        "cpu",
        "--max-new-token",
        "2",
        "--output-dir",
        str(tmp_path / "o"),
    ]
    assert run_command(["judge", "--question-file", str(questions), *base]) == 0
    assert run_command(["judge", "--question-file", str(write_jsonl(questions, [sample, sample])), *base]) == 2
    captured = capsys.readouterr()
    assert "[2Jid" in captured.out
    assert "[2Jid" in captured.err
    assert "\x1b" not in captured.out
    assert "\x1b" not in captured.err.splitlines()[-1]


def test_teacher_rows_without_a_judgement_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = write_jsonl(tmp_path / "t.jsonl", [{"question_id": k, "text": "8 7"} for k in range(5)])
    forward = write_jsonl(tmp_path / "f.jsonl", [{"question_id": k, "pred_text": "8 7"} for k in range(2)])
    assert run_command(["evaluate", "--teacher", str(teacher), "--forward", str(forward)]) == 0
    captured = capsys.readouterr()
    assert f"3 rows of {teacher} have no judgement" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["not_judged"] == 3


def test_closed_output_is_no_traceback(run: Any, pairs_file: Path) -> None:
    command = f"{sys.executable} -m judgelm prompt --question-file {pairs_file} | head -c 10"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ('{"question', "")


def records_of(texts: dict[str, str]) -> list[dict[str, Any]]:
    judge_ = Judge(Scripted(texts))
    samples = [Sample(key, "Q", ["a", "b"]) for key in texts]
    return [judged.to_record() for judged in judge_.run(samples, ["forward"], JudgeSettings())]


# D2 of docs/differences.md
def test_harmless_score_line_variations_are_repaired_and_counted() -> None:
    texts = dict(enumerate(["8, 9", "8  9", " 8 9 ", "8/10 9/10", "8 9"]))
    records = records_of({str(k): text for k, text in texts.items()})
    assert [r["pred_scores"] for r in records] == [[8.0, 9.0]] * 5
    counts = count_records(records)
    assert (counts[ParseState.REPAIRED], counts[ParseState.OK]) == (4, 1)
    assert counts_line("forward", counts) == "forward: 5 judged, 0 unparsed, 4 repaired"
    found = measured(*((text, None, "1 2") for text in texts.values()))
    assert (found["repaired_forward"], found["agreement"], found["accuracy"]) == (4, 1.0, 0.2)


def test_empty_answers_are_counted_and_said() -> None:
    samples = [Sample(1, "Q", ["", "b"]), Sample(2, "Q", [" \n", "\t"]), Sample(3, "Q", ["a", "b"])]
    judge_ = Judge(Scripted({str(key): "5 5" for key in (1, 2, 3)}))
    records = [judged.to_record() for judged in judge_.run(samples, ["forward"], JudgeSettings())]
    counts = count_records(records)
    assert counts_line("forward", counts) == "forward: 3 judged, 0 unparsed, 3 empty answers"
    # of an older version's run.json
    del counts["empty_answers"]
    assert counts_line("forward", counts) == "forward: 3 judged, 0 unparsed"


# D4 of docs/differences.md
def test_unparsed_judgement_is_neither_win_nor_tie_outside_the_published_keys() -> None:
    records = records_of({"1": "no idea", "2": "8 7"})
    unparsed = next(r for r in records if r["question_id"] == "1")
    assert (unparsed["pred_outcome"], unparsed["pred_scores"], unparsed["pred_text"]) == (None, None, "no idea")
    assert (
        win_lines(count_records(records)).splitlines()[0]
        == "Assistant 1's reuslts ---> win_num: 1, tie_num: 0, lose_num: 0"
    )
    found = measured(("no idea", None, "5 5"))
    assert (found["accuracy"], found["agreement"], found["tie_forward"]) == (1.0, 0.0, 0)


# D1 of docs/differences.md
def test_generation_without_stop_string_keeps_its_last_character(model_folder: Path) -> None:
    from test_engine import load_engine, requests

    engine = load_engine(model_folder)
    asked = requests(engine, 6)
    plain = {g.key: g.text for g in engine.generate(asked, Sampling(max_new_tokens=12))}
    never = {g.key: g for g in engine.generate(asked, Sampling(max_new_tokens=12, stop=("\0 never",)))}
    assert {key: g.text for key, g in never.items()} == plain
    assert {g.finish_reason for g in never.values()} == {"length"}


# D8 of docs/differences.md
def test_files_are_joined_by_question_id_and_a_missing_or_double_id_is_named(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question_id": k, "reference": {"text": f"R{k}"}, "text": f"{k} 5"} for k in range(12)]
    outputs: list[Any] = []
    for name, order in (("a", rows), ("b", rows[::-1])):
        references = write_jsonl(tmp_path / f"{name}.jsonl", order)
        base = as_published(model_folder, pairs_file, tmp_path / f"out-{name}")
        assert published("pair", *base, "--reference-file", references, "--max-new-token", "4") == 0
        outputs.append(lasting(tmp_path / f"out-{name}"))
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["evaluate", "--teacher", str(references), "--forward", str(tmp_path / f"out-{name}")])
        outputs.append(capsys.readouterr().out)
    assert outputs[:2] == outputs[2:]
    twice = write_jsonl(tmp_path / "twice.jsonl", [*rows, rows[0]])
    assert run_command(["evaluate", "--teacher", str(twice), "--forward", str(tmp_path / "out-a")]) == 2
    assert "twice.jsonl:13: question_id 0 stands already in line 1" in capsys.readouterr().err
