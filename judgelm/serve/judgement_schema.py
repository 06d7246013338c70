"""A judgement in the words of a client's own JSON schema: what its fields ask of the judge, and what they get."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judgelm.criteria import PUBLISHED, Aspect, Criteria, Scale
from judgelm.errors import InputError
from judgelm.judgement import Outcome
from judgelm.serve.judgement_requests import CriteriaJudgementOut, JudgementOut, ResultOut
from judgelm.vocabularies import VOCABULARIES, normal_form

Schema = Mapping[str, Any]
Read = Callable[[ResultOut], Any]
"""the value of a field; None where the judge wrote nothing of it that can be read"""
_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"})
_OF_OBJECTS = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema"})
_NUMBERED = re.compile(r"(?:.*\D)?([1-9]\d?)")
_ALL = "the helpfulness, relevance, accuracy and level of detail of the response"
"""what is judged on a scale of the client's own, where the schema does not say"""
_MOST_DEPTH = 20
_MOST_FIELDS = 60
_MOST_WORDS = 40
_LONGEST_WORD = 100
"""characters: no word for an outcome is longer"""
_FILLABLE = (
    "a judgement fills numbers (score, or by a field's description; score1, score2 .. of several answers), lists of"
    " numbers (scores), strings (reasons), and of two answers an enum with a word each for answer 1, a tie and answer 2"
)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number with its bounds, or a list of them: one for each answer."""

    whole: bool
    bounds: tuple[int | None, int | None]
    listed: bool

    def write(self, values: Sequence[float] | None, index: int = 0) -> Any:
        if values is None:
            return None
        # halves go up
        said = [math.floor(value + 0.5) if self.whole else value for value in values]
        return said if self.listed else said[index]


@dataclass(frozen=True, slots=True)
class JudgementSchema:
    """A schema that a judgement of some answers can fill."""

    fields: Mapping[str, Read]
    criteria: Criteria | None
    """by which the answers are judged; None: by the task's own question"""
    has_reasons: bool
    bounds: Scale | None = None
    """of all scores, where the schema has bounds"""

    @classmethod
    def any_object(cls, num_answers: int) -> JudgementSchema:
        """A judgement's own fields."""
        outcome: dict[str, Read] = {"outcome": lambda result: result.outcome} if num_answers == 2 else {}
        return cls({"scores": _scores, **outcome, "reasons": _reasons}, None, True)

    @classmethod
    def read(cls, schema: Schema, num_answers: int) -> JudgementSchema:
        """Raises InputError for one that no judgement can fill."""
        return _Reader(schema, num_answers).read()

    def fill(self, result: ResultOut) -> dict[str, Any] | None:
        """The object; None where the judge wrote nothing that can be read."""
        found = {name: read(result) for name, read in self.fields.items()}
        if result.scores is None or None in found.values():
            return None
        if self.bounds and not all(self.bounds.least <= score <= self.bounds.most for score in result.scores):
            return None
        return found


def _scores(result: ResultOut) -> list[float] | None:
    return result.scores


def _reasons(result: ResultOut) -> str:
    first = result.judgements[0]
    if isinstance(first, CriteriaJudgementOut):
        return "\n".join(f"{aspect.name}: {aspect.reasons}" for aspect in first.aspects)
    return first.reasons


def _aspect_scores(name: str) -> Callable[[ResultOut], list[float] | None]:
    def read(result: ResultOut) -> list[float] | None:
        each = [_in_order(judgement, name) for judgement in result.judgements]
        said = [scores for scores in each if scores is not None]
        if len(said) < len(each):
            return None
        return [math.fsum(column) / len(column) for column in zip(*said, strict=True)]

    return read


def _in_order(judgement: JudgementOut, name: str) -> list[float] | None:
    """By an aspect, in the order in which the client gave the answers."""
    assert isinstance(judgement, CriteriaJudgementOut)
    scores = next(aspect.scores for aspect in judgement.aspects if aspect.name == name)
    return scores[::-1] if scores is not None and judgement.order == "reversed" else scores


class _Reader:
    """Reads one schema."""

    def __init__(self, schema: Schema, num_answers: int) -> None:
        self.schema = schema
        self.num_answers = num_answers
        self.numbers: dict[str, _Number] = {}
        self.described: dict[str, str] = {}
        """number field -> what its description says"""

    def read(self) -> JudgementSchema:
        schema = self._resolved(self.schema)
        properties = schema.get("properties")
        if schema.get("type") != "object" or not isinstance(properties, dict) or not properties:
            raise _refusal("the schema", "expected an object with properties")
        _refuse_others("the schema", schema, _OF_OBJECTS)
        if len(properties) > _MOST_FIELDS:
            raise _refusal("the schema", f"expected at most {_MOST_FIELDS} fields, found {len(properties)}")
        needed = schema.get("required", [])
        if not isinstance(needed, list) or not set(map(str, needed)) <= set(properties):
            raise _refusal("the schema", "required names fields that are no properties")
        strings: dict[str, Read] = {}
        for name, given in properties.items():
            self._read_field(name, self._resolved(given), strings)
        bounds = self._bounds()
        fields = {name: strings.get(name) or self._number(name) for name in properties}
        return JudgementSchema(fields, self._criteria(bounds or PUBLISHED), _reasons in strings.values(), bounds)

    def _read_field(self, name: str, field: Schema, strings: dict[str, Read]) -> None:
        if "enum" in field:
            strings[name] = self._outcome(name, field)
        elif field.get("type") == "string":
            _refuse_others(name, field, {"type"})
            strings[name] = _reasons
        else:
            self.numbers[name] = self._read_number(name, field)
            if isinstance(text := field.get("description"), str) and text.strip():
                self.described[name] = text.strip()

    def _read_number(self, name: str, field: Schema) -> _Number:
        if field.get("type") != "array":
            found = _number(name, field, listed=False)
            if self._place(name) is None:
                raise _refusal(name, f"a number of which of the {self.num_answers} answers?")
            return found
        _refuse_others(name, field, {"type", "items", "prefixItems", "minItems", "maxItems"})
        least, most = field.get("minItems", 0), field.get("maxItems", self.num_answers)
        each = field.get("prefixItems", [field.get("items")])
        fits = isinstance(least, int) and isinstance(most, int) and least <= self.num_answers <= most
        if not fits or not isinstance(each, list) or ("prefixItems" in field and len(each) != self.num_answers):
            raise _refusal(name, f"expected a list for {self.num_answers} answers")
        kinds = {_number(name, self._resolved(one), listed=True) for one in each}
        if len(kinds) > 1:
            raise _refusal(name, "expected numbers of one kind")
        return kinds.pop()

    def _outcome(self, name: str, field: Schema) -> Read:
        _refuse_others(name, field, {"type", "enum"})
        words = field["enum"]
        if self.num_answers != 2 or not isinstance(words, list):
            raise _refusal(name, "expected no enum: that is for who of two is better")
        if len(words) > _MOST_WORDS or any(isinstance(word, str) and len(word) > _LONGEST_WORD for word in words):
            raise _refusal(name, f"expected at most {_MOST_WORDS} words of at most {_LONGEST_WORD} characters")
        forms = [normal_form(word) for word in words]
        read = [[each.read(form) for form in forms] for each in VOCABULARIES.values() if not each.scores and all(forms)]
        meanings = {tuple(found) for found in read if set(found) == set(Outcome)}
        if len(meanings) != 1:
            raise _refusal(name, "expected a word each for answer 1, a tie and answer 2, such as A, tie, B")
        said: dict[Outcome, Any] = {}
        for outcome, word in zip(meanings.pop(), words, strict=True):
            assert outcome is not None
            said.setdefault(outcome, word)
        return lambda result: None if result.outcome is None else said[Outcome(result.outcome)]

    def _place(self, name: str) -> int | None:
        """Of which answer the field of one number is."""
        if self.num_answers == 1:
            return 0
        found = _NUMBERED.fullmatch(name)
        return int(found[1]) - 1 if found and int(found[1]) <= self.num_answers else None

    def _is_overall(self, name: str) -> bool:
        if self.numbers[name].listed:
            return name == "scores"
        return self.num_answers > 1 or name == "score"

    def _bounds(self) -> Scale | None:
        """The scale that all numbers are on, where they have bounds."""
        each = {number.bounds for number in self.numbers.values()}
        if len(each) > 1:
            raise _refusal("the schema", f"expected one scale for {', '.join(self.numbers)}")
        least, most = next(iter(each), (None, None))
        if least is None and most is None:
            return None
        try:
            return Scale(PUBLISHED.least if least is None else least, PUBLISHED.most if most is None else most)
        except ValueError as error:
            raise _refusal("the schema", str(error)) from None

    def _criteria(self, scale: Scale) -> Criteria | None:
        """What the numbers are about; None for what a judge is asked in any case."""
        texts = {name: self.described.get(name, name) for name in self.numbers if not self._is_overall(name)}
        if not texts:
            name = next((name for name in self.numbers if name in ("score", "scores")), "overall")
            if scale == PUBLISHED and name not in self.described:
                return None
            texts = {name: self.described.get(name, _ALL)}
        try:
            return Criteria("schema", tuple(Aspect(name, text, scale=scale) for name, text in texts.items()))
        except ValueError as error:
            raise _refusal("the schema", str(error)) from None

    def _number(self, name: str) -> Read:
        number, read = self.numbers[name], _scores if self._is_overall(name) else _aspect_scores(name)
        place = self._place(name) or 0
        return lambda result: number.write(read(result), place)

    def _resolved(self, field: Any) -> Schema:
        """Without references within the schema, and without null beside what is no null."""
        for _ in range(_MOST_DEPTH):
            if not isinstance(field, dict):
                raise _refusal("the schema", "expected an object for each field")
            if "$ref" in field:
                found: Any = self.schema
                for part in str(field["$ref"]).removeprefix("#/").split("/"):
                    found = found.get(part) if isinstance(found, dict) else None
                if not isinstance(found, dict):
                    raise _refusal("the schema", f"{field['$ref']!r} is not in it")
                field = found | {name: value for name, value in field.items() if name in _NOTES}
                continue
            either = field.get("anyOf", field.get("allOf"))
            if not isinstance(either, list):
                return _without_null(field)
            others = [one for one in either[:3] if one != {"type": "null"}]
            if len(either) > 2 or len(others) != 1 or not isinstance(others[0], dict):
                raise _refusal("the schema", "a field has several forms")
            rest = {name: value for name, value in field.items() if name not in ("anyOf", "allOf")}
            field = others[0] | rest
        raise _refusal("the schema", "references go in a circle")


def _without_null(field: Schema) -> Schema:
    """With one type in place of a list of it and null."""
    kinds, words = field.get("type"), field.get("enum")
    if not isinstance(kinds, list) or len(kinds) != 2 or "null" not in kinds:
        return field
    named = {"enum": [word for word in words if word is not None]} if isinstance(words, list) else {}
    return {**field, "type": kinds[kinds.index("null") - 1], **named}


def _number(name: str, field: Schema, listed: bool) -> _Number:
    if field.get("type") not in ("number", "integer"):
        raise _refusal(name, f"a judgement has no {str(field.get('type'))[:20]}")
    _refuse_others(name, field, {"type", "minimum", "maximum"})
    ends = [field.get(end) for end in ("minimum", "maximum")]
    for end in ends:
        if end is not None and type(end) is not int and not (type(end) is float and end.is_integer()):
            raise _refusal(name, f"expected whole numbers for bounds, found {end!r}")
    least, most = (None if end is None else int(end) for end in ends)
    return _Number(field["type"] == "integer", (least, most), listed)


def _refuse_others(name: str, field: Schema, known: frozenset[str] | set[str]) -> None:
    """Raises InputError for a keyword that a judgement might not keep to."""
    if others := sorted(set(map(str, field)) - known - _NOTES):
        raise _refusal(name, f"{others[0]!r} is not read")


def _refusal(name: str, problem: str) -> InputError:
    return InputError(f"response_format: {name}: {problem}; {_FILLABLE}")
