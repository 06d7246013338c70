from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, make_samples, write_jsonl
from filelock import FileLock
from forked import python
from judging import Scripted, judge_args, lasting, run_command

from judgelm import Judge, Sample
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.judge.judged import NOT_ALWAYS
from judgelm.judge.log import JudgementRecord
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.prompt import TASKS


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [sample.to_record() for sample in make_samples(60)]
    return write_jsonl(tmp_path_factory.mktemp("many") / "pairs.jsonl", records[::-1])


@pytest.fixture(scope="module")
def undisturbed(many: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert run_command(judge_args(model_folder, many, output)) == 0
    return output


def test_both_orders_are_written_sorted_and_described(undisturbed: Path, many: Path) -> None:
    assert sorted(p.name for p in undisturbed.iterdir() if not p.name.startswith(".")) == [
        "forward.jsonl",
        "reversed.jsonl",
        "run.json",
    ]
    forward, reversed_ = (lasting(undisturbed / f"{order}.jsonl") for order in ("forward", "reversed"))
    assert [r["question_id"] for r in forward] == [r["question_id"] for r in reversed_] == list(range(60))
    by_id = {s.question_id: s.to_record() for s in make_samples(60)}
    for one, other in zip(forward, reversed_, strict=True):
        assert by_id[one["question_id"]].items() <= one.items()
        assert (other["answer1_body"], other["answer2_body"]) == (one["answer2_body"], one["answer1_body"])
        assert (one["pred_order"], other["pred_order"]) == ("forward", "reversed")
        assert one["pred_parse"] == Judgement.parse(one["pred_text"]).state
    run = json.loads((undisturbed / "run.json").read_text())
    assert run["finished"] is True
    assert run["counts"]["forward"]["total"] == run["counts"]["reversed"]["total"] == 60
    assert run["counts"]["forward"]["failed"] == sum(r["pred_parse"] == "failed" for r in forward)
    assert run["sessions"][0]["judged"] == 120
    assert run["sessions"][0]["seconds"] > 0
    assert run["sessions"][0]["versions"]["torch"]
    assert run["sessions"][0]["engine"]["attention"] == "packed"
    assert run["settings"]["temperature"] == 0
    assert len(run["settings"]["model_fingerprint"]) == len(run["settings"]["prompt_fingerprint"]) == 64


@pytest.mark.parametrize(("sent", "times"), [("SIGKILL", 6), ("SIGINT", 3)])
def test_runs_ended_at_random_points_resume_to_the_same_bytes(
    sent: str, times: int, run: Any, many: Path, model_folder: Path, undisturbed: Path, tmp_path: Path
) -> None:
    partial = [tmp_path / f"{order}.jsonl.partial" for order in ("forward", "reversed")]
    # few at once, so that judgements come one after another
    arguments = judge_args(model_folder, many, tmp_path, "--batch-tokens", "2500")
    result = run("tests/interrupted_runs.py", sent, str(times), "4", *partial, "--", *arguments)
    assert result.returncode == 0, result.stderr
    ends = json.loads(result.stdout.splitlines()[-1])
    assert len(ends) == times
    if sent == "SIGKILL":
        assert [end["status"] for end in ends] == [signal.SIGKILL] * times, ends
    else:
        assert 130 << 8 in [end["status"] for end in ends], ends
        assert "what was judged is kept" in result.stderr
        # what Python says of a library's __del__ that was interrupted is not ours
        assert "Traceback" not in re.sub(
            r"Exception ignored in.*?\nKeyboardInterrupt[^\n]*\n", "", result.stderr, flags=re.S
        )
    assert 0 < ends[-1]["lines"] < 120, "the runs were to be ended in the middle"
    assert not (tmp_path / "reversed.jsonl").exists()
    assert run_command(arguments) == 0
    for order in ("forward", "reversed"):
        resumed, expected = (lasting(folder / f"{order}.jsonl") for folder in (tmp_path, undisturbed))
        assert [json.dumps(record) for record in resumed] == [json.dumps(record) for record in expected]
        assert not (tmp_path / f"{order}.jsonl.partial").exists()
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    # a run killed before it began to judge leaves no session
    assert times // 2 < len(sessions) <= times + 1


def test_half_a_line_is_judged_again_and_what_is_there_is_skipped(
    many: Path, model_folder: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = judge_args(model_folder, many, tmp_path)
    assert run_command(arguments) == 0
    lines = (tmp_path / "forward.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "forward.jsonl").unlink()
    (tmp_path / "forward.jsonl.partial").write_bytes(b"".join(lines[40:10:-1]) + lines[3][:70])
    capsys.readouterr()
    assert run_command(arguments) == 0
    assert "90 of 120 judgements are there already and are skipped" in capsys.readouterr().err
    assert lasting(tmp_path / "forward.jsonl") == lasting(undisturbed / "forward.jsonl")
    kept = {json.loads(line)["pred_id"] for line in lines[11:41]}
    assert kept < {json.loads(line)["pred_id"] for line in (tmp_path / "forward.jsonl").read_bytes().splitlines()}


LIMITED = (
    "import resource, sys; from judgelm.cli import main;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); main(sys.argv[1:])"
)
"""the command where no file may be larger"""


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    many: Path, model_folder: Path, undisturbed: Path, tmp_path: Path
) -> None:
    arguments = judge_args(model_folder, many, tmp_path)
    # its output is a pipe, which the limit is not for
    command = [python(), "-c", LIMITED, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert ".jsonl.partial: cannot be written (File too large); what was judged is kept" in last
    partial = (tmp_path / "forward.jsonl.partial").read_bytes()
    assert 1 < partial.count(b"\n") < 60
    assert run_command(arguments) == 0
    assert lasting(tmp_path / "forward.jsonl") == lasting(undisturbed / "forward.jsonl")


def test_limit_takes_the_first_rows_and_a_later_run_goes_on(
    many: Path, model_folder: Path, tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = ("--orders", "forward")
    assert run_command(judge_args(model_folder, many, tmp_path, *forward, "--limit", "5")) == 0
    assert [r["question_id"] for r in lasting(tmp_path / "forward.jsonl")] == [55, 56, 57, 58, 59]
    assert run_command(judge_args(model_folder, many, tmp_path, *forward)) == 0
    assert "5 of 60 judgements are there already" in capsys.readouterr().err
    assert [r["question_id"] for r in lasting(tmp_path / "forward.jsonl")] == list(range(60))
    assert run_command(judge_args(model_folder, many, tmp_path)) == 0
    assert lasting(tmp_path / "reversed.jsonl") == lasting(undisturbed / "reversed.jsonl")
    assert set(json.loads((tmp_path / "run.json").read_text())["counts"]) == {"forward", "reversed"}


def test_a_finished_run_loads_no_model(
    many: Path, model_folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Judge, "load", refuse)
    before = (undisturbed / "forward.jsonl").read_bytes()
    assert run_command(judge_args(model_folder, many, undisturbed)) == 0
    assert (undisturbed / "forward.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", "5"], "seed was 0, now 5"),
        (["--temperature", "0.7"], "temperature was 0.0, now 0.7"),
        (["--scores-only"], "scores_only was False, now True"),
        (["--task", "single", "--orders", "forward"], "task was 'pair', now 'single'"),
        (["--dtype", "float16"], "now 'float16'"),
        (["--model-id", "other"], "model_id was 'random-llama', now 'other'"),
    ],
)
def test_a_run_with_other_settings_in_the_same_folder_is_refused(
    change: list[str],
    said: str,
    many: Path,
    model_folder: Path,
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {p.name: p.read_bytes() for p in undisturbed.iterdir()}
    assert run_command(judge_args(model_folder, many, undisturbed, *change)) == 2
    assert said in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in undisturbed.iterdir()} == before


def test_a_partial_file_without_its_description_is_not_taken_over(
    many: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reversed.jsonl.partial").write_text('{"question_id": 1}\n')
    assert run_command(judge_args(model_folder, many, tmp_path, "--orders", "forward")) == 2
    assert "reversed.jsonl.partial exists already without run.json" in capsys.readouterr().err


def test_an_interrupted_session_leaves_its_engine_and_time(run: Any, tmp_path: Path) -> None:
    samples = make_samples(3)

    class Interrupted(Scripted):
        def generate(self, requests: Any, sampling: Any, **settings: Any) -> Any:
            yield Generation("forward 0", "8 7", 1, 1, "stop")
            raise KeyboardInterrupt

    files = RunFiles.in_folder(tmp_path, ("forward",))
    with pytest.raises(KeyboardInterrupt):
        run_judge(lambda: Judge(Interrupted({})), samples, JudgeSettings(), files, {}, "m")
    session = json.loads((tmp_path / "run.json").read_text())["sessions"][0]
    assert (session["judged"], session["engine"]) == (1, {"engine": "scripted"})
    assert session["seconds"] > 0


def test_half_a_surrogate_pair_in_a_field_carried_along_stays_escaped(tmp_path: Path) -> None:
    sample = Sample.from_record({**make_samples(1)[0].to_record(), "source": "half \ud83d"})
    files = RunFiles.in_folder(tmp_path, ("forward",))
    run_judge(lambda: Judge(Scripted({"0": "8 7"})), [sample], JudgeSettings(), files, {}, "m")
    assert lasting(tmp_path / "forward.jsonl")[0]["source"] == "half \ud83d"


def test_a_judged_file_is_judged_anew_without_what_its_judge_said(tmp_path: Path) -> None:
    row = make_samples(1)[0].to_record()
    stale = {name: "of another judge" for name in JudgementRecord.model_fields if name != "question_id"}
    files = RunFiles.in_folder(tmp_path, ("forward", "reversed"))
    samples = [Sample.from_record({**stale, **row, "pred_note": "somebody's own"})]
    load = lambda: Judge(Scripted({"0": "8 7"}))  # noqa: E731
    run_judge(load, samples, JudgeSettings(), files, {"question_file_sha256": "one"}, "m")
    (forward,) = lasting(tmp_path / "forward.jsonl")
    assert {name: forward[name] for name in NOT_ALWAYS if name in forward} == {}
    assert (
        forward.items() >= {**row, "pred_note": "somebody's own", "pred_text": "8 7", "pred_order": "forward"}.items()
    )
    assert JudgementRecord.model_fields.keys() - forward.keys() - {"pred_id", "pred_model_id", "tstamp"} == NOT_ALWAYS
    assert [sample.forward.scores for sample in read_folder(tmp_path) if sample.forward] == [(8, 7)]
    run_judge(load, samples, JudgeSettings(), files, {"question_file_sha256": "other"}, "m", keep_judged=True)
    assert lasting(tmp_path / "forward.jsonl") == [forward]


def test_a_run_that_ended_before_its_first_judgement_binds_nobody(
    many: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Judge, "load", fail)
        assert run_command(judge_args(model_folder, many, tmp_path, "--seed", "1")) == 130
    assert (tmp_path / "run.json").exists()
    assert run_command(judge_args(model_folder, many, tmp_path, "--limit", "2")) == 0


def test_a_changed_question_file_is_refused(
    model_folder: Path, tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = judge_args(model_folder, pairs_file, tmp_path / "out")
    assert run_command(arguments) == 0
    pairs_file.write_text(pairs_file.read_text().replace("what is", "what was"))
    assert run_command(arguments) == 2
    assert "question_file_sha256 was" in capsys.readouterr().err


def test_two_runs_at_once_in_a_folder_are_refused(
    model_folder: Path, tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / ".run.json.lock"):
        assert run_command(judge_args(model_folder, pairs_file, tmp_path)) == 2
    assert "another run is writing there" in capsys.readouterr().err


# D10 of docs/differences.md
def test_prompt_that_cannot_fit_is_recorded_and_counted(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [*make_samples(2), Sample(2, "why? " * 3000, ["a", "b"]), Sample(3, "Q", ["word " * 3000, "b"])]
    questions = write_jsonl(tmp_path / "q.jsonl", [s.to_record() for s in samples])
    assert run_command(judge_args(model_folder, questions, tmp_path / "out", "--orders", "forward")) == 0
    records = lasting(tmp_path / "out" / "forward.jsonl")
    assert [r["pred_finish_reason"] == "prompt_too_long" for r in records] == [False, False, True, False]
    assert (records[2]["pred_text"], records[2]["pred_scores"], records[2]["pred_tokens"]) == ("", None, 0)
    assert [r["pred_shortened"] is None for r in records] == [True, True, True, False]
    cut, whole = records[3]["pred_shortened"]
    assert cut > 500
    assert whole == 0
    assert records[3]["pred_prompt_tokens"] <= 2048 - 24
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["forward"]
    assert (counts["prompt_too_long"], counts["shortened"], counts["total"]) == (1, 1, 4)
    out = capsys.readouterr().out
    assert "1 shortened, 1 prompt too long" in out


def test_any_engine_behind_the_interface_can_judge() -> None:
    judge = Judge(Scripted({"0": "8 7\nx", "1": "5, 5", "2": "none"}))
    samples = make_samples(3)
    verdicts = judge.judge(samples, orders="both")
    assert [v.sample for v in verdicts] == samples
    assert verdicts[0].forward is not None
    assert verdicts[0].forward.scores == (8.0, 7.0)
    assert (verdicts[0].consistent, verdicts[0].outcome, verdicts[0].scores) == (False, Outcome.TIE, (7.5, 7.5))
    assert (verdicts[1].consistent, verdicts[1].outcome, verdicts[1].scores) == (True, Outcome.TIE, (5.0, 5.0))
    assert verdicts[1].forward is not None
    assert verdicts[1].forward.state is ParseState.REPAIRED
    assert (verdicts[2].consistent, verdicts[2].outcome, verdicts[2].scores) == (None, None, None)
    only = judge.judge(samples[:1])[0]
    assert (only.consistent, only.outcome, only.scores, only.reversed) == (None, Outcome.WIN, (8.0, 7.0), None)


# D15 of docs/differences.md
@pytest.mark.parametrize("task", ["pair", "single", "mmvet"])
def test_prefill_and_pred_text_are_exactly_what_was_parsed(task: str) -> None:

    texts = {"0": " 7 \n", "1": "8 7\n ", "2": "\n9"}
    samples = [s.with_reference("R") for s in make_samples(3)]
    for judged in Judge(Scripted(texts)).run(samples, ["forward"], JudgeSettings(task)):
        record = judged.to_record()
        assert record["pred_text"] == texts[str(record["question_id"])]
        parsed = Judgement.parse(TASKS[task].prefill + record["pred_text"])
        assert record["pred_scores"] == (list(parsed.scores) if parsed.scores else None)
        assert record["pred_parse"] == parsed.state


def test_unknown_task_and_order_are_named_in_python_too() -> None:
    judge = Judge(Scripted({}))
    with pytest.raises(InputError, match="unknown task 'triple'"):
        judge.judge(make_samples(1), task="triple")
    with pytest.raises(InputError, match="unknown orders 'backwards'"):
        judge.judge(make_samples(1), orders="backwards")


def test_ids_must_differ_in_python_too() -> None:
    with pytest.raises(ValueError, match="question_id must be different for each sample, 1 stands there 2 times"):
        Judge(Scripted({})).judge([Sample(1, "Q", ["a", "b"]), Sample("1", "Q", ["a", "b"])])


def test_a_dict_is_no_sample() -> None:
    row: Any = {"question": "Q", "answers": ["a", "b"]}
    with pytest.raises(ValueError, match="expected a Sample, found dict"):
        Judge(Scripted({})).judge([row])


def test_readme_code_runs_and_examples_are_as_described() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = readme.split("<!-- tested -->\n```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert len(scope["verdicts"]) == 1
    assert scope["verdicts"][0].scores is not None
    records = [json.loads(line) for line in (ROOT / "examples" / "pairs.jsonl").read_text().splitlines()]
    assert len(records) == 30
    for record in records:
        assert Judgement.parse(record["text"]).scores == tuple(record["score"])
        assert Judgement.parse(record["text"]).state is ParseState.OK
        assert record["reference"]["text"]
