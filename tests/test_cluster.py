from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import PATIENCE_S, ROOT, make_samples, write_jsonl
from forked import Forked, run_forked
from judging import judge_args, lasting, run_command
from test_commands import as_published, published

from judgelm.errors import InputError
from judgelm.judge import choice
from judgelm.judge.judge import plan_blocks
from judgelm.judge.placement import Placement
from judgelm.judge.replicas import _cores_each, absolute, load_on_node
from judgelm.models.devices import default_device
from judgelm.models.folder import find_model

ORDERS = ("forward", "reversed")
TWO = ("--num-replicas", "2")


def args_of(model: Path, questions: Path, output: Path, *more: str) -> list[str]:
    return judge_args(model, questions, output, "--dtype", "float32", *more)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks."""
    records = [sample.to_record() for sample in make_samples(160)]
    return write_jsonl(tmp_path_factory.mktemp("many") / "pairs.jsonl", records[::-1])


@pytest.fixture(scope="module")
def alone(many: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one judge makes of them, without Ray."""
    output = tmp_path_factory.mktemp("alone")
    assert run_command(args_of(model_folder, many, output)) == 0
    assert "ray" not in sys.modules
    return output


@contextmanager
def started(said: Path, *arguments: str) -> Iterator[Forked]:
    """The command in a process of its own, which takes Ctrl-C wherever the tests were started; what it says there."""
    process = Forked(("-m", "judgelm", *arguments), os.environ, said.with_suffix(".out"), said)
    try:
        yield process
    finally:
        process.kill()


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return found


def judgements(output: Path) -> int:
    files = [output / f"{order}.jsonl.partial" for order in ORDERS]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def judging(process: Forked) -> list[psutil.Process]:
    """Processes of the replicas that have a block."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.name().startswith("ray::Replica.j")]


def assert_equal(output: Path, expected: Path) -> None:
    for order in ORDERS:
        one, other = (lasting(folder / f"{order}.jsonl") for folder in (output, expected))
        assert [json.dumps(record) for record in one] == [json.dumps(record) for record in other]


def test_two_replicas_of_the_published_script_give_the_bytes_of_one(
    run: Any, model_folder: Path, many: Path, tmp_path: Path
) -> None:
    questions = tmp_path / "pairs.jsonl"
    questions.write_text("".join(many.read_text().splitlines(keepends=True)[:70]))
    more = ["--max-new-token", "8", "--temperature", "0.7"]
    assert published("pair", *as_published(model_folder, questions, tmp_path / "one"), *more) == 0
    arguments = [*as_published(model_folder, questions, tmp_path / "two"), *more]
    cut = arguments.index("--num-gpus-total")
    script = "judgelm/llm_judge/gen_model_judgement.py"
    result = run(script, *arguments[:cut], *arguments[cut + 2 :], *TWO)
    assert result.returncode == 0, result.stderr
    assert lasting(tmp_path / "two") == lasting(tmp_path / "one")
    session = json.loads((tmp_path / "two.run.json").read_text())["sessions"][0]
    assert session["judged"] == 70
    (engine,) = session["engine"]["engines"]
    assert (engine["engine"], engine["device"]) == ("hf", "cpu")
    assert (session["engine"]["replicas"], session["engine"]["lost"]) == (2, 0)
    assert len(session["engine"]["nodes"]) == 1


# D7 of docs/differences.md
def test_a_replica_that_is_killed_is_replaced_and_nothing_is_lost_or_double(
    model_folder: Path, many: Path, alone: Path, tmp_path: Path
) -> None:
    output, said = tmp_path / "out", tmp_path / "said"
    with started(said, *args_of(model_folder, many, output, *TWO)) as process:
        wait_for(lambda: judgements(output))
        wait_for(lambda: judging(process))[0].kill()
        code = process.wait(PATIENCE_S)
    error = said.read_text()
    assert code == 0, error
    assert error.count("a replica was lost in judging the block of question_id") == 1
    assert "Worker" not in error, "Ray's own words"
    assert_equal(output, alone)
    session = json.loads((output / "run.json").read_text())["sessions"][0]
    assert (session["judged"], session["engine"]["lost"]) == (320, 1)


def test_ctrl_c_leaves_no_process_and_another_number_of_replicas_goes_on(
    model_folder: Path, many: Path, alone: Path, tmp_path: Path
) -> None:
    output, said = tmp_path / "out", tmp_path / "said"
    with started(said, *args_of(model_folder, many, output, *TWO)) as process:
        wait_for(lambda: judgements(output))
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in children)
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
    error = said.read_text()
    assert code == 130, error
    assert "what was judged is kept" in error
    assert "Traceback" not in error
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert 0 < judgements(output) < 320
    assert run_command(args_of(model_folder, many, output)) == 0
    assert_equal(output, alone)


def test_a_finished_run_starts_no_replica(
    model_folder: Path, many: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("replicas were made")

    monkeypatch.setattr(choice, "Replicas", refuse)
    assert run_command(args_of(model_folder, many, alone, *TWO)) == 0


def test_a_model_that_no_replica_can_load_is_told_in_one_line(
    run: Any, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(model_folder, damaged)
    (damaged / "model.safetensors").write_bytes(b"no weights")
    # more replicas are asked for than there is work: one is started
    result = run("-m", "judgelm", *args_of(damaged, pairs_file, tmp_path / "out", *TWO))
    assert result.returncode == 2, result.stderr
    first, last = result.stderr.splitlines()
    assert first == "judgelm: replicas to load: 1"
    assert last.startswith(f"judgelm: error: model {damaged}: cannot be loaded (")


def test_gpus_that_are_not_there_are_told_in_one_line(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = as_published(model_folder, pairs_file, tmp_path / "o")
    assert published("pair", *base, "--num-gpus-total", "8") == 2
    error = capsys.readouterr().err
    assert "8 GPUs are asked for, this machine has" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-gpus-total", "3", "--num-gpus-per-model", "2"], "--num-gpus-total 3 is no multiple"),
        (["--num-gpus-total", "4", "--num-replicas", "2"], "--num-gpus-per-model 1 makes 4"),
        (["--num-replicas", "2", "--device", "cuda:1"], "--device cuda:1 holds one model"),
        (["--num-replicas", "99999", "--device", "cpu"], "99999 replicas are asked for, this machine has"),
        (["--ray-address", "here", "--device", "cpu"], "--ray-address here: nothing answers there"),
        (["--ray-address", "127.0.0.1:9", "--device", "cpu"], "nothing answers there ([Errno 111]"),
    ],
)
def test_flags_that_no_replicas_can_be_made_of_are_told_in_one_line(
    flags: list[str],
    said: str,
    model_folder: Path,
    pairs_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = ["--model", str(model_folder), "--question-file", str(pairs_file), "--output-dir", str(tmp_path / "o")]
    assert run_command(["judge", *fixed, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_on_a_cpu_the_flags_for_gpus_say_nothing(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    assert run_command(judge_args(model_folder, pairs_file, tmp_path, "--num-gpus-total", "8", "--limit", "2")) == 0
    assert "ray" not in sys.modules


def test_every_sample_stands_in_one_block_whatever_their_order() -> None:
    samples = make_samples(130)
    blocks = [[s.key for s in block] for block in plan_blocks(samples, "pair", 64)]
    assert [len(block) for block in blocks] == [64, 64, 2]
    assert sorted(key for block in blocks for key in block) == sorted(s.key for s in samples)
    assert [[s.key for s in block] for block in plan_blocks(samples[::-1], "pair", 64)] == blocks


@pytest.mark.parametrize(
    ("nodes", "replicas", "each"),
    [([2], 1, 2), ([2], 2, 1), ([2], 3, 0), ([16, 16], 3, 8), ([16, 16], 2, 16), ([16, 4], 5, 4), ([0, 8], 2, 4)],
)
def test_replicas_get_as_many_cores_as_let_all_find_a_place(nodes: list[int], replicas: int, each: int) -> None:
    assert _cores_each(nodes, replicas) == each


def test_a_node_with_other_files_is_refused(model_folder: Path) -> None:
    folder = absolute(find_model(str(model_folder)))
    with pytest.raises(InputError, match=r"its files on node .* are not those of the other nodes"):
        load_on_node(folder, "0" * 64)


def test_a_cluster_of_gpus_without_one_at_hand_computes_in_bfloat16() -> None:
    placement = Placement(8, 1, None, "auto")
    assert placement.choose_dtype("float16") == "float16"
    if default_device() != "cuda":
        assert placement.choose_dtype("auto") == "bfloat16"


def test_replicas_that_are_lost_again_and_again_end_the_run() -> None:
    code = (
        "import functools, os\n"
        "from conftest import make_samples\n"
        "from judgelm.console import run_main\n"
        "from judgelm.judge.placement import Placement\n"
        "from judgelm.judge.replicas import Replicas\n"
        "from judgelm.judge.settings import JudgeSettings\n"
        "replicas = Replicas(functools.partial(os._exit, 1), Placement(1, 0, 'cpu', None))\n"
        "run_main(lambda: print(list(replicas.run(make_samples(3), ['forward'], JudgeSettings()))))\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    result = run_forked(["-c", code], {**os.environ, "PYTHONPATH": paths})
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("a replica was lost in loading the model and is replaced (") == 2
    assert "error: 3 replicas were lost in loading the model, the last one so: " in result.stderr.splitlines()[-1]
    assert "what was judged is kept" in result.stderr


def test_ctrl_c_while_ray_starts_is_heard_and_leaves_no_process(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with started(said, *args_of(model_folder, pairs_file, tmp_path / "out", *TWO)) as process:
        driver = psutil.Process(process.pid)
        wait_for(lambda: any("raylet" in child.name() for child in driver.children()))
        process.send_signal(signal.SIGINT)
        children = driver.children(recursive=True)
        code = process.wait(PATIENCE_S)
    error = said.read_text()
    assert code == 130, error
    assert "Traceback" not in error
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
