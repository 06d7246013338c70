"""Files that grow a whole line at a time: a killed process loses nothing, and what it left half is mended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from judgelm.errors import InputError

_BLOCK = 1 << 16
"""bytes read at once where a file is searched from its end"""
JUDGED = "what was judged"
WAY_OUT = "; mend or remove this line, and the same command goes on"
"""from a damaged line, at the end of an error"""


class AppendedFile:
    """A file of lines, open for more of them.

    Half a line, which a killed process left at its end, is removed. Raises InputError, which says that what is there
    (`what`) is kept, where it cannot be written.
    """

    def __init__(self, path: Path, what: str = JUDGED) -> None:
        self.path = path
        self._what = what
        with writing(path, what):
            self._file = path.open("ab", buffering=0)
            begin, tail = _tail(path)
            if _is_half(tail):
                # it is made again
                self._file.truncate(begin)
            elif tail:
                self._file.write(b"\n")
            self._end = self._file.seek(0, os.SEEK_END)

    def append(self, line: bytes) -> int:
        """Write a line, newline included, and hand it to the operating system; gives the byte at which it begins."""
        with writing(self.path, self._what):
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                # who goes on once there is room again must not write behind half a line
                with suppress(OSError):
                    self._file.truncate(self._end)
                raise
        begin = self._end
        self._end += len(line)
        return begin

    def sync(self) -> None:
        """Have the disk hold all that was appended: then it outlives the machine's end too."""
        with writing(self.path, self._what):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def ends_in_half(path: Path) -> bool:
    """Whether a file ends in half a line, which is no record."""
    return _is_half(_tail(path)[1])


def _tail(path: Path) -> tuple[int, bytes]:
    """What stands behind the last newline of a file, and the byte at which it begins: read from the end, in blocks."""
    with path.open("rb") as file:
        begin, text = file.seek(0, os.SEEK_END), b""
        while begin and b"\n" not in text:
            size = min(_BLOCK, begin)
            begin = file.seek(begin - size)
            text = file.read(size) + text
    newline = text.rfind(b"\n") + 1
    return begin + newline, text[newline:]


def _is_half(tail: bytes) -> bool:
    """Whether it is something, and not a whole record that lacks its newline alone."""
    if not tail.strip():
        return False
    try:
        return not isinstance(json.loads(tail), dict)
    except (ValueError, RecursionError):
        return True


@contextmanager
def writing(path: Path, what: str = JUDGED) -> Iterator[None]:
    """An error of the disk becomes one line."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); {what} is kept, the same command goes on"
        raise InputError(message) from error
