"""Scripts of the project as processes of their own, forked from one that has imported the heavy libraries once."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    *("judgelm.train.settings", "judgelm.train.trainer", "judgelm.train.model", "judgelm.engine.hf.engine"),
    *("datasets", "peft", "safetensors.torch", "torch.distributed.fsdp"),
])  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def run_forked(
    command: Sequence[object], variables: Mapping[str, str], ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` with these variables; several ranks are told of one another, and ended together, as by torchrun.

    The exit code of several ranks is 1 where one of them failed.
    """
    words = [str(word) for word in command]
    common = {**variables, "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        pending: dict[int, BaseProcess] = {}
        for rank in range(ranks):
            number, count = str(rank), str(ranks)
            own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            process = _CONTEXT.Process(target=_run, args=(words, common | own if ranks > 1 else variables, files))
            process.start()
            pending[process.sentinel] = process
        codes: list[int] = []
        while pending:
            ended = wait(list(pending), timeout=1200)
            for sentinel in [sentinel for sentinel in pending if sentinel in ended]:
                gone = pending.pop(sentinel)
                gone.join()
                codes.append(gone.exitcode or 0)
            if not ended or any(codes):
                for left in pending.values():
                    left.terminate()
            assert ended, f"{words} ran for more than 300 s"
        stdout, stderr = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return subprocess.CompletedProcess(words, codes[0] if ranks == 1 else int(any(codes)), stdout, stderr)


def _run(words: list[str], variables: Mapping[str, str], files: Sequence[Path]) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(variables)
    os.chdir(ROOT)
    if "HF_DATASETS_CACHE" in variables:
        import datasets

        # read when it was imported
        datasets.config.HF_DATASETS_CACHE = Path(variables["HF_DATASETS_CACHE"])
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
