"""What both orders say together, in the order of the sample."""

from __future__ import annotations

from dataclasses import dataclass

from judgelm.distribution import Distribution, both_orders, likeliest
from judgelm.judgement import Judgement, Outcome, consistent
from judgelm.sample import Sample


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sample's judgements in the orders asked for; `reversed` speaks of the exchanged answers."""

    sample: Sample
    forward: Judgement | None
    reversed: Judgement | None
    forward_distribution: Distribution | None = None
    reversed_distribution: Distribution | None = None

    @property
    def probabilities(self) -> dict[Outcome, float] | None:
        """P(win), P(tie), P(lose) of answer 1, the mean of the orders judged; None without scoring `expected`."""
        forward, reversed_ = self.forward_distribution, self.reversed_distribution
        if (forward is None) is not (self.forward is None) or (reversed_ is None) is not (self.reversed is None):
            return None
        if forward and reversed_:
            return both_orders(forward.outcomes, reversed_.outcomes)
        if reversed_:
            return {outcome: reversed_.outcomes[outcome.swapped()] for outcome in Outcome}
        return forward.outcomes if forward else None

    @property
    def consistent(self) -> bool | None:
        """Whether both orders agree; None with one order or without scores."""
        return consistent(self.forward, self.reversed) if self.forward and self.reversed else None

    @property
    def scores(self) -> tuple[float, ...] | None:
        """Each answer's score, in the sample's order, the mean of the orders judged; None if one has no scores.

        With scoring `expected` these are the expected scores.
        """
        if self.probabilities is not None:
            expected = [self.forward_distribution.expected] if self.forward_distribution else []
            if self.reversed_distribution:
                expected.append(self.reversed_distribution.expected[::-1])
            return tuple(sum(column) / len(column) for column in zip(*expected, strict=True))
        given = [self.forward.scores] if self.forward else []
        if self.reversed:
            given.append(self.reversed.swapped().scores if self.reversed.scores else None)
        known = [scores for scores in given if scores is not None]
        if not given or len(known) < len(given):
            return None
        return tuple(sum(column) / len(column) for column in zip(*known, strict=True))

    @property
    def outcome(self) -> Outcome | None:
        """The outcome both orders agree on, a tie where they contradict; None without scores.

        With scoring `expected` it is the likeliest one by the mean of both orders.
        """
        if self.probabilities is not None:
            return likeliest(self.probabilities)
        outcomes = [self.forward.outcome] if self.forward else []
        if self.reversed:
            outcomes.append(self.reversed.outcome.swapped() if self.reversed.outcome else None)
        if not outcomes or None in outcomes:
            return None
        return outcomes[0] if len(set(outcomes)) == 1 else Outcome.TIE
