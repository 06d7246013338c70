"""Start a command again and again and end it at random points; imports happen once, each run is a fork.

python interrupted_runs.py SIGNAL TIMES SEED PARTIAL_FILE.. -- judgelm arguments

Prints how each run ended and how many judgements there were then.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401
import transformers  # noqa: F401

from judgelm.cli import main
from judgelm.engine.hf import engine as hf  # noqa: F401


def count_lines(paths: list[Path]) -> int:
    found = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found += path.read_bytes().count(b"\n")
    return found


def run_once(arguments: list[str]) -> int:
    """Fork a process that runs the command; its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        # a shell that starts the tests in the background lets them ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(arguments)
        except SystemExit as error:
            os._exit(int(error.code or 0))
        os._exit(99)
    return pid


def end_at_random(pid: int, sent: signal.Signals, paths: list[Path], wanted: int, pause: float) -> dict[str, int]:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return {"status": status, "lines": count_lines(paths)}
        if count_lines(paths) >= wanted:
            time.sleep(pause)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
            _, status = os.waitpid(pid, 0)
            return {"status": status, "lines": count_lines(paths)}
        time.sleep(0.002)


if __name__ == "__main__":
    cut = sys.argv.index("--")
    name, times, seed, *files = sys.argv[1:cut]
    rng = random.Random(int(seed))
    paths = [Path(file) for file in files]
    ends = []
    for _ in range(int(times)):
        before = count_lines(paths)
        pid = run_once(sys.argv[cut + 1 :])
        ends.append(end_at_random(pid, signal.Signals[name], paths, before + rng.randint(0, 6), rng.random() * 0.05))
    print(json.dumps(ends))
