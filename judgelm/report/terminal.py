"""Numbers -> lines and tables for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from judgelm.benchmark.sets import PUBLISHED, PUBLISHED_KEYS
from judgelm.errors import one_line
from judgelm.evaluation.images import labelled
from judgelm.evaluation.published import Metrics
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.summary import RATES, ClassScores, Comparison, Group, Kind, Summary
from judgelm.jsonl import Record, id_key
from judgelm.judge.settings import ORDERS, Order
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.report.words import DIFFERENCE, EXACT_NUMBER, EXACT_SHARE, WIN_RATE, Form, shorten
from judgelm.verdict import BothOrders, Reading
from judgelm.verdict_forms import SCORES

if TYPE_CHECKING:
    from judgelm.audit.checks import Check
    from judgelm.audit.findings import Finding
    from judgelm.evaluation.calibration_map import CalibrationFile

MAX_ROWS = 40
_MOST_NAMED = 10
_NEW = ("empty_answers", "thoughts_left_out")
_MOST_ASPECTS = 4
"""in a table, side by side"""
_MOST_NAME = 24
_ESTIMATE = ("value", "95 % interval", "samples")
_LABELS = {
    "agreement": "agreement with the teacher",
    "agreement_both_orders": "agreement, mean of both orders' probabilities",
    "brier": RATES["brier"].label,
    "calibration_error": RATES["calibration_error"].label,
    "accuracy": "accuracy (published rule: unparsed = tie)",
    "precision": "precision, macro (published rule)",
    "recall": "recall, macro (published rule)",
    "f1": "F1, macro (published rule)",
    "consistency": "consistency under swap (published rule)",
    "bias_first": "bias to the first answer",
    "bias_second": "bias to the second answer",
    "perfer_before_rate": "bias to the first (published rule)",
    "perfer_after_rate": "bias to the second (published rule)",
    "delta_bias": "difference of the two",
    "total_bias": "sum of the two",
    "win_forward": "Assistant 1 wins",
    "tie_forward": "ties",
    "lose_forward": "Assistant 2 wins",
    "unparsed_forward": "unparsed, forward",
    "unparsed_reversed": "unparsed, reversed",
    "repaired_forward": "repaired, forward",
    "repaired_reversed": "repaired, reversed",
    "dropped_teacher": "dropped: teacher unparsed",
    "not_judged": "teacher rows not judged",
    "total_num": "rows (published rule)",
    "total": "rows",
}


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by their width on a terminal. Cells of any origin: control characters are left out."""
    # one line each; spaces in front are kept
    cells = [[" " * (len(cell) - len(cell.lstrip(" "))) + one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def cut_table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = MAX_ROWS, what: str = "more") -> str:
    """The first rows, and how many more there are."""
    more = f"\n({len(rows) - most} {what})" if len(rows) > most else ""
    return render_table(header, rows[:most]) + more


def rates_table(kinds: Mapping[str, Kind], rates: Mapping[str, Rate]) -> str:
    """With their intervals, in the order of the kinds."""
    known = [(kind, rates[name]) for name, kind in kinds.items() if name in rates]
    rows = [(kind.label, *estimate_cells(rate, EXACT_SHARE if kind.share else EXACT_NUMBER)) for kind, rate in known]
    return render_table(("metric", *_ESTIMATE), rows)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def metrics_table(metrics: Metrics) -> str:
    """One metric a line, rates in per cent."""
    known = [(label, metrics[name]) for name, label in _LABELS.items() if name in metrics]
    rows = [(label, EXACT_SHARE.number(value) if isinstance(value, float) else f"{value}") for label, value in known]
    return render_table(("metric", "value"), rows)


def summary_tables(summary: Summary) -> str:
    """Rates with intervals, then agreement by rule for unread judgements, by class, gap, length and category."""
    rates, unparsed = summary.rates, summary.unparsed
    parts = [
        f"{summary.samples} samples of {summary.questions} questions, {summary.labelled} with a truth"
        + _empty_line(summary.empty_answers),
        rates_table(RATES, rates),
    ]
    if unparsed and unparsed.count:
        rules = {"as ties": unparsed.as_tie, "as errors": unparsed.as_error, "left out": unparsed.excluded}
        known = [(label, *estimate_cells(rate)) for label, rate in rules.items() if rate]
        parts.append(render_table((f"agreement, {unparsed.count} unparsed", *_ESTIMATE), known))
    if summary.confusion:
        parts.append(_class_table(summary.confusion, summary.classes or {}))
    groups = {"score gap": summary.by_gap, "length of the answers": summary.by_length, "category": summary.by_category}
    parts += [_group_table(label, found) for label, found in groups.items() if found]
    if summary.aspects:
        parts.append(aspect_tables(RATES, rates, [(each.name, each.rates) for each in summary.aspects]))
    return "\n\n".join(parts)


def calibration_table(found: CalibrationFile) -> str:
    """What a map did on questions that it was not fitted on."""
    kinds = {
        "brier": (RATES["brier"].label, EXACT_NUMBER),
        "calibration_error": (RATES["calibration_error"].label, EXACT_SHARE),
        "agreement_likeliest": ("agreement of the likeliest outcome", EXACT_SHARE),
        "agreement": ("agreement with the threshold for ties", EXACT_SHARE),
    }
    rows = [
        (kinds[name][0], *map(kinds[name][1].both, (each.before, each.after, each.difference)))
        for name, each in found.checked.items()
        if name in kinds
    ]
    return render_table(("on other questions", "before", "after", "difference"), rows)


def _empty_line(empty: Mapping[str, int] | None) -> str:
    """Whose answers are empty, those with most first; nothing where there are none."""
    if not empty:
        return ""
    named = sorted(empty.items(), key=lambda each: -each[1])
    shown = [f"{shorten(name, 40)} {count}" for name, count in named[:_MOST_NAMED]]
    return f"\n{sum(empty.values())} empty answers: {', '.join(shown)}{' ..' if len(named) > _MOST_NAMED else ''}"


def aspect_tables(
    kinds: Mapping[str, Kind], whole: Mapping[str, Rate], aspects: Sequence[tuple[str, Mapping[str, Rate]]]
) -> str:
    """The rates of all aspects side by side, in per cent or points, the whole first; a few to a table."""
    names = [name for name in kinds if any(name in rates for _, rates in aspects)]
    sides = [("all", whole), *((shorten(name, _MOST_NAME), rates) for name, rates in aspects)]
    tables = []
    for start in range(0, len(sides), _MOST_ASPECTS):
        some = sides[start : start + _MOST_ASPECTS]
        rows = [(kinds[name].label, *(_beside(kinds[name], rates.get(name)) for _, rates in some)) for name in names]
        tables.append(render_table(("by aspect, shares in %", *(name for name, _ in some)), rows))
    return "\n\n".join(tables)


def _beside(kind: Kind, rate: Rate | None) -> str:
    return "-" if rate is None else (WIN_RATE if kind.share else EXACT_NUMBER).both(rate)


def comparison_table(comparison: Comparison, names: tuple[str, str]) -> str:
    """Both agreements, their difference, and on how many samples one is right alone."""
    rows = [
        (f"agreement of {names[0]}", *estimate_cells(comparison.first)),
        (f"agreement of {names[1]}", *estimate_cells(comparison.second)),
        ("difference (second - first)", *estimate_cells(comparison.difference)),
        ("both say the same", *estimate_cells(comparison.same_outcome)),
    ]
    return (
        f"{render_table(('comparison', *_ESTIMATE), rows)}\nright: both {comparison.both},"
        f" only first {comparison.only_first}, only second {comparison.only_second}, neither {comparison.neither};"
        f" McNemar's exact p = {comparison.p:.4g}"
    )


def estimate_cells(rate: Rate, form: Form = EXACT_SHARE) -> tuple[str, str, str]:
    """Value, interval and number of samples; "-" for what there is none of."""
    return form.number(rate.value), form.interval(rate, "-"), str(rate.count)


def _class_table(confusion: Mapping[str, Mapping[str, int]], classes: Mapping[str, ClassScores]) -> str:
    rows = []
    for outcome, said in confusion.items():
        one = classes[outcome]
        counts = (str(said[name]) for name in (*confusion, "unparsed"))
        rows.append((outcome, *counts, *map(EXACT_SHARE.number, (one.precision, one.recall, one.f1))))
    header = ("truth", *(f"said {name}" for name in confusion), "unparsed", "precision", "recall", "F1")
    return render_table(header, rows)


def _group_table(label: str, groups: Sequence[Group]) -> str:
    rows = [(group.label, *estimate_cells(group.agreement)) for group in groups]
    return cut_table((f"agreement by {label}", *_ESTIMATE), rows)


def published_table(measured: Mapping[str, Metrics], judge: str) -> str:
    """The paper's table: this judge's published metrics beside those of the released judges, in per cent."""
    rows = []
    for part, metrics in measured.items():
        ours = [f"{100 * metrics[key]:.2f}" if key in metrics else "-" for key in PUBLISHED_KEYS]
        rows.append((judge, part.replace("_", " "), *ours, str(metrics["total_num"])))
        for name, numbers in PUBLISHED[part].items():
            rows.append((f"{name} (published)", part.replace("_", " "), *(f"{n:.2f}" for n in numbers), "5k"))
    return render_table(("judge", "reference", "agreement", "precision", "recall", "F1", "consistency", "rows"), rows)


def judgement_table(records: Mapping[Order, Sequence[Record]], total: int) -> str:
    """The first of `total` judgements of a run, one question a line; orders side by side where both were judged."""
    header: tuple[str, ...]
    forward, back = (records.get(order, ()) for order in ORDERS["both"])
    if forward and back:
        header = ("id", "question", "forward", "outcome", "reversed", "swapped back", "consistent")
        others = {id_key(record["question_id"]): record for record in back}
        rows = [_both_orders(record, others.get(id_key(record["question_id"]))) for record in forward]
    else:
        header = ("id", "question", "forward" if forward else "reversed", "outcome")
        rows = [_one_order(record) for record in forward or records["reversed"]]
    more = f"\n({total - len(rows)} more rows in the files)" if total > len(rows) else ""
    return render_table(header, rows) + more


def _one_order(record: Record) -> tuple[str, ...]:
    question = shorten(str(labelled(record).get("question_body", record.get("question", ""))), 44)
    return str(record["question_id"]), question, _scores(record), record["pred_outcome"] or "-"


def _both_orders(forward: Record, other: Record | None) -> tuple[str, ...]:
    if other is None:
        return *_one_order(forward), "-", "-", "?"
    consistent = BothOrders(_reading(forward), _reading(other, "reversed")).consistent
    back = Outcome(other["pred_outcome"]).swapped().value if other["pred_outcome"] else "-"
    return *_one_order(forward), _scores(other), back, {True: "yes", False: "NO", None: "?"}[consistent]


def _scores(record: Record) -> str:
    if "pred_expected_scores" in record:
        return " ".join(f"{score:.2f}" for score in record["pred_expected_scores"])
    return " ".join(f"{score:g}" for score in record["pred_scores"]) if record["pred_scores"] else "unparsed"


def _reading(record: Record, order: str = "forward") -> Reading:
    scores = tuple(record["pred_scores"]) if record["pred_scores"] else None
    state, form = ParseState(record["pred_parse"]), record.get("pred_verdict_format", SCORES)
    judgement = Judgement(record["pred_text"], len(scores or ()), scores, state, form=form)
    return Reading.of(judgement, order=order)


def counts_line(order: str, counts: Mapping[str, int]) -> str:
    """What became of one order's judgements, bad data included."""
    odd = ("repaired", "shortened", "prompt_too_long", "out_of_memory", "refused", "length_limit", "suspicious_markers")
    parts = [f"{counts['total']} judged", f"{counts[ParseState.FAILED]} unparsed"]
    parts += [f"{counts[name]} {name.replace('_', ' ')}" for name in (*odd, *_NEW) if counts.get(name)]
    return f"{order}: {', '.join(parts)}"


def cost_line(counts: Sequence[Mapping[str, int]], prices: tuple[float, float]) -> str:
    """What the judgements of all orders cost, by prices for a million tokens, in the prices' currency."""
    prompt, generated = (sum(each[name] for each in counts) for name in ("prompt_tokens", "generated_tokens"))
    total = (prompt * prices[0] + generated * prices[1]) / 1_000_000
    return f"cost: {total:.4f} ({prompt} prompt tokens, {generated} generated tokens)"


def win_lines(counts: Mapping[str, int]) -> str:
    """The two closing lines of the published pair script, its spelling included; an unparsed judgement is no tie."""
    win, tie, lose = (counts[outcome] for outcome in (Outcome.WIN, Outcome.TIE, Outcome.LOSE))
    line = "Assistant {}'s reuslts ---> win_num: {}, tie_num: {}, lose_num: {}"
    return f"{line.format(1, win, tie, lose)}\n{line.format(2, lose, tie, win)}"


def checks_table() -> str:
    """All checks: names, thresholds, what is measured and what is changed."""
    from judgelm.audit.many import ALL_CHECKS

    rows = [(name, _bound(check), check.what) for name, check in ALL_CHECKS.items()]
    return render_table(("check", "threshold", "effect"), rows)


def findings_table(findings: Sequence[Finding]) -> str:
    """One check a line, in per cent, and the notes below."""
    rows = [
        (
            *(finding.name, finding.title),
            *estimate_cells(finding.effect, DIFFERENCE),
            *(_bound(finding), "FAIL" if finding.verdict == "fail" else finding.verdict),
        )
        for finding in findings
    ]
    header = ("check", "bias", "effect", "95 % interval", "pairs", "threshold", "verdict")
    notes = [f"{finding.name}: {finding.note}" for finding in findings if finding.note]
    return "\n".join([render_table(header, rows), *notes])


def _bound(check: Check | Finding) -> str:
    return f"{'±' if check.two_sided else ''}{100 * check.threshold:g} %"
