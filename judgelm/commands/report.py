"""`judgelm report`: a judged folder -> a page to read, and the same numbers in Markdown."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.files import write_text
from judgelm.jsonl import Record, read_json
from judgelm.report.disagreement import MOST_SAMPLES

HELP = "write a page about a judged folder"
DESCRIPTION = (
    "Write one HTML page about D, a folder of judgelm judge, that needs no network, and the same in "
    "Markdown: agreement, position, calibration, and the samples to read. The folder's audit.json and"
    " ranking.json are shown too where there are any."
)


_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "audit.json": {"checks": ("name", "verdict")},
    "ranking.json": {"models": ("name", "judged", "win_rate"), "pairs": ("first", "second", "wins", "ties", "losses")},
}
"""files of a judged folder that a report can do without: the lists they must have, and the fields of their objects"""
_ESTIMATES = ("effect", "win_rate", "bradley_terry", "elo")
"""fields of those objects that are a number with its interval, or null"""
_NUMBERS = ("wins", "ties", "losses")
_LARGEST = 1e15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm report`."""
    parser.add_argument("folder", metavar="D", help="a folder that judgelm judge wrote")
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="the truth: teacher judgements (question_id, text) or labels (question_id, label); without it labels in"
        " the judged rows count",
    )
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page; Markdown is written beside it (default: D/report.html)"
    )
    parser.add_argument(
        "--most-samples",
        type=_count,
        default=MOST_SAMPLES,
        metavar="N",
        help="samples with the largest disagreement that are shown to be read",
    )


def _count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {value}")
    return number


_count.__name__ = "number"


def run(args: argparse.Namespace) -> None:
    """Write the page and the Markdown, and say where."""
    folder = Path(args.folder).expanduser()
    page = Path(args.output).expanduser() if args.output else folder / "report.html"
    if page.suffix != ".html":
        raise InputError(f"{page}: expected a name that ends in .html")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    samples = read_folder(folder, args.teacher)
    audit, ranking = (_read(folder / name, lists) for name, lists in _FILES.items())
    # pydantic, which no other command needs before its flags are read
    from judgelm.judge.description import read_description

    description = read_description(folder / "run.json")
    described = description and description.model_dump()
    from judgelm.evaluation.summary import RATE_LABELS, summarize
    from judgelm.report.context import build_context, render_markdown, render_page

    context = build_context(
        samples,
        summarize(samples),
        audit,
        ranking,
        described,
        _title(folder, described),
        labels=RATE_LABELS,
        most=args.most_samples,
    )
    text = page.with_suffix(".md")
    write_text(page, render_page(context))
    write_text(text, render_markdown(context))
    print(f"written to {page} and {text}")


def _read(path: Path, lists: Mapping[str, Sequence[str]]) -> Record | None:
    """A JSON file of the folder, None where it is not there; InputError where it is not what it should be."""
    if not path.exists():
        return None
    record = read_json(path)
    for name, fields in lists.items():
        if not isinstance(record.get(name), list) or not all(isinstance(each, dict) for each in record[name]):
            raise InputError(f"{path}: expected a list of objects under {name!r}")
        for each, field in itertools.product(record[name], fields):
            if field not in each:
                raise InputError(f"{path}: field {field!r} is missing in one of {name!r}")
        for each, field in itertools.product(record[name], _ESTIMATES):
            if not _is_estimate(each.get(field)):
                raise InputError(f"{path}: {field!r} in one of {name!r} is no estimate with value, low and high")
        for each, field in itertools.product(record[name], _NUMBERS):
            if field in each and not _is_number(each[field]):
                raise InputError(f"{path}: {field!r} in one of {name!r} is no number")
    return record


def _is_estimate(found: object) -> bool:
    if found is None:
        return True
    if not isinstance(found, dict) or "value" not in found:
        return False
    return all(found.get(end) is None or _is_number(found[end]) for end in ("value", "low", "high"))


def _is_number(found: object) -> bool:
    """Whether it is one that a page can show: neither NaN nor of hundreds of digits."""
    return isinstance(found, int | float) and -_LARGEST < found < _LARGEST


def _title(folder: Path, described: Record | None) -> str:
    model = ((described or {}).get("settings") or {}).get("model_id")
    name = folder.resolve().name
    return f"{model} on {name}" if model else f"The judge of {name}"
