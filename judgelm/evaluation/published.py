"""The ten numbers of the paper's script, by its own rules and by scikit-learn, as they were published."""

from __future__ import annotations

from collections.abc import Sequence

from judgelm.evaluation.results import JudgedSample
from judgelm.judgement import Outcome, published_scores
from judgelm.verdict import Reading
from judgelm.verdict_forms import SCORES

Metrics = dict[str, float | int]
PUBLISHED = (
    *("accuracy", "precision", "recall", "f1", "consistency"),
    *("perfer_before_rate", "perfer_after_rate", "delta_bias", "total_bias", "total_num"),
)
"""keys of the paper's script, by its rule: an unparsed judgement is a tie"""


def published_metrics(samples: Sequence[JudgedSample], labelled: bool) -> Metrics:
    """The keys of `PUBLISHED`, shares from 0 to 1; those of a truth or a reversed run only where there is one.

    `labelled` says that there is a truth: samples where the script cannot read it are dropped. Raises ValueError where
    no sample is left, or one has no forward judgement.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    if any(sample.forward is None for sample in samples):
        raise ValueError("there is no forward judgement to evaluate")
    kept = [sample for sample in samples if not labelled or sample.published_truth is not None]
    if not kept:
        raise ValueError("no row has a teacher judgement that can be read")
    forward = [_sign(sample.forward, 1) for sample in kept if sample.forward]
    metrics: Metrics = {}
    if labelled:
        teacher = [sample.published_truth for sample in kept]
        macro = precision_recall_fscore_support(teacher, forward, average="macro", zero_division=0)[:3]
        shares = (accuracy_score(teacher, forward), *macro)
        metrics = dict(zip(PUBLISHED, map(float, shares), strict=False))
    reversed_ = [_sign(sample.reversed, -1) for sample in kept if sample.reversed]
    total = len(kept)
    if reversed_:
        pairs = list(zip([-sign for sign in forward], reversed_, strict=True))
        before, after = sum(e < r for e, r in pairs), sum(e > r for e, r in pairs)
        metrics |= {
            "consistency": (total - before - after) / total,
            "perfer_before_rate": before / total,
            "perfer_after_rate": after / total,
            "delta_bias": abs(before - after) / total,
            "total_bias": (before + after) / total,
        }
    return {**metrics, "total_num": total}


def _sign(reading: Reading, shown: int) -> int:
    """Of the judgement as it was written: 1, 0 or -1 for Assistant 1, which is answer 2 where `shown` is -1. With
    criteria its first line has the means, where they are known. A verdict of another form is that which was read.
    """
    if reading.form != SCORES:
        return 0 if reading.outcome is None else shown * reading.outcome.sign
    return Outcome.from_scores(*published_scores(reading.text)).sign
