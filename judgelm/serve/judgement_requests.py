"""What clients ask of a judge, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from judgelm.dialogue import Dialogue, Said, shortened_record
from judgelm.errors import InputError
from judgelm.judge.judged import PROMPT_TOO_LONG, Judged
from judgelm.judge.settings import SCORINGS, JudgeSettings, Order, check_orders
from judgelm.judgement import Outcome
from judgelm.prompt import TASKS, count_markers
from judgelm.sample import MAX_ANSWERS, Sample, refuse_images
from judgelm.serve.criteria_field import CriteriaField
from judgelm.serve.dialogue_field import Messages, read_conversations, read_replied
from judgelm.serve.worker_answers import CalibratedOut, LeftOutCounts, Probabilities, Usage
from judgelm.verdict import Verdict
from judgelm.verdict_forms import SCORES, VERDICT_FORMATS

MOST_SAMPLES = 1000
_MOST_READ = 16_000_000
"""characters of a sample, as often as it is sent to a worker in one order: once for each aspect"""

Text = Annotated[str, StringConstraints(max_length=2_000_000)]
Name = Annotated[str, StringConstraints(max_length=200)]


class SampleIn(BaseModel, extra="forbid"):
    """One question with its answers, replies to a dialogue, or whole conversations."""

    question_id: int | Name = Field(
        default=0, description="names the sample in the answer and seeds its random numbers"
    )
    question: Text | None = None
    answers: Annotated[list[Text], Field(min_length=1, max_length=MAX_ANSWERS)] | None = None
    messages: Messages | None = Field(
        default=None,
        description="in place of the question: the dialogue so far as OpenAI's messages, the user's question at its"
        " end; the answers are the next reply",
    )
    conversations: Annotated[list[Messages], Field(min_length=1, max_length=MAX_ANSWERS)] | None = Field(
        default=None,
        description="in place of question and answers: a whole conversation of each assistant, its reply at the end",
    )
    reference: Text | None = Field(default=None, description="a known good answer, shown to the judge")

    @classmethod
    def of(cls, sample: Sample) -> SampleIn:
        """Raises InputError for a sample with images."""
        refuse_images(sample)
        said: dict[str, Any] = {"question": sample.question, "answers": list(sample.answers)}
        if sample.dialogue is not None:
            said = _write_said(sample.dialogue, sample)
        return cls(question_id=sample.question_id, reference=sample.reference, **said)

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        asked = [name for name in ("question", "messages", "conversations") if getattr(self, name) is not None]
        if len(asked) != 1:
            raise ValueError(
                f"a sample has a question, messages or conversations, found {' and '.join(asked) or 'none'}"
            )
        if (self.answers is None) == (self.conversations is None):
            raise ValueError("a question or messages need answers, conversations have theirs at their ends")
        # what is wrong with a dialogue is said at once
        self._said()
        return self

    @property
    def size(self) -> int:
        """Characters of its texts."""
        talks = [*([self.messages] if self.messages else []), *(self.conversations or [])]
        said = sum(message.size for messages in talks for message in messages)
        return len(self.question or "") + len(self.reference or "") + sum(map(len, self.answers or [])) + said

    def _said(self) -> Said:
        if self.conversations is not None:
            return read_conversations(self.conversations)
        if self.messages is None:
            return Said(None, self.question or "", tuple(self.answers or ()))
        return read_replied(self.messages)._replace(answers=tuple(self.answers or ()))

    @property
    def sample(self) -> Sample:
        said = self._said()
        return Sample(self.question_id, said.question, said.answers, self.reference, dialogue=said.dialogue)


def _write_said(dialogue: Dialogue, sample: Sample) -> dict[str, Any]:
    fields = dialogue.to_fields(sample.question, sample.answers)
    if dialogue.conversations:
        return {"conversations": list(fields.values())}
    return {**fields, "answers": list(sample.answers)}


class JudgementRequest(BaseModel, extra="forbid"):
    """What is to be judged, and how."""

    model: Name | None = Field(None, description="one of GET /v1/models; may be left away where only one is served")
    samples: Annotated[list[SampleIn], Field(min_length=1, max_length=MOST_SAMPLES)]
    task: Literal["pair", "single", "multi", "mmvet", "grade"] = "pair"
    orders: Literal["forward", "reversed", "both", "all"] | None = Field(
        None,
        description="as given, answers 1 and 2 exchanged, or both; all: task multi, as many rotations as a sample has"
        " answers, each of which so stands once in each place (default: both for task pair, else forward)",
    )
    scores_only: bool = Field(False, description="stop after the score line: no reasons")
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(0.2, description="0 is greedy")
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    constrained: bool | None = Field(
        default=None, description="nothing but a score line first (default: the model's own way)"
    )
    criteria: CriteriaField | None = Field(
        None,
        description="what a file of criteria holds: answers are judged by one aspect after the other, and the scores"
        " are weighted means; tasks pair, multi and grade (default: the task's own question)",
    )
    scoring: Literal["sample", "greedy", "expected"] = Field(
        "sample",
        description="; ".join(f"{name}: {what}" for name, what in SCORINGS.items())
        + ". With expected results have probabilities too, and there are no reasons and no events text",
    )
    calibrated: bool | None = Field(
        default=None,
        description="scoring expected, from a judge that is served with a calibration map: true: calibrate, or refuse"
        " where the map is not for such a request; false: do not (default: where the map is for such a request)",
    )
    stream: bool = Field(default=False, description="answer in NDJSON: events text, result, error, done")

    @property
    def asked_orders(self) -> tuple[Order, ...]:
        """Raises InputError for an order that the task does not take."""
        return check_orders(self.orders or ("both" if self.task == "pair" else "forward"), self.task)

    @property
    def settings(self) -> JudgeSettings:
        """Raises InputError for criteria where the task takes none, and for more score lines than are read."""
        return JudgeSettings(
            self.task,
            self.scores_only,
            self.temperature,
            self.max_new_tokens,
            self.seed,
            scoring=self.scoring,
            criteria=self.criteria,
        )

    def check(self) -> None:
        """Raises InputError for a sample, an order or criteria that the task does not take."""
        spec, number = TASKS[self.task], len(self.settings.aspects)
        least = "" if spec.min_answers == spec.max_answers else f"{spec.min_answers} to "
        for given in self.samples:
            count = len(given.answers or given.conversations or ())
            if not spec.min_answers <= count <= spec.max_answers:
                takes = f"{least}{spec.max_answers} answer{'s' if spec.max_answers > 1 else ''}"
                raise InputError(f"task {self.task} takes {takes}, found {count}")
            if spec.prefill and given.question is None:
                raise InputError(f"task {self.task} takes no dialogue")
            if spec.needs_reference and given.reference is None:
                raise InputError(f"task {self.task} needs a reference")
            if number > 1 and number * given.size > _MOST_READ:
                raise InputError(f"a sample of {given.size:,} characters is too long for {number} aspects")
        check_orders(self.orders or "forward", self.task)


def _added(description: str) -> Any:
    """A field that is left out where there is nothing to say."""
    return Field(None, description=description, exclude_if=lambda value: value is None)


class _SaidOut(BaseModel):
    """What scoring expected adds, and a judge that thinks first."""

    reasoning: str | None = _added("what the judge thought before its text, where it does")
    expected_scores: list[float] | None = _added(
        "scoring expected: the mean of each answer's score over all score lines"
    )
    probabilities: Probabilities | None = _added("scoring expected, two answers: of the outcomes")
    score_line_mass: float | None = _added(
        "scoring expected: the probability that the judge writes a score line at all"
    )
    calibrated: CalibratedOut | None = _added("from a judge with a calibration map: of the outcomes")


class AspectOut(_SaidOut):
    """What the judge wrote by one aspect."""

    name: str
    weight: float = Field(description="in the mean of all aspects")
    text: str
    scores: list[float] | None
    outcome: Literal["win", "tie", "lose"] | None
    parse: Literal["ok", "repaired", "failed"]
    reasons: str


class JudgementOut(_SaidOut):
    """What the judge wrote in one order."""

    order: Order
    text: str = Field(description="score line and reasons, the task's prefill included")
    scores: list[float] | None = Field(description="one an answer, in the order the judge saw them; null: not readable")
    outcome: Literal["win", "tie", "lose"] | None = Field(description="of the first answer the judge saw")
    parse: Literal["ok", "repaired", "failed"]
    reasons: str
    finish_reason: str
    shortened: list[int] | LeftOutCounts | None = Field(
        description="tokens cut from each answer, in the order the judge saw them; of a dialogue what was left out at"
        " its beginning"
    )
    verdict_format: Literal["grade", "letter", "json"] | None = _added(
        "how the text says its verdict, where the judge has a prompt of its own that asks for no line of"
        " scores: " + "; ".join(f"{name}: {what}" for name, what in VERDICT_FORMATS.items() if name != SCORES)
    )
    usage: Usage

    @staticmethod
    def of(judged: Judged) -> JudgementOut:
        """One that was generated."""
        made, criteria, scale = judged.generation, judged.criteria, judged.judgement.scale
        assert made is not None
        fields = _said(judged) | {
            "order": judged.order,
            "finish_reason": made.finish_reason,
            "shortened": shortened_record(judged.shortened),
            "usage": Usage.of(made.num_prompt_tokens, made.num_tokens),
            "verdict_format": None if judged.judgement.form == SCORES else judged.judgement.form,
        }
        if criteria is None:
            return JudgementOut(**fields)
        aspects = [
            AspectOut(name=aspect.name, weight=aspect.weight, **_said(part))
            for aspect, part in zip(criteria.aspects, judged.parts, strict=True)
        ]
        return CriteriaJudgementOut(**fields, scale=(scale.least, scale.most), aspects=aspects)


class CriteriaJudgementOut(JudgementOut):
    """What the judge wrote in one order, by all aspects: the text has the mean and below it all of theirs."""

    scale: tuple[int, int] = Field(description="the lowest and the highest score")
    aspects: list[AspectOut] = Field(description="in the criteria's order; the scores above are their weighted means")


def _said(judged: Judged) -> dict[str, Any]:
    judgement, made, likelihood = judged.judgement, judged.generation, judged.likelihood
    return {
        "reasoning": None if made is None else made.reasoning,
        "text": judgement.text,
        "scores": None if judgement.scores is None else list(judgement.scores),
        "outcome": None if judgement.outcome is None else judgement.outcome.value,
        "parse": judgement.state.value,
        "reasons": judgement.reasons,
        **(likelihood.to_record("") if likelihood else {}),
    }


def _probabilities(found: Mapping[Outcome, float] | None) -> Probabilities | None:
    return None if found is None else Probabilities(**{outcome.value: value for outcome, value in found.items()})


class ErrorOut(BaseModel):
    """Why something could not be done."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A sample judged through workers."""

    index: int
    """its place in the request"""
    verdict: Verdict
    judged: tuple[Judged, ...]
    """in the orders asked for; without a generation where the sample did not fit the model"""
    error: str | None = None
    """why that was so"""

    @property
    def generated(self) -> list[Judged]:
        return [one for one in self.judged if one.generation is not None]


class ResultOut(BaseModel):
    """One sample's judgements, and what follows from them."""

    question_id: int | str
    scores: list[float] | None = Field(
        description="one an answer, in the sample's order: the mean of the orders judged, of expected ones where"
        " there are"
    )
    outcome: Literal["win", "tie", "lose"] | None = Field(
        description="of answer 1; a tie where the orders contradict; scoring expected: the likeliest, or by the map's"
        " threshold for ties"
    )
    consistent: bool | None = Field(description="whether all orders find the same answers best")
    judgements: list[CriteriaJudgementOut | JudgementOut]
    suspicious_markers: int = Field(description="lines of the texts that imitate the prompt's own markers")
    place_scores: list[float] | None = _added(
        "orders all: the mean score of the answers where they were shown first, second .."
    )
    probabilities: Probabilities | None = _added(
        "scoring expected, two answers: of answer 1's outcomes, the mean of both orders"
    )
    calibrated: CalibratedOut | None = _added(
        "from a judge with a calibration map: the mean of both orders; the outcome goes by it"
    )
    error: ErrorOut | None = None

    @classmethod
    def of(cls, result: Result) -> ResultOut:
        verdict, error, calibrated = result.verdict, result.error, result.verdict.calibrated
        return cls(
            question_id=verdict.sample.question_id,
            scores=None if verdict.scores is None else list(verdict.scores),
            outcome=None if verdict.outcome is None else verdict.outcome.value,
            consistent=verdict.consistent,
            judgements=[JudgementOut.of(one) for one in result.generated],
            suspicious_markers=count_markers(verdict.sample),
            place_scores=None if verdict.place_scores is None else list(verdict.place_scores),
            probabilities=_probabilities(verdict.own_probabilities),
            calibrated=None if calibrated is None else CalibratedOut(**calibrated.to_record()),
            error=ErrorOut(message=error, type="invalid_request_error", code=PROMPT_TOO_LONG) if error else None,
        )
