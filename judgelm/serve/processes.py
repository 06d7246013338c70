"""The processes of one command: started, started again where one ends, and stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from judgelm.errors import InputError, one_line
from judgelm.serve.draining import DRAIN_S

_STOP_S = 10
"""for what a part does at its end, once nothing runs any more"""
_LONG_S = 60
"""a process that lived for so long is started again at once; others wait, up to so long, and longer each time"""


@dataclass(eq=False, slots=True)
class Process:
    """A process of ours, and how it is started again."""

    name: str
    command: list[str]
    env: dict[str, str]
    log: Path
    stage: int
    """at the end those of the highest go first"""
    failures: int = 0
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False)
    """by time.monotonic()"""
    again: float | None = field(init=False)
    """when it is to be started, where it has ended"""

    def start(self) -> None:
        self.started, self.again = time.monotonic(), None
        with self.log.open("ab") as file:
            # in a session of its own: Ctrl-C reaches us alone, and we stop the parts in their order
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def kill(self) -> None:
        """It, and what it has started."""
        # it may have ended just now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        return f"{self.name} ended with exit code {self.process.poll()} ({self.log}): {one_line(lines[-1])}"


class Processes:
    """All processes; none outlives this object's `stop`.

    Args:
        drain_s: for which parts wait for the requests that run when they are stopped.
    """

    def __init__(self, log_folder: Path, drain_s: float = DRAIN_S) -> None:
        self.log_folder = log_folder
        self.drain_s = drain_s
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self.running: list[Process] = []

    def start(self, name: str, module: str, *args: str, stage: int, env: dict[str, str] | None = None) -> None:
        log = self.log_folder / f"{name}.log"
        command = [sys.executable, "-m", f"judgelm.serve.{module}", *args]
        part = Process(name, command, os.environ | (env or {}), log, stage)
        part.start()
        self.running.append(part)

    def check(self) -> None:
        """Raises InputError where a part has ended by itself."""
        for part in self.running:
            if part.process.poll() is not None:
                raise InputError(part.last_words())

    def revive(self) -> bool:
        """Start again what has ended, the longer after the more often it did; whether one has ended just now."""
        ended = False
        for part in self.running:
            now = time.monotonic()
            if part.process.poll() is None:
                continue
            if part.again is None:
                ended = True
                part.failures = 1 if now - part.started > _LONG_S else part.failures + 1
                wait = min(_LONG_S, 2 ** (part.failures - 1))
                part.again = now + wait
                print(f"{part.last_words()}; it is started again in {wait} s", file=sys.stderr, flush=True)
            elif now >= part.again:
                part.start()
        return ended

    def stop(self) -> None:
        """Stage after stage, so that nobody talks to a part that has gone; all of it has the time of one drain."""
        end = time.monotonic() + self.drain_s
        for stage in sorted({part.stage for part in self.running}, reverse=True):
            parts = [part for part in self.running if part.stage == stage]
            for part in parts:
                if part.process.poll() is None:
                    part.process.send_signal(signal.SIGTERM)
            _wait(parts, max(end, time.monotonic()) + _STOP_S)
        self.running.clear()

    def kill(self) -> None:
        """End all of it at once, from a signal's handler too while `stop` waits."""
        for part in self.running:
            if part.process.poll() is None:
                part.kill()


def _wait(parts: Sequence[Process], end: float) -> None:
    """What has not ended by then, by time.monotonic(), is killed."""
    for part in parts:
        try:
            part.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            part.kill()
            part.process.wait()


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Linux then sends SIGTERM to a part even where we are killed and cannot."""
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
