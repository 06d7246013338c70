"""Whether a judge may stand for an annotator, in words: for the terminal, the page and its Markdown."""

from __future__ import annotations

from typing import NamedTuple

from judgelm.errors import one_line
from judgelm.evaluation.alternative import AltTest
from judgelm.report.terminal import render_table
from judgelm.report.words import MOST_NAME, SHARE, cut

TITLE = "May the judge stand for an annotator? (alt-test)"


class Described(NamedTuple):
    """A table, and a line of what follows for each epsilon."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    verdicts: list[str]


def describe_alternative(test: AltTest | None) -> Described | None:
    """None where there is nothing to say."""
    if test is None or not test.annotators:
        return None
    header = ("annotator left out", "rows", "questions", "judge as good", "annotator as good")
    rows = []
    for place, one in enumerate(test.annotators):
        shares = (SHARE.number(one.judge), SHARE.number(one.annotator))
        ps = (f"{level.p[place]:.3g}{' won' if level.won[place] else ''}" for level in test.levels)
        rows.append((cut(one.name, MOST_NAME), str(one.rows), str(one.questions), *shares, *ps))
    verdicts = [
        f"epsilon {level.epsilon:g}, {level.people}: wins against {sum(level.won)} of {len(level.won)}:"
        f" {'it may stand for one' if level.passed else 'it may not'}"
        for level in test.levels
    ]
    return Described((*header, *(f"p, epsilon {level.epsilon:g}" for level in test.levels)), rows, verdicts)


def alternative_table(test: AltTest) -> str:
    """For a terminal."""
    described = describe_alternative(test)
    if described is None:
        return f"alt-test: {test.missing}"
    rows = [tuple(map(one_line, row)) for row in described.rows]
    return "\n".join([TITLE, render_table(described.header, rows), *described.verdicts])
