"""YAML of users: small, without aliases, and one line for what is wrong; needs the standard library until it reads."""

from __future__ import annotations

from typing import Any

from judgelm.errors import InputError, one_line
from judgelm.files import PathLike, read_small_text

_MOST_BYTES = 1 << 20


def read_yaml_text(path: PathLike, what: str) -> str:
    """The text of a file of `what`. Raises InputError, in one line, where it cannot be read."""
    return read_small_text(path, _MOST_BYTES, f"a file of {what} has at most {_MOST_BYTES} bytes", "YAML")


def parse_yaml(text: str, place: str, what: str) -> Any:
    """What a text in YAML that came from a `place` holds. Raises InputError, in one line, for what is none."""
    import yaml

    try:
        # an alias repeats what it names: a few of them in one another are larger than any memory once they are told
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{place}: aliases (*NAME) are not read in {what}")
        _refuse_doubles(yaml.compose(text, yaml.SafeLoader), place)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}" if mark else place
        problem = getattr(error, "problem", None) or one_line(str(error))
        raise InputError(f"{where}: not YAML ({problem})") from None


def _refuse_doubles(node: Any, place: str) -> None:
    """Raises InputError for a name that stands twice in one mapping, of which YAML would take the last."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise InputError(f"{place}:{key.start_mark.line + 1}: {one_line(name)[:60]!r} stands there twice")
            seen.add(name)
            _refuse_doubles(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(value, place)


def find_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Where each value of a text that `parse_yaml` takes begins, or its key where it has one: names of keys and places
    in lists -> the line, 1 being the first.
    """
    import yaml

    found: dict[tuple[str | int, ...], int] = {}

    def walk(node: Any, path: tuple[str | int, ...], line: int) -> None:
        found[path] = line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                walk(value, (*path, str(key.value)), key.start_mark.line)
        elif isinstance(node, yaml.SequenceNode):
            for place, value in enumerate(node.value):
                walk(value, (*path, place), value.start_mark.line)

    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None:
        walk(root, (), root.start_mark.line)
    return found
