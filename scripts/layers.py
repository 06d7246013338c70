"""The order of the package's files, scripts/layers.txt: a file imports only from files that stand above it.

`python -m scripts.layers` says which files the list does not know, and prints the list as it could be: in the order
that stands there, with new files as low as what imports them lets them, and those that import upwards moved down.
`--write` puts it in place.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts" / "layers.txt"
TOP = "judgelm"
WIDTH = 118


def read_layers() -> dict[str, list[str]]:
    """Package -> its files and packages in order, packages with a slash: {"judgelm": ["errors", "models/"], ..}."""
    found: dict[str, list[str]] = {}
    package = ""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            package = line.rstrip("/")
            found[package] = []
        else:
            found[package].extend(line.split())
    return found


def order() -> list[str]:
    """All files of the list, from the top down; a package's face stands behind what it shows."""

    def walk(package: str) -> Iterator[str]:
        for name in layers.get(package, []):
            if name.endswith("/"):
                yield from walk(f"{package}/{name[:-1]}")
            else:
                yield f"{package}/{name}.py"
        yield f"{package}/__init__.py"

    layers = read_layers()
    return list(walk(TOP))


def files() -> list[str]:
    """All files that are there, but for published scripts in folders that are no packages."""
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / TOP).rglob("*.py")]
    return sorted(name for name in found if not name.startswith(f"{TOP}/data/"))


@cache
def imports(name: str) -> frozenset[str]:
    """Files of the package that a file imports, wherever in it, for types too; `judgelm` itself and versions aside."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_file(alias.name) for alias in node.names if alias.name != TOP}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {
                _file(f"{node.module}.{alias.name}") or _file(node.module or "")
                for alias in node.names
                if alias.name != "__version__"
            }
    return frozenset(found - {"", name})


def _file(module: str) -> str:
    """The file of a module of ours, or an empty text."""
    path = module.replace(".", "/")
    if not f"{path}/".startswith(f"{TOP}/"):
        return ""
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if (ROOT / file).is_file()), "")


def upward(listed: Sequence[str]) -> list[tuple[str, str]]:
    """Each file with one that it imports though that one stands below it."""
    place = {name: number for number, name in enumerate(listed)}
    return [
        (name, other)
        for name in listed
        if (ROOT / name).is_file()
        for other in sorted(imports(name))
        if place.get(other, -1) > place[name]
    ]


def propose(package: str, layers: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    """The list as it could be: packages with what they hold, in order."""
    there = {
        entry.stem if entry.is_file() else f"{entry.name}/"
        for entry in (ROOT / package).iterdir()
        if (entry.suffix == ".py" and entry.stem != "__init__") or (entry / "__init__.py").is_file()
    }
    rank = {name: number for number, name in enumerate(layers.get(package, []))}
    needs = {name: {_entry(other, package) for other in _imports_of(package, name)} & there - {name} for name in there}
    sorted_: list[str] = []
    while left := there - set(sorted_):
        free = [name for name in left if needs[name] <= set(sorted_)]
        if not free:
            print(f"{package}: a circle among {', '.join(sorted(left))}", file=sys.stderr)
            free = sorted(left, key=lambda name: (len(needs[name] - set(sorted_)), name))[:1]
        # what the list does not know comes when nothing else can
        sorted_.append(min(free, key=lambda name: (rank.get(name, len(rank)), name)))
    yield package, sorted_
    for name in sorted_:
        if name.endswith("/"):
            yield from propose(f"{package}/{name[:-1]}", layers)


def _imports_of(package: str, name: str) -> set[str]:
    if not name.endswith("/"):
        return set(imports(f"{package}/{name}.py"))
    inside = f"{package}/{name}"
    return {other for file in files() if file.startswith(inside) for other in imports(file)}


def _entry(file: str, package: str) -> str:
    """What of a package a file belongs to."""
    if not file.startswith(f"{package}/"):
        return ""
    first, _, rest = file.removeprefix(f"{package}/").partition("/")
    return f"{first}/" if rest else first.removesuffix(".py")


def write_layers(layers: Mapping[str, Sequence[str]]) -> str:
    """The text of the list."""
    parts = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for package, names in layers.items():
        parts.append(f"{package}/")
        line = " "
        for name in names:
            if len(line) + len(name) + 1 > WIDTH:
                parts.append(line)
                line = " "
            line += f" {name}"
        if names:
            parts.append(line)
    return "\n".join(parts) + "\n"


def main() -> None:
    """Print what is wrong with the list, and the list as it could be; with --write put it in place."""
    listed = order()
    for name in sorted(set(files()) - set(listed)):
        print(f"new: {name}", file=sys.stderr)
    for name in sorted(set(listed) - set(files())):
        print(f"gone: {name}", file=sys.stderr)
    for name, other in upward(listed):
        print(f"upward: {name} imports {other}", file=sys.stderr)
    text = write_layers(dict(propose(TOP, read_layers())))
    if "--write" in sys.argv[1:]:
        LIST.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
