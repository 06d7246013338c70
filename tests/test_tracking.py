"""Judged folders as runs of MLflow, Weights & Biases and TensorBoard."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, make_samples, write_jsonl
from judging import judge_args, run_command

from judgelm.evaluation.rate import Rate
from judgelm.tracking import TrackedRun

TOOLS = ROOT / ".venv-tools" / "bin" / "python"
COMMANDS = """
import sys
from judgelm.cli import main
answers, arena, model = sys.argv[1:]
judge = ["--model", model, "--device", "cpu", "--scoring", "expected", "--output-dir", arena]
for command in (
    ["arena", "--answers", *answers.split(","), *judge, "--report-to", "mlflow,wandb"],
    ["evaluate", arena, "--output", f"{arena}/summary.json", "--report-to", "mlflow"],
):
    try:
        main(command)
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    rows = [sample.to_record() | {"label": 1} for sample in make_samples(4)]
    questions = write_jsonl(folder / "pairs.jsonl", rows)
    flags = ["--scoring", "expected", "--report-to", "tensorboard"]
    assert run_command(judge_args(model_folder, questions, folder / "out", *flags)) == 0
    return folder / "out"


def scalars(folder: Path) -> dict[str, float]:
    """The last value of each number that TensorBoard finds in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: found.Scalars(name)[-1].value for name in found.Tags()["scalars"]}


def test_tensorboard_has_what_was_judged_and_found(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = json.loads((judged / "run.json").read_text(encoding="utf-8"))
    counts = {f"{order}/{name}": count for order, each in run["counts"].items() for name, count in each.items()}
    assert scalars(judged / "tensorboard" / "judge") == counts
    assert counts["forward/total"] == 4
    assert run_command(["evaluate", str(judged), "--report-to", "tensorboard"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = scalars(judged / "tensorboard" / "evaluate")
    assert found["agreement"] == pytest.approx(last["agreement"])
    assert found["agreement_low"] <= found["agreement"] <= found["agreement_high"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("wandb", "--report-to wandb: it is not installed (pip install 'judgelm[tracking]')"),
        ("tensorboard,comet", "--report-to comet: expected some of mlflow, wandb, tensorboard"),
    ],
)
def test_a_tracker_that_is_not_there_is_told_before_anything_is_judged(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: str,
    problem: str,
) -> None:
    # a folder that a tracker wrote where it ran is not the tracker
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    questions = write_jsonl(tmp_path / "pairs.jsonl", [make_samples(1)[0].to_record()])
    assert run_command(judge_args(model_folder, questions, tmp_path / "out", "--report-to", names)) == 2
    assert capsys.readouterr().err == f"judgelm: error: {problem}\n"
    assert not (tmp_path / "out").exists()


def test_a_log_that_fails_loses_no_result(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "file"))
    flags = ["--output", str(tmp_path / "summary.json"), "--report-to", "tensorboard"]
    assert run_command(["evaluate", str(judged), *flags]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["total"] == 4
    assert (tmp_path / "summary.json").exists()
    assert "judgelm: --report-to tensorboard: not logged" in said.err
    assert str(judged) in said.err


@pytest.mark.skipif(not TOOLS.exists(), reason="other people's tools are not here (scripts/setup_tools)")
def test_an_arena_is_a_run_of_mlflow_and_of_wandb(tmp_path: Path, model_folder: Path) -> None:
    answers = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [{"question_id": k, "question_body": f"{k}?", "text": text * k, "model": name} for k in (1, 2, 3)],
        )
        for name, text in (("org/a@1", "yes "), ("b", "no "))
    ]
    (tmp_path / "script.py").write_text(COMMANDS, encoding="utf-8")
    env = {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "judges",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
    }
    command = [str(TOOLS), "-W", "ignore", "script.py", ",".join(map(str, answers)), "arena", str(model_folder)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert "not logged" not in done.stderr
    # what trackers say of themselves is not among the results
    assert json.loads(done.stdout.splitlines()[-1])["total"] == 3
    ranking = json.loads((tmp_path / "arena" / "ranking.json").read_text(encoding="utf-8"))
    rates = {model["name"].replace("@", "_"): model["win_rate"] for model in ranking["models"]}
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = dict(database.execute("select name, run_uuid from runs"))
        logged = {
            name: dict(database.execute("select key, value from metrics where run_uuid = ?", (each,)))
            for name, each in runs.items()
        }
        settings = dict(database.execute("select key, value from params where run_uuid = ?", (runs["arena arena"],)))
    database.close()
    assert set(runs) == {"arena arena", "evaluate arena"}
    for name, rate in rates.items():
        assert logged["arena arena"][f"win_rate/{name}"] == pytest.approx(rate["value"])
        assert logged["arena arena"][f"win_rate/{name}_high"] == pytest.approx(rate["high"])
    assert settings["scoring"] == "expected"
    kept = {path.name for path in tmp_path.rglob("mlruns/**/artifacts/*")}
    assert {"run.json", "ranking.json", "forward.jsonl", "summary.json"} <= kept
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1


def test_names_and_numbers_are_such_as_trackers_take() -> None:
    numbers = {"win_rate/m:1 (β)": Rate(value=0.5, low=None, high=1.0, count=2), "kappa": Rate(value=None, count=2)}
    run = TrackedRun(
        "evaluate", Path("x/out"), {"seed": 0, "criteria": None, "text": "a" * 999}, numbers | {"total": 3.0}
    )
    assert run.metrics == {"win_rate/m_1 _β_": 0.5, "win_rate/m_1 _β__high": 1.0, "total": 3.0}
    assert run.parameters == {"seed": "0", "text": "a" * 500}
    assert run.name == "evaluate out"
