"""Judgement files -> joined samples -> the published metrics."""

from __future__ import annotations

from collections.abc import Sequence

from judgelm.errors import InputError
from judgelm.evaluation.published import JudgedPair, Metrics, evaluate_pairs
from judgelm.evaluation.results import JudgedSample, PathLike, Reading, read_files
from judgelm.jsonl import LineFile
from judgelm.judgement import Outcome


def evaluate_files(forward: PathLike, reversed_: PathLike | None = None, teacher: PathLike | None = None) -> Metrics:
    """Metrics of judgement files joined by question_id; `not_judged` counts teacher rows without a judgement.

    Raises InputError for a double id, for an id that one file has and another lacks, and where nothing can be read.
    """
    return evaluate_samples(read_files(forward, reversed_, teacher), forward, teacher)


def evaluate_samples(samples: Sequence[JudgedSample], forward: PathLike, teacher: PathLike | None = None) -> Metrics:
    """Metrics of what was read from these files. Without `teacher` the truth is what the judgements bring along."""
    has_truth = teacher is not None or any(sample.truth for sample in samples)
    try:
        metrics = evaluate_pairs([_pair(sample, has_truth) for sample in samples])
    except ValueError as error:
        raise InputError(f"{teacher or forward}: {error}") from None
    if teacher is not None:
        metrics["not_judged"] = len(LineFile(teacher)) - len(samples)
    return metrics


def _pair(sample: JudgedSample, has_truth: bool) -> JudgedPair:
    if sample.forward is None:
        raise ValueError("there is no forward judgement to evaluate")
    back = sample.reversed
    return JudgedPair(
        forward=sample.forward.text,
        reversed=back.text if back else None,
        teacher=(sample.teacher or "") if has_truth else None,
        forward_outcomes=sample.forward.probabilities,
        reversed_outcomes=_of_the_exchanged(back) if back else None,
    )


def _of_the_exchanged(reading: Reading) -> dict[Outcome, float] | None:
    given = reading.probabilities
    return None if given is None else {outcome: given[outcome.swapped()] for outcome in Outcome}
