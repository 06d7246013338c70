"""What goes wrong in words for the user: one line, and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """A mistake in what the user gave: the message is one line, the command exits with code 2."""


class SettingError(InputError):
    """A setting that cannot be, named as in Python; a command says its flag instead, where that was given.

    Args:
        setting: such as `dtype`.
        problem: what follows its name.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.setting} {self.problem}"


@contextmanager
def located(where: str) -> Iterator[None]:
    """What is wrong with a value becomes an InputError that says where it is."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def one_line(text: str) -> str:
    """Text of unknown origin for a terminal: white space folded, control characters left out."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def in_short(value: object) -> str:
    """Anything as it was found, short enough for an error."""
    return one_line(repr(value))[:60]


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
