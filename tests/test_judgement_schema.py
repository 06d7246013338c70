"""Which JSON schemas a judgement can fill, and with what."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from judgelm.criteria import Criteria, Scale
from judgelm.errors import InputError
from judgelm.serve.judgement_requests import AspectOut, CriteriaJudgementOut, JudgementOut, ResultOut
from judgelm.serve.judgement_schema import JudgementSchema
from judgelm.serve.worker_answers import Usage

NOTHING: dict[str, Any] = {"finish_reason": "stop", "shortened": None, "usage": Usage(), "parse": "ok"}


def judged(*scores: float, outcome: Any = None, reasons: str = "Because.") -> ResultOut:
    """A result of one order, by the task's own question."""
    said = {"text": "", "reasons": reasons, "scores": list(scores), "outcome": outcome}
    return result(list(scores), outcome, JudgementOut(order="forward", **said, **NOTHING))


def result(scores: list[float] | None, outcome: Any, *judgements: Any) -> ResultOut:
    said = {"question_id": 1, "scores": scores, "outcome": outcome, "consistent": True, "suspicious_markers": 0}
    return ResultOut.model_validate(said | {"judgements": list(judgements)})


def by_aspects(order: Any, **scores: list[float]) -> CriteriaJudgementOut:
    said: dict[str, Any] = {"text": "", "outcome": None}
    aspects = [
        AspectOut(name=name, weight=1, scores=each, parse="ok", reasons=f"So {name}.", **said)
        for name, each in scores.items()
    ]
    return CriteriaJudgementOut(order=order, **said, **NOTHING, scores=None, reasons="", scale=(1, 5), aspects=aspects)


class Winner(Enum):
    """Words of a client's own."""

    A = "A"
    B = "B"
    NEITHER = "tie"


class Verdict(BaseModel):
    """A judgement of two answers in a client's words."""

    explanation: str
    score_1: float
    score_2: float
    winner: Winner
    note: str | None = None


def test_scores_winner_and_reasons_of_two_answers_go_where_the_schema_wants_them() -> None:
    read = JudgementSchema.read(Verdict.model_json_schema(), 2)
    assert (read.criteria, read.has_reasons) == (None, True)
    found = Verdict.model_validate(read.fill(judged(6, 7.5, outcome="lose")))
    assert (found.score_1, found.score_2, found.winner) == (6, 7.5, Winner.B)
    assert (found.explanation, found.note) == ("Because.", "Because.")


@pytest.mark.parametrize(
    ("words", "outcome", "said"),
    [
        (["model_a", "model_b", "tie"], "win", "model_a"),
        (["answer 1", "tie", "answer 2"], "lose", "answer 2"),
        (["first", "second", "both", "neither"], "tie", "both"),
        ([1, 0, -1], "lose", -1),
        (["win", "lose", "tie"], "win", "win"),
    ],
)
def test_an_enum_gets_the_word_of_the_outcome(words: list[Any], outcome: str, said: Any) -> None:
    schema = {"type": "object", "properties": {"better": {"enum": words}}}
    assert JudgementSchema.read(schema, 2).fill(judged(1, 2, outcome=outcome)) == {"better": said}


def test_numbers_of_one_answer_are_aspects_by_their_descriptions_on_the_scale_of_their_bounds() -> None:
    class Grade(BaseModel):
        accuracy: Annotated[int, Field(ge=1, le=5, description="Is all of it true?")]
        tone: Annotated[int, Field(ge=1, le=5)]
        score: Annotated[float, Field(ge=1, le=5)]
        reasons: str

    read = JudgementSchema.read(Grade.model_json_schema(), 1)
    assert isinstance(read.criteria, Criteria)
    assert read.criteria.scale == Scale(1, 5)
    assert [(a.name, a.text) for a in read.criteria.aspects] == [("accuracy", "Is all of it true?"), ("tone", "tone")]
    made = result([3.5], None, by_aspects("forward", accuracy=[5], tone=[2]))
    assert read.fill(made) == {
        "accuracy": 5,
        "tone": 2,
        "score": 3.5,
        "reasons": "accuracy: So accuracy.\ntone: So tone.",
    }


def test_lists_hold_a_number_for_each_answer_and_both_orders_are_averaged() -> None:
    number = {"type": "integer", "minimum": 1, "maximum": 5}
    schema = {"type": "object", "properties": {"clarity": {"type": "array", "items": number, "maxItems": 2}}}
    read = JudgementSchema.read(schema, 2)
    orders = by_aspects("forward", clarity=[4, 1]), by_aspects("reversed", clarity=[2, 5])
    # answer 1: 4 and 5, answer 2: 1 and 2; halves of whole numbers go up
    assert read.fill(result([4.5, 1.5], "win", *orders)) == {"clarity": [5, 2]}


def test_one_score_with_bounds_or_a_description_is_asked_for_by_them() -> None:
    def asked(**score: Any) -> Criteria | None:
        schema = {"type": "object", "properties": {"score": {"type": "number", **score}}}
        return JudgementSchema.read(schema, 1).criteria

    assert asked() is None
    assert asked(minimum=1, maximum=10) is None
    scaled = asked(minimum=0, maximum=1)
    assert scaled is not None
    assert (scaled.scale, scaled.aspects[0].name) == (Scale(0, 1), "score")
    described = asked(description="Is it polite?")
    assert described is not None
    assert described.aspects[0].text == "Is it polite?"


def test_what_was_not_read_or_lies_beside_the_bounds_fills_nothing() -> None:
    number = {"type": "number", "minimum": 1}
    read = JudgementSchema.read({"type": "object", "properties": {"score": number}}, 1)
    assert read.fill(judged(4)) == {"score": 4}
    assert read.fill(judged(0)) is None
    assert read.fill(result(None, None)) is None


def test_without_a_schema_an_object_has_a_judgements_own_fields() -> None:
    assert JudgementSchema.any_object(2).fill(judged(8, 7, outcome="win")) == {
        "scores": [8, 7],
        "outcome": "win",
        "reasons": "Because.",
    }
    assert JudgementSchema.any_object(1).fill(judged(8)) == {"scores": [8], "reasons": "Because."}


class Nested(BaseModel):
    """What a judgement has not."""

    inner: Verdict


def an_object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


@pytest.mark.parametrize(
    ("schema", "answers", "said"),
    [
        ({"type": "array"}, 2, "the schema: expected an object with properties"),
        (an_object(), 2, "the schema: expected an object with properties"),
        (an_object(score=True), 1, "the schema: expected an object for each field"),
        (Nested.model_json_schema(), 2, "inner: a judgement has no object"),
        (an_object(ok={"type": "boolean"}), 2, "ok: a judgement has no boolean"),
        (an_object(score={"type": "number"}), 2, "score: a number of which of the 2 answers?"),
        (an_object(score3={"type": "number"}), 2, "score3: a number of which"),
        (an_object(scores={"type": "array", "items": {"type": "string"}}), 2, "scores: a judgement has no string"),
        (an_object(scores={"type": "array", "items": {"type": "number"}, "minItems": 3}), 2, "a list for 2 answers"),
        (an_object(a={"enum": ["A", "B"]}), 2, "a: expected a word each for answer 1, a tie"),
        (an_object(a={"enum": ["x", "y", "z"]}), 2, "a: expected a word each"),
        (an_object(a={"enum": ["A", "B", "tie"]}), 1, "a: expected no enum"),
        (an_object(a={"enum": ["A", "B", "model" * 50_000]}), 2, "40 words of at most 100 characters"),
        (an_object(a={"enum": ["A", "tie", "B"] * 50_000}), 2, "a: expected at most 40 words"),
        (an_object(**{f"a{k}": {"type": "string"} for k in range(61)}), 2, "expected at most 60 fields, found 61"),
        (an_object(scores={"type": "array", "prefixItems": 5}), 2, "scores: expected a list for 2 answers"),
        (an_object(a={"type": ["number", "string"]}), 1, "a: a judgement has no ['number', 'stri"),
        (an_object(a={"anyOf": [{"type": "null"}, {"type": "null"}, {"type": "string"}]}), 1, "has several forms"),
        (an_object(a={"type": "string", "maxLength": 5}), 2, "a: 'maxLength' is not read"),
        (an_object(a={"$ref": "#/$defs/b"}), 2, "the schema: '#/$defs/b' is not in it"),
        (an_object(a={"$ref": "#/properties/a"}), 2, "the schema: references go in a circle"),
        (an_object(a={"type": "string"}) | {"required": ["b"]}, 2, "required names fields"),
        (an_object(a={"type": "string"}) | {"not": {}}, 2, "the schema: 'not' is not read"),
    ],
)
def test_a_schema_that_no_judgement_can_fill_is_refused_in_one_line(schema: Any, answers: int, said: str) -> None:
    with pytest.raises(InputError) as refused:
        JudgementSchema.read(schema, answers)
    assert str(refused.value).startswith("response_format: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"minimum": 0.5}, "expected whole numbers for bounds"),
        ({"maximum": float("inf")}, "expected whole numbers for bounds"),
        ({"maximum": 10**400}, "a scale has whole numbers from 0 to 100"),
        ({"minimum": 5, "maximum": 5}, "a scale begins with its lowest score"),
        ({"exclusiveMinimum": 0}, "'exclusiveMinimum' is not read"),
    ],
)
def test_bounds_that_are_no_scale_are_refused(bounds: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        JudgementSchema.read({"type": "object", "properties": {"score": {"type": "number", **bounds}}}, 1)


def test_numbers_on_different_scales_are_refused() -> None:
    fields = {"a": {"type": "number", "maximum": 5}, "b": {"type": "number", "maximum": 10}}
    with pytest.raises(InputError, match="expected one scale for a, b"):
        JudgementSchema.read({"type": "object", "properties": fields}, 1)


def test_a_literal_is_an_enum() -> None:
    class Better(BaseModel):
        better: Literal["A", "B", "tie"]

    read = JudgementSchema.read(Better.model_json_schema(), 2)
    assert Better.model_validate(read.fill(judged(9, 1, outcome="win"))).better == "A"
    assert not read.has_reasons


def test_null_beside_a_type_is_left_out_as_zod_writes_it() -> None:
    words = {"type": ["string", "null"], "enum": ["A", "B", "tie", None]}
    schema = an_object(score1={"type": ["number", "null"]}, score2={"type": ["null", "integer"]}, better=words)
    filled = JudgementSchema.read(schema, 2).fill(judged(6.5, 7.5, outcome="lose"))
    assert filled == {"score1": 6.5, "score2": 8, "better": "B"}
