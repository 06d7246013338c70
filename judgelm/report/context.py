"""Judged samples and their numbers -> one HTML page that needs no network, and the same in Markdown.

Texts of questions, answers, judgements and names are untrusted: jinja2 escapes them, `pictures` does, and the page's
own policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from judgelm.errors import one_line
from judgelm.evaluation.results import JudgedSample, Reading
from judgelm.evaluation.summary import NO_SHARES
from judgelm.jsonl import Record
from judgelm.judgement import Outcome
from judgelm.report import pictures
from judgelm.report.disagreement import KINDS, MOST_SAMPLES, distance, kinds, largest, margin

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_MOST_TEXT = 8000
"""characters of a text that the page shows"""
_MOST_NAME = 200
"""characters of a name"""
_KEPT = "\n\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_MOST_BARS = 30
_MOST_MODELS = 12
"""models in the picture of the ranking"""
"""rates that are no shares"""
_CARDS = ("agreement", "agreement_both", "agreement_probabilities", "consistency", "kappa", "human_agreement")
_UNPARSED = {"as_tie": "counted as ties", "as_error": "counted as errors", "excluded": "left out"}
_WORDS = {"win": "answer 1", "tie": "tie", "lose": "answer 2", "unparsed": "unread"}
_MISSING = {
    "confusion": ("Agreement with a truth", "judgelm report D --teacher FILE"),
    "position": ("Position", "judgelm judge .. --orders both"),
    "reliability": ("Calibration", "judgelm judge .. --scoring expected, with a truth"),
    "audit": ("Bias card", "judgelm audit .. --output-dir D"),
    "ranking": ("Ranking", "judgelm rank .. --output-dir D"),
    "run": ("Settings and versions", "judgelm judge, which writes run.json beside its judgements"),
}
"""a section and which command gives what it needs"""


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate in words."""

    label: str
    value: str
    interval: str
    count: int | None


def build_context(
    samples: Sequence[JudgedSample],
    summary: Record,
    audit: Record | None = None,
    ranking: Record | None = None,
    run: Record | None = None,
    title: str = "A judge",
    *,
    labels: Mapping[str, str] | None = None,
    most: int = MOST_SAMPLES,
) -> dict[str, Any]:
    """All that the templates show, in words and pictures.

    `summary` is as `summary.summarize` gives it, the others are as their files hold them, None without. `labels` are
    words for the summary's rates; `most` samples are shown to be read.
    """
    given = {name: rate for name, rate in (summary.get("rates") or {}).items() if _is_of_samples(rate)}
    rates = {name: rate for name, rate in given.items() if _is_known(rate)}
    words = {name: (labels or {}).get(name, name.replace("_", " ")) for name in given}
    context = {
        "title": title,
        "samples": summary.get("samples", len(samples)),
        "labelled": summary.get("labelled", 0),
        "questions": summary.get("questions"),
        "cards": [_row(name, rates[name], words[name]) for name in _CARDS if name in rates],
        "rates": [_row(name, rate, words[name]) for name, rate in given.items()],
        "rates_picture": _shares_picture(rates, words),
        "unparsed": _unparsed(summary),
        "confusion": _confusion(summary),
        "position": _position(samples, rates, words),
        "reliability": _reliability(summary),
        "audit": _audit(audit),
        "ranking": _ranking(ranking),
        "run": _run(run),
        "groups": _groups(summary),
        "scores_picture": _scores_picture(samples),
        "shown": [_shown(sample) for sample in largest(samples, most)],
        "kinds": KINDS,
    }
    return context | {"missing": [said for name, said in _MISSING.items() if not context[name]]}


def render_page(context: Mapping[str, Any]) -> str:
    """The HTML of a context."""
    from markupsafe import Markup

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8").strip() for name in ("report.css", "report.js"))
    environment = _environment(finalize=lambda value: _visible(value) if type(value) is str else value)
    environment.filters["svg"] = Markup
    code = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html")
    return _sendable(page.render(context, style=Markup(style), script=Markup(script), script_hash=code))


def render_markdown(context: Mapping[str, Any]) -> str:
    """The same numbers in Markdown, without pictures and with the samples in one line each."""
    from markupsafe import Markup

    environment = _environment(finalize=lambda value: value if isinstance(value, Markup) else Markup(_plain(value)))
    return _sendable(environment.get_template("report.md").render(context))


def _environment(**settings: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, **settings)


def _visible(text: str) -> str:
    """Text without control characters, which could hide or turn what stands beside them. Lines and tabs stay, and the
    joiners that letters of some scripts need.
    """
    return text if text.isprintable() else "".join(c for c in text if c.isprintable() or c in _KEPT)


def _plain(value: object) -> str:
    """Anything as a piece of one Markdown line that is nothing but text."""
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", one_line(str(value))).replace("&", "&amp;").replace("<", "&lt;")


def _sendable(text: str) -> str:
    """Half surrogate pairs, which UTF-8 cannot hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_known(estimate: Record | None) -> TypeGuard[Record]:
    """Whether an estimate is there: what could not be measured is null, or has a value that is."""
    return estimate is not None and estimate.get("value") is not None


def _is_of_samples(estimate: Record | None) -> TypeGuard[Record]:
    """Whether there is an estimate, or samples that leave it undefined."""
    return estimate is not None and (_is_known(estimate) or bool(estimate.get("count")))


def _row(name: str, estimate: Record, label: str) -> Row:
    share = name not in NO_SHARES
    return Row(label, _said(estimate["value"], share), _interval(estimate, share), estimate.get("count"))


def _said(value: float | None, share: bool = True) -> str:
    """In per cent for a share; a dash for what is not defined."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"


def _interval(estimate: Record, share: bool = True) -> str:
    """Its bounds, "" where there are none."""
    if estimate.get("low") is None or estimate.get("high") is None:
        return ""
    scale, digits = (100, 1) if share else (1, 3)
    return f"{scale * estimate['low']:.{digits}f} to {scale * estimate['high']:.{digits}f}"


def _mark(label: str, estimate: Record) -> pictures.Mark:
    interval = _interval(estimate)
    said = _said(estimate["value"]) + (f" ({interval})" if interval else "")
    return pictures.Mark(label, said, estimate["value"], estimate.get("low"), estimate.get("high"))


def _shares_picture(rates: Mapping[str, Record], words: Mapping[str, str]) -> str | None:
    marks = [_mark(words[name], rate) for name, rate in rates.items() if name not in NO_SHARES]
    return pictures.dots(marks, "Rates with their 95 % intervals") if marks else None


def _unparsed(summary: Record) -> dict[str, Any] | None:
    given = summary.get("unparsed")
    if not given:
        return None
    rows = [_row(name, given[name], words) for name, words in _UNPARSED.items() if _is_known(given.get(name))]
    return {"count": given["count"], "rows": rows}


def _confusion(summary: Record) -> dict[str, Any] | None:
    table = summary.get("confusion")
    if not table:
        return None
    truths = [outcome.value for outcome in Outcome]
    counts = {truth: [table.get(truth, {}).get(said, 0) for said in _WORDS] for truth in truths}
    cells = [
        [
            pictures.Cell(
                count / max(1, sum(row)),
                str(count),
                f"truth {_WORDS[truth]}, judge {name}: {count} of {sum(row)}",
            )
            for name, count in zip(_WORDS.values(), row, strict=True)
        ]
        for truth, row in counts.items()
    ]
    picture = pictures.heat_map(
        [_WORDS[truth] for truth in truths],
        list(_WORDS.values()),
        cells,
        "Which outcome the judge finds for which truth",
        "truth ↓  judge →",
    )
    classes = [
        (_WORDS[truth], *(_said(one[part]) for part in ("precision", "recall", "f1")), one["support"])
        for truth, one in (summary.get("classes") or {}).items()
    ]
    rows = [(_WORDS[truth], *counts[truth]) for truth in truths]
    return {"picture": picture, "classes": classes, "rows": rows, "columns": list(_WORDS.values())}


def _groups(summary: Record) -> list[dict[str, Any]]:
    titles = {
        "by_gap": "By how far apart the truth's scores are",
        "by_length": "By the answers' lengths",
        "by_category": "By category",
    }
    found = []
    for name, title in titles.items():
        known = [one for one in summary.get(name) or [] if _is_known(one.get("agreement"))]
        if known:
            labels = [_cut(str(one["label"]), _MOST_NAME) for one in known]
            rows = [_row(name, one["agreement"], label) for label, one in zip(labels, known, strict=True)]
            marks = [
                _mark(f"{label} (n = {one['agreement']['count']})", one["agreement"])
                for label, one in zip(labels[:_MOST_BARS], known, strict=False)
            ]
            found.append({"title": title, "rows": rows, "picture": pictures.bars(marks, f"Agreement. {title}")})
    return found


def _scores_picture(samples: Iterable[JudgedSample]) -> str | None:
    """Every answer's score by the truth and by the judge, to the nearest half."""
    pairs = [
        (_half(ours), _half(theirs))
        for sample in samples
        if sample.truth is not None and sample.truth.scores is not None and sample.scores is not None
        for ours, theirs in zip(sample.truth.scores, sample.scores, strict=True)
    ]
    title = "Scores of all answers, by the teacher and by the judge"
    return pictures.bubbles(Counter(pairs), (0, 10), ("teacher's score", "judge's score"), title) if pairs else None


def _half(value: float) -> float:
    return round(2 * value) / 2


def _position(
    samples: Iterable[JudgedSample], rates: Mapping[str, Record], words: Mapping[str, str]
) -> dict[str, Any] | None:
    names = [name for name in ("consistency", "bias_first", "bias_second") if name in rates]
    both = [
        (margin(sample.forward), margin(sample.reversed))
        for sample in samples
        if sample.forward is not None and sample.reversed is not None
    ]
    leads = [(_half(forward), _half(back)) for forward, back in both if forward is not None and back is not None]
    if not leads and not names:
        return None
    labels = ("lead of answer 1, shown first", "lead of answer 1, shown second")
    title = "By how many points answer 1 leads, in both orders"
    return {
        "rows": [_row(name, rates[name], words[name]) for name in names],
        "bars": pictures.bars([_mark(words[name], rates[name]) for name in names], "Under swap") if names else None,
        "picture": pictures.bubbles(Counter(leads), (-9, 9), labels, title) if leads else None,
    }


def _reliability(summary: Record) -> dict[str, Any] | None:
    bins = [one for one in summary.get("reliability") or [] if one["count"]]
    if not bins:
        return None
    points = [(one["confidence"], one["right"], one["count"]) for one in bins]
    rows = [
        (
            f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %",
            _said(one["confidence"]),
            _said(one["right"]),
            one["count"],
        )
        for one in bins
    ]
    return {"picture": pictures.reliability(points, "How often the judge is right, by how sure it is"), "rows": rows}


def _audit(audit: Record | None) -> dict[str, Any] | None:
    if not audit:
        return None
    checks = []
    for check in audit["checks"]:
        effect, unit = check.get("effect") if _is_known(check.get("effect")) else None, str(check.get("unit") or "")
        checks.append(
            {
                "title": str(check.get("title") or check["name"]),
                "what": str(check.get("what") or ""),
                "effect": _measured(effect["value"], unit) if effect else "",
                "interval": _bounds(effect, unit) if effect else "",
                "count": effect.get("count") if effect else None,
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
    if check.get("threshold") is None:
        return ""
    return ("±" if check.get("two_sided") else "") + _measured(check["threshold"], unit)


def _measured(value: Any, unit: str) -> str:
    """A number in an audit's unit: shares in per cent."""
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.3g} {unit}".strip()


def _bounds(effect: Record, unit: str) -> str:
    if effect.get("low") is None or effect.get("high") is None:
        return ""
    scale, form = (100, ".1f") if unit == "share" else (1, ".3g")
    return f"{scale * effect['low']:{form}} to {scale * effect['high']:{form}}"


def _ranking(ranking: Record | None) -> dict[str, Any] | None:
    if not ranking:
        return None
    models = [
        {
            "name": str(model["name"]),
            "judged": model["judged"],
            "win_rate": _row("", model["win_rate"], "") if _is_known(model["win_rate"]) else Row("", "", "", None),
            **{name: _strength(model.get(name)) for name in ("bradley_terry", "elo")},
        }
        for model in ranking["models"]
    ]
    shown = ranking["models"][:_MOST_MODELS]
    marks = [_mark(str(model["name"]), model["win_rate"]) for model in shown if _is_known(model["win_rate"])]
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
        "matrix": _matrix([str(model["name"]) for model in shown], ranking["pairs"]),
    }


def _strength(estimate: Record | None) -> Row:
    if not _is_known(estimate):
        return Row("", "", "", None)
    digits = 0 if abs(estimate["value"]) >= 100 else 2
    bounds = [estimate.get("low"), estimate.get("high")]
    interval = "" if None in bounds else " to ".join(f"{bound:.{digits}f}" for bound in bounds)
    return Row("", f"{estimate['value']:.{digits}f}", interval, estimate.get("count"))


def _pair(pair: Record) -> dict[str, Any]:
    rate = pair.get("win_rate")
    return {
        **{name: str(pair[name]) for name in ("first", "second")},
        **{name: f"{round(pair[name], 1):g}" for name in ("wins", "ties", "losses")},
        "win_rate": _row("", rate, "") if _is_known(rate) else Row("", "", "", None),
        "told_apart": "yes" if pair.get("told_apart") is True else "no" if pair.get("told_apart") is False else "?",
        "more_needed": pair.get("more_needed"),
    }


def _matrix(names: Sequence[str], pairs: Sequence[Record]) -> str | None:
    """How often the row's model beats the column's."""
    if len(names) < 2:
        return None
    rates: dict[tuple[str, str], float] = {}
    for pair in pairs:
        if _is_known(pair.get("win_rate")):
            rate = pair["win_rate"]["value"]
            first, second = str(pair["first"]), str(pair["second"])
            rates[first, second], rates[second, first] = rate, 1 - rate
    cells = [[_beats(row, column, rates.get((row, column))) for column in names] for row in names]
    numbered = [f"{place} {name}" for place, name in enumerate(names, start=1)]
    places = [str(place) for place in range(1, len(names) + 1)]
    return pictures.heat_map(numbered, places, cells, "How often a row's model beats a column's", "beats →, in %")


def _beats(row: str, column: str, rate: float | None) -> pictures.Cell:
    if rate is None:
        return pictures.Cell(None, "", f"{row} against {column}: not judged" if row != column else row)
    return pictures.Cell(rate, f"{100 * rate:.0f}", f"{row} beats {column}: {_said(rate)}")


def _shown(sample: JudgedSample) -> dict[str, Any]:
    """A sample to be read."""
    truth = sample.truth
    outcome = sample.outcome()
    return {
        "id": _cut(sample.key, _MOST_NAME),
        "question": _cut(sample.question),
        "short": _cut(one_line(sample.question), 120),
        "category": sample.category and _cut(sample.category, _MOST_NAME),
        "answers": [
            (model and _cut(str(model), _MOST_NAME), _cut(text))
            for model, text in zip(sample.models, sample.answers, strict=True)
        ],
        "known_answer": sample.known_answer,
        "truth": "" if truth is None else _WORDS[truth.outcome.value],
        "truth_scores": "" if truth is None or truth.scores is None else _pair_of(truth.scores),
        "outcome": "unread" if outcome is None else _WORDS[outcome.value],
        "forward": _judgement(sample.forward),
        "reversed": _judgement(sample.reversed),
        "distance": f"{distance(sample):.1f}",
        "kinds": kinds(sample),
    }


def _judgement(reading: Reading | None) -> dict[str, str] | None:
    if reading is None:
        return None
    scores = reading.expected_scores or reading.scores
    likely = reading.probabilities or {}
    return {
        "scores": "unread" if scores is None else _pair_of(scores, reading.expected_scores is not None),
        "outcome": "unread" if reading.outcome is None else _WORDS[reading.outcome.value],
        "probabilities": ", ".join(f"{_WORDS[each.value]} {100 * likely[each]:.0f} %" for each in Outcome if likely),
        "text": _cut(reading.text),
    }


def _pair_of(scores: tuple[float, float], expected: bool = False) -> str:
    return " : ".join(f"{score:.1f}" if expected else f"{score:g}" for score in scores)


def _cut(text: str, most: int = _MOST_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"


def _run(run: Record | None) -> dict[str, Any] | None:
    """run.json as tables of words."""
    if not run:
        return None
    sessions = run.get("sessions") or []
    last = sessions[-1] if sessions else {}
    tables = {
        "Settings": run.get("settings"),
        "Engine": last.get("engine"),
        "Versions": last.get("versions"),
        "Machine": run.get("machine"),
        **{f"Counts, {order}": counts for order, counts in (run.get("counts") or {}).items()},
    }
    words = [
        (title, [(str(name), _value(value)) for name, value in table.items() if value is not None])
        for title, table in tables.items()
        if isinstance(table, dict) and table
    ]
    started = sessions[0].get("started") if sessions else None
    return {
        "model": str((run.get("settings") or {}).get("model_id") or ""),
        "date": "" if started is None else time.strftime("%Y-%m-%d", time.gmtime(started)),
        "seconds": round(sum(session.get("seconds", 0) for session in sessions)),
        "sessions": len(sessions),
        "finished": run.get("finished"),
        "tables": words,
    }


def _value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:12] + "…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
