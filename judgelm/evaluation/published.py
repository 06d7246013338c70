"""Teacher, forward and reversed judgements -> numbers; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judgelm.distribution import both_orders, likeliest
from judgelm.judgement import Judgement, Outcome, ParseState, published_scores

Metrics = dict[str, float | int]
PUBLISHED = (
    *("accuracy", "precision", "recall", "f1", "consistency"),
    *("perfer_before_rate", "perfer_after_rate", "delta_bias", "total_bias", "total_num"),
)
"""keys of the paper's script, by its rule: an unparsed judgement is a tie"""


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One question's judgements, joined by id; the reversed one speaks of the exchanged answers."""

    forward: str
    reversed: str | None = None
    teacher: str | None = None
    forward_outcomes: Mapping[Outcome, float] | None = None
    """probabilities of the forward judgement's outcomes, with scoring `expected`"""
    reversed_outcomes: Mapping[Outcome, float] | None = None


def evaluate_pairs(pairs: Sequence[JudgedPair]) -> Metrics:
    """The published metrics, exactly as the paper's script defines them, and better-named ones beside them.

    Published keys (FORMATS): an unparsed judgement counts as a tie, rows without a readable teacher are dropped.
    Ours: `agreement`, `bias_first`, `bias_second` are shares of `total`; a judgement without scores agrees with
    nothing and prefers nobody. Either every pair has a teacher (a reversed judgement) or none has. Raises ValueError
    where no row is left.
    """
    if not pairs:
        raise ValueError("there is no judgement to evaluate")
    return {**_published(pairs), **_ours(pairs)}


def _published(pairs: Sequence[JudgedPair]) -> Metrics:
    kept = [pair for pair in pairs if pair.teacher is None or -1 not in published_scores(pair.teacher)]
    if not kept:
        raise ValueError("no row has a teacher judgement that can be read")
    forward = [_sign(pair.forward) for pair in kept]
    metrics: Metrics = {}
    teacher = [_sign(pair.teacher) for pair in kept if pair.teacher is not None]
    if teacher:
        metrics |= classification(teacher, forward)
    reversed_ = [_sign(pair.reversed) for pair in kept if pair.reversed is not None]
    if reversed_:
        expected = [-sign for sign in forward]
        total = len(kept)
        before = sum(e < r for e, r in zip(expected, reversed_, strict=True))
        after = sum(e > r for e, r in zip(expected, reversed_, strict=True))
        metrics |= {
            "consistency": (total - before - after) / total,
            "perfer_before_rate": before / total,
            "perfer_after_rate": after / total,
            "delta_bias": abs(before - after) / total,
            "total_bias": (before + after) / total,
        }
    return {**metrics, "total_num": len(kept)}


def classification(teacher: Sequence[int], judge: Sequence[int]) -> Metrics:
    """Accuracy and macro precision, recall and F1 over the outcome classes 1, 0, -1."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(teacher, judge, average="macro", zero_division=0)
    return {
        "accuracy": float(accuracy_score(teacher, judge)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def _sign(text: str) -> int:
    first, second = published_scores(text)
    return (first > second) - (first < second)


def _ours(pairs: Sequence[JudgedPair]) -> Metrics:
    read = [(pair, Judgement.parse(pair.teacher) if pair.teacher is not None else None) for pair in pairs]
    kept = [(pair, teacher) for pair, teacher in read if teacher is None or teacher.scores is not None]
    if not kept:
        raise ValueError("no row has a teacher judgement with scores from 0 to 10")
    total = len(kept)
    forward = [Judgement.parse(pair.forward) for pair, _ in kept]
    metrics: Metrics = {}
    if pairs[0].teacher is not None:
        agreed = sum(t is not None and t.outcome == f.outcome for (_, t), f in zip(kept, forward, strict=True))
        metrics["agreement"] = agreed / total
        metrics |= _probabilistic([(pair, t.outcome) for pair, t in kept if t is not None and t.outcome is not None])
    counts: Metrics = {"total": total, "dropped_teacher": len(pairs) - total, **_unread(forward, "forward")}
    counts |= {f"{o.value}_forward": sum(f.outcome == o for f in forward) for o in Outcome}
    reversed_ = [Judgement.parse(pair.reversed) for pair, _ in kept if pair.reversed is not None]
    if reversed_:
        both = [
            (f.outcome, r.outcome.swapped()) for f, r in zip(forward, reversed_, strict=True) if f.outcome and r.outcome
        ]
        metrics |= {
            "bias_first": sum(f.sign > r.sign for f, r in both) / total,
            "bias_second": sum(f.sign < r.sign for f, r in both) / total,
        }
        counts |= _unread(reversed_, "reversed")
    return {**metrics, **counts}


def _probabilistic(pairs: Sequence[tuple[JudgedPair, Outcome]]) -> Metrics:
    """How good the probabilities are: means of both orders where both were judged. Empty where a row has none."""
    probabilities: list[dict[Outcome, float]] = []
    for pair, _ in pairs:
        if pair.forward_outcomes is None or (pair.reversed is not None and pair.reversed_outcomes is None):
            return {}
        forward = dict(pair.forward_outcomes)
        back = pair.reversed_outcomes
        probabilities.append(forward if back is None else both_orders(forward, dict(back)))
    truths = [outcome for _, outcome in pairs]
    metrics: Metrics = {
        "brier": brier(probabilities, truths),
        "calibration_error": calibration_error(probabilities, truths),
    }
    if pairs[0][0].reversed is not None:
        right = [likeliest(each) is truth for each, truth in zip(probabilities, truths, strict=True)]
        metrics["agreement_both_orders"] = sum(right) / len(right)
    return metrics


def brier(probabilities: Sequence[Mapping[Outcome, float]], truths: Sequence[Outcome]) -> float:
    """Mean over rows of the sum over outcomes of (probability - 1 if true else 0) squared: 0 to 2 (Brier 1950)."""
    rows = (
        sum((each[outcome] - (outcome is truth)) ** 2 for outcome in Outcome)
        for each, truth in zip(probabilities, truths, strict=True)
    )
    return sum(rows) / len(truths)


def calibration_error(
    probabilities: Sequence[Mapping[Outcome, float]], truths: Sequence[Outcome], bins: int = 10
) -> float:
    """Expected calibration error: confidence in the likeliest outcome against how often it is right, in equal bins,
    weighted by rows (Guo et al. 2017).
    """
    groups: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for each, truth in zip(probabilities, truths, strict=True):
        confidence = max(each.values())
        groups[min(int(confidence * bins), bins - 1)].append((confidence, likeliest(dict(each)) is truth))
    gaps = (abs(sum(confidence - right for confidence, right in group)) for group in groups.values())
    return sum(gaps) / len(truths)


def _unread(judgements: Sequence[Judgement], order: str) -> Metrics:
    return {
        f"unparsed_{order}": sum(j.state is ParseState.FAILED for j in judgements),
        f"repaired_{order}": sum(j.state is ParseState.REPAIRED for j in judgements),
    }
