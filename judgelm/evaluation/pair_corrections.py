"""Judged pairs and people's labels of a part of them -> agreement and win rates, corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from judgelm.evaluation.corrected import POINTS, Part
from judgelm.evaluation.corrections import Corrections, Judged, compare, correct, describe, judge_alone
from judgelm.evaluation.labels import read_labels
from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, UNREAD, Codes, encode
from judgelm.evaluation.metrics.intervals import Floats, Mask
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.shift import Trait, describe_samples
from judgelm.forms import Columns
from judgelm.judgement import Outcome
from judgelm.samples import PathLike

_TIE, _LAST = OUTCOMES.index(Outcome.TIE), len(OUTCOMES) - 1
_UNNAMED = ("answer 1", "answer 2")
_MOST_MODELS = 30
"""whose rates are said, those with most samples"""
AGREEMENT = "agreement with people"


class _Side(NamedTuple):
    """Whose win rate is asked for, in which samples [n], and where answer 2 is theirs [n]."""

    name: str
    there: Mask
    exchanged: Mask


@dataclass(frozen=True)
class LabelledPairs:
    """Judged pairs, and what people say of some, as arrays [n]."""

    samples: Sequence[JudgedSample]
    part: Part
    truth: Codes
    """places in `OUTCOMES`, `MISSING` without a label"""
    said: Codes
    """of both orders together; `UNREAD` too"""
    likely: Floats
    """[n, 3], the judge's probabilities of the outcomes; its verdict is certain where there are none, NaN unread"""

    @classmethod
    def of(cls, samples: Sequence[JudgedSample], labels: Mapping[str, Outcome | None]) -> LabelledPairs:
        """Raises ValueError for no sample."""
        if not samples:
            raise ValueError("there is no sample to correct")
        asked = np.array([sample.key in labels for sample in samples])
        said = encode([sample.hard_outcome for sample in samples], UNREAD)
        likely = np.vstack([np.eye(len(OUTCOMES)), np.full(len(OUTCOMES), np.nan)])[said]
        for place, sample in enumerate(samples):
            if (given := sample.probabilities) is not None:
                likely[place] = [given[outcome] for outcome in OUTCOMES]
        return cls(
            samples,
            Part.of(asked, [sample.cluster for sample in samples]),
            encode([labels.get(sample.key) for sample in samples], MISSING),
            said,
            likely,
        )

    @property
    def known(self) -> Mask:
        """Those with a label."""
        return np.asarray(self.truth != MISSING)

    @property
    def wins(self) -> Judged:
        """Points of answer 1: of the judge those of its verdicts; what predicts people's is by its probabilities."""
        expected = self.likely @ POINTS
        return Judged(
            np.where(self.known, POINTS[self.truth], np.nan),
            np.append(POINTS, np.nan)[self.said],
            np.where(np.isnan(expected), POINTS[_TIE], expected),
            self.truth,
            np.where(self.said == UNREAD, _TIE, self.said),
        )

    @property
    def agreements(self) -> Judged:
        """Whether judge and people say the same; an unread verdict agrees with nothing. What predicts it is how sure
        the judge is, or where it has no probabilities, whether both orders say the same.
        """
        read = self.said != UNREAD
        sure = np.where(read, np.append(self.likely, self.likely[:, :1], axis=1)[range(len(read)), self.said], np.nan)
        consistent = np.array([sample.consistent is not False for sample in self.samples])
        told = any(sample.probabilities is not None for sample in self.samples)
        sure = sure if told else np.where(read, consistent, np.nan)
        return Judged(
            np.where(self.known, self.truth == self.said, np.nan),
            sure if told else np.full(len(read), np.nan),
            np.nan_to_num(sure),
            self.truth,
            np.where(read, self.said, _TIE),
        )

    @cached_property
    def names(self) -> list[str]:
        """Of the models with most samples; none where a sample does not say them."""
        counts = Counter(name for sample in self.samples for name in sample.models if name is not None)
        if counts.total() < 2 * len(self.samples):
            return []
        return sorted(sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_MODELS])

    @cached_property
    def sides(self) -> Codes:
        """Whose the answers are, as places in `names`, -1 for others [n, 2]."""
        places = {name: place for place, name in enumerate(self.names)}
        return np.array([[places.get(name or "", -1) for name in sample.models] for sample in self.samples])

    @property
    def models(self) -> list[_Side]:
        """Each model's answers against all others; none of two models, whose pair says it all."""
        if len(self.names) < 3:
            return []
        mine = [self.sides == place for place in range(len(self.names))]
        return [
            _Side(f"win rate of {name}", each[:, 0] != each[:, 1], each[:, 1])
            for name, each in zip(self.names, mine, strict=True)
        ]

    @property
    def pairs(self) -> list[tuple[str, str, _Side]]:
        """Each two models that met, the first by name as the winner; answers 1 and 2 where no two models are known."""
        low, high = self.sides.min(axis=1), self.sides.max(axis=1)
        met = (low >= 0) & (low < high)
        if not met.any():
            everywhere = np.ones(len(self.samples), dtype=np.bool_)
            return [(*_UNNAMED, _Side(f"win rate of {' against '.join(_UNNAMED)}", everywhere, ~everywhere))]
        found = []
        for one, other in np.unique(np.stack([low, high], axis=1)[met], axis=0).tolist():
            first, second, there = self.names[one], self.names[other], (low == one) & (high == other)
            side = _Side(f"win rate of {first} against {second}", there, there & (self.sides[:, 0] == other))
            found.append((first, second, side))
        return found

    @property
    def traits(self) -> list[Trait]:
        """What the labelled part is tested by."""
        outcomes = [("unread" if code == UNREAD else OUTCOMES[code].value,) for code in self.said]
        groups: dict[str, Sequence[Sequence[str]]] = {
            "category": [() if sample.category is None else (sample.category,) for sample in self.samples],
            "model": [tuple(name for name in sample.models if name) for sample in self.samples],
            "verdict of the judge": outcomes,
        }
        lengths = [sum(map(len, sample.answers)) for sample in self.samples]
        return describe_samples(self.part, lengths, groups)


def exchange(judged: Judged, where: Mask) -> Judged:
    """The same of the other answer, in some samples [n]."""

    def codes(given: Codes) -> Codes:
        return np.where(where & (given != MISSING), _LAST - given, given)

    people, judge, control = (np.where(where, 1 - each, each) for each in (judged.people, judged.judge, judged.control))
    assert judged.truth is not None
    assert judged.said is not None
    return replace(
        judged, people=people, judge=judge, control=control, truth=codes(judged.truth), said=codes(judged.said)
    )


def correct_pairs(given: LabelledPairs) -> Corrections:
    """Agreement, each model's win rate, and who is better of each two, by samples and by labels of a part of them."""
    everywhere = np.ones(len(given.samples), dtype=np.bool_)
    wins, pairs = given.wins, given.pairs
    sides = [_Side(AGREEMENT, everywhere, ~everywhere), *given.models, *(side for *_, side in pairs)]
    judged = [given.agreements, *(exchange(wins, side.exchanged) for side in sides[1:])]
    said = judge_alone(judged, [side.there for side in sides], [sample.cluster for sample in given.samples])
    found = [
        correct(side.name, each, side.there, given.part, rate)
        for side, each, rate in zip(sides, judged, said, strict=True)
    ]
    alone = len(sides) - len(pairs)
    compared = [
        compare(first, second, *each, even=float(POINTS[_TIE]))
        for (first, second, _), each in zip(pairs, found[alone:], strict=True)
    ]
    return describe(given.part, wins, [rate for rate, _ in found[:alone]], compared, given.traits)


def correct_by_labels(samples: Sequence[JudgedSample], human: PathLike, columns: Columns | None = None) -> Corrections:
    """The same by a file of people's labels. Raises InputError as `read_labels`."""
    labels = read_labels(human, {sample.key for sample in samples}, columns)
    return correct_pairs(LabelledPairs.of(samples, labels))
