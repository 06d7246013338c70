"""What stands beside the judgements of a folder, as words: audit.json, ranking.json and run.json."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import Estimate
from judgelm.jsonl import Record, read_json
from judgelm.report import pictures
from judgelm.report.words import SHARE, Row, in_unit, rating, row, settings

_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "audit.json": {"checks": ("name", "verdict")},
    "ranking.json": {"models": ("name", "judged", "win_rate"), "pairs": ("first", "second", "wins", "ties", "losses")},
}
"""files of a judged folder that a report can do without: the lists they must have, and the fields of their objects"""
_ESTIMATES = ("effect", "win_rate", "bradley_terry", "elo")
"""fields of those objects that are a number with its interval, or null"""
_NUMBERS = ("wins", "ties", "losses")
_LARGEST = 1e15
_MOST_MODELS = 12
"""models in the picture of the ranking"""


class Beside(NamedTuple):
    """Each as its file holds it; None where there is none."""

    audit: Record | None
    ranking: Record | None
    run: Record | None


def read_beside(folder: Path) -> Beside:
    """Raises InputError for a file that is not what it should be."""
    # with pydantic
    from judgelm.judge.description import read_description

    audit, ranking = (_read(folder / name, lists) for name, lists in _FILES.items())
    described = read_description(folder / "run.json")
    return Beside(audit, ranking, described.to_record() if described else None)


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


def _estimate(given: Record | None) -> Estimate | None:
    """None for what could not be measured."""
    if given is None or given.get("value") is None:
        return None
    return Estimate(given["value"], given.get("low"), given.get("high"), given.get("count"))  # type: ignore[arg-type]


def describe_audit(audit: Record) -> dict[str, Any]:
    """The bias card."""
    checks = []
    for check in audit["checks"]:
        unit = str(check.get("unit") or "")
        effect = row("", _estimate(check.get("effect")), in_unit(unit))
        checks.append(
            {
                "title": str(check.get("title") or check["name"]),
                "what": str(check.get("what") or ""),
                "effect": effect.value,
                "interval": effect.interval,
                "count": effect.count,
                "threshold": _threshold(check, unit),
                "verdict": str(check["verdict"]),
                "note": str(check.get("note") or ""),
                "examples": ", ".join(str(example) for example in _list(check.get("examples"))),
            }
        )
    order = ("pass", "fail", "unclear", "not measured")
    counts = Counter(check["verdict"] for check in checks)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])
    return {"judge": str(audit.get("judge") or ""), "checks": checks, "counts": said}


def _list(found: object) -> Sequence[object]:
    """What a file holds where a list may stand."""
    return found if isinstance(found, list) else ()


def _threshold(check: Record, unit: str) -> str:
    bound = check.get("threshold")
    if bound is None:
        return ""
    said = in_unit(unit).number(bound) if isinstance(bound, int | float) else str(bound)
    return f"±{said}" if check.get("two_sided") else said


def describe_ranking(ranking: Record) -> dict[str, Any]:
    """Models, pairs and pictures."""
    models = [
        {
            "name": str(model["name"]),
            "judged": model["judged"],
            "win_rate": row("", _estimate(model["win_rate"])),
            **{name: _strength(_estimate(model.get(name))) for name in ("bradley_terry", "elo")},
        }
        for model in ranking["models"]
    ]
    shown = ranking["models"][:_MOST_MODELS]
    rates = [(str(model["name"]), _estimate(model["win_rate"])) for model in shown]
    marks = [pictures.mark(name, rate) for name, rate in rates if rate is not None]
    return {
        "rule": str(ranking.get("rule") or ""),
        "length_controlled": bool(ranking.get("length_controlled")),
        "judgements": ranking.get("judgements"),
        "unread": ranking.get("unread"),
        "notes": [str(note) for note in _list(ranking.get("notes"))],
        "models": models,
        "pairs": [_pair(pair) for pair in ranking["pairs"]],
        "pictured": len(shown),
        "told_apart": sum(pair.get("told_apart") is True for pair in ranking["pairs"]),
        "win_rates": pictures.dots(marks, "Win rates with their 95 % intervals") if marks else None,
        "matrix": _matrix([name for name, _ in rates], ranking["pairs"]),
    }


def _strength(estimate: Estimate | None) -> Row:
    return row("", estimate, rating(estimate.value) if estimate else SHARE)


def _pair(pair: Record) -> dict[str, Any]:
    return {
        **{name: str(pair[name]) for name in ("first", "second")},
        **{name: f"{round(pair[name], 1):g}" for name in ("wins", "ties", "losses")},
        "win_rate": row("", _estimate(pair.get("win_rate"))),
        "told_apart": "yes" if pair.get("told_apart") is True else "no" if pair.get("told_apart") is False else "?",
        "more_needed": pair.get("more_needed"),
    }


def _matrix(names: Sequence[str], pairs: Sequence[Record]) -> str | None:
    """How often the row's model beats the column's."""
    if len(names) < 2:
        return None
    rates: dict[tuple[str, str], float] = {}
    for pair in pairs:
        if (rate := _estimate(pair.get("win_rate"))) is not None:
            first, second = str(pair["first"]), str(pair["second"])
            rates[first, second], rates[second, first] = rate.value, 1 - rate.value
    cells = [[_beats(row, column, rates.get((row, column))) for column in names] for row in names]
    numbered = [f"{place} {name}" for place, name in enumerate(names, start=1)]
    places = [str(place) for place in range(1, len(names) + 1)]
    return pictures.heat_map(numbered, places, cells, "How often a row's model beats a column's", "beats →, in %")


def _beats(row: str, column: str, rate: float | None) -> pictures.Cell:
    if rate is None:
        return pictures.Cell(None, "", f"{row} against {column}: not judged" if row != column else row)
    return pictures.Cell(rate, f"{100 * rate:.0f}", f"{row} beats {column}: {SHARE.number(rate)}")


def describe_run(run: Record) -> dict[str, Any]:
    """Tables of run.json."""
    sessions = run.get("sessions") or []
    last = sessions[-1] if sessions else {}
    tables = {
        "Settings": run.get("settings"),
        "Engine": last.get("engine"),
        "Versions": last.get("versions"),
        "Machine": run.get("machine"),
        **{f"Counts, {order}": counts for order, counts in (run.get("counts") or {}).items()},
    }
    words = [(title, settings(table)) for title, table in tables.items() if isinstance(table, dict) and table]
    started = sessions[0].get("started") if sessions else None
    return {
        "model": str((run.get("settings") or {}).get("model_id") or ""),
        "date": "" if started is None else time.strftime("%Y-%m-%d", time.gmtime(started)),
        "seconds": round(sum(session.get("seconds", 0) for session in sessions)),
        "sessions": len(sessions),
        "finished": run.get("finished"),
        "tables": words,
    }
