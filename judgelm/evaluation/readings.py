"""A judgement's record -> what was read from it, of the answers in the file's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from judgelm.calibration import Calibrated
from judgelm.criteria import READABLE, Scale
from judgelm.errors import InputError, in_short, one_line
from judgelm.jsonl import Line, require
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.prompt import TASKS
from judgelm.verdict import AspectReading, Reading
from judgelm.verdict_forms import POINTS, SCORES, VERDICT_FORMATS

_SURELY = 1e-3
"""how far probabilities that were rounded may be from 1"""
_ROUNDING = 1e-6
"""share by which sums of floats may leave their bounds"""
LARGEST = 1e15


def is_number(value: object) -> bool:
    """Whether it is a finite number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def read_reading(line: Line, num_answers: int = 2, order: str = "forward") -> Reading:
    """With what scoring `expected` wrote down, calibrated or not, and with criteria what was said by each aspect.

    Raises InputError for a field that is missing or of the wrong kind.
    """
    scale = read_scale(line)
    whole = _Part(line, line.record, "pred_", num_answers, scale or READABLE)
    text = judgement_text(line)
    form = read_verdict_format(line)
    calibrated = _read_calibrated(line, num_answers)
    if scale is None and form == SCORES:
        return Reading.of(Judgement.parse(text, num_answers), *whole.likelihood, order, (), calibrated)
    by_criteria = line.record.get("pred_aspects") is not None
    aspects = tuple(_read_aspects(line, num_answers, scale, order)) if scale and by_criteria else ()
    # the text is that of several judgements, or of another form: the record says what they come to
    return Reading.of(replace(whole.judgement(text), form=form), *whole.likelihood, order, aspects, calibrated)


def _read_calibrated(line: Line, num_answers: int) -> Calibrated | None:
    """What a map made of the probabilities."""
    if line.record.get("pred_calibrated") is None:
        return None
    given: dict[str, Any] = require(line, "pred_calibrated", dict)
    part = _Part(line, given, "pred_calibrated.", num_answers, READABLE, "")
    probabilities, name = part.probabilities(), given.get("map")
    if probabilities is None or not isinstance(name, str):
        found = one_line(", ".join(list(given)[:8]))
        raise InputError(f"{line.where}: field 'pred_calibrated' must have probabilities and a map, found {found}")
    return Calibrated(probabilities, part.number("tie_threshold", given.get("tie_threshold"), 0, LARGEST), name)


def read_verdict_format(line: Line) -> str:
    """How the judge was asked to say its verdict."""
    form = line.record.get("pred_verdict_format")
    if form is not None and form not in VERDICT_FORMATS:
        known = ", ".join(VERDICT_FORMATS)
        found = in_short(form)
        raise InputError(f"{line.where}: field 'pred_verdict_format' must be one of {known}, found {found}")
    return form or SCORES


def _read_aspects(line: Line, num_answers: int, scale: Scale, order: str) -> list[AspectReading]:
    found: dict[str, AspectReading] = {}
    for number, record in enumerate(require(line, "pred_aspects", list), start=1):
        if not isinstance(record, dict):
            raise InputError(f"{line.where}: field 'pred_aspects' must hold objects, found {type(record).__name__}")
        part = _Part(line, record, f"pred_aspects.{number}.", num_answers, scale, "")
        name = record.get("name")
        if not isinstance(name, str) or not name.strip() or name in found:
            said = in_short(name)
            raise InputError(f"{line.where}: field {part.field('name')!r} must be a name of its own, found {said}")
        weight = part.number("weight", record.get("weight"), 0, LARGEST)
        found[name] = AspectReading(name, weight, Reading.of(part.judgement(""), *part.likelihood, order))
    if not found:
        raise InputError(f"{line.where}: field 'pred_aspects' must hold at least one aspect")
    return list(found.values())


def read_scale(line: Line) -> Scale | None:
    """Of a record that was judged with criteria, or for a letter; None for any other."""
    if read_verdict_format(line) == "letter":
        return POINTS
    if line.record.get("pred_aspects") is None:
        return None
    given = require(line, "pred_scale", list)
    try:
        least, most = given
        return Scale(least, most)
    except ValueError:
        raise InputError(
            f"{line.where}: field 'pred_scale' must be the lowest and the highest score, found {in_short(given)}"
        ) from None


def check_one_scale(line: Line, scale: Scale | None, first: Scale | None) -> None:
    """Raises InputError for a row that was judged on another scale than the `first` one of its file."""
    if scale != first:
        said = (f"{one}" if one else "no criteria" for one in (first, scale))
        raise InputError(f"{line.where}: all rows have one scale of criteria, found {' and '.join(said)}")


def read_category(record: Mapping[str, Any]) -> str | None:
    """That of a row, or its subset; None without any."""
    category = record.get("category", record.get("subset"))
    return None if category is None else str(category)


def judgement_text(line: Line) -> str:
    """Prefill and generation, without white space around, as the original wrote its files; those have no task."""
    name = require(line, "pred_task", str) if "pred_task" in line.record else "pair"
    task = TASKS.get(name)
    if task is None or task.name == "multi":
        raise InputError(f"{line.where}: evaluation compares two answers, found task {name!r}")
    text: str = require(line, "pred_text", str)
    return (task.prefill + text).strip() if "pred_task" in line.record else text


@dataclass(frozen=True, slots=True)
class _Part:
    """The fields of a judgement: the record's own, or those of one of its aspects."""

    line: Line
    record: Mapping[str, Any]
    place: str
    """what stands before a field's name where an error says it"""
    num_answers: int
    scale: Scale
    prefix: str = "pred_"
    """of its names in the record"""

    def field(self, name: str) -> str:
        return f"{self.place}{name}"

    def judgement(self, text: str) -> Judgement:
        """By what the record says of it."""
        state = self.record.get(f"{self.prefix}parse")
        if state not in list(ParseState):
            found, known = in_short(state), ", ".join(ParseState)
            raise self._wrong("parse", f"be one of {known}, found {found}")
        return Judgement(text, self.num_answers, self._scores("scores"), ParseState(state), self.scale)

    @property
    def likelihood(self) -> tuple[dict[Outcome, float] | None, tuple[float, ...] | None]:
        """Probabilities of the outcomes, and expected scores."""
        return self.probabilities(), self._scores("expected_scores")

    def number(self, name: str, value: Any, least: float, most: float) -> float:
        """Raises InputError for anything but a number from `least` to `most`."""
        if not is_number(value) or not least * (1 - _ROUNDING) <= value <= most * (1 + _ROUNDING):
            found = f"{value:g}" if isinstance(value, float) else in_short(value)
            raise self._wrong(name, f"hold numbers from {least:g} to {most:g}, found {found}")
        return float(value)

    def probabilities(self) -> dict[Outcome, float] | None:
        """Of win, tie and lose; None without any. Raises InputError for what are none."""
        given = self._value("probabilities", dict)
        if given is None:
            return None
        found = {each: self.number("probabilities", given.get(each.value), 0, 1) for each in Outcome}
        if abs((total := sum(found.values())) - 1) > _SURELY:
            field = self.field("probabilities")
            raise InputError(
                f"{self.line.where}: expected {field!r} of win, tie and lose that sum to 1, found {total:g}"
            )
        return found

    def _scores(self, name: str) -> tuple[float, ...] | None:
        given = self._value(name, list)
        if given is None:
            return None
        if len(given) != self.num_answers:
            asked = "two numbers" if self.num_answers == 2 else "one number"
            raise self._wrong(name, f"have {asked}, found {len(given)}")
        return tuple(self.number(name, score, self.scale.least, self.scale.most) for score in given)

    def _value(self, name: str, kind: type) -> Any:
        value = self.record.get(f"{self.prefix}{name}")
        if value is not None and not isinstance(value, kind):
            raise self._wrong(name, f"be {kind.__name__}, found {type(value).__name__}")
        return value

    def _wrong(self, name: str, what: str) -> InputError:
        return InputError(f"{self.line.where}: field {self.field(name)!r} must {what}")
