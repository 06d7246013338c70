"""Two judges on the same samples: which of them agrees with the truth more often, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import quotient
from judgelm.evaluation.rate import rates_of
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.summary import Comparison
from judgelm.judgement import Outcome


def compare(
    first: Sequence[JudgedSample],
    second: Sequence[JudgedSample],
    names: tuple[str, str] = ("the first", "the second"),
) -> Comparison:
    """Agreement of both, in the forward order, with the same truth; joined by key.

    `difference` (second - first) is drawn over questions with both judges in each draw; `p` is McNemar's exact test,
    which takes samples for independent. Raises InputError where the samples or their truths differ, where a forward
    order is missing, or where there is no truth.
    """
    pairs = _join(first, second, names)
    said = [[_outcome(sample, name) for sample, name in zip(pair, names, strict=True)] for pair in pairs]
    truths = [one.truth.outcome for one, _ in pairs if one.truth]
    right = np.array([[outcome is truth for outcome in both] for both, truth in zip(said, truths, strict=True)])
    ours, theirs = right[:, 0], right[:, 1]
    everyone = np.ones(len(pairs))
    found = rates_of(
        {
            "first": quotient(ours, everyone),
            "second": quotient(theirs, everyone),
            "difference": quotient(theirs.astype(float) - ours, everyone, (-1, 1)),
            "same_outcome": quotient([one is two and one is not None for one, two in said], everyone),
        },
        [one.cluster for one, _ in pairs],
    )
    only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return Comparison(
        samples=len(pairs),
        **found,
        both=int((ours & theirs).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~ours & ~theirs).sum()),
        p=mcnemar(only_first, only_second),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of as uneven a split of the samples on which one of two is right (McNemar 1947)."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _join(
    first: Sequence[JudgedSample], second: Sequence[JudgedSample], names: tuple[str, str]
) -> list[tuple[JudgedSample, JudgedSample]]:
    """Samples of both that have a truth, in the order of the first."""
    ours, theirs = ({sample.key: sample for sample in samples} for samples in (first, second))
    for mine, others, here, there in ((ours, theirs, *names), (theirs, ours, *names[::-1])):
        if missing := [key for key in mine if key not in others]:
            raise InputError(f"{there} has no judgement for question_id {missing[0]}, which {here} has")
    for key, one in ours.items():
        truths = [each.truth and each.truth.outcome for each in (one, theirs[key])]
        for what, same in (("answers", one.answers == theirs[key].answers), ("truths", truths[0] == truths[1])):
            if not same:
                raise InputError(f"{names[0]} and {names[1]} have different {what} for question_id {key}")
    found = [(one, theirs[key]) for key, one in ours.items() if one.truth]
    if not found:
        raise InputError(f"{names[0]}: there is no truth to compare {names[0]} and {names[1]} by (--teacher gives one)")
    return found


def _outcome(sample: JudgedSample, name: str) -> Outcome | None:
    if sample.forward is None:
        raise InputError(f"{name} has no forward judgement for question_id {sample.key}")
    return sample.forward.outcome
