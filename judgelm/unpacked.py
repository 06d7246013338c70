"""A gzip file or a pipe -> a file that can be read again and again."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO

from judgelm.errors import InputError

_MOST_UNPACKED = 16 << 30
"""bytes that a gzip file may unpack to; half of the free space of the temporary folder is a bound too"""


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
