"""A thread that passes: what it gives, what it leaves, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Runner

from judgelm import Judge
from judgelm.models.folder import find_model
from judgelm.serve.model_worker import _load, build_parser
from judgelm.threads import in_a_passing_thread


def test_a_thread_that_passes_leaves_no_helpers_and_gives_what_it_found(run: Runner) -> None:
    """Helpers of a thread that goes on would let those of the one that computes sleep."""
    code = """
import os, time, torch
from judgelm import Judge
from judgelm.models.folder import find_model
from judgelm.serve.model_worker import _load, build_parser
from judgelm.threads import in_a_passing_thread

def multiply():
    return (torch.ones(512, 512) @ torch.ones(512, 512)).sum().item()

def threads():
    return len(os.listdir("/proc/self/task"))

def fail():
    raise ValueError("said in the thread")

before = threads()
assert in_a_passing_thread(multiply) == 512**3
ends = time.monotonic() + 20
while threads() > before and time.monotonic() < ends:
    time.sleep(0.05)
passed = threads()
multiply()
helped = threads()
try:
    in_a_passing_thread(fail)
except ValueError as error:
    print(before, passed, helped, error)
"""
    found = run("-c", code, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert found.returncode == 0, found.stderr
    before, passed, helped = map(int, found.stdout.split()[:3])
    assert passed == before
    assert helped == before + 1
    assert found.stdout.endswith("said in the thread\n")


def test_a_ctrl_c_ends_the_call_before_it_is_told() -> None:
    ended: list[bool] = []

    def work() -> None:
        try:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                time.sleep(0.01)
        finally:
            time.sleep(0.2)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        in_a_passing_thread(work)
    assert ended == [True]


@pytest.mark.parametrize(("engine", "thread"), [("hf", "passing"), ("vllm", "MainThread")])
def test_a_worker_loads_in_it_what_another_thread_computes(
    engine: str, thread: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "load", lambda *_, **__: threading.current_thread().name)
    args = build_parser().parse_args(["--model-path", str(model_folder), "--engine", engine])
    assert str(_load(find_model(str(model_folder)), args)) == thread
