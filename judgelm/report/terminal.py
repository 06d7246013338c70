"""Numbers -> lines and tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from judgelm.evaluation.published import Metrics
from judgelm.jsonl import Record, id_key
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.report.table import render_table
from judgelm.report.words import DIFFERENCE, EXACT_SHARE, shorten
from judgelm.verdict import BothOrders, Reading

if TYPE_CHECKING:
    from judgelm.audit.checks import Check
    from judgelm.audit.findings import Finding

MAX_ROWS = 40
_LABELS = {
    "agreement": "agreement with the teacher",
    "agreement_both_orders": "agreement, mean of both orders' probabilities",
    "brier": "Brier score (0 best, 2 worst)",
    "calibration_error": "expected calibration error, 10 bins",
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


def metrics_table(metrics: Metrics) -> str:
    """One metric a line, rates in per cent."""
    rows = []
    for name, label in _LABELS.items():
        if name in metrics:
            value = metrics[name]
            rows.append((label, EXACT_SHARE.number(value) if isinstance(value, float) else f"{value}"))
    return render_table(("metric", "value"), rows)


def judgement_table(records: Mapping[Order, Sequence[Record]], total: int) -> str:
    """The first of `total` judgements of a run, one question a line; orders side by side where both were judged."""
    reversed_ = {id_key(record["question_id"]): record for record in records.get("reversed", ())}
    if not records.get("forward"):
        return _one_order(records["reversed"], "reversed", total)
    if not reversed_:
        return _one_order(records["forward"], "forward", total)
    rows = []
    for forward in records["forward"]:
        other = reversed_.get(id_key(forward["question_id"]))
        both = BothOrders(_reading(forward), _reading(other, exchanged=True) if other else None)
        verdict = {True: "yes", False: "NO", None: "?"}[both.consistent]
        back = Outcome(other["pred_outcome"]).swapped().value if other and other["pred_outcome"] else "-"
        rows.append(
            (
                str(forward["question_id"]),
                _question(forward),
                _scores(forward),
                forward["pred_outcome"] or "-",
                _scores(other) if other else "-",
                back,
                verdict,
            )
        )
    header = ("id", "question", "forward", "outcome", "reversed", "swapped back", "consistent")
    return render_table(header, rows) + _more(total, len(rows))


def _one_order(records: Sequence[Record], order: str, total: int) -> str:
    rows = [(str(r["question_id"]), _question(r), _scores(r), r["pred_outcome"] or "-") for r in records]
    return render_table(("id", "question", order, "outcome"), rows) + _more(total, len(rows))


def _more(total: int, shown: int) -> str:
    return f"\n({total - shown} more rows in the files)" if total > shown else ""


def counts_line(order: str, counts: Mapping[str, int]) -> str:
    """What became of one order's judgements, bad data included."""
    odd = ("repaired", "shortened", "prompt_too_long", "out_of_memory", "refused", "length_limit", "suspicious_markers")
    parts = [f"{counts['total']} judged", f"{counts[ParseState.FAILED]} unparsed"]
    parts += [f"{counts[name]} {name.replace('_', ' ')}" for name in odd if counts[name]]
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


def _question(record: Record) -> str:
    return shorten(str(record.get("question_body", record.get("question", ""))), 44)


def _scores(record: Record) -> str:
    if "pred_expected_scores" in record:
        return " ".join(f"{score:.2f}" for score in record["pred_expected_scores"])
    return " ".join(f"{score:g}" for score in record["pred_scores"]) if record["pred_scores"] else "unparsed"


def _reading(record: Record, exchanged: bool = False) -> Reading:
    scores = tuple(record["pred_scores"]) if record["pred_scores"] else None
    judgement = Judgement(record["pred_text"], len(scores or ()), scores, ParseState(record["pred_parse"]))
    return Reading.of(judgement, exchanged=exchanged)


def checks_table() -> str:
    """All checks: names, thresholds, what is measured and what is changed."""
    from judgelm.audit import CHECKS

    rows = [(name, _bound(check), check.what) for name, check in CHECKS.items()]
    return render_table(("check", "threshold", "effect"), rows)


def findings_table(findings: Sequence[Finding]) -> str:
    """One check a line, in per cent, and the notes below."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        effect, verdict = finding.effect, finding.verdict.upper() if finding.verdict == "fail" else finding.verdict
        said = ("-", "-", "0")
        if effect.value is not None:
            said = (DIFFERENCE.number(effect.value), DIFFERENCE.interval(effect, "-"), str(effect.count))
        rows.append((finding.name, finding.title, *said, _bound(finding), verdict))
    header = ("check", "bias", "effect", "95 % interval", "pairs", "threshold", "verdict")
    notes = [f"{finding.name}: {finding.note}" for finding in findings if finding.note]
    return "\n".join([render_table(header, rows), *notes])


def _bound(check: Check | Finding) -> str:
    return f"{'±' if check.two_sided else ''}{100 * check.threshold:g} %"
