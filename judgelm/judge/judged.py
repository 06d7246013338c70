"""One judgement of one order, as it was made."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from judgelm.calibration import Calibrated, Calibration
from judgelm.criteria import Aspect, Criteria
from judgelm.dialogue import LeftOut, Shortened, shortened_record
from judgelm.distribution import Distribution
from judgelm.engine.interface import FinishReason, Generation
from judgelm.jsonl import Record
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.prompt import count_markers
from judgelm.sample import Sample
from judgelm.verdict import AspectReading, Reading
from judgelm.verdict_forms import SCORES

PROMPT_TOO_LONG = "prompt_too_long"
"""finish reason of a sample whose question and instruction alone overflow the context: it is never generated"""
NOT_ALWAYS = frozenset(
    f"pred_{name}"
    for name in ("thoughts", "reasoning", "verdict_format", "expected_scores", "probabilities", "score_line_mass")
) | {"pred_calibrated", "pred_scale", "pred_aspects", "pred_jury"}
"""fields of a judgement that some have and others lack"""


LETTER_SCORES = {Outcome.WIN: (1.0, 0.0), Outcome.LOSE: (0.0, 1.0), Outcome.TIE: (0.5, 0.5)}
"""what a letter says of the answers as shown"""


def told_record(
    text: str, task: str, order: str, outcome: Outcome | None, scores: Sequence[float] | None, verdict_format: str
) -> Record:
    """The output record's own keys of a judgement that was told, by another program or by several judges, and not
    generated here.
    """
    return {
        "pred_text": text,
        "pred_scores": None if scores is None else list(scores),
        "pred_outcome": None if outcome is None else outcome.value,
        "pred_parse": (ParseState.FAILED if scores is None else ParseState.OK).value,
        "pred_task": task,
        "pred_order": order,
        "pred_finish_reason": "stop",
        "pred_prompt_tokens": 0,
        "pred_tokens": 0,
        "pred_shortened": None,
        "pred_suspicious_markers": 0,
        "pred_verdict_format": verdict_format,
    }


def stamp(model_id: str) -> Record:
    """The last fields of a record: an id of its own, the judge's name and the time."""
    return {"pred_id": uuid.uuid4().hex, "pred_model_id": model_id, "tstamp": time.time()}


def carried(sample: Sample) -> Record:
    """The fields of its row that a judgement brings along: where another judge's file is judged, nothing that only that
    one said.
    """
    return {name: value for name, value in sample.to_record().items() if name not in NOT_ALWAYS}


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What follows from the probabilities of score lines, with scoring `expected`; of aspects, their weighted mean."""

    expected: tuple[float, ...]
    """score of each answer"""
    outcomes: Mapping[Outcome, float] | None
    """probabilities; None where there are not two answers"""
    mass: float
    """probability that the judge writes a score line at all; of aspects, the least"""
    calibrated: Calibrated | None = None
    """what a map made of the probabilities, which stay as they are"""

    @classmethod
    def of(cls, distribution: Distribution) -> Likelihood:
        return cls(distribution.expected, distribution.outcomes, distribution.mass)

    @classmethod
    def mean(cls, criteria: Criteria, each: Sequence[Likelihood]) -> Likelihood:
        """Of all aspects, in their order."""
        outcomes = [one.outcomes for one in each if one.outcomes is not None]
        mixed = criteria.mean([list(one.values()) for one in outcomes]) if outcomes else ()
        return cls(
            criteria.mean([one.expected for one in each]),
            dict(zip(outcomes[0], mixed, strict=True)) if outcomes else None,
            min(one.mass for one in each),
        )

    def to_record(self, prefix: str = "pred_") -> Record:
        """The fields of a record."""
        record: Record = {f"{prefix}expected_scores": list(self.expected)}
        if self.outcomes is not None:
            record[f"{prefix}probabilities"] = {outcome.value: p for outcome, p in self.outcomes.items()}
        record[f"{prefix}score_line_mass"] = self.mass
        return record if self.calibrated is None else {**record, f"{prefix}calibrated": self.calibrated.to_record()}


@dataclass(frozen=True, slots=True)
class Judged:
    """One sample as the judge saw it, and what came of it."""

    sample: Sample
    order: Order
    task: str
    judgement: Judgement
    generation: Generation | None
    """None where the prompt did not fit"""
    shortened: Shortened | None
    """None: all was shown"""
    likelihood: Likelihood | None = None
    """with scoring `expected`"""
    criteria: Criteria | None = None
    parts: tuple[Judged, ...] = ()
    """with criteria: by each aspect, in their order"""

    @classmethod
    def by_criteria(cls, criteria: Criteria, parts: Sequence[Judged]) -> Judged:
        """All aspects' judgements of a sample as one: scores are their weighted mean, where all have been read."""
        first = parts[0]
        read = [part.judgement.scores for part in parts if part.judgement.scores is not None]
        # to the fourth decimal, as it stands in the text
        mean = criteria.mean(read) if len(read) == len(parts) else None
        scores = None if mean is None else tuple(round(score, 4) for score in mean)
        states = {part.judgement.state for part in parts}
        state = next(one for one in (ParseState.FAILED, ParseState.REPAIRED, ParseState.OK) if one in states)
        said = [
            f"[{aspect.name}]\n{part.judgement.text.strip()}"
            for aspect, part in zip(criteria.aspects, parts, strict=True)
        ]
        line = [] if scores is None else [" ".join(f"{score:.10g}" for score in scores)]
        text = "\n\n".join([*line, *said])
        likely = [part.likelihood for part in parts if part.likelihood is not None]
        return cls(
            first.sample,
            first.order,
            first.task,
            replace(first.judgement, text=text, scores=scores, state=state),
            _together(criteria, [part.generation for part in parts], text),
            _most_shortened([part.shortened for part in parts]),
            Likelihood.mean(criteria, likely) if len(likely) == len(parts) else None,
            criteria,
            tuple(parts),
        )

    def calibrated(self, calibration: Calibration | None) -> Judged:
        """With calibrated probabilities beside its own, where there are a map and probabilities."""
        likely = self.likelihood
        if calibration is None or likely is None or likely.outcomes is None:
            return self
        return replace(self, likelihood=replace(likely, calibrated=calibration.apply(likely.outcomes)))

    @property
    def reading(self) -> Reading:
        """The same of the answers in the file's order."""
        likely = self.likelihood
        outcomes, expected, calibrated = (
            (likely.outcomes, likely.expected, likely.calibrated) if likely else (None, None, None)
        )
        aspects = tuple(AspectReading(aspect.name, aspect.weight, part.reading) for aspect, part in self._by_aspect())
        return Reading.of(self.judgement, outcomes, expected, self.order, aspects, calibrated)

    def _by_aspect(self) -> list[tuple[Aspect, Judged]]:
        return list(zip(self.criteria.aspects, self.parts, strict=True)) if self.criteria else []

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
            "pred_shortened": shortened_record(self.shortened),
            "pred_suspicious_markers": count_markers(self.sample),
        }
        if thoughts := self.sample.thoughts:
            record["pred_thoughts"] = thoughts
        if generation is not None and generation.reasoning is not None:
            record["pred_reasoning"] = generation.reasoning
        if judgement.form != SCORES:
            record["pred_verdict_format"] = judgement.form
        if self.likelihood is not None:
            record |= self.likelihood.to_record()
        if self.criteria is not None:
            scale = self.judgement.scale
            aspects = [_aspect_record(aspect, part) for aspect, part in self._by_aspect()]
            record |= {"pred_scale": [scale.least, scale.most], "pred_aspects": aspects}
        if self.sample.reference is not None and self.task != "mmvet":
            record["reference"] = self.sample.reference
        return {**carried(self.sample), **record}


def _aspect_record(aspect: Aspect, part: Judged) -> Record:
    judgement = part.judgement
    record: Record = {
        "name": aspect.name,
        "weight": aspect.weight,
        "scores": list(judgement.scores) if judgement.scores else None,
        "outcome": judgement.outcome.value if judgement.outcome else None,
        "parse": judgement.state.value,
    }
    return record if part.likelihood is None else record | part.likelihood.to_record("")


def _together(criteria: Criteria, generations: Sequence[Generation | None], text: str) -> Generation | None:
    """All that was read and written; of the reasons to end the first that is not the usual one."""
    given = [each for each in generations if each is not None]
    if len(given) < len(generations):
        return None
    reasons: list[FinishReason] = [each.finish_reason for each in given]
    reason: FinishReason = next((each for each in reasons if each != "stop"), "stop")
    prompts, new = sum(each.num_prompt_tokens for each in given), sum(each.num_tokens for each in given)
    thoughts = [
        f"[{aspect.name}]\n{each.reasoning}"
        for aspect, each in zip(criteria.aspects, given, strict=True)
        if each.reasoning is not None
    ]
    return Generation(given[0].key, text, prompts, new, reason, "\n\n".join(thoughts) if thoughts else None)


def _most_shortened(each: Sequence[Shortened | None]) -> Shortened | None:
    left_out = [one for one in each if isinstance(one, LeftOut)]
    cut = [one for one in each if isinstance(one, tuple)]
    if left_out:
        return LeftOut.most(left_out)
    return tuple(map(max, *cut)) if len(cut) > 1 else cut[0] if cut else None
