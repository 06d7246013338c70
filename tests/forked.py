"""Scripts of the project as processes of their own, forked from one that has imported the heavy libraries once.

What they do from then on is what `python SCRIPT` does: arguments, environment, output, signals and exit codes are
their own. Imports are most of the time that a command takes in a test.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 1200
"""what is waited for that may take long on a slow machine: against hanging alone, as no test is one of speed"""

# a collection in a child would write into half a million objects, and so copy the memory that it shares with its parent
gc.freeze()

_CONTEXT = multiprocessing.get_context("forkserver")
# none of these reads the environment when it is imported, or a child says so to it; this file comes last, see above
_CONTEXT.set_forkserver_preload([
    *("judgelm.train.settings", "judgelm.train.trainer", "judgelm.train.model", "judgelm.engine.hf.engine"),
    *("datasets", "peft", "safetensors.torch", "torch.distributed.fsdp", "fastapi", "uvicorn", "httpx", "forked"),
])  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


class Forked:
    """`python COMMAND` in an environment and a folder, its output appended to files; used as a `subprocess.Popen`."""

    def __init__(
        self, command: Sequence[object], environment: Mapping[str, str], stdout: Path, stderr: Path, cwd: Path = ROOT
    ) -> None:
        self.args = [str(word) for word in command]
        self.process = _CONTEXT.Process(target=_run, args=(self.args, dict(environment), (stdout, stderr), cwd))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, kind: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, kind)

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.process.exitcode


def run_forked(
    command: Sequence[object], environment: Mapping[str, str], ranks: int = 1, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` to its end; several ranks are told of one another, and ended together, as by torchrun.

    The exit code of several ranks is 1 where one of them failed.
    """
    common = {**environment, "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = (Path(folder) / name for name in ("stdout", "stderr"))
        pending: dict[int, Forked] = {}
        for rank in range(ranks):
            number, count = str(rank), str(ranks)
            own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            started = Forked(command, common | own if ranks > 1 else environment, stdout, stderr, cwd)
            pending[started.process.sentinel] = started
        codes: list[int] = []
        end = time.monotonic() + PATIENCE_S
        while pending:
            ended = wait(list(pending), timeout=max(0, end - time.monotonic()))
            codes += [pending.pop(sentinel).wait() for sentinel in list(pending) if sentinel in ended]
            if not ended or any(codes):
                for left in pending.values():
                    left.process.terminate()
            assert ended, f"{command} ran for more than {PATIENCE_S} s"
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (stdout, stderr)]
    return subprocess.CompletedProcess(
        [str(word) for word in command], codes[0] if ranks == 1 else int(any(codes)), *texts
    )


def _run(words: list[str], environment: Mapping[str, str], files: Sequence[Path], cwd: Path) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    # found once, before the environment was this one
    tempfile.tempdir = None
    os.chdir(cwd)
    try:
        _execute(words, environment)
    finally:
        # of which a child that is forked runs none
        atexit._run_exitfuncs()


def _execute(words: list[str], environment: Mapping[str, str]) -> None:
    if "HF_DATASETS_CACHE" in environment:
        import datasets

        # read when it was imported
        datasets.config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
