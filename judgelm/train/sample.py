"""The typed form of a training row: a sample and what the teacher said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from judgelm.criteria import READABLE, Aspect, Criteria
from judgelm.errors import encodable
from judgelm.images import NEEDS_CHAT
from judgelm.jsonl import Line, Record, read_reference, require
from judgelm.judgement import Judgement
from judgelm.sample import Sample

COLUMNS = ("question_id", "question", "answer", "judgement", "reference", "judgement_with_reference")
"""what may be named in a training file; answer1 and answer2 by their beginning"""


class Variant(NamedTuple):
    """What the judge is shown and the teacher's judgement of exactly that."""

    sample: Sample
    text: str
    aspect: Aspect | None = None
    """by which it is judged"""

    @property
    def task(self) -> str:
        """Of its prompt."""
        return "grade" if len(self.sample.answers) == 1 else "pair"


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """A sample with the teacher's judgement of it, and where there is one the judgement given with the reference.

    Two answers are compared, one is graded; by the `aspect`, if there is one.
    """

    sample: Sample
    judgement: Judgement
    reference: str | None = None
    judgement_with_reference: Judgement | None = None
    aspect: Aspect | None = None

    @classmethod
    def from_line(cls, line: Line) -> TrainingSample:
        """A training row in the published format; `answer2_body` and the reference fields may be missing, `criteria`
        may hold one aspect.
        """
        aspect = _read_aspect(line)
        scale = READABLE if aspect is None else aspect.scale
        alone = "answer2_body" not in line.record and "conversation2" not in line.record
        graded = alone and ("answer_body" in line.record or aspect is not None)
        sample = Sample.from_graded_line(line) if graded else Sample.from_line(line)
        if sample.images:
            raise ValueError(f"{NEEDS_CHAT}: no judge learns from them")
        num_answers = len(sample.answers)
        reference, with_reference = None, None
        if line.record.get("reference") is not None and "text_w_reference" in line.record:
            reference = read_reference(line)
            with_reference = Judgement.parse(require(line, "text_w_reference", str), num_answers, scale)
        judgement = Judgement.parse(require(line, "text", str), num_answers, scale)
        if not all(encodable(each.text) for each in (judgement, with_reference) if each is not None):
            raise ValueError("the judgement has half a surrogate pair, which no tokenizer can read")
        return cls(sample, judgement, reference, with_reference, aspect)

    def swapped(self) -> TrainingSample:
        """Answers, score lines and the assistants named in the reasons exchanged together; a single answer stays.

        Raises ValueError where a teacher judgement has no scores.
        """
        if len(self.sample.answers) == 1:
            return self
        other = self.judgement_with_reference
        with_reference = other.swapped() if other else None
        return replace(
            self,
            sample=self.sample.swapped(),
            judgement=self.judgement.swapped(),
            judgement_with_reference=with_reference,
        )

    @property
    def references(self) -> tuple[bool, ...]:
        """The ways it can be shown: without the reference, and with it where there is a judgement of that."""
        return (False,) if self.judgement_with_reference is None else (False, True)

    def shown(self, swapped: bool = False, with_reference: bool = False) -> Variant:
        """One of a row's four variants; without reference fields there are two."""
        row = self.swapped() if swapped else self
        if with_reference and row.reference is not None and row.judgement_with_reference is not None:
            return Variant(row.sample.with_reference(row.reference), row.judgement_with_reference.text, row.aspect)
        return Variant(row.sample.without_reference(), row.judgement.text, row.aspect)

    def to_record(self) -> Record:
        record = self.sample.to_record() | {"text": self.judgement.text}
        if self.judgement.scores is not None:
            record["score"] = list(self.judgement.scores)
        if self.reference is not None and self.judgement_with_reference is not None:
            reference = record.get("reference")
            record["reference"] = {**(reference if isinstance(reference, dict) else {}), "text": self.reference}
            record["text_w_reference"] = self.judgement_with_reference.text
            if self.judgement_with_reference.scores is not None:
                record["score_w_reference"] = list(self.judgement_with_reference.scores)
        return record


def _read_aspect(line: Line) -> Aspect | None:
    """The one that a row's `criteria` hold; raises ValueError for anything else that stands there."""
    if line.record.get("criteria") is None:
        return None
    try:
        criteria = Criteria.from_record(line.record["criteria"])
    except ValueError as error:
        raise ValueError(f"criteria: {error}") from None
    if len(criteria.aspects) != 1:
        raise ValueError(f"criteria: a training row has one aspect, found {len(criteria.aspects)} (a row for each)")
    return criteria.aspects[0]
