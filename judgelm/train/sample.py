"""The typed form of a training row: a sample and what the teacher said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from judgelm.jsonl import Line, Record, read_reference, require
from judgelm.judgement import Judgement
from judgelm.sample import Sample

COLUMNS = ("question_id", "question", "answer", "judgement", "reference", "judgement_with_reference")
"""what may be named in a training file; answer1 and answer2 by their beginning"""


class Variant(NamedTuple):
    """What the judge is shown and the teacher's judgement of exactly that."""

    sample: Sample
    text: str


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """A sample with the teacher's judgement of it, and where there is one the judgement given with the reference."""

    sample: Sample
    judgement: Judgement
    reference: str | None = None
    judgement_with_reference: Judgement | None = None

    @classmethod
    def from_line(cls, line: Line) -> TrainingSample:
        """A training row in the published format; the reference fields may be missing."""
        reference, with_reference = None, None
        if line.record.get("reference") is not None and "text_w_reference" in line.record:
            reference = read_reference(line)
            with_reference = Judgement.parse(require(line, "text_w_reference", str))
        return cls(Sample.from_line(line), Judgement.parse(require(line, "text", str)), reference, with_reference)

    def swapped(self) -> TrainingSample:
        """Answers, score lines and the assistants named in the reasons exchanged together.

        Raises ValueError where a teacher judgement has no scores.
        """
        other = self.judgement_with_reference
        return TrainingSample(
            self.sample.swapped(), self.judgement.swapped(), self.reference, other.swapped() if other else None
        )

    @property
    def references(self) -> tuple[bool, ...]:
        """The ways it can be shown: without the reference, and with it where there is a judgement of that."""
        return (False,) if self.judgement_with_reference is None else (False, True)

    def shown(self, swapped: bool = False, with_reference: bool = False) -> Variant:
        """One of a row's four variants; without reference fields there are two."""
        row = self.swapped() if swapped else self
        if with_reference and row.reference is not None and row.judgement_with_reference is not None:
            return Variant(row.sample.with_reference(row.reference), row.judgement_with_reference.text)
        return Variant(row.sample.without_reference(), row.judgement.text)

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
