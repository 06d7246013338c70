"""A judge's probabilities -> those that labels bear out: how a map is applied, and whose probabilities it is for."""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from judgelm.errors import InputError, one_line
from judgelm.judgement import Outcome

METHODS = {
    "temperature": "one temperature and one weight for ties, for few labels",
    "isotonic": "steps of any size that never go down, for many labels",
}
LEAST = 1e-9
"""probabilities below count as this: a judge that was sure and wrong can be made less sure"""
_OF_A_JUDGE = ("quantization", "prompt_template", "chat_template_sha256", "api", "request_fields")
"""settings of run.json that are taken as they are; null where a run does not say them"""
_MOST_SAID = 200
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 40


@dataclass(frozen=True, slots=True)
class Temperature:
    """Each probability to the power of 1 / temperature, that of a tie times exp(tie), and all as shares of their sum.

    The temperature is that of Guo et al. 2017, with a bias for the one class that has no mirror.
    """

    temperature: float
    """above 1: what the judge says is too sure"""
    tie: float = 0.0

    def __call__(self, win: float, tie: float, lose: float) -> tuple[float, float, float]:
        win, tie, lose = (max(each, LEAST) ** (1 / self.temperature) for each in (win, tie, lose))
        return _shares(win, tie * math.exp(self.tie), lose)


@dataclass(frozen=True, slots=True)
class Curve:
    """Straight lines between points, flat beyond the first and the last."""

    x: tuple[float, ...]
    """ascending"""
    y: tuple[float, ...]

    def __call__(self, value: float) -> float:
        place = bisect.bisect_left(self.x, value)
        if place in (0, len(self.x)):
            return self.y[min(place, len(self.x) - 1)]
        low, high = self.x[place - 1], self.x[place]
        part = (value - low) / (high - low)
        return self.y[place - 1] * (1 - part) + self.y[place] * part


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Each probability by a curve that never goes down, and all as shares of their sum (Zadrozny & Elkan 2002); then by
    a temperature, since the mean of two orders that are right each by itself is not sure enough.

    Win and lose have one curve: what is a win in one order of the answers is a loss in the other.
    """

    decided: Curve
    """of P(win) and of P(lose)"""
    tie: Curve
    mean: Temperature = Temperature(1.0)

    def __call__(self, win: float, tie: float, lose: float) -> tuple[float, float, float]:
        mapped = self.decided(win), self.tie(tie), self.decided(lose)
        return self.mean(*_shares(*mapped)) if any(mapped) else (win, tie, lose)


def _shares(win: float, tie: float, lose: float) -> tuple[float, float, float]:
    # summed so that exchanged answers give the same bits
    total = tie + (win + lose)
    return win / total, tie / total, lose / total


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a map made of the probabilities of one order, or the mean of several."""

    probabilities: Mapping[Outcome, float]
    tie_threshold: float
    """see `decide`"""
    map: str
    """the map's name"""

    @classmethod
    def mean(cls, given: Sequence[Calibrated]) -> Calibrated:
        """Of several orders by the same map."""
        probabilities = {each: sum(one.probabilities[each] for one in given) / len(given) for each in Outcome}
        return cls(probabilities, given[0].tie_threshold, given[0].map)

    @property
    def outcome(self) -> Outcome:
        return decide(self.probabilities, self.tie_threshold)

    def swapped(self) -> Calibrated:
        """The same once the two answers have changed places."""
        probabilities = {outcome: self.probabilities[outcome.swapped()] for outcome in Outcome}
        return Calibrated(probabilities, self.tie_threshold, self.map)

    def to_record(self) -> dict[str, Any]:
        """As a judgement's record has it."""
        probabilities = {outcome.value: p for outcome, p in self.probabilities.items()}
        return {"probabilities": probabilities, "tie_threshold": self.tie_threshold, "map": self.map}


def decide(probabilities: Mapping[Outcome, float], tie_threshold: float) -> Outcome:
    """A tie where P(tie) is at least so large a share of P(win) or P(lose), whichever is larger, and where these two
    are equal; else the likelier of them. With a threshold of 1 that is the likeliest outcome.
    """
    win, tie, lose = (probabilities[outcome] for outcome in (Outcome.WIN, Outcome.TIE, Outcome.LOSE))
    return Outcome.TIE if tie >= tie_threshold * max(win, lose) else Outcome.from_scores(win, lose)


@dataclass(frozen=True)
class Calibration:
    """A map, and the judgements that it may be used on."""

    map: Temperature | Isotonic
    tie_threshold: float
    settings: Mapping[str, Any]
    """of the judgements that it was fitted on; see `belonging`"""
    source: str = "the calibration map"
    """its file, for errors"""

    @functools.cached_property
    def name(self) -> str:
        """16 hexadecimal digits, which tell maps apart."""
        method = type(self.map).__name__.lower()
        said = json.dumps([method, asdict(self.map), self.tie_threshold, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def apply(self, probabilities: Mapping[Outcome, float]) -> Calibrated:
        """To the probabilities of one order. Exchanged answers give exchanged probabilities."""
        win, tie, lose = self.map(*(probabilities[outcome] for outcome in (Outcome.WIN, Outcome.TIE, Outcome.LOSE)))
        mapped = {Outcome.WIN: win, Outcome.TIE: tie, Outcome.LOSE: lose}
        return Calibrated(mapped, self.tie_threshold, self.name)

    def check(self, found: Mapping[str, Any], where: str) -> None:
        """Raises InputError that names the settings in which `found`, as `belonging` gives them, are others."""
        found = json.loads(json.dumps(found))
        differing = [name for name in found if _identity(name, self.settings.get(name)) != _identity(name, found[name])]
        if differing:
            said = "; ".join(
                f"{name}: expected {_spoken(self.settings.get(name))}, found {_spoken(found[name])}"
                for name in differing
            )
            raise InputError(f"{self.source} belongs to other judgements than {where}: {said}")


def belonging(settings: Mapping[str, Any], orders: Sequence[str], references: bool) -> dict[str, Any]:
    """What a map belongs to, from a run's settings as run.json has them, the orders judged, and whether the judge was
    shown a reference.

    Seed, temperature and lengths say nothing of probabilities that are read; data type, device and engine little.
    """
    return of_a_judge(settings) | of_samples(settings, orders, references)


def of_a_judge(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that is a judge's, whatever it is asked."""
    return {
        "model": {"name": settings.get("model"), "fingerprint": settings.get("model_fingerprint")},
        # earlier runs could not be told otherwise
        "prompt_format": settings.get("prompt_format", "plain"),
        **{name: settings.get(name) for name in _OF_A_JUDGE},
    }


def of_samples(settings: Mapping[str, Any], orders: Sequence[str], references: bool) -> dict[str, Any]:
    """The other part."""
    return {
        "task": settings.get("task", "pair"),
        "scoring": settings.get("scoring", "sample"),
        "criteria": settings.get("criteria"),
        "prompt_fingerprint": settings.get("prompt_fingerprint"),
        "orders": sorted(orders),
        "references": references,
    }


def _identity(name: str, value: Any) -> Any:
    """Wherever they lie, the same files are the same model; one behind a server has a name alone."""
    if name != "model" or not isinstance(value, dict):
        return value
    return value.get("fingerprint") or value.get("name")


def _spoken(value: Any) -> str:
    """A setting in few words, though a file may hold anything there."""
    if value is None:
        return "none"
    if isinstance(value, dict) and "name" in value:
        # of criteria a hash tells apart what is called the same
        content = json.dumps(value, sort_keys=True).encode()
        mark = value.get("fingerprint") if "fingerprint" in value else hashlib.sha256(content).hexdigest()
        return one_line(f"{value['name']}"[:_MOST_SAID] + (f" ({str(mark)[:8]})" if mark else ""))
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return one_line(" and ".join(value))[:_MOST_SAID]
    return one_line(_REPR.repr(value))
