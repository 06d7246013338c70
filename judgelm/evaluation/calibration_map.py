"""A map of probabilities in its file: what `judgelm calibrate` writes and what is read for `--calibration`."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from judgelm.calibration import Calibration, Curve, Isotonic, Temperature
from judgelm.documents import Document, Section
from judgelm.evaluation.rate import Rate
from judgelm.samples import PathLike

_Share = Annotated[float, Field(ge=0, le=1)]
_Shares = Annotated[list[_Share], Field(min_length=1, max_length=100_000)]


class TemperatureMap(Section):
    """Each probability to the power of 1 / temperature, that of a tie times exp(tie), as shares of their sum."""

    method: Literal["temperature"] = "temperature"
    """which of the two maps this is"""
    temperature: Annotated[float, Field(ge=0.01, le=1000)]
    """above 1: what the judge says is too sure"""
    tie: Annotated[float, Field(ge=-50, le=50)] = 0.0
    """above 0: ties are likelier than it says"""

    @property
    def function(self) -> Temperature:
        return Temperature(self.temperature, self.tie)


class MapCurve(Section):
    """Straight lines between points, flat beyond the first and the last."""

    x: _Shares
    """the judge's probability, ascending"""
    y: _Shares
    """the calibrated one, before all are made to sum to 1; it never goes down"""

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"expected as many y as x, found {len(self.y)} and {len(self.x)}")
        if any(one >= other for one, other in itertools.pairwise(self.x)):
            raise ValueError("expected x that ascend")
        if any(one > other for one, other in itertools.pairwise(self.y)):
            raise ValueError("expected y that never go down")
        return self

    @property
    def function(self) -> Curve:
        return Curve(tuple(self.x), tuple(self.y))


class IsotonicMap(Section):
    """Each probability by a curve that never goes down, as shares of their sum, and then by a temperature."""

    method: Literal["isotonic"] = "isotonic"
    """which of the two maps this is"""
    decided: MapCurve
    """of P(win) and of P(lose), which exchange with the answers"""
    tie: MapCurve
    """of P(tie)"""
    mean: TemperatureMap
    """used on what the curves give, so that the mean of both orders is as sure as it is right; of one order 1"""

    @property
    def function(self) -> Isotonic:
        return Isotonic(self.decided.function, self.tie.function, self.mean.function)


class MapCheck(Section):
    """A number of questions that the map which was used on them was not fitted on, with 95 % intervals over these."""

    before: Rate
    """with the judge's own probabilities"""
    after: Rate
    """with calibrated ones"""
    difference: Rate
    """after - before"""


class CalibrationFile(Document):
    """A map of P(win), P(tie) and P(lose), whose judgements it is for, and what it did where it could be checked."""

    what: ClassVar[str] = "a calibration map"

    map: Annotated[TemperatureMap | IsotonicMap, Field(discriminator="method")]
    """from all labelled questions"""
    tie_threshold: Annotated[float, Field(ge=0, le=1e15)]
    """a tie is called where P(tie) is at least so large a share of P(win) or P(lose), whichever is larger; 1: where it
    is likeliest"""
    settings: dict[str, Any]
    """of the judgements that it is for: model, task, scoring, prompt format, template and fingerprint, criteria,
    quantization, of a server its API and fields, orders, and whether references were shown"""
    labels: Annotated[int, Field(ge=0)]
    """samples with a truth and probabilities"""
    questions: Annotated[int, Field(ge=0)]
    """different ones among them"""
    outcomes: dict[str, int]
    """how often the truth is win, tie, lose"""
    parts: Annotated[int, Field(ge=2)]
    """into which the questions were split: each is checked by a map of the others"""
    checked: dict[str, MapCheck]
    """brier; calibration_error; agreement_likeliest, of the likeliest outcome; agreement, of the verdict with the tie
    threshold, before it of the likeliest outcome"""

    @property
    def in_words(self) -> str:
        """The map, and when it calls a tie."""
        said = f"ties where P(tie) is {self.tie_threshold:.2f} of the likelier answer's or more"
        if isinstance(self.map, TemperatureMap):
            return f"temperature {self.map.temperature:.3f}, ties times {math.exp(self.map.tie):.3f}; {said}"
        return f"{len(self.map.decided.x)} points for an answer, {len(self.map.tie.x)} for a tie; {said}"

    def calibration(self, source: str) -> Calibration:
        """As it is used; `source` names it in errors."""
        return Calibration(self.map.function, self.tie_threshold, self.settings, source)


def read_calibration(path: PathLike) -> Calibration:
    """Raises InputError for a file that is missing, damaged, or no calibration map of this format."""
    return CalibrationFile.read(path).calibration(str(path))
