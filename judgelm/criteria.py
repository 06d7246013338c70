"""By what answers are judged: a scale, and aspects that are asked for one by one; read from YAML.

All but the reading needs the standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.errors import InputError, encodable, one_line
from judgelm.files import PathLike
from judgelm.yaml_text import parse_yaml, read_yaml_text

LARGEST_SCORE = 100
LARGEST_WEIGHT = 1_000_000
MOST_ASPECTS = 50
_WHAT = "criteria"


@dataclass(frozen=True, slots=True)
class Scale:
    """Whole scores from `least` to `most`; raises ValueError for others than 0 to 100, ascending."""

    least: int = 1
    most: int = 10

    def __post_init__(self) -> None:
        for value in (self.least, self.most):
            if type(value) is not int or not 0 <= value <= LARGEST_SCORE:
                raise ValueError(f"a scale has whole numbers from 0 to {LARGEST_SCORE} for its ends, found {value!r}")
        if self.least >= self.most:
            raise ValueError(f"a scale begins with its lowest score, found {self.least} to {self.most}")

    @property
    def scores(self) -> range:
        return range(self.least, self.most + 1)

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"


PUBLISHED = Scale(1, 10)
"""what the paper's prompts ask for"""
READABLE = Scale(0, 10)
"""what is read where nothing else was asked for: judges give 0 too"""


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that answers are judged by. Raises ValueError for what is none."""

    name: str
    text: str
    """what it means, for the judge"""
    weight: float = 1.0
    """in the mean of all aspects"""
    anchors: tuple[tuple[int, str], ...] = ()
    """what some scores look like, in ascending order"""
    scale: Scale = PUBLISHED

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("text", self.text)):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{field}: expected a text, found {value!r}")
        if "\n" in self.name:
            raise ValueError(f"name: expected one line, found {self.name!r}")
        numeric = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not numeric or not 0 < self.weight <= LARGEST_WEIGHT:
            most = f"{LARGEST_WEIGHT:,}"
            raise ValueError(f"weight: expected a number above 0, {most} at most, found {self.weight!r}")
        for score, text in self.anchors:
            if type(score) is not int or score not in self.scale.scores:
                raise ValueError(f"anchors: expected scores from {self.scale}, found {score!r}")
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"anchors: {score}: expected a text, found {text!r}")
        scores = [score for score, _ in self.anchors]
        if scores != sorted(set(scores)):
            raise ValueError(f"anchors: expected scores in ascending order, each once, found {scores}")
        _check_texts([self.name, self.text, *(text for _, text in self.anchors)])


@dataclass(frozen=True, slots=True)
class Criteria:
    """Aspects on one scale. Raises ValueError where there is none, two have one name, or their scales differ."""

    name: str
    aspects: tuple[Aspect, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or "\n" in self.name:
            raise ValueError(f"name: expected a text of one line, found {self.name!r}")
        _check_texts([self.name])
        if not 1 <= len(self.aspects) <= MOST_ASPECTS:
            raise ValueError(f"aspects: expected 1 to {MOST_ASPECTS}, found {len(self.aspects)}")
        names = [aspect.name for aspect in self.aspects]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"aspects: {name!r} stands there {names.count(name)} times")
        if len({aspect.scale for aspect in self.aspects}) > 1:
            raise ValueError("aspects: all have one scale")

    @property
    def scale(self) -> Scale:
        return self.aspects[0].scale

    @classmethod
    def from_record(cls, record: object) -> Criteria:
        """What a file or a request says; raises ValueError that names the first field that is wrong."""
        fields = _fields(record, "criteria", ("name", "aspects"), ("scale",))
        scale = _read_scale(fields.get("scale"))
        given = fields["aspects"]
        if not isinstance(given, list):
            raise ValueError(f"aspects: expected a list, found {type(given).__name__}")
        aspects = []
        for number, each in enumerate(given, start=1):
            try:
                aspects.append(_read_aspect(each, scale))
            except ValueError as error:
                raise ValueError(f"aspects: {number}: {error}") from None
        return cls(fields["name"], tuple(aspects))

    def to_record(self) -> dict[str, Any]:
        """The same as a file holds it."""
        aspects = [
            {"name": each.name, "text": each.text, "weight": each.weight, "anchors": dict(each.anchors)}
            for each in self.aspects
        ]
        return {"name": self.name, "scale": [self.scale.least, self.scale.most], "aspects": aspects}

    def mean(self, values: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """The weighted mean of each column, [aspects][columns] -> [columns]."""
        total = math.fsum(aspect.weight for aspect in self.aspects)
        weighted = [
            [aspect.weight * value for value in each] for aspect, each in zip(self.aspects, values, strict=True)
        ]
        return tuple(math.fsum(column) / total for column in zip(*weighted, strict=True))


def _check_texts(texts: Sequence[str]) -> None:
    if not all(map(encodable, texts)):
        raise ValueError("a text has half a surrogate pair, which no tokenizer can read")


def read_criteria(path: PathLike) -> Criteria:
    """The criteria of a YAML file. Raises InputError, in one line, for anything else."""
    return parse_criteria(read_yaml_text(path, _WHAT), str(Path(path).expanduser()))


def parse_criteria(text: str, place: str) -> Criteria:
    """The criteria of a text in YAML that came from a `place`. Raises InputError, in one line, for anything else."""
    record = parse_yaml(text, place, _WHAT)
    try:
        return Criteria.from_record(record)
    except ValueError as error:
        raise InputError(one_line(f"{place}: {error}")) from None


def _fields(record: object, what: str, needed: Sequence[str], optional: Sequence[str]) -> Mapping[str, Any]:
    known = (*needed, *optional)
    if not isinstance(record, dict):
        raise ValueError(f"expected {what} with the fields {', '.join(known)}, found {type(record).__name__}")
    for name in record:
        if name not in known:
            raise ValueError(f"{name!r} is no field of {what} (they are {', '.join(known)})")
    for name in needed:
        if name not in record:
            raise ValueError(f"field {name!r} is missing (found: {', '.join(map(str, list(record)[:8])) or 'none'})")
    return record


def _read_scale(given: object) -> Scale:
    if given is None:
        return PUBLISHED
    ends = list(given.split(" to ")) if isinstance(given, str) else given
    try:
        if isinstance(ends, list) and len(ends) == 2:
            least, most = (int(each) if isinstance(each, str) else each for each in ends)
            return Scale(least, most)
    except ValueError as error:
        raise ValueError(f"scale: {error}") from None
    raise ValueError(f"scale: expected its lowest and its highest score, such as [1, 5], found {given!r}")


def _read_aspect(record: object, scale: Scale) -> Aspect:
    fields = _fields(record, "an aspect", ("name", "text"), ("weight", "anchors"))
    anchors = fields.get("anchors") or {}
    if not isinstance(anchors, dict):
        raise ValueError(f"anchors: expected scores with a text each, found {type(anchors).__name__}")
    # JSON has texts for keys
    scores = {int(k) if isinstance(k, str) and k.isdecimal() else k: text for k, text in anchors.items()}
    for score in scores:
        if type(score) is not int:
            raise ValueError(f"anchors: expected scores from {scale}, found {score!r}")
    weight = fields.get("weight", 1.0)
    if isinstance(weight, int) and not isinstance(weight, bool) and abs(weight) <= LARGEST_WEIGHT:
        weight = float(weight)
    return Aspect(fields["name"], fields["text"], weight, tuple(sorted(scores.items())), scale)
