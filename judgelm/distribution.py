"""How likely a judge finds each score line, and what follows from that: expected scores, P(win), P(tie), P(lose)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from judgelm.judgement import Outcome

SCORES = range(1, 11)


def score_lines(prefill: str = "") -> list[tuple[int, ...]]:
    """The scores of all lines that a judge of two answers can write: 100, or 10 where a prefill gives the first."""
    given = tuple(int(score) for score in prefill.split())
    return [given + rest for rest in itertools.product(SCORES, repeat=2 - len(given))]


def line_text(scores: Sequence[int], prefill: str = "") -> str:
    """A line as the judge writes it after the prefill, its newline included."""
    return " ".join(map(str, scores)).removeprefix(prefill) + "\n"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probabilities of score lines, as shares of all the score lines there are."""

    lines: tuple[tuple[int, ...], ...]
    """scores of each line, two a line"""
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
    def expected(self) -> tuple[float, float]:
        """Mean score of each answer."""
        first, second = (
            math.fsum(p * line[answer] for line, p in zip(self.lines, self.probabilities, strict=True))
            for answer in (0, 1)
        )
        return first, second

    @property
    def outcomes(self) -> dict[Outcome, float]:
        """P(win), P(tie) and P(lose) of Assistant 1."""
        found = dict.fromkeys(Outcome, 0.0)
        for line, probability in zip(self.lines, self.probabilities, strict=True):
            found[Outcome.from_scores(*line)] += probability
        return found

    @property
    def outcome(self) -> Outcome:
        """The likeliest one."""
        return likeliest(self.outcomes)

    @property
    def likeliest_line(self) -> tuple[int, ...]:
        """The likeliest line of the likeliest outcome, so that line and outcome say the same."""
        outcome = self.outcome
        fitting = [
            (probability, line)
            for line, probability in zip(self.lines, self.probabilities, strict=True)
            if Outcome.from_scores(*line) is outcome
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
