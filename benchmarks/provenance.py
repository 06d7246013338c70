"""Where a result comes from: the code and the machine that are written beside its numbers."""

from __future__ import annotations

import os
import platform
import subprocess


def current_commit() -> str:
    """The short name of the checkout's last commit; empty outside of one."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def this_machine() -> dict[str, str | int | None]:
    """Its system and how many processors it has."""
    return {"platform": platform.platform(), "cpus": os.cpu_count()}
