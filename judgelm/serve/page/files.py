"""The page's own files: what visitors upload and take home, in a folder that only the page can read."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "judgelm-page-"
_LOCK = "in-use"
_KEPT_S = 24 * 3600.0
"""how long what a visitor may download stays"""
_MOST_BYTES = 1 << 30
"""of all files in a folder; the oldest go first"""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that nobody else can look into, removed at the end; those of pages that were killed go too."""
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(_PREFIX + "*"):
        _remove_left_over(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with FileLock(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_over(folder: Path) -> None:
    """Unless it is somebody else's, or a page that runs holds its lock."""
    lock = folder / _LOCK
    with contextlib.suppress(OSError, Timeout):
        if folder.lstat().st_uid == os.getuid() and not folder.is_symlink() and lock.exists():
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def remove_old(folder: Path) -> None:
    """What nobody will take home any more: files of yesterday, and the oldest where there is too much."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                files.append((found.st_mtime, found.st_size, path))
    kept = 0
    for modified, size, path in sorted(files, reverse=True):
        kept += size
        if kept > _MOST_BYTES or modified < time.time() - _KEPT_S:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty yet
                path.parent.rmdir()


def append_private(path: Path, line: str) -> None:
    """A line at the end of a file that its owner alone can read, also where it was open to everybody before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # without a buffer a line is one write, between which and the next others may write theirs
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0) as file:
        if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
            os.fchmod(file.fileno(), 0o600)
        file.write(line.encode())


def write_private(path: Path, text: str) -> None:
    """A file that its owner alone can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
