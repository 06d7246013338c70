"""One judgement of one order, as it was made."""

from __future__ import annotations

from dataclasses import dataclass

from judgelm.distribution import Distribution
from judgelm.engine.interface import Generation
from judgelm.jsonl import Record
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.prompt import count_markers
from judgelm.sample import Sample
from judgelm.verdict import Reading

PROMPT_TOO_LONG = "prompt_too_long"
"""finish reason of a sample whose question and instruction alone overflow the context: it is never generated"""


@dataclass(frozen=True, slots=True)
class Judged:
    """One sample as the judge saw it, and what came of it."""

    sample: Sample
    order: Order
    task: str
    judgement: Judgement
    generation: Generation | None
    """None where the prompt did not fit"""
    shortened: tuple[int, ...] | None
    """tokens cut from each answer"""
    distribution: Distribution | None = None
    """of the score lines, with scoring `expected`"""

    @property
    def reading(self) -> Reading:
        """The same of the answers in the file's order."""
        likely = self.distribution
        outcomes, expected = (likely.outcomes, likely.expected) if likely else (None, None)
        return Reading.of(self.judgement, outcomes, expected, self.order == "reversed")

    def to_record(self) -> Record:
        """The output record's own keys; `pred_text` is the generation as written, without the task's prefill."""
        generation, judgement = self.generation, self.judgement
        record: Record = {
            "pred_text": generation.text if generation else "",
            "pred_scores": list(judgement.scores) if judgement.scores else None,
            "pred_outcome": judgement.outcome.value if judgement.outcome else None,
            "pred_parse": judgement.state.value,
            "pred_task": self.task,
            "pred_order": self.order,
            "pred_finish_reason": generation.finish_reason if generation else PROMPT_TOO_LONG,
            "pred_prompt_tokens": generation.num_prompt_tokens if generation else None,
            "pred_tokens": generation.num_tokens if generation else 0,
            "pred_shortened": list(self.shortened) if self.shortened else None,
            "pred_suspicious_markers": count_markers(self.sample),
        }
        if thoughts := self.sample.thoughts:
            record["pred_thoughts"] = thoughts
        if self.distribution is not None:
            record |= {
                "pred_expected_scores": list(self.distribution.expected),
                "pred_probabilities": {o.value: p for o, p in self.distribution.outcomes.items()},
                "pred_score_line_mass": self.distribution.mass,
            }
        if self.sample.reference is not None and self.task != "mmvet":
            record["reference"] = self.sample.reference
        return {**self.sample.to_record(), **record}
