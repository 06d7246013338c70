"""How likely a judge finds each score line, and what follows from that: expected scores, P(win), P(tie), P(lose)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from judgelm.criteria import PUBLISHED, Scale
from judgelm.judgement import Outcome

MOST_LINES = 441
"""that are read at once: those of two answers on a scale of 0 to 20"""


def score_lines(prefill: str = "", num_answers: int = 2, scale: Scale = PUBLISHED) -> list[tuple[int, ...]]:
    """The scores of all lines that a judge of one or two answers can write: 100 as published, or 10 where a prefill
    gives the first.
    """
    given = tuple(int(score) for score in prefill.split())
    return [given + rest for rest in itertools.product(scale.scores, repeat=num_answers - len(given))]


def line_text(scores: Sequence[int], prefill: str = "") -> str:
    """A line as the judge writes it after the prefill, its newline included."""
    return " ".join(map(str, scores)).removeprefix(prefill) + "\n"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probabilities of score lines, as shares of all the score lines there are."""

    lines: tuple[tuple[int, ...], ...]
    """scores of each line, one an answer"""
    probabilities: tuple[float, ...]
    """one a line, 1 in all"""
    mass: float
    """probability that the judge writes one of these lines at all, from 0 to 1"""

    @classmethod
    def from_log_probs(cls, lines: Iterable[tuple[int, ...]], log_probs: Sequence[float]) -> Distribution:
        """Raises ValueError where no line has any probability."""
        most = max(log_probs)
        if most == -math.inf:
            raise ValueError("no score line has any probability")
        weights = [math.exp(value - most) for value in log_probs]
        total = math.fsum(weights)
        mass = min(1.0, math.exp(most) * total)
        return cls(tuple(lines), tuple(weight / total for weight in weights), mass)

    @property
    def expected(self) -> tuple[float, ...]:
        """Mean score of each answer."""
        return tuple(
            math.fsum(p * score for score, p in zip(scores, self.probabilities, strict=True))
            for scores in zip(*self.lines, strict=True)
        )

    @property
    def outcomes(self) -> dict[Outcome, float] | None:
        """P(win), P(tie) and P(lose) of Assistant 1; None where there are not two answers."""
        if len(self.lines[0]) != 2:
            return None
        found = dict.fromkeys(Outcome, 0.0)
        for line, probability in zip(self.lines, self.probabilities, strict=True):
            found[Outcome.from_scores(*line)] += probability
        return found

    @property
    def outcome(self) -> Outcome | None:
        """The likeliest one."""
        return None if self.outcomes is None else likeliest(self.outcomes)

    @property
    def likeliest_line(self) -> tuple[int, ...]:
        """The likeliest line; of two answers that of the likeliest outcome, so that line and outcome say the same."""
        outcome = self.outcome
        fitting = [
            (probability, line)
            for line, probability in zip(self.lines, self.probabilities, strict=True)
            if outcome is None or Outcome.from_scores(*line) is outcome
        ]
        return max(fitting)[1]


def likeliest(outcomes: Mapping[Outcome, float]) -> Outcome:
    """The outcome with the highest probability; a tie where two share it."""
    most = max(outcomes.values())
    found = [outcome for outcome, probability in outcomes.items() if probability == most]
    return found[0] if len(found) == 1 else Outcome.TIE


def certain(outcome: Outcome) -> dict[Outcome, float]:
    """Probabilities of an outcome that is sure."""
    return {each: float(each is outcome) for each in Outcome}
