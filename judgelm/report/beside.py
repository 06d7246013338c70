"""What stands beside the judgements of a folder, as words: audit.json, ranking.json and run.json."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from judgelm.errors import InputError
from judgelm.evaluation.readings import is_number
from judgelm.jsonl import Record, read_json
from judgelm.judge.description import read_description
from judgelm.ranking.ranking import Ranking, Strength
from judgelm.report import pictures
from judgelm.report.corrections import describe_ratings
from judgelm.report.words import POINTS, SHARE, in_unit, rating, row, settings

_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "audit.json": {"checks": ("name", "verdict")},
    "ranking.json": {"models": ("name", "judged", "win_rate"), "pairs": ("first", "second", "wins", "ties", "losses")},
}
"""files of a judged folder that a report can do without: the lists they must have, and the fields of their objects"""
_ESTIMATES = ("effect", "win_rate", "bradley_terry", "elo", "grade")
"""fields of those objects that are a number with its interval, or null"""
_NUMBERS = ("wins", "ties", "losses")
MISSING = {
    "ranking": ("Ranking", "judgelm rank .. --output-dir D"),
    "run": ("Settings and versions", "judgelm judge, which writes run.json beside its judgements"),
}
"""a section of every page and which command gives what it needs"""
_SECTIONS = (
    *("brief", "grades", "many", "unparsed", "confusion", "alternative", "position", "aspects", "reliability"),
    *("corrected", "scores_picture", "labelled", "missing"),
)
"""what a page has of pairs, of grades or of many answers alone"""
_MOST_MODELS = 12
"""models in the picture of the ranking"""


class Beside(NamedTuple):
    """Each as its file holds it; None where there is none."""

    audit: Record | None = None
    ranking: Record | None = None
    run: Record | None = None
    title: str = "A judge"

    def described(self) -> dict[str, Any]:
        """As the templates show it, and of all other sections nothing."""
        return {
            **dict.fromkeys(_SECTIONS),
            "groups": [],
            "title": self.title,
            "audit": describe_audit(self.audit) if self.audit else None,
            "ranking": describe_ranking(self.ranking) if self.ranking else None,
            "run": None if self.run is None else describe_run(self.run),
        }


def read_beside(folder: Path) -> Beside:
    """Raises InputError for a file that is not what it should be."""
    audit, ranking = (_read(folder / name, lists) for name, lists in _FILES.items())
    if ranking is not None and ranking.get("corrected") is not None:
        Ranking.from_record(ranking, str(folder / "ranking.json"))
    described = read_description(folder / "run.json")
    run = described.to_record() if described else None
    return Beside(audit, ranking, run, _title(folder, run or {}))


def _title(folder: Path, run: Record) -> str:
    model = (run.get("settings") or {}).get("model_id")
    name = folder.resolve().name
    return f"{model} on {name}" if model else f"The judge of {name}"


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
            if field in each and not is_number(each[field]):
                raise InputError(f"{path}: {field!r} in one of {name!r} is no number")
    return record


def _is_estimate(found: object) -> bool:
    if not isinstance(found, dict):
        return found is None
    ends = (found.get(end) for end in ("value", "low", "high"))
    return "value" in found and all(end is None or is_number(end) for end in ends)


def _estimate(record: Record, field: str) -> Strength | None:
    """None for what could not be measured."""
    given = record.get(field)
    if given is None or given["value"] is None:
        return None
    return Strength.model_construct(**{name: given.get(name) for name in ("value", "low", "high", "count")})


def _text(record: Record, field: str, otherwise: object = "") -> str:
    return str(record.get(field) or otherwise)


def _list(record: Record, field: str) -> list[str]:
    found = record.get(field)
    return [str(each) for each in found] if isinstance(found, list) else []


def describe_audit(audit: Record) -> dict[str, Any]:
    """The bias card."""
    order = ("pass", "fail", "unclear", "not measured")
    counts = Counter(str(check["verdict"]) for check in audit["checks"])
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])
    return {"judge": _text(audit, "judge"), "checks": [_check(check) for check in audit["checks"]], "counts": said}


def _check(check: Record) -> dict[str, Any]:
    form, bound = in_unit(_text(check, "unit")), check.get("threshold")
    if isinstance(bound, int | float):
        bound = form.number(bound)
    return {
        "title": _text(check, "title", check["name"]),
        "what": _text(check, "what"),
        "effect": row("", _estimate(check, "effect"), form),
        "threshold": "" if bound is None else f"{'±' if check.get('two_sided') else ''}{bound}",
        "verdict": str(check["verdict"]),
        "note": _text(check, "note"),
        "examples": ", ".join(_list(check, "examples")),
    }


def describe_ranking(ranking: Record) -> dict[str, Any]:
    """Models, pairs and pictures."""
    shown, pairs = ranking["models"][:_MOST_MODELS], ranking["pairs"]
    names = [str(model["name"]) for model in shown]
    rates = [(name, rate) for name, model in zip(names, shown, strict=True) if (rate := _estimate(model, "win_rate"))]
    return {
        "rule": _text(ranking, "rule"),
        "length_controlled": bool(ranking.get("length_controlled")),
        "judgements": ranking.get("judgements"),
        "unread": ranking.get("unread"),
        "notes": _list(ranking, "notes"),
        "corrected": None if ranking.get("corrected") is None else describe_ratings(Ranking.model_validate(ranking)),
        "models": [_model(model) for model in ranking["models"]],
        "graded": any(_estimate(model, "grade") for model in ranking["models"]),
        "pairs": [_pair(pair) for pair in pairs],
        "pictured": len(shown),
        "told_apart": sum(pair.get("told_apart") is True for pair in pairs),
        "win_rates": pictures.shares(rates, "Win rates with their 95 % intervals"),
        "matrix": _matrix(names, pairs) if len(names) > 1 else None,
    }


def _model(model: Record) -> dict[str, Any]:
    ratings = {name: _estimate(model, name) for name in ("bradley_terry", "elo")}
    return {
        "name": str(model["name"]),
        "judged": model["judged"],
        "win_rate": row("", _estimate(model, "win_rate")),
        **{name: row("", each, rating(each.value) if each else SHARE) for name, each in ratings.items()},
        "grade": row("", _estimate(model, "grade"), POINTS),
    }


def _pair(pair: Record) -> dict[str, Any]:
    apart = pair.get("told_apart")
    return {
        **{name: str(pair[name]) for name in ("first", "second")},
        **{name: f"{round(pair[name], 1):g}" for name in _NUMBERS},
        "win_rate": row("", _estimate(pair, "win_rate")),
        "told_apart": "yes" if apart is True else "no" if apart is False else "?",
        "more_needed": pair.get("more_needed"),
    }


def _matrix(names: Sequence[str], pairs: Sequence[Record]) -> str:
    """How often the row's model beats the column's."""
    rates: dict[tuple[str, str], float] = {}
    for pair in pairs:
        if (rate := _estimate(pair, "win_rate")) is not None:
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
        "date": "" if started is None else time.strftime("%Y-%m-%d", time.gmtime(started)),
        "seconds": round(sum(session.get("seconds", 0) for session in sessions)),
        "sessions": len(sessions),
        "finished": run.get("finished"),
        "tables": words,
    }
