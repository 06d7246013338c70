"""What the docs say of the code, from the code: `scripts/docs` writes it, `scripts/docs --check` says what is stale.

Written are the page of commands and, between two marks, the map of files and the tables of fields; and the criteria of
examples/ once more, where a wheel has them for the web page.
"""

from __future__ import annotations

import ast
import collections.abc
import enum
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.cli_page import cli_page
from scripts.layers import ROOT, TOP, read_layers

if TYPE_CHECKING:
    from pydantic import BaseModel

DOCS = ROOT / "docs"
CRITERIA = ROOT / "examples" / "criteria"
SETS = ROOT / "judgelm" / "serve" / "page" / "criteria"
FIELDS = {
    "judgement": "judgelm.judge.log:JudgementRecord",
    "run": "judgelm.judge.description:RunDescription",
    "summary": "judgelm.evaluation.summary:SummaryFile",
    "grades": "judgelm.evaluation.grade_summary:GradeSummary",
    "calibration": "judgelm.evaluation.calibration_map:CalibrationFile",
    "many": "judgelm.evaluation.places:ManySummary",
    "benchmark": "judgelm.benchmark.report:BenchmarkReport",
    "benchmarks": "judgelm.benchmark.report:BenchmarksReport",
    "ranking": "judgelm.ranking.ranking:Ranking",
    "audit": "judgelm.audit.findings:Audit",
    "labels": "judgelm.labelling.labels:LabelRecord",
    "votes": "judgelm.labelling.votes:VoteRecord",
    "jury": "judgelm.evaluation.jury:Jury",
    "cascade": "judgelm.evaluation.cascade:Cascade",
    "collect": "judgelm.collection.collected:Collection",
    "preferences": "judgelm.preferences.preferences:PreferenceCounts",
    "teach": "judgelm.teaching.report:TeachReport",
}
"""a table of docs/formats.md -> the type that it is written from; a type inside is told where it comes first"""
JSON: dict[object, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "object"}
JSON |= {list: "list", type(None): "null", typing.Any: "anything"}


def main() -> None:
    """Write what is stale, or with --check name it and end with 1."""
    check = "--check" in sys.argv[1:]
    stale = [(path, text) for path, text in pages() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'stale, run scripts/docs' if check else 'written'}", file=sys.stderr)
    sys.exit(bool(stale) and check)


def pages() -> list[tuple[Path, str]]:
    """Each page with the text that it should have."""
    formats = DOCS / "formats.md"
    tables = formats.read_text(encoding="utf-8")
    told: set[type] = set()
    for name, place in FIELDS.items():
        tables = between(tables, name, fields_table(place, told))
    architecture = DOCS / "architecture.md"
    return [
        (DOCS / "cli.md", cli_page()),
        (architecture, between(architecture.read_text(encoding="utf-8"), "files", file_map())),
        (formats, tables),
        *((SETS / path.name, path.read_text(encoding="utf-8")) for path in sorted(CRITERIA.glob("*.yaml"))),
    ]


def between(text: str, name: str, written: str) -> str:
    """A page with `written` between the marks of this name."""
    begin, end = f"<!-- {name}: scripts/docs writes what follows -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"docs: no marks for {name!r}")
    return f"{before}{begin}\n{written}\n{end}{after}"


def file_map() -> str:
    """All files in the order of the layers, each with the first sentence of its docstring."""
    return "\n".join(_folder(TOP, read_layers()))


def _folder(package: str, layers: dict[str, list[str]]) -> Iterator[str]:
    """The table of a package's files, then those of the packages in it."""
    yield f"**`{package}/`** {_first_sentence(f'{package}/__init__.py')}\n"
    yield "| file | what it holds |\n|---|---|"
    for name in layers[package]:
        file = f"{package}/{name}__init__.py" if name.endswith("/") else f"{package}/{name}.py"
        yield f"| `{name if name.endswith('/') else name + '.py'}` | {_first_sentence(file)} |"
    yield ""
    for name in layers[package]:
        if name.endswith("/"):
            yield from _folder(f"{package}/{name[:-1]}", layers)


def _first_sentence(file: str) -> str:
    """Of a file's docstring."""
    said = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
    first = re.split(r"\n\n|(?<=\.) (?=[A-Z])", said.strip(), maxsplit=1)[0].replace("\n", " ").rstrip(".:")
    return _cell(first)


def _cell(text: str) -> str:
    """A text in a table."""
    return re.sub(r"\bNone\b", "null", text).replace("|", "\\|").replace("<", "&lt;")


def fields_table(place: str, told: set[type]) -> str:
    """What a type says of its fields, and below it what the types in them say, but for those `told` already."""
    module, _, name = place.partition(":")
    waiting: list[type[BaseModel]] = [getattr(importlib.import_module(module), name)]
    parts: list[str] = []
    for model in waiting:
        meanings = _meanings(model)
        rows = [
            f"| `{name}` | {_spelled(field.annotation)} | {_cell(meanings.get(name, ''))} |"
            for name, field in model.model_fields.items()
        ]
        if parts:
            parts.append(f"**{_noun(model).capitalize()}**: {_docstring(model)}\n")
        parts.append("\n".join(["| field | type | meaning |", "|---|---|---|", *rows]) + "\n")
        inside = [one for field in model.model_fields.values() for one in _models(field.annotation)]
        waiting += [one for one in dict.fromkeys(inside) if one not in waiting and one not in told]
    told |= set(waiting)
    return "\n".join(parts)


def _meanings(model: type) -> dict[str, str]:
    """What stands in quotes below each field, in the type itself or in those that it is made of."""
    found: dict[str, str] = {"format": "of this file"}
    for one in reversed(model.__mro__):
        if not one.__module__.startswith(TOP):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(definition, ast.ClassDef)
        for field, said in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(said.value.value).split())
    return found


def _docstring(model: type) -> str:
    """The first part of it."""
    return (model.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()


def _noun(model: type) -> str:
    """RankedModel -> ranked model."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", model.__name__.lstrip("_")).lower()


def _many(noun: str) -> str:
    """number -> numbers, object of numbers -> objects of numbers."""
    first, of, rest = noun.partition(" of ")
    if of:
        return f"{first}s of {rest}"
    return noun if noun == "anything" or noun.endswith("s") or " or " in noun else f"{noun}s"


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The types of ours that an annotation names."""
    if hasattr(annotation, "model_fields"):
        yield annotation  # type: ignore[misc]
    for inside in typing.get_args(annotation):
        yield from _models(inside)


def _spelled(annotation: object) -> str:
    """A type in the words of JSON, without what restricts it."""
    origin, inside = typing.get_origin(annotation), [one for one in typing.get_args(annotation) if one is not ...]
    if origin is typing.Annotated:
        return _spelled(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spelled(one) for one in inside)
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in inside)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    if origin in (dict, collections.abc.Mapping):
        return f"object of {_many(_spelled(inside[1]))}"
    if origin is not None:
        return f"list of {_many(_spelled(inside[0]))}"
    return JSON.get(annotation, _noun(annotation) if isinstance(annotation, type) else str(annotation))


if __name__ == "__main__":
    main()
