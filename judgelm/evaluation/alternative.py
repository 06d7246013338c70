"""Whether a judge may stand for an annotator: the alternative annotator test of joined samples, typed as in files."""

from __future__ import annotations

from judgelm.documents import AnyText, Section
from judgelm.evaluation.metrics.alternative import LEAST_ANNOTATORS, LEAST_QUESTIONS, LeftOut, discoveries, p_value
from judgelm.evaluation.rates import Rated

EPSILONS = {0.1: "crowd workers", 0.15: "skilled people", 0.2: "experts"}
"""how much worse than a person a judge may be because it costs less, for whom the paper says so"""


class AltAnnotator(Section):
    """One annotator beside the judge, both measured by the other annotators."""

    name: AnyText
    """of the person, or the place in `annotators` where nobody is named"""
    rows: int
    """that this annotator and another one labelled"""
    questions: int
    judge: float
    """share of rows on which the judge agrees with the others at least as often as this annotator"""
    annotator: float
    """share of rows on which this annotator does at least as often as the judge"""


class AltLevel(Section):
    """The test at one epsilon."""

    epsilon: float
    people: str
    """for whom it is meant"""
    p: list[float]
    """of each annotator: how likely this is if the judge falls behind by epsilon"""
    won: list[bool]
    """against which annotators the judge wins, at a false discovery rate of 5 %"""
    winning_rate: float
    """share of annotators that it wins against"""
    passed: bool
    """it is at least one half: the judge may stand for an annotator"""


class AltTest(Section):
    """The alternative annotator test (Calderon, Reichart and Dror 2025)."""

    annotators: list[AltAnnotator]
    levels: list[AltLevel]
    missing: str | None = None
    """why there is none, although rows have labels of several annotators"""


def alternative_test(rated: Rated) -> AltTest | None:
    """None where no row has labels of two annotators."""
    if not any(len(sample.votes) > 1 for sample in rated.samples):
        return None
    tested = rated.left_out
    if not tested:
        needed = f"{LEAST_ANNOTATORS} annotators with {LEAST_QUESTIONS} different questions each"
        return AltTest(annotators=[], levels=[], missing=f"it needs {needed}, the same people in all of their rows")
    return AltTest(
        annotators=[_annotator(name, one, rated) for name, one in tested.items()],
        levels=[_level(rated, epsilon) for epsilon in EPSILONS],
    )


def _annotator(name: str, one: LeftOut, rated: Rated) -> AltAnnotator:
    rows = int(one.rows.sum())
    judge, annotator = float(one.judge.sum()) / rows, float(one.annotator.sum()) / rows
    return AltAnnotator(
        name=name, rows=rows, questions=rated.count_questions(one.rows), judge=judge, annotator=annotator
    )


def _level(rated: Rated, epsilon: float) -> AltLevel:
    p_values = [p_value(one, rated.clusters, epsilon) for one in rated.left_out.values()]
    won = discoveries(p_values)
    rate = sum(won) / len(won)
    return AltLevel(
        epsilon=epsilon, people=EPSILONS[epsilon], p=p_values, won=won, winning_rate=rate, passed=rate >= 0.5
    )
