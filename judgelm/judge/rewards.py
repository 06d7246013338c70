"""A group in, rewards out: completions of one prompt are compared in pairs, each pair in both orders."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judgelm.dialogue import Dialogue, read_said, to_messages
from judgelm.distribution import certain
from judgelm.errors import SettingError, located
from judgelm.judge.choice import JudgeChoice
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.judgement import Outcome
from judgelm.sample import Sample
from judgelm.score_lines import leading_thoughts
from judgelm.verdict import BothOrders, Reading

REWARDS = {
    "win": "the mean, over the other completions, of P(better) + P(equally good) / 2: the mean of a group is 0.5",
    "score": "the mean of the scores that the judge gives it beside the others, on the judge's scale",
}
SCORINGS = ("expected", "greedy")
"""a reward that is drawn at random would be noise"""
_MOST_KEPT = 100_000
"""pairs whose result is remembered"""


@dataclass(frozen=True, slots=True)
class Group:
    """Completions of one prompt, as the judge is shown them."""

    question: str
    completions: tuple[str, ...]
    reference: str | None = None
    dialogue: Dialogue | None = None
    """what was said before the question"""

    @classmethod
    def of(
        cls, prompt: str | Sequence[Mapping[str, Any]], completions: Sequence[str], reference: str | None = None
    ) -> Group:
        """A prompt is a text, or OpenAI's messages, which end in the user's. Thoughts with which a completion begins
        are not shown, as when files are judged.

        Raises InputError for what is no dialogue.
        """
        shown = tuple(text[leading_thoughts(text) :] for text in completions)
        if isinstance(prompt, str):
            return cls(prompt, shown, reference)
        with located("prompt"):
            said = read_said({"messages": list(prompt)}, 2)
        assert said is not None
        return cls(said.question, shown, reference, said.dialogue)

    def pair(self, first: str, second: str) -> Sample:
        """Two of its texts as a sample, which is the same whichever comes first. So is its id, in any group."""
        one, other = sorted((first, second))
        turns = to_messages(self.dialogue.turns) if self.dialogue else []
        said = json.dumps([turns, self.question, self.reference, one, other])
        key = hashlib.sha256(said.encode()).hexdigest()
        return Sample(key, self.question, (one, other), self.reference, dialogue=self.dialogue)

    def pairs(self) -> list[Sample]:
        """Each two different texts."""
        texts = dict.fromkeys(self.completions)
        return [self.pair(first, second) for first, second in itertools.combinations(texts, 2)]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a judge says of a pair."""

    win: float
    """P(answer 1 is better) + P(they are equal) / 2; by hard verdicts 1, 0.5 or 0"""
    scores: tuple[float, float]

    @classmethod
    def of(
        cls,
        probabilities: Mapping[Outcome, float] | None,
        outcome: Outcome | None,
        scores: Sequence[float] | None,
    ) -> Compared | None:
        """None where an order was not read."""
        if outcome is None or scores is None:
            return None
        found = certain(outcome) if probabilities is None else probabilities
        first, second = scores
        return cls(found[Outcome.WIN] + found[Outcome.TIE] / 2, (first, second))

    def seen_from(self, second: bool) -> Compared:
        """Of the answers the other way round, where `second`."""
        return Compared(1 - self.win, self.scores[::-1]) if second else self


@dataclass(frozen=True, slots=True)
class GroupRewards:
    """What follows for each completion, in the group's order; None where no verdict of it could be read."""

    wins: tuple[tuple[float | None, ...], ...]
    """of each against each: P(better) + P(equally good) / 2; equal texts have 0.5, and None stands for itself"""
    win: tuple[float | None, ...]
    score: tuple[float | None, ...]
    unread: int
    """pairs of different texts without a verdict"""

    def by(self, reward: str) -> tuple[float | None, ...]:
        """By one of `REWARDS`."""
        return self.win if reward == "win" else self.score

    @property
    def best(self) -> int | None:
        """The place of the completion that wins most, the first of them where several do; None where none was read."""
        read = [(value, -place) for place, value in enumerate(self.win) if value is not None]
        return -max(read)[1] if read else None


def reward_group(group: Group, compared: Mapping[str, Compared]) -> GroupRewards:
    """By what its pairs came to, by their keys; those that were not read are missing."""
    texts = group.completions
    wins: list[list[float | None]] = [[None] * len(texts) for _ in texts]
    scores: list[list[float]] = [[] for _ in texts]
    unread: set[str] = set()
    for one, other in itertools.combinations(range(len(texts)), 2):
        if texts[one] == texts[other]:
            wins[one][other] = wins[other][one] = 0.5
            continue
        sample = group.pair(texts[one], texts[other])
        if (found := compared.get(sample.key)) is None:
            unread.add(sample.key)
            continue
        found = found.seen_from(second=sample.answers[0] != texts[one])
        wins[one][other], wins[other][one] = found.win, 1 - found.win
        for place, score in zip((one, other), found.scores, strict=True):
            scores[place].append(score)
    alike = len(set(texts)) == 1
    win = tuple(_mean(row) if scores[place] or alike else None for place, row in enumerate(wins))
    return GroupRewards(tuple(map(tuple, wins)), win, tuple(map(_mean, scores)), len(unread))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


Compare = Callable[[Sequence[Sample]], Sequence[Compared | None]]
"""pairs in both orders -> what came of each; None where it was not read"""


class GroupJudge:
    """Rewards for groups, in any thread. A pair that was read is not judged again."""

    def __init__(self, compare: Compare, most_kept: int = _MOST_KEPT) -> None:
        self._compare = compare
        self._most_kept = most_kept
        self._kept: dict[str, Compared] = {}
        self._lock = threading.Lock()

    def rewards(self, groups: Sequence[Group]) -> list[GroupRewards]:
        """Of all groups, whose pairs are judged together."""
        wanted = {sample.key: sample for group in groups for sample in group.pairs()}
        with self._lock:
            found = {key: self._kept[key] for key in wanted if key in self._kept}
        missing = [sample for key, sample in wanted.items() if key not in found]
        new = {
            sample.key: compared
            for sample, compared in zip(missing, self._compare(missing) if missing else (), strict=True)
            if compared is not None
        }
        with self._lock:
            self._kept |= new
            for key in list(itertools.islice(self._kept, max(0, len(self._kept) - self._most_kept))):
                del self._kept[key]
        return [reward_group(group, found | new) for group in groups]


def check_reward(reward: str) -> str:
    """Raises SettingError for none of `REWARDS`."""
    if reward not in REWARDS:
        raise SettingError("reward", f"{reward!r}: expected one of {', '.join(REWARDS)}")
    return reward


def check_scoring(scoring: str) -> str:
    """Raises SettingError for none of `SCORINGS`."""
    if scoring not in SCORINGS:
        raise SettingError("scoring", f"{scoring!r}: rewards are read by {' or '.join(SCORINGS)}")
    return scoring


def compare_by(judge: JudgeChoice, settings: JudgeSettings) -> Compare:
    """Pairs compared by a judge of this process, one caller after the other; it is loaded with the first."""
    lock = threading.Lock()

    def compare(samples: Sequence[Sample]) -> list[Compared | None]:
        read: dict[tuple[Order, str], Reading] = {}
        with lock:
            for one in judge.load().run(samples, ("forward", "reversed"), judge.settle(settings)):
                read[one.order, one.sample.key] = one.reading
        both = [BothOrders(read.get(("forward", each.key)), read.get(("reversed", each.key))) for each in samples]
        return [Compared.of(each.probabilities, each.outcome, each.scores) for each in both]

    return compare
