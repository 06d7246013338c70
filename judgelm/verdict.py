"""What both orders say together, always of the answers in the file's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from judgelm.calibration import Calibrated
from judgelm.distribution import likeliest
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.sample import Sample, unshow
from judgelm.verdict_forms import SCORES


@dataclass(frozen=True, slots=True)
class Reading:
    """One order's judgement, as of the answers in the file's order: what a reversed one says is exchanged back."""

    text: str
    """as the judge wrote it: in reversed order answer 2 is its Assistant 1"""
    state: ParseState
    scores: tuple[float, ...] | None
    """one an answer; those that were written, with scoring `expected` the likeliest line's"""
    probabilities: Mapping[Outcome, float] | None = None
    """P(win), P(tie), P(lose) of answer 1, with scoring `expected`"""
    expected_scores: tuple[float, ...] | None = None
    aspects: tuple[AspectReading, ...] = ()
    """with criteria: what was said by each; scores, probabilities and expected scores above are their weighted means"""
    form: str = SCORES
    """in which the verdict was asked for, one of `VERDICT_FORMATS`"""
    calibrated: Calibrated | None = None
    """what a map made of the probabilities"""

    @classmethod
    def of(
        cls,
        judgement: Judgement,
        probabilities: Mapping[Outcome, float] | None = None,
        expected_scores: tuple[float, ...] | None = None,
        order: str = "forward",
        aspects: tuple[AspectReading, ...] = (),
        calibrated: Calibrated | None = None,
    ) -> Reading:
        """What a judge wrote, and what follows from its probabilities, of answers that it saw in an `order`."""
        scores, expected_scores = (each and unshow(each, order) for each in (judgement.scores, expected_scores))
        if order != "forward" and probabilities is not None:
            # of two answers, which a rotation exchanges too
            probabilities = {outcome: probabilities[outcome.swapped()] for outcome in Outcome}
        if order != "forward" and calibrated is not None:
            calibrated = calibrated.swapped()
        said = judgement.text, judgement.state, scores, probabilities, expected_scores
        return cls(*said, aspects, judgement.form, calibrated)

    @property
    def outcome(self) -> Outcome | None:
        """Answer 1 against answer 2; None without scores and where there are not two answers."""
        return None if self.scores is None or len(self.scores) != 2 else Outcome.from_scores(*self.scores)

    @property
    def best(self) -> tuple[int, ...]:
        """Numbers of the answers with the highest score, the first being 1; empty without scores."""
        scores = self.scores or ()
        return tuple(number for number, score in enumerate(scores, start=1) if score == max(scores))

    @property
    def reasons(self) -> str:
        """What the judge wrote beside its scores; of a reversed judgement answer 2 is Assistant 1 there."""
        return Judgement.parse(self.text, len(self.scores or (0, 0)), form=self.form).reasons

    @property
    def points(self) -> tuple[float, ...] | None:
        """The expected scores where there are, else those that were written."""
        return self.expected_scores or self.scores


@dataclass(frozen=True, slots=True)
class AspectReading:
    """What was said by one aspect."""

    name: str
    weight: float
    reading: Reading


@dataclass(frozen=True, slots=True)
class BothOrders:
    """The judgements in the orders that were judged; what was not judged is None."""

    forward: Reading | None
    reversed: Reading | None
    rotations: tuple[Reading, ...] = field(default=(), kw_only=True)
    """with orders `all`: of the answers rotated by one, by two .."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        return tuple(each for each in (self.forward, self.reversed, *self.rotations) if each is not None)

    @property
    def calibrated(self) -> Calibrated | None:
        """The mean of the orders judged; None where a map was not used on all of them."""
        given = [reading.calibrated for reading in self.readings if reading.calibrated is not None]
        return Calibrated.mean(given) if given and len(given) == len(self.readings) else None

    @property
    def probabilities(self) -> Mapping[Outcome, float] | None:
        """P(win), P(tie), P(lose) of answer 1, the mean of the orders judged, calibrated ones where there are; None
        without scoring `expected`.
        """
        calibrated = self.calibrated
        return self.own_probabilities if calibrated is None else calibrated.probabilities

    @property
    def own_probabilities(self) -> Mapping[Outcome, float] | None:
        """The same as the judge gave them."""
        given = [reading.probabilities for reading in self.readings]
        if not given or any(each is None for each in given):
            return None
        return {outcome: sum(each[outcome] for each in given if each) / len(given) for outcome in Outcome}

    @property
    def scores(self) -> tuple[float, ...] | None:
        """Each answer's score, the mean of the orders judged, expected ones where there are; None if one has none."""
        given = [reading.points for reading in self.readings]
        known = [scores for scores in given if scores is not None]
        if not given or len(known) < len(given):
            return None
        return tuple(sum(column) / len(column) for column in zip(*known, strict=True))

    @property
    def place_scores(self) -> tuple[float, ...] | None:
        """With orders `all`, the mean score of the answers shown first, second ..; None where one was not read."""
        given = [reading.points for reading in self.readings]
        read = [points for points in given if points is not None]
        if not (self.rotations and read) or any(len(points) > len(read) for points in read):
            return None
        shown = [points[steps:] + points[:steps] for steps, points in enumerate(read)]
        return tuple(sum(column) / len(column) for column in zip(*shown, strict=True))

    @property
    def aspects(self) -> dict[str, BothOrders]:
        """With criteria, what all orders say by each aspect."""
        forward, back, *rotated = (
            {each.name: each.reading for each in one.aspects} if one else {}
            for one in (self.forward, self.reversed, *self.rotations)
        )
        return {
            name: BothOrders(
                forward.get(name), back.get(name), rotations=tuple(each[name] for each in rotated if name in each)
            )
            for name in forward | back
        }

    @property
    def consistent(self) -> bool | None:
        """Whether all orders find the same answers best; None with one order or without scores."""
        readings = self.readings
        if len(readings) < 2 or any(reading.scores is None for reading in readings):
            return None
        return len({reading.best for reading in readings}) == 1

    @property
    def outcome(self) -> Outcome | None:
        """The outcome both orders agree on, a tie where they contradict; None if one has no scores.

        With scoring `expected` it is the likeliest one by the mean of both orders; where that is calibrated, a tie by
        the map's threshold.
        """
        if (calibrated := self.calibrated) is not None:
            return calibrated.outcome
        probabilities = self.probabilities
        return self.outcome_by("agree") if probabilities is None else likeliest(probabilities)

    @property
    def hard_outcome(self) -> Outcome | None:
        """What both orders agree on, a tie where they contradict; of calibrated ones by the map's threshold."""
        return self.outcome if self.calibrated else self.outcome_by("agree")

    def outcome_by(self, rule: str) -> Outcome | None:
        """One outcome: by `agree` a tie where the orders contradict, by mean `scores`, or by mean `probabilities`.

        None if an order has not what the rule looks at.
        """
        if rule == "probabilities":
            return None if self.probabilities is None else likeliest(self.probabilities)
        if rule == "scores":
            return None if self.scores is None else Outcome.from_scores(*self.scores)
        found = {reading.outcome for reading in self.readings}
        if not found or None in found:
            return None
        return found.pop() if len(found) == 1 else Outcome.TIE


@dataclass(frozen=True, slots=True)
class Verdict(BothOrders):
    """What a judge says of a sample."""

    sample: Sample
