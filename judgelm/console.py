"""How every command speaks: help with defaults, a mistake in one line, exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from judgelm.errors import InputError, SettingError, one_line

_OTHER_FLAGS = {
    "num_gpus": ("--num-gpus-per-model", "--num-gpus-per-worker"),
    "max_new_tokens": ("--max-new-token",),
    "max_reasoning_tokens": ("--max-reasoning-token",),
}
"""of settings that commands call otherwise"""


class Formatter(argparse.HelpFormatter):
    """Adds defaults where there is one to know and the text does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        unsaid = action.default is False or action.default in (None, argparse.SUPPRESS) or action.default == []
        if unsaid or not action.option_strings or "(default:" in text:
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one line and exit code 2."""

    def __init__(self, **settings: Any) -> None:
        self._words: list[str] = []
        super().__init__(formatter_class=Formatter, allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        # a flag that is missing may be there in other letters
        names = dict.fromkeys(word.partition("=")[0] for word in self._words if word.startswith("--"))
        unknown = [name for name in names if name not in self._option_string_actions]
        if message.startswith("the following arguments are required") and unknown:
            message = f"{message}; unknown: {', '.join(unknown)}"
        self.exit(2, f"{self.prog}: error: {message} (--help lists the flags)\n")


def run_main(
    command: Callable[[], None], kept: str = "what was judged is kept", argv: Sequence[str] | None = None
) -> NoReturn:
    """Run a command: a user's mistake is one line and exit code 2, Ctrl-C 130; a bug keeps its traceback.

    `argv` are the words it was given, by default the process's own: of a setting they tell which flag gave it.
    """
    # imports leave no garbage, and looking for it as often as Python does takes a sixth of their time
    gc.set_threshold(50_000)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # texts of others may hold what no terminal can show, such as half a surrogate pair
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
        sys.stdout.flush()
    except InputError as error:
        said = _with_flag(error, sys.argv[1:] if argv is None else argv)
        print(f"judgelm: error: {one_line(said)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\njudgelm: interrupted; {kept}, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output went away, as `head` does; what is left in the buffer must not be tried again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _with_flag(error: InputError, argv: Sequence[str]) -> str:
    """The message, a setting by the flag that gave it."""
    if not isinstance(error, SettingError):
        return str(error)
    given = {word.partition("=")[0].replace("_", "-") for word in argv}
    flags = (f"--{error.setting.replace('_', '-')}", *_OTHER_FLAGS.get(error.setting, ()))
    return f"{next((flag for flag in flags if flag in given), error.setting)} {error.problem}"


def flags_of(kind: type[Any], args: argparse.Namespace) -> dict[str, Any]:
    """The flags that are called as fields of a dataclass are, such as settings."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(args).items() if name in names}


def refuse_flags(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raises InputError for one of these flags that is given; `why` follows its name."""
    for name in names:
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} {why}")


def none_or_text(value: str) -> str | None:
    """The published commands say None where there is no file."""
    return None if value == "None" else value


def number(parse: type[int] | type[float], holds: Callable[[float], bool], expected: str) -> Callable[[str], Any]:
    """The type of a flag that is a number for which something holds."""

    def read(value: str) -> float:
        found = parse(value)
        if not holds(found):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {value}")
        return found

    read.__name__ = "whole number" if parse is int else "number"
    return read


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number from `least` on."""
    return number(int, lambda found: found >= least, f"a whole number from {least} on")


from_zero = number(float, lambda found: 0 <= found < math.inf, "a number from 0 on")
above_zero = number(float, lambda found: 0 < found < math.inf, "a number above 0")
_threshold = number(float, lambda found: 0.5 <= found <= 1, "auto or a number from 0.5 to 1")
percentage = number(float, lambda found: 0 <= found <= 100, "0 to 100")


def sureness(value: str) -> float | str:
    """The type of a flag that is a probability of a verdict, or auto."""
    return value if value == "auto" else float(_threshold(value))


def json_object(value: str) -> dict[str, Any]:
    """The type of a flag that is a JSON object."""
    try:
        fields = json.loads(value)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, found {value}")
    return fields
