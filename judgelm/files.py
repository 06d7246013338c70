"""Files and folders: there whole or not at all, fetched from the web, unpacked."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from judgelm.errors import InputError, one_line

PathLike = str | os.PathLike[str]
_UNFINISHED = ".unfinished"
"""how the name of a file ends that is being written"""
_ABANDONED_SECONDS = 3600
"""a file that was not written to for so long is being written by nobody"""
_TIMEOUT_S = 60
_WHOLE_TIMEOUT_S = 1800
_MOST_UNPACKED = 16 << 30
"""bytes that a gzip file may unpack to; half of the free space of the temporary folder is a bound too"""


def cache_folder() -> Path:
    """`$JUDGELM_CACHE`, else `judgelm` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("JUDGELM_CACHE") or f"{base}/judgelm").expanduser()


def hash_file(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's content."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(path: Path, name: str, make: Callable[[Path], Path], is_kept: Callable[[Path], bool] = Path.exists) -> Path:
    """A file or folder of the user's cache; where it is not kept yet, `make` makes it in an empty folder.

    It appears whole or not at all. Processes that want what has this name wait for one another, and what killed ones
    left is removed. Raises OSError.
    """
    if is_kept(path):
        return path
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f"{name}.lock"):
        if not is_kept(path):
            for left in path.parent.glob(f"unfinished-{name}-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"unfinished-{name}-") as work:
                os.replace(make(Path(work)), path)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from writing what this file describes, in its folder, which is made. Raises InputError where somebody
    does.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{path.parent}: another run is writing there") from None
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def read_small_text(path: PathLike, most_bytes: int, too_large: str, kind: str) -> str:
    """The text of a user's file. Raises InputError, in one line, where it is `too_large`, or not of its `kind`."""
    place = Path(path).expanduser()
    try:
        if place.stat().st_size > most_bytes:
            raise InputError(f"{place}: {too_large}")
        return place.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not {kind} ({one_line(str(error))})") from None


def write_text(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """As `write_file`. What UTF-8 cannot hold is written as an escape, which in JSON says the same."""
    parts = [text] if isinstance(text, str) else text
    write_file(path, lambda file: file.writelines(part.encode("utf-8", "backslashreplace") for part in parts))


def write_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], None]) -> None:
    """Have a whole file written and only then put it in place, so that a reader sees the old one or the new one.

    A link stays one. Raises InputError where it cannot be written, and what `write` raises.
    """
    path = Path(path).expanduser()
    try:
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(place, _ABANDONED_SECONDS)
        handle, temporary = tempfile.mkstemp(_UNFINISHED, f".{place.name}.", place.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def remove_unfinished(path: Path, seconds: float = 0.0) -> None:
    """Remove what killed processes left of their writing this file, if untouched for `seconds`.

    Where 0 is given, nobody else may be writing it. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        return
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}({re.escape(_UNFINISHED)})?")
    for entry in os.scandir(path.parent):
        if not (found := ours.fullmatch(entry.name)):
            continue
        with contextlib.suppress(FileNotFoundError):
            there = entry.stat(follow_symlinks=False)
            # without the ending it was left by a version before; those never let others read it
            left = stat.S_ISREG(there.st_mode) and (found[1] or stat.S_IMODE(there.st_mode) == 0o600)
            if left and time.time() - there.st_mtime >= seconds:
                os.unlink(entry)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class DownloadError(Exception):
    """What came is not what was to be fetched."""


def download(address: str, target: Path, most_bytes: int) -> Path:
    """Fetch a file; gives `target`. Raises DownloadError for more bytes, OSError, and what httpx raises."""
    import httpx

    started = time.monotonic()
    with httpx.stream("GET", address, follow_redirects=True, timeout=_TIMEOUT_S) as response, target.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            file.write(chunk)
            if file.tell() > most_bytes:
                raise DownloadError(f"more than {most_bytes >> 20} MiB came")
            if time.monotonic() - started > _WHOLE_TIMEOUT_S:
                raise httpx.ReadTimeout(f"it took longer than {_WHOLE_TIMEOUT_S} seconds")
    return target


def unpack(path: Path) -> IO[bytes] | None:
    """A gzip file's content, or that of a pipe, which can be read once only; None for any other file.

    It lies in a temporary file without a name, of which a killed process leaves nothing behind.
    """
    with path.open("rb") as file, contextlib.ExitStack() as opened:
        source: IO[bytes] = file
        if not path.is_file():
            source = opened.enter_context(tempfile.TemporaryFile())
            _copy(file, source, path)
        packed = source.read(2) == b"\x1f\x8b"
        source.seek(0)
        if packed:
            packed_source, source = source, opened.enter_context(tempfile.TemporaryFile())
            try:
                with gzip.GzipFile(fileobj=packed_source) as unpacked:
                    _copy(unpacked, source, path)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(f"{path}: not a whole gzip file ({error})") from None
            if packed_source is not file:
                packed_source.close()
        opened.pop_all()
        return None if source is file else source


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], path: Path) -> None:
    """Copy all and go back to the start; raises InputError for more than there is room for."""
    most = min(_MOST_UNPACKED, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    while block := source.read(1 << 20):
        target.write(block)
        if target.tell() > most:
            raise InputError(f"{path}: holds more than {most >> 20} MiB unpacked, for which there is no room")
    target.seek(0)
