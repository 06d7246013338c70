"""What came of a teaching, as teach.json holds it."""

from __future__ import annotations

from judgelm.documents import AnyText, Document, Section
from judgelm.evaluation.rate import Rate


class TaughtModel(Section):
    """A model whose answers were compared."""

    name: AnyText
    """as the rows have it"""
    answers: int
    """that are not empty, to questions that are judged"""
    first: int
    """pairs in which its answer is the first; graded: rows"""
    second: int
    """pairs in which it is the second"""


class WrittenReferences(Section):
    """Where references came from."""

    source: str
    """file or model"""
    name: AnyText
    """of the file, or of the model"""
    questions: int
    """that have one"""
    left_out: dict[str, int]
    """why how many questions have none: missing in the file; empty; of a model also cut, before its end, and refused"""
    prompt_tokens: int
    """with a model"""
    generated_tokens: int
    """likewise"""


class TeacherNumbers(Section):
    """The teacher's judgements with the reference, or without it."""

    judged: int
    """rows, each in both orders where there are two answers"""
    rates: dict[str, Rate]
    """of pairs: consistency, bias_first, bias_second and unparsed, as `judgelm evaluate` has them"""
    contradicted: int
    """of which the orders say different things, whatever became of them"""
    shortened: int
    """of which the teacher did not see all, as its context is too short"""
    left_out: dict[str, int]
    """why how many say nothing in the training rows: contradicted; unread, no line of scores; unread_reversed, none in
    the other order; cut, before its end; refused; prompt_too_long; out_of_memory"""
    prompt_tokens: int
    """of these judgements"""
    generated_tokens: int
    """likewise, thoughts included"""


class Half(Section):
    """The rows of training, or of validation."""

    questions: int
    """with a row at least"""
    rows: int
    with_reference: int
    """rows that hold a judgement with the reference too"""


class TeachReport(Document):
    """What `judgelm teach` made: the numbers of its rows."""

    what = "the report of a teaching"

    teacher: AnyText
    """its name in the rows"""
    task: str
    """pair or grade"""
    inconsistent: str
    """what becomes of contradictions: drop, keep or tie"""
    pairs_per_question: int | None
    """at most; null: all"""
    seed: int
    """of pairs, of the split and of the sampling"""
    questions: int
    """that are judged"""
    left_out_questions: int
    """with fewer than two answers"""
    near_doubles: int
    """questions that are like another one, with which they stay in one half"""
    empty_answers: int
    """that are not compared"""
    equal_answers: int
    """two of one question that say the same, and are not compared"""
    models: list[TaughtModel]
    """in the order of their files"""
    references: WrittenReferences | None
    """null: none were asked for"""
    without_reference: TeacherNumbers
    """of all rows"""
    with_reference: TeacherNumbers | None
    """of those whose question has one; null: none has"""
    train: Half
    """train.jsonl"""
    validation: Half
    """validation.jsonl: where there are references, of questions that have one, and rows that hold both judgements"""
    left_out_of_validation: int
    """rows of its questions that lack the judgement with the reference"""
    prompt_tokens: int
    """of all that was judged and written"""
    generated_tokens: int
    """likewise"""
    cost: float | None
    """by the prices of the teacher, in their currency, of what a cache held, too; null: none were given, or the
    references' model is another"""
