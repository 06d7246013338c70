"""Criteria in the body of a request: the object that a file of criteria holds, from anybody."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from judgelm.criteria import LARGEST_SCORE, LARGEST_WEIGHT, MOST_ASPECTS, PUBLISHED, Criteria

MOST_CHARACTERS = 100_000
"""of all names and texts"""


def check_criteria(given: Any) -> Criteria:
    """Raises ValueError, which names the first field that is wrong, for what are no criteria, or too much text."""
    criteria = given if isinstance(given, Criteria) else Criteria.from_record(given)
    texts = [criteria.name]
    for aspect in criteria.aspects:
        texts += [aspect.name, aspect.text, *(text for _, text in aspect.anchors)]
    count = sum(map(len, texts))
    if count > MOST_CHARACTERS:
        raise ValueError(f"criteria have at most {MOST_CHARACTERS:,} characters, found {count:,}")
    return criteria


_TEXT = {"type": "string", "minLength": 1}
_ASPECT = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "text": {**_TEXT, "description": "what it means, for the judge"},
        "weight": {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST_WEIGHT, "default": 1},
        "anchors": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "what some scores look like: a score and a text",
        },
    },
    "required": ["name", "text"],
    "additionalProperties": False,
}
_SCHEMA: dict[str, Any] = {
    "title": "Criteria",
    "type": "object",
    "properties": {
        "name": _TEXT,
        "scale": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_SCORE},
            "minItems": 2,
            "maxItems": 2,
            "default": [PUBLISHED.least, PUBLISHED.most],
            "description": "the lowest and the highest score",
        },
        "aspects": {"type": "array", "items": _ASPECT, "minItems": 1, "maxItems": MOST_ASPECTS},
    },
    "required": ["name", "aspects"],
    "additionalProperties": False,
}
CriteriaField = Annotated[
    Criteria, PlainValidator(check_criteria), PlainSerializer(Criteria.to_record), WithJsonSchema(_SCHEMA)
]
"""a field of a body"""
