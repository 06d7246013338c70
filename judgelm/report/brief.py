"""A judged folder in a few lines for somebody new to it: who won, how sure that is, whether a swap changes it, and what
people's labels make of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from judgelm.evaluation.corrections import CorrectedPair, Corrections
from judgelm.evaluation.rate import mean_rate
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.summary import Summary
from judgelm.judgement import Outcome
from judgelm.report.words import SHARE, shorten

_SIDES = ("answer 1", "answer 2")
_MOST_NAME = 40
_MOST_PAIRS = 5
_UNSURE = 0.6
"""a probability below which a verdict is little better than a toss"""
_RATES = ("agreement_probabilities", "agreement_both", "agreement", "agreement_reversed")
"""of the truth, the best that there is of both orders first"""


class Line(NamedTuple):
    """A question that everybody asks first, and its answer."""

    question: str
    answer: str


def in_brief(samples: Sequence[JudgedSample], summary: Summary, corrected: Corrections | None = None) -> list[Line]:
    """Who won, how sure that is, and whether it survives the swap, of samples with two answers; where people's labels
    correct the rates, who won by them.

    A sample's verdict is that of both orders: the likeliest by their mean probabilities, without some a tie where they
    contradict. A tie is half a win for each. Where all samples compare the same two models these are named, on
    whichever side they stand. Empty for no sample, and where one answer is graded beside a right one.
    """
    if not samples or samples[0].known_answer:
        return []
    names = _pair(samples)
    outcomes = [_as_of(sample, names, sample.outcome) for sample in samples]
    lines = [
        Line("Who won?", _who_won(outcomes, names)),
        Line("How sure is that?", _how_sure(samples, outcomes, names, summary)),
        Line("Does it survive the swap?", _swap(samples, summary)),
    ]
    return [*lines, Line("And with people's labels?", _by_people(corrected))] if corrected else lines


def _pair(samples: Sequence[JudgedSample]) -> tuple[str, str]:
    """The two models, where these are the same everywhere, else the two sides."""
    found = {frozenset(sample.models) for sample in samples}
    first, second = samples[0].models
    alike = len(found) == 1 and first is not None and second is not None and first != second
    return (str(first), str(second)) if alike else _SIDES


def _as_of(sample: JudgedSample, names: tuple[str, str], outcome: Outcome | None) -> Outcome | None:
    """An outcome of the first model, which may stand on either side."""
    exchanged = sample.models == names[::-1] and names != _SIDES
    return outcome.swapped() if exchanged and outcome else outcome


def _who_won(outcomes: Sequence[Outcome | None], names: tuple[str, str]) -> str:
    counts = Counter(outcomes)
    sides = zip((counts[Outcome.WIN], counts[Outcome.LOSE]), names, strict=True)
    (most, leader), (fewer, other) = sorted(sides, key=lambda side: -side[0])
    unread = f"; unread {counts[None]}" if counts[None] else ""
    rest = f"{shorten(other, _MOST_NAME)} in {fewer}; ties {counts[Outcome.TIE]}{unread}."
    return f"{'Nobody: ' * (most == fewer)}{shorten(leader, _MOST_NAME)} in {most} of {len(outcomes)} pairs; {rest}"


def _how_sure(
    samples: Sequence[JudgedSample], outcomes: Sequence[Outcome | None], names: tuple[str, str], summary: Summary
) -> str:
    said = [_win_rate(samples, outcomes, names)]
    likely = [max(each.values()) for each in (sample.probabilities for sample in samples) if each]
    if likely:
        unsure = sum(each < _UNSURE for each in likely)
        sure = 100 * sum(likely) / len(likely)
        said.append(f"The judge is {sure:.0f} % sure of a verdict; near a toss are {unsure} of {len(likely)}.")
    truths = [summary.rates[name] for name in _RATES if name in summary.rates]
    if truths:
        said.append(f"{SHARE.both(truths[0])} of {truths[0].count} verdicts with a truth are right.")
    return " ".join(each for each in said if each)


def _win_rate(samples: Sequence[JudgedSample], outcomes: Sequence[Outcome | None], names: tuple[str, str]) -> str:
    """The leader's, with its interval, and whether that is enough to call it better."""
    both = zip(samples, outcomes, strict=True)
    read = [(sample.cluster, (1 + outcome.sign) / 2) for sample, outcome in both if outcome is not None]
    if not read:
        return "No verdict could be read."
    clusters, shares = zip(*read, strict=True)
    leads = sum(shares) >= len(shares) / 2
    found = mean_rate(shares if leads else [1 - share for share in shares], clusters)
    name = shorten(names[0 if leads else 1], _MOST_NAME)
    enough = found.low is not None and found.low > 0.5
    verdict = "more than chance" if enough else "which may be chance"
    return f"{name}'s win rate is {SHARE.both(found)}, {verdict}."


def _swap(samples: Sequence[JudgedSample], summary: Summary) -> str:
    rate = summary.rates.get("consistency")
    if rate is None or rate.value is None:
        return "Not known: only one order of the answers was judged (--orders both)."
    stayed = round(rate.value * rate.count)
    unread = sum(len(sample.readings) > 1 and sample.consistent is None for sample in samples)
    rest = f"{rate.count - stayed - unread} do not" + (f", {unread} could not be read" if unread else "")
    return f"{stayed} of {rate.count} verdicts stay when the answers change places, {SHARE.both(rate)}; {rest}."


def _by_people(found: Corrections) -> str:
    """Who is better of each two, and which two are not told apart."""
    told, untold = ([pair for pair in found.pairs if pair.told_apart is known] for known in (True, False))
    even = [f"{shorten(pair.first, _MOST_NAME)} and {shorten(pair.second, _MOST_NAME)}" for pair in untold]
    said = [*map(_better, told), *(f"{both} are not told apart" for both in even)]
    more = f"; and {len(said) - _MOST_PAIRS} more pairs" if len(said) > _MOST_PAIRS else ""
    rest = "; ".join(said[:_MOST_PAIRS]) or "no two models met"
    return f"{rest}{more}. By labels of {found.labels} of {found.samples} pairs, and the judge on all."


def _better(pair: CorrectedPair) -> str:
    """The better one of two that are told apart, with its win rate."""
    names, rate = (pair.first, pair.second), pair.corrected or pair.people
    assert rate is not None
    if rate.value is not None and rate.value < 0.5:
        low, high = (None if end is None else 1 - end for end in (rate.high, rate.low))
        names, rate = names[::-1], rate.model_copy(update={"value": 1 - rate.value, "low": low, "high": high})
    better, other = (shorten(name, _MOST_NAME) for name in names)
    return f"{better} beats {other}, {SHARE.both(rate)}"
