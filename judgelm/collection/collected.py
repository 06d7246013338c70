"""collect.json: what was collected in a folder, and how."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from judgelm.documents import AnyText, Count, Document, Section


class NoAnswer(Section):
    """A question to which a model has no answer."""

    question_id: AnyText
    """of the answer, as text"""
    finish_reason: str
    """refused, by the server or the model's template; or out_of_memory"""
    reason: AnyText | None
    """in the words of who refused"""


class ModelAnswers(Section):
    """What one model answered."""

    name: AnyText
    """of the model"""
    settings: dict[str, Any]
    """as models.yaml has them, but for what changes no answer and nothing of a key; of a local model the fingerprint of
    its files too"""
    price: list[float] | None = None
    """of a million prompt tokens and of a million completion tokens"""
    file: AnyText | None = None
    """of its answers, in this folder; null: some are not there yet"""
    answers: Count = 0
    """rows of the file, or those that are there"""
    failed: list[NoAnswer] = Field(default_factory=list)
    """rows without an answer, whose text is empty"""
    empty: list[AnyText] = Field(default_factory=list)
    """ids of answers that are nothing but white space"""
    cut_off: Count = 0
    """answers that ended for lack of room"""
    thoughts: Count = 0
    """answers before which the model thought"""
    prompt_tokens: Count = 0
    """of all replies, those that were asked for again included"""
    generated_tokens: Count = 0
    """likewise, thoughts included"""
    cost: float | None = None
    """in the currency of its price; null without a price"""


class Collection(Document):
    """What collect.json holds."""

    what: ClassVar[str] = "the description of a collection"

    finished: bool = False
    """whether all that was asked for is there"""
    questions: Count = 0
    """that were asked"""
    questions_sha256: str = ""
    """of all that the file has, with their ids"""
    samples: Count = 1
    """answers of each model to each question"""
    seed: int = 0
    """of the sampling"""
    models: list[ModelAnswers] = Field(default_factory=list)
    """in the order of models.yaml"""
    cost: float | None = None
    """of all models that have a price"""
    versions: dict[str, Any] = Field(default_factory=dict)
    """of the packages that a result depends on, by name"""
